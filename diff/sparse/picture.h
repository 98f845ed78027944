// Block lists over a token mask, to look at: which tiles the mask shows wholly, in part or not at
// all, and which of them a list selects, twice, or from the future. One raster for the terminal,
// for PNG files and for the viewer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/sparse.h"
#include "diff/picture/image.h"
#include "diff/sparse/masks.h"

namespace ps {

enum class TileFill : std::uint8_t { kEmpty, kPartial, kFull };

struct BlockTile {
  TileFill fill = TileFill::kEmpty;
  std::int32_t selected = 0;  // how often the row's list has the block
  bool future = false;        // selected, and later than the row's own block
  bool wrong() const {
    return selected > 1 || future || (selected > 0 && fill == TileFill::kEmpty);
  }
};

struct BlockGrid {
  std::int64_t rows = 0, columns = 0, first = 0;  // first: the query block of row 0
  std::vector<BlockTile> tiles;                   // [rows, columns]
  std::int64_t outside = 0;                       // entries that are no block
  const BlockTile& at(std::int64_t i, std::int64_t j) const {
    return tiles[static_cast<std::size_t>(i * columns + j)];
  }
  std::int64_t count(TileFill fill, bool selected) const;
  std::int64_t duplicates() const;
  std::int64_t future() const;
};

// Of one batch row and head. The first query has position keys - queries; an empty `lists` selects
// nothing.
BlockGrid block_grid(const PairMask& mask, const BlockLists& lists, std::int64_t block,
                     std::int64_t b, std::int64_t h);

// '#' FULL and selected, '+' PARTIAL and selected, 'E' EMPTY and selected, '>' selected from the
// future, '2' selected more than once; '=' FULL, '-' PARTIAL, '.' EMPTY where not selected. Larger
// grids are zoomed out: a letter then stands for several tiles, and what is wrong wins.
std::string blocks_text(const BlockGrid& grid, std::int64_t most = 96);
std::string blocks_legend();
std::string blocks_summary(const BlockGrid& grid);
Image draw_blocks(const BlockGrid& grid, int most_pixels = 960);

}  // namespace ps
