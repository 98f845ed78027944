// Where the wrong cells of a plane are: how many in a rectangle, which lie off the screen and where
// to, and one after the other, as connected pieces of rows.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <utility>

#include "diff/mask/bands.h"

namespace ps::view {

using CellAt = std::pair<std::int64_t, std::int64_t>;  // query, key

struct Rect {
  std::int64_t row0 = 0, row1 = 0, column0 = 0, column1 = 0;  // ends excluded
};

std::int64_t count_in(const mask::Bands& cells, const Rect& rect);

// Up to 8 directions, clockwise from above: what lies outside of `seen` there, and a cell of it to
// go to.
enum class Side : std::uint8_t {
  kUp,
  kUpRight,
  kRight,
  kDownRight,
  kDown,
  kDownLeft,
  kLeft,
  kUpLeft
};
struct OffScreen {
  struct Direction {
    std::int64_t count = 0;
    std::optional<CellAt> nearest;  // by rows above and below, by columns at the sides
  };
  std::array<Direction, 8> sides;
  std::int64_t total() const;
};
OffScreen off_screen(const mask::Bands& errors, std::int64_t columns, const Rect& seen);

// The first cell of the next (the one before) piece after `from` in reading order; from the start
// (the end) again where there is none. A piece is one run over the rows of its band.
std::optional<CellAt> next_piece(const mask::Bands& errors, CellAt from);
std::optional<CellAt> previous_piece(const mask::Bands& errors, CellAt from);

}  // namespace ps::view
