#include "diff/view/mask_errors.h"

#include <algorithm>

namespace ps::view {

namespace {

__extension__ using Wide = __int128;

// The sum of clamp(end.at(row), lo, hi) over rows [first, last).
Wide clamped_sum(mask::Edge end, std::int64_t first, std::int64_t last, std::int64_t lo,
                 std::int64_t hi) {
  const std::int64_t n = last - first;
  if (end.slope() == 0) return Wide{std::clamp(end.base(), lo, hi)} * n;
  const std::int64_t least = std::min(end.at(first), end.at(last - 1));  // least, least + 1, ...
  const std::int64_t below = std::clamp<std::int64_t>(lo - least, 0, n);
  const std::int64_t to_top = std::clamp<std::int64_t>(hi - least, below, n);
  const std::int64_t inside = to_top - below;
  return Wide{lo} * below + Wide{hi} * (n - to_top) +
         Wide{inside} * (2 * Wide{least + below} + inside - 1) / 2;
}

// The row of [first, last) in which the run reaches into [c0, c1), the nearest to `from`; -1: none.
// Runs of a band overlap from row to row, so that a row where one does is found by its ends.
std::optional<CellAt> cell_of_run(const mask::Run& run, std::int64_t first, std::int64_t last,
                                  std::int64_t c0, std::int64_t c1, bool last_row_first) {
  // lo < c1 and hi > c0, each true on one side of a line.
  std::int64_t a = first, b = last;                      // rows [a, b) pass
  const auto keep = [&](std::int64_t base, int slope) {  // rows with base + slope * row >= 0
    if (slope == 0 && base < 0) b = a;
    if (slope > 0) a = std::max(a, -base);
    if (slope < 0) b = std::min(b, base + 1);
  };
  keep(c1 - 1 - run.lo.base(), static_cast<int>(-run.lo.slope()));
  keep(run.hi.base() - 1 - c0, static_cast<int>(run.hi.slope()));
  if (a >= b) return std::nullopt;
  const std::int64_t row = last_row_first ? b - 1 : a;
  return CellAt{row, std::max(run.lo.at(row), c0)};
}

bool nearer(Side side, const CellAt& a, const CellAt& b) {
  switch (side) {
    case Side::kUp:
    case Side::kUpLeft:
    case Side::kUpRight:
      return a.first > b.first;
    case Side::kDown:
    case Side::kDownLeft:
    case Side::kDownRight:
      return a.first < b.first;
    case Side::kLeft:
      return a.second > b.second;
    case Side::kRight:
      return a.second < b.second;
  }
  return false;
}

// Positions of the piece that begins first at or after `from`, in reading order of its first cell.
CellAt begin_of(const mask::Bands::Band& band, const mask::Run& run) {
  return {band.begin, run.lo.at(band.begin)};
}

}  // namespace

std::int64_t count_in(const mask::Bands& cells, const Rect& rect) {
  const std::int64_t first = std::max(rect.row0, cells.begin());
  const std::int64_t last = std::min(rect.row1, cells.end());
  if (first >= last || rect.column0 >= rect.column1) return 0;
  Wide total = 0;
  for (std::size_t n = cells.band_of(first); n < cells.size(); ++n) {
    const mask::Bands::Band band = cells[n];
    if (band.begin >= last) break;
    const std::int64_t a = std::max(first, band.begin), b = std::min(last, band.end);
    for (const mask::Run& run : band.runs) {
      total += clamped_sum(run.hi, a, b, rect.column0, rect.column1) -
               clamped_sum(run.lo, a, b, rect.column0, rect.column1);
    }
  }
  return static_cast<std::int64_t>(total);
}

std::int64_t OffScreen::total() const {
  std::int64_t n = 0;
  for (const Direction& d : sides) n += d.count;
  return n;
}

OffScreen off_screen(const mask::Bands& errors, std::int64_t columns, const Rect& seen) {
  const std::int64_t rows = errors.end();
  const std::int64_t r0 = std::clamp<std::int64_t>(seen.row0, 0, rows);
  const std::int64_t r1 = std::clamp<std::int64_t>(seen.row1, r0, rows);
  const std::int64_t c0 = std::clamp<std::int64_t>(seen.column0, 0, columns);
  const std::int64_t c1 = std::clamp<std::int64_t>(seen.column1, c0, columns);
  const std::array<Rect, 8> sectors = {{{0, r0, c0, c1},
                                        {0, r0, c1, columns},
                                        {r0, r1, c1, columns},
                                        {r1, rows, c1, columns},
                                        {r1, rows, c0, c1},
                                        {r1, rows, 0, c0},
                                        {r0, r1, 0, c0},
                                        {0, r0, 0, c0}}};
  OffScreen out;
  for (std::size_t s = 0; s < sectors.size(); ++s) {
    const Rect& sector = sectors[s];
    OffScreen::Direction& d = out.sides[s];
    d.count = count_in(errors, sector);
    if (d.count == 0) continue;
    const auto side = static_cast<Side>(s);
    const bool above = side == Side::kUp || side == Side::kUpLeft || side == Side::kUpRight;
    for (std::size_t n = errors.band_of(sector.row0); n < errors.size(); ++n) {
      const mask::Bands::Band band = errors[n];
      if (band.begin >= sector.row1) break;
      for (const mask::Run& run : band.runs) {
        const auto cell =
            cell_of_run(run, std::max(sector.row0, band.begin), std::min(sector.row1, band.end),
                        sector.column0, sector.column1, above);
        if (cell && (!d.nearest || nearer(side, *cell, *d.nearest))) d.nearest = cell;
      }
    }
  }
  return out;
}

std::optional<CellAt> next_piece(const mask::Bands& errors, CellAt from) {
  const std::size_t start = from.first < errors.begin()  ? 0
                            : from.first >= errors.end() ? errors.size()
                                                         : errors.band_of(from.first);
  for (std::size_t n = start; n < errors.size(); ++n) {
    const mask::Bands::Band band = errors[n];
    for (const mask::Run& run : band.runs) {
      if (begin_of(band, run) > from) return begin_of(band, run);
    }
  }
  for (std::size_t n = 0; n < errors.size(); ++n) {
    if (!errors[n].runs.empty()) return begin_of(errors[n], errors[n].runs.front());
  }
  return std::nullopt;
}

std::optional<CellAt> previous_piece(const mask::Bands& errors, CellAt from) {
  std::size_t n = from.first < errors.begin()  ? 0
                  : from.first >= errors.end() ? errors.size()
                                               : errors.band_of(from.first) + 1;
  while (n-- > 0) {
    const mask::Bands::Band band = errors[n];
    for (std::size_t i = band.runs.size(); i-- > 0;) {
      if (begin_of(band, band.runs[i]) < from) return begin_of(band, band.runs[i]);
    }
  }
  for (std::size_t last = errors.size(); last-- > 0;) {
    if (!errors[last].runs.empty()) return begin_of(errors[last], errors[last].runs.back());
  }
  return std::nullopt;
}

}  // namespace ps::view
