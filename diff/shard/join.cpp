#include "diff/shard/join.h"

#include <algorithm>
#include <cstring>

#include "core/crc32.h"
#include "core/odd_one.h"

namespace ps {

namespace {

// The first letter of an axis's symbol says who is dealt: "H", "H*D", "K*X", "I", "V".
Dealt dealt_by(std::string_view symbol) {
  if (symbol.find('|') != std::string_view::npos || symbol.empty()) return Dealt::kWhole;
  switch (symbol[0]) {
    case 'H':
      return Dealt::kHeads;
    case 'K':
      return Dealt::kKvHeads;
    case 'I':
      return Dealt::kInner;
    case 'V':
      return Dealt::kVocab;
    default:
      return Dealt::kWhole;
  }
}

// Cells in which two values of the same shape differ; -0 is 0, and a NaN is a NaN.
std::int64_t differing_cells(const TensorView& a, const TensorView& b, std::int64_t& first) {
  if (a.dtype == b.dtype && a.bytes.size() == b.bytes.size() &&
      std::memcmp(a.bytes.data(), b.bytes.data(), a.bytes.size()) == 0) {
    return 0;
  }
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < a.count(); ++i) {
    const double x = value_at(a, i), y = value_at(b, i);
    if (x == y || (x != x && y != y)) continue;
    if (count++ == 0) first = i;
  }
  return count;
}

std::int64_t whole_size(Dealt dealt, std::string_view point, const ModelConfig& c,
                        const TensorView& part, std::size_t axis) {
  // Two-letter axes (heads times head size) are flat; where the axis is heads alone, so is its
  // size.
  const bool flat = axis + 1 == part.shape.size();
  const bool cross = point.find(".cross_replica_attn") != std::string_view::npos;
  const std::int64_t dim = !flat ? 1 : cross ? c.cross_head_dim() : c.head_dim;
  switch (dealt) {
    case Dealt::kHeads:
      return c.heads * dim;
    case Dealt::kKvHeads:
      return c.kv_heads * dim;
    case Dealt::kInner:
      return c.intermediate_size;
    case Dealt::kVocab:
      return c.vocab_size;
    case Dealt::kWhole:
      break;
  }
  return 0;
}

// What most of the ranks first .. first + count - 1 hold; notes one that holds something else.
TensorView agreed(const std::vector<TensorView>& parts, std::int64_t first, std::int64_t count,
                  JoinedPoint& out) {
  const auto part = [&](std::int64_t r) { return parts[static_cast<std::size_t>(first + r)]; };
  std::int64_t cell = 0;
  const auto same = [&](std::int64_t r) { return differing_cells(part(0), part(r), cell) == 0; };
  bool all = true;
  for (std::int64_t r = 1; r < count && all; ++r) all = same(r);
  if (all) return part(0);
  std::vector<std::uint32_t> said;
  for (std::int64_t r = 0; r < count; ++r) said.push_back(crc32_of(part(r).bytes));
  const std::optional<OddOne> odd = odd_one(said);
  if (!odd) return part(0);
  if (!out.disagree) {
    out.differing = differing_cells(part(odd->other), part(odd->rank), cell);
    out.cell = cell;
    out.disagree = {first + odd->other, first + odd->rank};
  }
  return part(odd->other);
}

}  // namespace

PointDeal point_deal(std::string_view point) {
  const auto found = find_point(canonical_point(point));
  PointDeal out;
  if (!found || found->partial) return out;
  std::string_view axes = found->spec->axes;
  for (std::size_t axis = 0; !axes.empty(); ++axis) {
    const std::size_t comma = axes.find(',');
    const Dealt dealt = dealt_by(axes.substr(0, comma));
    if (dealt != Dealt::kWhole) return {dealt, axis};
    axes = comma == std::string_view::npos ? std::string_view() : axes.substr(comma + 1);
  }
  return out;
}

Result<Tensor> concatenated(const std::vector<TensorView>& parts, std::size_t axis) {
  PS_CHECK(!parts.empty() && axis < parts[0].shape.size(), "parts to put together");
  Shape shape = parts[0].shape;
  shape[axis] = 0;
  for (const TensorView& part : parts) {
    Shape other = part.shape;
    if (other.size() != shape.size() || part.dtype != parts[0].dtype) {
      return bad_input("ranks", "their values do not fit together", to_string(parts[0].shape),
                       to_string(part.shape));
    }
    shape[axis] += other[axis];
    other[axis] = parts[0].shape[axis];
    if (other != parts[0].shape) {
      return bad_input("ranks", "their values do not fit together", to_string(parts[0].shape),
                       to_string(part.shape));
    }
  }
  Tensor out(parts[0].dtype, shape);
  std::int64_t outer = 1, inner = size_of(parts[0].dtype);
  for (std::size_t a = 0; a < axis; ++a) outer *= shape[a];
  for (std::size_t a = axis + 1; a < shape.size(); ++a) inner *= shape[a];
  std::byte* to = out.bytes().data();
  for (std::int64_t o = 0; o < outer; ++o) {
    for (const TensorView& part : parts) {
      const auto bytes = static_cast<std::size_t>(part.shape[axis] * inner);
      if (bytes > 0)
        std::memcpy(to, part.bytes.data() + static_cast<std::size_t>(o) * bytes, bytes);
      to += bytes;
    }
  }
  return out;
}

Result<JoinedPoint> join_point(std::string_view point, const std::vector<TensorView>& parts,
                               const ModelConfig& config, const RankShare& share,
                               std::optional<std::int64_t> declared) {
  PS_CHECK(static_cast<std::int64_t>(parts.size()) == share.tp, "a part a rank");
  PointDeal deal = point_deal(point);
  if (declared) {
    const auto axes = static_cast<std::int64_t>(parts[0].shape.size());
    const std::int64_t axis = *declared < 0 ? *declared + axes : *declared;
    if (axis < 0 || axis >= axes) {
      return bad_input(std::string(point), "is said to be cut on an axis that it has not",
                       "an axis below " + std::to_string(axes), std::to_string(*declared));
    }
    if (deal.dealt == Dealt::kWhole || deal.axis != static_cast<std::size_t>(axis)) {
      JoinedPoint out;
      PS_TRY(out.value, concatenated(parts, static_cast<std::size_t>(axis)));
      out.sharded = true;
      return out;
    }
  }
  // A mask of all heads is cut as they are; one for all of them is the same on every rank.
  const bool mask = point == "model:mask" || point == "model:mask_sliding";
  if (mask && share.heads > 1 && parts[0].shape.size() == 4 && parts[0].shape[1] == share.heads) {
    deal = {Dealt::kHeads, 1};
  }
  JoinedPoint out;
  const bool can_shard = deal.dealt != Dealt::kWhole && deal.axis < parts[0].shape.size();
  const std::int64_t found = can_shard ? parts[0].shape[deal.axis] : 0;
  const std::int64_t whole =
      can_shard ? whole_size(deal.dealt, point, config, parts[0], deal.axis) : 0;
  // Groups of ranks that hold the same: all of them, or the copies of a key/value head.
  std::int64_t group = share.tp;
  if (can_shard && found != whole) {
    group = deal.dealt == Dealt::kKvHeads ? share.kv_replicas : 1;
    // Engines pad the vocabulary to a multiple of their own, of a rank's part or of all.
    constexpr std::int64_t kPadding = 128;
    const std::int64_t padded = found * share.tp;
    const bool padding =
        deal.dealt == Dealt::kVocab && padded >= whole && padded - whole < kPadding * share.tp;
    const std::int64_t rows = padding                       ? padded
                              : deal.dealt == Dealt::kVocab ? share.padded_vocab
                                                            : whole;
    if (found * (share.tp / group) != rows) {
      return bad_input(std::string(point),
                       "a rank's part does not fit the model at tp " + std::to_string(share.tp) +
                           " on axis " + std::to_string(deal.axis),
                       std::to_string(rows / (share.tp / group)), std::to_string(found));
    }
    out.sharded = true;
  }
  std::vector<TensorView> distinct;
  for (std::int64_t r = 0; r < share.tp; ++r) {
    const TensorView& part = parts[static_cast<std::size_t>(r)];
    if (part.shape != parts[0].shape) {
      return bad_input(std::string(point), "rank " + std::to_string(r) + " has another shape",
                       to_string(parts[0].shape), to_string(part.shape));
    }
    if (r % group == 0) distinct.push_back(agreed(parts, r, group, out));
  }
  if (distinct.size() == 1) {
    out.value = Tensor::copy_of(distinct[0]);
    return out;
  }
  PS_TRY(out.value, concatenated(distinct, deal.axis));
  if (deal.dealt == Dealt::kVocab && out.value.shape().back() > config.vocab_size) {
    // Columns of the vocabulary's padding.
    const TensorView all = out.value.view();
    Shape shape = all.shape;
    shape.back() = config.vocab_size;
    Tensor cut(all.dtype, shape);
    const auto row = static_cast<std::size_t>(config.vocab_size * size_of(all.dtype));
    const auto stride = static_cast<std::size_t>(all.shape.back() * size_of(all.dtype));
    for (std::size_t i = 0; i * stride < all.bytes.size(); ++i) {
      std::memcpy(cut.bytes().data() + i * row, all.bytes.data() + i * stride, row);
    }
    out.value = std::move(cut);
  }
  return out;
}

}  // namespace ps
