#include "model/plant_tools.h"

#include <algorithm>
#include <cstring>

#include "core/float_bits.h"

namespace ps {

namespace {

double load(const std::byte* at, DType type) {
  std::uint16_t half = 0;
  float single = 0;
  switch (type) {
    case DType::kF32:
      std::memcpy(&single, at, 4);
      return static_cast<double>(single);
    case DType::kBF16:
      std::memcpy(&half, at, 2);
      return static_cast<double>(bf16_to_float(half));
    case DType::kF16:
      std::memcpy(&half, at, 2);
      return static_cast<double>(f16_to_float(half));
    case DType::kBool:
      return static_cast<double>(std::to_integer<int>(*at));
    default:
      PS_CHECK(false, "a plant in values of type " + std::string(short_name(type)));
      return 0;
  }
}

void store(std::byte* at, DType type, double value) {
  const auto single = static_cast<float>(value);
  std::uint16_t half = 0;
  switch (type) {
    case DType::kF32:
      std::memcpy(at, &single, 4);
      return;
    case DType::kBF16:
    case DType::kF16:
      half = type == DType::kBF16 ? float_to_bf16(single) : float_to_f16(single);
      std::memcpy(at, &half, 2);
      return;
    case DType::kBool:
      *at = value != 0 ? std::byte{1} : std::byte{0};
      return;
    default:
      PS_CHECK(false, "a plant in values of type " + std::string(short_name(type)));
  }
}

// f(address, i) for every cell, in row-major order.
template <class F>
void each_cell(const Array& array, const F& f) {
  auto* base = static_cast<std::byte*>(array.data());
  std::vector<std::int64_t> index(static_cast<std::size_t>(array.ndim()), 0);
  const std::int64_t count = array.count();
  for (std::int64_t i = 0; i < count; ++i) {
    std::int64_t offset = 0;
    for (int axis = 0; axis < array.ndim(); ++axis)
      offset += index[static_cast<std::size_t>(axis)] * array.stride(axis);
    f(base + offset * size_of(array.dtype()), static_cast<std::size_t>(i));
    for (int axis = array.ndim() - 1; axis >= 0; --axis) {
      auto& at = index[static_cast<std::size_t>(axis)];
      if (++at < array.size(axis)) break;
      at = 0;
    }
  }
}

// The mask's line for a line of scores: heads share one, replicas repeat the samples'.
std::int64_t mask_line(const Array& scores, const Array& mask, std::int64_t line) {
  const std::int64_t heads = scores.size(1), queries = scores.size(2);
  const std::int64_t row = line / (heads * queries), head = line / queries % heads;
  return ((row % mask.size(0)) * mask.size(1) + head % mask.size(1)) * queries + line % queries;
}

}  // namespace

Values read(const Array& array) {
  Values out(static_cast<std::size_t>(array.count()));
  each_cell(array, [&](const std::byte* at, std::size_t i) { out[i] = load(at, array.dtype()); });
  return out;
}

void write(const Array& array, const Values& values) {
  PS_CHECK(static_cast<std::int64_t>(values.size()) == array.count(), array.describe());
  each_cell(array, [&](std::byte* at, std::size_t i) { store(at, array.dtype(), values[i]); });
}

Values read(const Tensor& tensor) {
  Values out(static_cast<std::size_t>(tensor.view().count()));
  to_doubles(tensor.view(), out);
  return out;
}

void write(Tensor& tensor, const Values& values) {
  const auto cells = tensor.as<float>();
  for (std::size_t i = 0; i < values.size(); ++i) cells[i] = static_cast<float>(values[i]);
}

Values rows_at(const Array& array, const std::vector<std::int64_t>& from) {
  const Values all = read(array);
  const std::size_t width = all.size() / from.size();
  Values out;
  for (const std::int64_t row : from) {
    const auto begin = all.begin() + row * static_cast<std::ptrdiff_t>(width);
    out.insert(out.end(), begin, begin + static_cast<std::ptrdiff_t>(width));
  }
  return out;
}

std::int64_t rope_table_row(const Array& table, std::int64_t row) { return row % table.size(0); }

Values rotate(const Array& x, const Array& cosine, const Array& sine, Pairs pairs) {
  const Values u = read(x), c = read(cosine), s = read(sine);
  const std::int64_t heads = x.size(1), tokens = x.size(2), dim = x.size(3), half = dim / 2;
  Values out(u.size());
  for (std::int64_t r = 0; r < x.size(0); ++r) {
    const std::int64_t table = rope_table_row(cosine, r) * tokens;
    for (std::int64_t line = 0; line < heads * tokens; ++line) {
      const std::int64_t at = (r * heads * tokens + line) * dim;
      const std::int64_t angles = (table + line % tokens) * dim;
      for (std::int64_t j = 0; j < half; ++j) {
        const bool halves = pairs == Pairs::kHalves;
        const std::int64_t a = halves ? j : 2 * j, b = halves ? j + half : 2 * j + 1;
        const bool kept = pairs != Pairs::kAdjacentToHalves;
        const std::int64_t to_a = kept ? a : j, to_b = kept ? b : j + half;
        const auto i = [&](std::int64_t d) { return static_cast<std::size_t>(at + d); };
        const double cos = c[static_cast<std::size_t>(angles + j)];
        const double sin = s[static_cast<std::size_t>(angles + j)];
        out[i(to_a)] = u[i(a)] * cos - u[i(b)] * sin;
        out[i(to_b)] = u[i(b)] * cos + u[i(a)] * sin;
      }
    }
  }
  return out;
}

Array rope_input(const Planting& at, bool keys) {
  const std::string_view norm = keys ? ".self_attn.k_norm" : ".self_attn.q_norm";
  const std::string_view proj = keys ? ".self_attn.k_proj" : ".self_attn.q_proj";
  const Array u = at.config.qk_norm ? at.near(norm) : at.near(proj).split(2, at.config.head_dim);
  return u.transposed(1, 2);
}

void rescore(const Planting& at, const HeadMap& of) {
  const Array &q = at.in[0], &k = at.in[1];
  const Values a = read(q), b = read(k);
  const std::int64_t heads = q.size(1), queries = q.size(2), dim = q.size(3), cols = k.size(2);
  const double scale = 1.0 / std::sqrt(static_cast<double>(dim));
  Values out;
  for (std::int64_t r = 0; r < q.size(0); ++r) {
    for (std::int64_t h = 0; h < heads; ++h) {
      for (std::int64_t t = 0; t < queries; ++t) {
        const auto left = a.begin() + ((r * heads + h) * queries + t) * dim;
        for (std::int64_t c = 0; c < cols; ++c) {
          const auto right = b.begin() + ((r * k.size(1) + of(h)) * cols + c) * dim;
          double sum = 0;
          for (std::int64_t d = 0; d < dim; ++d) sum += left[d] * right[d];
          out.push_back(sum * scale);
        }
      }
    }
  }
  write(at.value, out);
}

void recontext(const Planting& at, const HeadMap& of) {
  const Array &probs = at.in[0], &v = at.in[1];
  const Values a = read(probs), b = read(v);
  const std::int64_t heads = probs.size(1), queries = probs.size(2), cols = probs.size(3);
  const std::int64_t dim = v.size(3);
  Values out;
  for (std::int64_t r = 0; r < probs.size(0); ++r) {
    for (std::int64_t h = 0; h < heads; ++h) {
      for (std::int64_t t = 0; t < queries; ++t) {
        const auto left = a.begin() + ((r * heads + h) * queries + t) * cols;
        for (std::int64_t d = 0; d < dim; ++d) {
          double sum = 0;
          for (std::int64_t c = 0; c < cols; ++c) {
            sum += left[c] *
                   b[static_cast<std::size_t>(((r * v.size(1) + of(h)) * cols + c) * dim + d)];
          }
          out.push_back(sum);
        }
      }
    }
  }
  write(at.value, out);
}

void resoftmax(const Planting& at, const ScoreEdit& edit, double empty) {
  const Array &scores = at.in[0], &mask = at.in[1];
  Values x = read(scores);
  const Values seen = read(mask);
  const std::int64_t cols = scores.size(3), lines = scores.count() / cols;
  for (std::int64_t line = 0; line < lines; ++line) {
    const auto shown = seen.begin() + mask_line(scores, mask, line) * cols;
    double* row = x.data() + line * cols;
    double largest = -HUGE_VAL, sum = 0;
    for (std::int64_t c = 0; c < cols; ++c) {
      row[c] = edit(row[c], shown[c] != 0, c);
      // A NaN stays: every comparison with it is false.
      largest = std::isnan(row[c]) || row[c] > largest ? row[c] : largest;
    }
    for (std::int64_t c = 0; c < cols; ++c) sum += row[c] = std::exp(row[c] - largest);
    for (std::int64_t c = 0; c < cols; ++c) row[c] = largest == -HUGE_VAL ? empty : row[c] / sum;
  }
  write(at.value, x);
}

void fill_empty_rows(const Planting& at, double value) {
  const Array &scores = at.in[0], &mask = at.in[1];
  Values probs = read(at.value);
  const Values seen = read(mask);
  const std::int64_t cols = scores.size(3);
  for (std::int64_t line = 0; line < scores.count() / cols; ++line) {
    const auto shown = seen.begin() + mask_line(scores, mask, line) * cols;
    if (std::find(shown, shown + cols, 1.0) != shown + cols) continue;
    std::fill_n(probs.begin() + line * cols, cols, value);
  }
  write(at.value, probs);
}

bool is_mask(const Planting& at) {
  return at.point == "model:mask" || at.point == "model:mask_sliding";
}

void remask(const Planting& at, const std::function<bool(const MaskCell&)>& visible) {
  const Array& mask = at.value;
  const PreparedInputs& in = at.inputs;
  const std::int64_t cols = mask.size(3), queries = mask.size(2), heads = mask.size(1);
  const std::int64_t prefix = cols - in.keys;
  Values cells = read(mask);
  for (std::int64_t i = 0; i < mask.count(); ++i) {
    MaskCell cell{.row = i / (heads * queries * cols),
                  .sample = 0,
                  .query = i / cols % queries,
                  .column = i % cols,
                  .key = i % cols - prefix,
                  .place = 0,
                  .real = true,
                  .visible = cells[static_cast<std::size_t>(i)] != 0};
    cell.sample = cell.row % in.batch;
    cell.place = in.past + cell.query;
    if (cell.key >= 0)
      cell.real = in.key_valid[static_cast<std::size_t>(cell.sample * in.keys + cell.key)] != 0;
    cells[static_cast<std::size_t>(i)] = visible(cell) ? 1 : 0;
  }
  write(mask, cells);
}

double through(double value, DType type) {
  std::byte bytes[8];
  store(bytes, type, value);
  return load(bytes, type);
}

}  // namespace ps
