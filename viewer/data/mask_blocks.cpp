#include "viewer/data/mask_blocks.h"

#include <algorithm>
#include <vector>

#include "core/sparse_attention.h"
#include "viewer/data/places.h"

namespace ps::viewer {

namespace {

// Blocks of token columns that one row and head of a step selected.
struct Selected {
  const TensorView* taken = nullptr;  // [R, 1|H, m, n]
  std::int64_t block = 1, past = 0, prefix = 0, rows = 0, columns = 0;

  std::int64_t first_block() const { return past / block; }
  bool at(std::int64_t row, std::int64_t head, std::int64_t query_block,
          std::int64_t key_block) const {
    const Shape& s = taken->shape;
    const std::int64_t h = std::min(head, s[1] - 1);
    return value_at(*taken, ((row * s[1] + h) * s[2] + query_block) * s[3] + key_block) != 0;
  }
  // Tiles as cells of the plane [rows, columns]; the prefix only where it is asked for.
  mask::Bands plane(std::int64_t row, std::int64_t head, bool with_prefix) const {
    mask::Bands out(0);
    std::vector<mask::Run> runs;
    for (std::int64_t m = 0; m < taken->shape[2]; ++m) {
      const std::int64_t end = std::min((first_block() + m + 1) * block - past, rows);
      if (end <= out.end()) continue;
      runs.clear();
      const auto add = [&](std::int64_t lo, std::int64_t hi) {
        if (!runs.empty() && runs.back().hi.base() == lo) {
          runs.back().hi = mask::Edge(hi, 0);
        } else if (hi > lo) {
          runs.push_back({mask::Edge(lo, 0), mask::Edge(hi, 0)});
        }
      };
      if (with_prefix) add(0, prefix);
      for (std::int64_t n = 0; n < taken->shape[3]; ++n) {
        if (at(row, head, m, n))
          add(std::min(prefix + n * block, columns), std::min(prefix + (n + 1) * block, columns));
      }
      out.append(end, runs);
    }
    if (out.end() < rows) out.append(rows, {});
    return out;
  }
};

// The selection of the layer; nothing where it is dense or was not captured.
std::optional<Selected> selection_of(const MaskWork& work, const MaskKey& key) {
  if (work.run == nullptr || !work.config) return std::nullopt;
  const auto sparse = sparse_attention(*work.config);
  const std::int64_t layer = std::max<std::int64_t>(key.layer, 0);
  if (!sparse || !sparse->sparse(layer)) return std::nullopt;
  Selected s;
  s.taken = work.run->find(key.step, key.rank,
                           "model.layers." + std::to_string(layer) + ".self_attn:block_mask");
  if (s.taken == nullptr || s.taken->shape.size() != 4) return std::nullopt;
  const TraceStep* step = find_step(*work.run, key.step, key.rank);
  if (step == nullptr) return std::nullopt;
  s.past = past_of(*work.run, key.step, key.rank);
  const auto inputs = step_inputs(*step, s.past);
  if (!inputs.ok()) return std::nullopt;
  s.block = sparse->config.block;
  s.prefix = work.config->prefix_tokens;
  s.rows = inputs->length;
  s.columns = s.prefix + s.past + inputs->length;
  if (s.taken->shape[0] <= key.row) return std::nullopt;
  return s;
}

}  // namespace

void add_selected(const MaskWork& work, const MaskKey& key, MaskModel& m) {
  const auto selection = selection_of(work, key);
  if (!selection) return;
  m.selected = true;
  const auto expected = m.set->get("expected");
  if (!expected.ok()) return;
  const mask::Dims& d = (*expected)->dims();
  if (d.Q != selection->rows || d.KV != selection->columns || selection->taken->shape[0] < d.B) {
    m.selected_problem = "The blocks that were selected do not fit this step's mask.";
    return;
  }
  // Per head where heads select for themselves.
  const mask::Dims dims{d.B, std::max(d.H, selection->taken->shape[1]), d.Q, d.KV};
  mask::Mask out(dims);
  for (std::int64_t b = 0; b < dims.B; ++b) {
    for (std::int64_t h = 0; h < dims.H; ++h) {
      out.set(b, h,
              std::make_shared<const mask::Bands>(
                  combine((*expected)->plane(b, std::min(h, d.H - 1)), selection->plane(b, h, true),
                          mask::SetOp::kAnd)));
    }
  }
  m.set->add("selected", std::move(out));
}

void add_tiles(const MaskWork& work, const MaskKey& key, MaskModel& m) {
  if (key.blocks == "none") return;
  if (key.blocks.empty() || key.blocks == "auto") {
    const auto selection = selection_of(work, key);
    if (!selection) return;
    MaskBlocks blocks;
    blocks.layer.bq = blocks.layer.bk = selection->block;
    blocks.layer.full = mask::Bands(0);
    blocks.layer.full.append(selection->rows, {});
    blocks.layer.partial = selection->plane(key.row, key.head, false);
    blocks.row_origin = -(selection->past % selection->block);
    blocks.column_origin = selection->prefix;
    std::int64_t taken = 0;
    for (std::int64_t q = 0; q < selection->taken->shape[2]; ++q) {
      for (std::int64_t k = 0; k < selection->taken->shape[3]; ++k)
        taken += selection->at(key.row, key.head, q, k) ? 1 : 0;
    }
    blocks.words = std::to_string(taken) + " of " +
                   std::to_string(selection->taken->shape[2] * selection->taken->shape[3]) +
                   " blocks selected, " + std::to_string(selection->block) + " tokens each";
    m.blocks = std::move(blocks);
    return;
  }
  const std::size_t cross = key.blocks.find('x');
  const auto bq = integer_of(key.blocks.substr(0, cross), "blocks", 1, 1 << 20);
  const auto bk = cross == std::string::npos
                      ? bq
                      : integer_of(key.blocks.substr(cross + 1), "blocks", 1, 1 << 20);
  if (!bq.ok() || !bk.ok()) {
    m.blocks_problem = "Tiles are 128, or 128x64: " + key.blocks + " is neither.";
    return;
  }
  const auto& plane = m.pair.expected ? m.pair.expected : m.pair.actual;
  constexpr std::int64_t kMostTiles = 1 << 22;
  const std::int64_t nq = (m.pair.rows + *bq - 1) / *bq, nk = (m.pair.columns + *bk - 1) / *bk;
  if (plane == nullptr || nq * nk > kMostTiles) {
    m.blocks_problem = "More tiles than can be shown: take larger ones.";
    return;
  }
  mask::Mask one(mask::Dims{1, 1, m.pair.rows, m.pair.columns});
  one.set(0, 0, plane);
  MaskBlocks blocks;
  blocks.layer = view::block_layer(mask::summarize(one, *bq, *bk), 0, 0);
  std::int64_t full = 0, partial = 0;
  const auto tiles = [&](const mask::Bands& bands) {
    std::int64_t n = 0;
    for (std::size_t i = 0; i < bands.size(); ++i) {
      const std::int64_t down = (bands[i].end - bands[i].begin + *bq - 1) / *bq;
      for (const mask::Run& run : bands[i].runs)
        n += down * ((run.hi.base() - run.lo.base() + *bk - 1) / *bk);
    }
    return n;
  };
  full = tiles(blocks.layer.full);
  partial = tiles(blocks.layer.partial);
  blocks.words = std::to_string(full) + " full, " + std::to_string(partial) + " partial, " +
                 std::to_string(nq * nk - full - partial) + " empty";
  m.blocks = std::move(blocks);
}

}  // namespace ps::viewer
