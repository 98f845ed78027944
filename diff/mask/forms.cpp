#include "diff/mask/forms.h"

#include <algorithm>

#include "diff/mask/check.h"

namespace ps::mask {

std::optional<Form> form_from(std::string_view name) {
  if (name == "auto") return Form::kAuto;
  if (name == "attend") return Form::kAttend;
  if (name == "masked") return Form::kMasked;
  if (name == "additive") return Form::kAdditive;
  return std::nullopt;
}

Tensor to_bool(const Mask& mask, bool true_is_masked) {
  const auto& [B, H, Q, KV] = mask.dims();
  Tensor out(DType::kBool, {B, H, Q, KV});
  const auto cells = out.as<std::uint8_t>();
  std::fill(cells.begin(), cells.end(), static_cast<std::uint8_t>(true_is_masked ? 1 : 0));
  std::int64_t at = 0;
  for (std::int64_t plane = 0; plane < B * H; ++plane) {
    for (std::int64_t i = 0; i < Q; ++i, at += KV) {
      for (const auto& [lo, hi] : mask.plane(plane / H, plane % H).row(i)) {
        std::fill(cells.begin() + at + lo, cells.begin() + at + hi,
                  static_cast<std::uint8_t>(true_is_masked ? 0 : 1));
      }
    }
  }
  return out;
}

RowRuns to_row_runs(const Mask& mask) {
  RowRuns out{mask.dims(), {0}, {}};
  const auto& [B, H, Q, KV] = mask.dims();
  out.begin.reserve(static_cast<std::size_t>(B * H * Q) + 1);
  for (std::int64_t plane = 0; plane < B * H; ++plane) {
    const Bands& bands = mask.plane(plane / H, plane % H);
    for (std::size_t n = 0; n < bands.size(); ++n) {
      const Bands::Band band = bands[n];
      for (std::int64_t i = band.begin; i < band.end; ++i) {
        for (const Run& r : band.runs) out.runs.emplace_back(r.lo.at(i), r.hi.at(i));
        out.begin.push_back(static_cast<std::int64_t>(out.runs.size()));
      }
    }
  }
  return out;
}

Result<Mask> from_row_runs(const RowRuns& rows) {
  const auto& [B, H, Q, KV] = rows.dims;
  if (static_cast<std::int64_t>(rows.begin.size()) != B * H * Q + 1 || rows.begin[0] != 0 ||
      rows.begin.back() != static_cast<std::int64_t>(rows.runs.size())) {
    return bad_input("row runs", "row index of the wrong length", std::to_string(B * H * Q + 1),
                     std::to_string(rows.begin.size()));
  }
  Mask out(rows.dims);
  std::vector<Run> runs;
  std::size_t row = 0;
  for (std::int64_t plane = 0; plane < B * H; ++plane) {
    Bands bands(0);
    for (std::int64_t i = 0; i < Q; ++i, ++row) {
      runs.clear();
      std::int64_t free = -1;
      for (std::int64_t r = rows.begin[row]; r < rows.begin[row + 1]; ++r) {
        const bool inside = r >= 0 && r < rows.begin.back();
        const auto [lo, hi] = inside ? rows.runs[static_cast<std::size_t>(r)]
                                     : std::pair<std::int64_t, std::int64_t>{};
        if (!inside || lo <= free || hi <= lo || hi > KV) {
          return bad_input("row runs", "row " + std::to_string(row) + " is not a list of runs",
                           "ascending, apart, inside [0, " + std::to_string(KV) + ")",
                           "[" + std::to_string(lo) + ", " + std::to_string(hi) + ")");
        }
        free = hi;
        runs.push_back({Edge(lo, 0), Edge(hi, 0)});
      }
      bands.append(i + 1, runs);
    }
    out.set(plane / H, plane % H, std::make_shared<const Bands>(std::move(bands)));
  }
  return out;
}

namespace {

Node leaf(Op op, std::vector<Scalar> scalars) {
  return {op, "", std::move(scalars), {}, {}, {}, -1, {}};
}

Node tagged(Node node, const char* tag) {
  node.tag = tag;
  return node;
}
Node with_causal(Node node, bool causal) {
  if (!causal) return node;
  Node c = tagged(leaf(Op::kCausal, {{{}, 0}}), "future");
  return {Op::kAnd, "", {}, {}, {}, {}, -1, {std::move(c), std::move(node)}};
}

}  // namespace

Result<Program> from_lengths(const Dims& dims, const std::vector<std::int64_t>& lengths,
                             const std::vector<std::int64_t>& starts, bool causal) {
  const auto count = static_cast<std::size_t>(dims.B);
  if (lengths.size() != count || (!starts.empty() && starts.size() != count)) {
    return bad_input("lengths", "wrong number of lengths or starts",
                     "B = " + std::to_string(dims.B),
                     std::to_string(lengths.size()) + " and " + std::to_string(starts.size()));
  }
  Program p;
  p.dims = dims;
  p.q_offset = {dims.KV - dims.Q};
  Array lo{"starts", {dims.B}, starts}, hi{"ends", {dims.B}, lengths};
  if (lo.data.empty()) lo.data.resize(count);
  for (std::size_t b = 0; b < count; ++b) {
    if (lengths[b] < 0 || lo.data[b] < 0 || lo.data[b] > dims.KV - lengths[b]) {
      return bad_input("lengths[" + std::to_string(b) + "]", "reaches outside of the keys",
                       "0 <= start, start + length <= " + std::to_string(dims.KV),
                       std::to_string(lo.data[b]) + " + " + std::to_string(lengths[b]));
    }
    hi.data[b] += lo.data[b];
  }
  p.arrays = {std::move(lo), std::move(hi)};
  const Scalar first{Scalar::Kind::kArray, 0}, end{Scalar::Kind::kArray, 1};
  p.expr = with_causal(tagged(leaf(Op::kKvRange, {first, end}), "padding"), causal);
  return p;
}

Result<Program> from_cu_seqlens(std::int64_t heads, const std::vector<std::int64_t>& cu,
                                bool causal) {
  if (cu.empty() || cu[0] != 0 || !std::is_sorted(cu.begin(), cu.end())) {
    return bad_input("cu_seqlens", "not a running sum of lengths", "0, then ascending");
  }
  Program p;
  p.dims = {1, heads, cu.back(), cu.back()};
  Node segments = tagged(leaf(Op::kSameSegment, {}), "segment");
  for (std::size_t i = 1; i < cu.size(); ++i) segments.bounds.emplace_back(cu[i - 1], cu[i]);
  p.expr = with_causal(std::move(segments), causal);
  return p;
}

Result<Lengths> to_lengths(const Mask& mask) {
  Lengths out;
  const auto& [B, H, Q, KV] = mask.dims();
  for (std::int64_t b = 0; b < B; ++b) {
    const auto keys = columns_used(mask.plane(b, 0));
    out.starts.push_back(keys.empty() ? 0 : keys[0].first);
    out.lengths.push_back(keys.empty() ? 0 : keys.back().second - keys[0].first);
  }
  PS_TRY(const Program p, from_lengths(mask.dims(), out.lengths, out.starts, false));
  PS_TRY(const Mask padding, evaluate(p));
  const Difference d = difference(mask, padding);
  if (d.equal()) return out;
  return bad_input("mask", "no padding mask: lengths cannot say " + where_of(*d.first));
}

Program from_is_causal(const Dims& dims, Alignment alignment) {
  Program p;
  p.dims = dims;
  p.q_offset = {alignment == Alignment::kBottomRight ? dims.KV - dims.Q : 0};
  p.expr = tagged(leaf(Op::kCausal, {{{}, 0}}), "future");
  return p;
}

Difference difference(const Mask& a, const Mask& b) {
  const Mask only_a = combine(a, b, SetOp::kMinus), only_b = combine(b, a, SetOp::kMinus);
  Difference out{only_a.count(), only_b.count(), only_a.first()};
  const auto other = only_b.first();
  if (!out.first || (other && *other < *out.first)) out.first = other;
  return out;
}

}  // namespace ps::mask
