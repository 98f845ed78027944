// Tensors as masks: dtype, values and shape, each judged before the cells are believed.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "core/float_bits.h"
#include "core/json.h"
#include "diff/mask/check.h"
#include "diff/mask/forms.h"
#include "diff/mask/validate.h"

namespace ps::mask {

double lowest(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return -std::numeric_limits<double>::max();
    case DType::kF16:
      return -65504.0;
    case DType::kBF16:
      return static_cast<double>(bf16_to_float(0xff7f));
    case DType::kF8E4M3:
      return -448.0;
    case DType::kF8E5M2:
      return -57344.0;
    default:
      return static_cast<double>(-std::numeric_limits<float>::max());
  }
}

namespace {

double rounded(double x, DType dtype) {
  const auto f = static_cast<float>(x);
  if (dtype == DType::kF32) return static_cast<double>(f);
  if (dtype == DType::kBF16) return static_cast<double>(bf16_to_float(float_to_bf16(f)));
  if (dtype == DType::kF16) return static_cast<double>(f16_to_float(float_to_f16(f)));
  return x;
}

void put(Tensor& t, std::size_t i, double x) {
  switch (t.dtype()) {
    case DType::kF64:
      t.as<double>()[i] = x;
      return;
    case DType::kF32:
      t.as<float>()[i] = static_cast<float>(x);
      return;
    case DType::kBF16:
      t.as<std::uint16_t>()[i] = float_to_bf16(static_cast<float>(x));
      return;
    default:
      t.as<std::uint16_t>()[i] = float_to_f16(static_cast<float>(x));
  }
}

// How the axes of a tensor lie on B, H, Q, KV; a size of 1 is repeated.
struct Layout {
  std::array<std::int64_t, 4> size{}, stride{};
  bool square = false;         // [S,S] where Q != KV: its last Q rows, or its first S columns
  std::int64_t first_row = 0;  // of the tensor
};

std::optional<Layout> layout_of(const Shape& shape, const Dims& d) {
  const std::array<std::int64_t, 4> full = {d.B, d.H, d.Q, d.KV};
  std::vector<int> axes;
  if (shape.size() == 4) axes = {0, 1, 2, 3};
  if (shape.size() == 3) axes = {0, 2, 3};
  if (shape.size() == 2) axes = {2, 3};
  const bool rows = shape.size() == 2 && shape[1] == d.KV;
  if (rows && shape[0] != d.Q && shape[0] == d.B) axes = {0, 3};
  if (axes.empty()) return std::nullopt;
  Layout out;
  out.size = {1, 1, 1, 1};
  const std::int64_t last = shape.back();
  out.square = d.Q < d.KV && last == shape[shape.size() - 2] && last != 1 &&
               (last == d.KV || last == d.Q) && axes[axes.size() - 2] == 2;
  if (out.square && last == d.KV) out.first_row = d.KV - d.Q;
  std::int64_t stride = 1;
  for (std::size_t n = axes.size(); n-- > 0;) {
    const auto axis = static_cast<std::size_t>(axes[n]);
    const bool fits = shape[n] == full[axis] || shape[n] == 1 || (out.square && axis >= 2);
    if (!fits) return std::nullopt;
    out.size[axis] = shape[n];
    out.stride[axis] = shape[n] == 1 ? 0 : stride;
    stride *= shape[n];
  }
  return out;
}

// Does the mask differ along the axis? (0 batch, 1 head, 2 query, 3 key)
bool varies_along(const Mask& m, std::size_t axis) {
  const auto& [B, H, Q, KV] = m.dims();
  for (std::int64_t b = 0; b < B; ++b) {
    for (std::int64_t h = 0; h < H; ++h) {
      const Bands& plane = m.plane(b, h);
      if (axis == 0 && !combine(plane, m.plane(0, h), SetOp::kXor).empty()) return true;
      if (axis == 1 && !combine(plane, m.plane(b, 0), SetOp::kXor).empty()) return true;
      if (axis < 2) continue;
      for (std::size_t n = 0; n < plane.size(); ++n) {
        for (const Run& r : plane[n].runs) {
          if (axis == 3 && !(r == Run{Edge(0, 0), Edge(KV, 0)})) return true;
          if (axis == 2 && (plane.size() > 1 || r.lo.slope() != 0 || r.hi.slope() != 0))
            return true;
        }
      }
    }
  }
  return false;
}

// The values of an additive mask, by kind.
struct Additive {
  struct Count {
    std::int64_t count = 0, first = -1;
    void add(std::int64_t i) {
      if (count++ == 0) first = i;
    }
  };
  Count nan, pos_inf, bias, narrowed, ones, masked;
  double least_bias = HUGE_VAL, most_bias = -HUGE_VAL;
};

CellIndex cell_of(std::int64_t element, const Layout& layout) {
  CellIndex out{};
  for (std::size_t axis = 0; axis < 4; ++axis) {
    if (layout.stride[axis] > 0) out[axis] = element / layout.stride[axis] % layout.size[axis];
  }
  return out;
}

void report(const Additive& a, const Layout& layout, std::int64_t total, DType dtype,
            std::vector<Finding>& out) {
  const auto add = [&](const char* id, const Additive::Count& c, const std::string& message,
                       const std::string& fix) {
    if (c.count == 0) return;
    const CellIndex first = cell_of(c.first, layout);
    Finding f = mask_finding(id, Severity::kError, where_of(first), message);
    f.evidence.emplace_back("count", std::to_string(c.count));
    f.evidence.emplace_back("of", std::to_string(total));
    f.evidence.emplace_back("first", json_of(first));
    f.fix = fix;
    out.push_back(std::move(f));
  };
  add("MK020", a.nan, "the mask holds NaN, which masks nothing and spreads over the row",
      "fill with masked_fill; 0 * -inf is NaN");
  add("MK021", a.pos_inf, "the mask holds +inf: inf - inf in the softmax is NaN",
      "use 0 to attend");
  const bool boolean = a.ones.count > 0 && a.ones.count == a.bias.count && a.masked.count == 0 &&
                       a.nan.count + a.pos_inf.count == 0;
  if (boolean) {
    add("MK025", a.ones,
        "the values are 0 and 1: a boolean is added to the scores and masks nothing",
        "convert it: 0 where true, -inf where false");
  } else {
    add("MK022", a.bias,
        "values that are neither 0 nor below half of the dtype's lowest: a bias, not a mask",
        "use -inf; a number such as -1e4 or -1e9 leaves weight on masked keys in some dtypes");
    if (a.bias.count > 0) {
      char range[80];
      std::snprintf(range, sizeof range, "[%.17g,%.17g]", a.least_bias, a.most_bias);
      out.back().evidence.emplace_back("range", range);
    }
  }
  add("MK023", a.narrowed,
      "finite values become -inf in " + std::string(short_name(dtype)) +
          ": a fully masked row is NaN, not the mean",
      "take the lowest value of the dtype in which scores are added");
  if (a.masked.count == total && total > 0) {
    add("MK024", a.masked, "every pair is masked", "look for ones * -inf instead of a triangle");
  }
}

Result<Reading> read_bits(const TensorView& t, const Dims& dims) {
  const auto bytes = t.as<std::uint8_t>();
  Reading out;
  out.mask = mask_from_cells(dims, [&](std::int64_t i) {
    return (bytes[static_cast<std::size_t>(i / 8)] >> (i % 8) & 1) != 0;
  });
  return out;
}

void judge_axes(const Layout& layout, const Dims& dims, const Mask* expected, const Shape& shape,
                std::vector<Finding>& out) {
  if (expected == nullptr) return;
  const std::array<std::int64_t, 4> full = {dims.B, dims.H, dims.Q, dims.KV};
  constexpr const char* kNames[] = {"batch", "head", "query", "key"};
  for (std::size_t axis = 0; axis < 4; ++axis) {
    if (layout.size[axis] != 1 || full[axis] == 1 || !varies_along(*expected, axis)) continue;
    Finding f =
        mask_finding("MK026", Severity::kError, "",
                     std::string("one ") + kNames[axis] + " is repeated for all " +
                         std::to_string(full[axis]) + ", but the expected mask differs there");
    f.evidence.emplace_back("shape", shape_text(shape));
    f.fix = "give the mask its own size on that axis";
    out.push_back(std::move(f));
  }
}

}  // namespace

Tensor to_additive(const Mask& mask, DType dtype, bool inf) {
  const Tensor attend = to_bool(mask, false);
  const TensorView cells = attend.view();
  Tensor out(dtype, cells.shape);
  const double masked = inf ? -HUGE_VAL : lowest(dtype);
  for (std::size_t i = 0; i < cells.bytes.size(); ++i) {
    if (cells.bytes[i] == std::byte{0}) put(out, i, masked);
  }
  return out;
}

Result<Reading> read_tensor(const TensorView& t, const std::optional<Dims>& wanted,
                            const Mask* expected, const ReadOptions& options) {
  Dims dims;
  if (wanted) {
    dims = *wanted;
    const std::int64_t cells = dims.B * dims.H * dims.Q * dims.KV;
    if (t.dtype == DType::kU8 && t.shape.size() == 1 && t.shape[0] == (cells + 7) / 8) {
      return read_bits(t, dims);
    }
  } else {
    const std::size_t n = t.shape.size();
    if (n < 2 || n > 4) {
      return bad_input("mask tensor", "wrong number of axes", "[B,H,Q,KV], [B,Q,KV] or [Q,KV]",
                       shape_text(t.shape));
    }
    dims = {n > 2 ? t.shape[0] : 1, n == 4 ? t.shape[1] : 1, t.shape[n - 2], t.shape[n - 1]};
    if (dims.B < 1 || dims.H < 1) {
      return bad_input("mask tensor", "no batch or no head", "1 or more", shape_text(t.shape));
    }
  }
  Reading out;
  const auto layout = layout_of(t.shape, dims);
  if (!layout) {
    return bad_input("mask tensor", "the shape does not fit the mask",
                     to_string(dims) + " with 1 where an axis is repeated", shape_text(t.shape));
  }
  if (layout->square) {
    Finding f =
        mask_finding("MK026", Severity::kError, "",
                     "a square mask where queries and keys differ in number; read as its " +
                         std::string(layout->first_row > 0 ? "last rows" : "first columns"));
    f.evidence.emplace_back("shape", shape_text(t.shape));
    f.fix = "make the mask for the keys of cache and step, one row a new query";
    out.findings.push_back(std::move(f));
  }
  judge_axes(*layout, dims, expected, t.shape, out.findings);
  const bool additive =
      options.form == Form::kAdditive || (options.form == Form::kAuto && is_floating(t.dtype));
  std::vector<double> values(static_cast<std::size_t>(t.count()));
  to_doubles(t, values);
  std::vector<std::uint8_t> attend(values.size());
  if (!additive) {
    const bool padding = layout->size[1] == 1 && layout->size[2] == 1;  // HF's attention_mask
    if (t.dtype != DType::kBool && !(is_integer(t.dtype) && padding)) {
      Finding f = mask_finding("MK028", Severity::kError, "",
                               "the mask is " + std::string(torch_name(t.dtype)) + ", not bool");
      f.fix = "FlexAttention and SDPA take bool; an integer mask is refused or added to the scores";
      out.findings.push_back(std::move(f));
    }
    for (std::size_t i = 0; i < values.size(); ++i) {
      attend[i] = (values[i] != 0) != (options.form == Form::kMasked) ? 1 : 0;
    }
  } else {
    const DType dtype = options.cast.value_or(is_floating(t.dtype) ? t.dtype : DType::kF32);
    const double half = lowest(dtype) / 2;
    Additive kinds;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto at = static_cast<std::int64_t>(i);
      const double x = options.cast ? rounded(values[i], dtype) : values[i];
      if (std::isinf(x) && !std::isinf(values[i])) kinds.narrowed.add(at);
      if (std::isnan(x)) {
        kinds.nan.add(at);
        continue;
      }
      attend[i] = x > half ? 1 : 0;
      if (x == HUGE_VAL) {
        kinds.pos_inf.add(at);
      } else if (x <= half) {
        kinds.masked.add(at);
      } else if (x != 0) {
        kinds.bias.add(at);
        if (x == 1) kinds.ones.add(at);
        kinds.least_bias = std::min(kinds.least_bias, x);
        kinds.most_bias = std::max(kinds.most_bias, x);
      }
    }
    report(kinds, *layout, static_cast<std::int64_t>(values.size()), dtype, out.findings);
  }
  const auto& stride = layout->stride;
  out.mask = mask_from_cells(dims, [&](std::int64_t i) {
    const std::int64_t j = i % dims.KV, row = i / dims.KV;
    if (layout->square && j >= layout->size[3]) return false;
    const std::int64_t at = row / dims.Q / dims.H * stride[0] + row / dims.Q % dims.H * stride[1] +
                            (layout->first_row + row % dims.Q) * stride[2] + j * stride[3];
    return attend[static_cast<std::size_t>(at)] != 0;
  });
  return out;
}

}  // namespace ps::mask
