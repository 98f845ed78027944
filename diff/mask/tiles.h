// Rectangles of cells at once: what interval arithmetic can say about a tile without looking at its
// cells (sound, never complete), and the exact summary of all tiles that block-sparse kernels use.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "diff/mask/mask.h"

namespace ps::mask {

enum class Fill : std::uint8_t { kEmpty = 0, kUnknown = 1, kFull = 2 };  // kUnknown: or partial

struct Tile {  // storage cells, ends included
  std::int64_t b = 0, h = 0;
  std::int64_t i0 = 0, i1 = 0, j0 = 0, j1 = 0;
};

class TileClassifier {
 public:
  explicit TileClassifier(const Program& program) : p_(program) {}
  Fill classify(const Tile& tile) { return classify(p_.expr, tile); }
  Fill classify(const Node& node, const Tile& tile);

 private:
  struct Positions {
    std::int64_t q0, q1, k0, k1;
  };
  Fill of(const Node& node, const Tile& t, const Positions& x);
  Fill leaf(const Node& node, const Tile& t, const Positions& x);
  Fill ids(const Node& node, const Tile& t, const Positions& x) const;
  Fill remap(const Node& node, const Tile& t, const Positions& x);
  Fill table(int array, const Tile& t, std::int64_t r0, std::int64_t r1, std::int64_t c0,
             std::int64_t c1);
  // Sums of nonzero entries over [0, row) x [0, column) of a plane.
  const std::vector<std::int64_t>& sums(int array, std::size_t plane, std::int64_t rows,
                                        std::int64_t columns);
  const Program& p_;
  std::map<std::pair<int, std::size_t>, std::vector<std::int64_t>> sums_;
};

// torch pads edge tiles with False, so that an all-true edge tile is partial; in bounds it is full.
enum class EdgeRule : std::uint8_t { kTorch, kInbounds };

struct BlockSummary {
  std::int64_t bq = 0, bk = 0, nq = 0, nk = 0;
  Dims dims;
  std::vector<std::uint8_t> torch, inbounds;  // [B,H,nq,nk]: a Fill; kUnknown = partial

  struct Totals {
    std::int64_t empty = 0, partial = 0, full = 0;
  };
  Totals totals(EdgeRule rule) const;
  const std::vector<std::uint8_t>& fills(EdgeRule rule) const {
    return rule == EdgeRule::kTorch ? torch : inbounds;
  }
};

// Cells in every tile, [nq, nk], of a plane whose rows begin at 0.
std::vector<std::int64_t> tile_counts(const Bands& plane, std::int64_t columns, std::int64_t bq,
                                      std::int64_t bk);
BlockSummary summarize(const Mask& mask, std::int64_t bq, std::int64_t bk);

// FlexAttention's tables. Row r of a list has num[r] indices, ascending; the rest of the row is
// filler: the other indices, ascending, as torch leaves them.
struct BlockList {
  std::vector<std::int32_t> num;      // [B,H,rows]
  std::vector<std::int32_t> indices;  // [B,H,rows,columns]
};
struct BlockLists {
  std::int64_t bq = 0, bk = 0, nq = 0, nk = 0;
  Dims dims;
  BlockList partial, full;      // by query block: keys
  BlockList q_partial, q_full;  // by key block: queries; may be empty
};
BlockLists block_lists(const BlockSummary& summary, EdgeRule rule = EdgeRule::kTorch);
// What the lists make a kernel compute: full tiles whole, partial tiles by `partial`, the rest
// none.
Mask applied(const BlockLists& lists, const Mask& partial);

}  // namespace ps::mask
