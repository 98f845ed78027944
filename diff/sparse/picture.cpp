#include "diff/sparse/picture.h"

#include <algorithm>

namespace ps {

namespace {

// What a letter or a square shows, the least telling first: zoomed out, the greatest wins.
enum class Look : std::uint8_t {
  kEmpty,
  kPartial,
  kFull,
  kTakenPartial,
  kTakenFull,
  kTakenEmpty,
  kDuplicate,
  kFuture
};
constexpr char kLetters[] = {'.', '-', '=', '+', '#', 'E', '2', '>'};
constexpr Color kColors[] = {{255, 255, 255}, {216, 224, 236}, {176, 192, 216}, {86, 140, 196},
                             {26, 74, 140},   {205, 40, 20},   {240, 140, 0},   {150, 0, 110}};
constexpr Color kInk{30, 30, 30}, kPaper{255, 255, 255}, kGrid{232, 232, 232};

Look look_of(const BlockTile& t) {
  if (t.future) return Look::kFuture;
  if (t.selected > 1) return Look::kDuplicate;
  if (t.selected == 1) {
    return t.fill == TileFill::kFull      ? Look::kTakenFull
           : t.fill == TileFill::kPartial ? Look::kTakenPartial
                                          : Look::kTakenEmpty;
  }
  return t.fill == TileFill::kFull      ? Look::kFull
         : t.fill == TileFill::kPartial ? Look::kPartial
                                        : Look::kEmpty;
}

// Of `step` x `step` tiles.
Look zoomed(const BlockGrid& grid, std::int64_t i, std::int64_t j, std::int64_t step) {
  Look out = Look::kEmpty;
  for (std::int64_t y = i * step; y < std::min(grid.rows, (i + 1) * step); ++y) {
    for (std::int64_t x = j * step; x < std::min(grid.columns, (j + 1) * step); ++x) {
      out = std::max(out, look_of(grid.at(y, x)));
    }
  }
  return out;
}

}  // namespace

std::int64_t BlockGrid::count(TileFill fill, bool selected) const {
  return std::count_if(tiles.begin(), tiles.end(), [&](const BlockTile& t) {
    return t.fill == fill && (t.selected > 0) == selected;
  });
}
std::int64_t BlockGrid::duplicates() const {
  return std::count_if(tiles.begin(), tiles.end(),
                       [](const BlockTile& t) { return t.selected > 1; });
}
std::int64_t BlockGrid::future() const {
  return std::count_if(tiles.begin(), tiles.end(), [](const BlockTile& t) { return t.future; });
}

BlockGrid block_grid(const PairMask& mask, const BlockLists& lists, std::int64_t block,
                     std::int64_t b, std::int64_t h) {
  const std::int64_t past = mask.keys - mask.queries;
  BlockGrid grid;
  grid.first = past / block;
  grid.columns = (mask.keys + block - 1) / block;
  grid.rows = grid.columns - grid.first;
  grid.tiles.resize(static_cast<std::size_t>(grid.rows * grid.columns));
  for (std::int64_t i = 0; i < grid.rows; ++i) {
    const std::int64_t q0 = std::max<std::int64_t>(0, (grid.first + i) * block - past);
    const std::int64_t q1 = std::min(mask.queries, (grid.first + i + 1) * block - past);
    for (std::int64_t j = 0; j < grid.columns; ++j) {
      const std::int64_t k0 = j * block, k1 = std::min(mask.keys, k0 + block);
      std::int64_t seen = 0;
      for (std::int64_t q = q0; q < q1; ++q) {
        for (std::int64_t k = k0; k < k1; ++k) seen += mask.at(b, h, q, k) ? 1 : 0;
      }
      BlockTile& tile = grid.tiles[static_cast<std::size_t>(i * grid.columns + j)];
      const bool all = seen > 0 && seen == (q1 - q0) * (k1 - k0);
      tile.fill = all ? TileFill::kFull : (seen > 0 ? TileFill::kPartial : TileFill::kEmpty);
    }
    if (lists.empty() || i >= lists.rows) continue;
    for (const std::int32_t j : lists.at(b, h, i)) {
      if (j < 0 || j >= grid.columns) {
        ++grid.outside;
        continue;
      }
      BlockTile& tile = grid.tiles[static_cast<std::size_t>(i * grid.columns + j)];
      ++tile.selected;
      tile.future = tile.fill == TileFill::kEmpty && j > grid.first + i;
    }
  }
  return grid;
}

std::string blocks_text(const BlockGrid& grid, std::int64_t most) {
  const std::int64_t step = std::max<std::int64_t>(
      1, (std::max(grid.rows, grid.columns) + most - 1) / std::max<std::int64_t>(1, most));
  const std::int64_t rows = (grid.rows + step - 1) / step;
  const std::int64_t columns = (grid.columns + step - 1) / step;
  const std::size_t width = std::to_string(grid.first + grid.rows).size();
  std::string out;
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::string label = std::to_string(grid.first + i * step);
    out += std::string(width - std::min(width, label.size()), ' ') + label + " ";
    for (std::int64_t j = 0; j < columns; ++j) {
      out += kLetters[static_cast<std::size_t>(zoomed(grid, i, j, step))];
    }
    out += "\n";
  }
  if (step > 1)
    out += "a letter is " + std::to_string(step) + " x " + std::to_string(step) + " blocks\n";
  return out;
}

std::string blocks_legend() {
  return "  # FULL, selected   + PARTIAL, selected   E EMPTY, selected   > from the future   2 "
         "more "
         "than once\n"
         "  = FULL             - PARTIAL             . EMPTY, not selected\n";
}

std::string blocks_summary(const BlockGrid& grid) {
  const auto n = [&](TileFill fill, bool selected) {
    return std::to_string(grid.count(fill, selected));
  };
  std::string out = std::to_string(grid.rows) + " x " + std::to_string(grid.columns) +
                    " blocks; selected " + n(TileFill::kFull, true) + " FULL, " +
                    n(TileFill::kPartial, true) + " PARTIAL, " + n(TileFill::kEmpty, true) +
                    " EMPTY; left out " + n(TileFill::kFull, false) + " FULL, " +
                    n(TileFill::kPartial, false) + " PARTIAL";
  if (grid.duplicates() > 0) out += "; " + std::to_string(grid.duplicates()) + " more than once";
  if (grid.future() > 0) out += "; " + std::to_string(grid.future()) + " from the future";
  if (grid.outside > 0) out += "; " + std::to_string(grid.outside) + " entries are no block";
  return out;
}

Image draw_blocks(const BlockGrid& grid, int most_pixels) {
  constexpr int kMargin = 34, kLegend = 52, kWidest = 24;
  const std::int64_t side = std::max<std::int64_t>(1, std::max(grid.rows, grid.columns));
  const std::int64_t step = std::max<std::int64_t>(1, (side + most_pixels - 1) / most_pixels);
  const auto rows = static_cast<int>((grid.rows + step - 1) / step);
  const auto columns = static_cast<int>((grid.columns + step - 1) / step);
  const int cell = std::clamp(most_pixels / std::max(rows, std::max(columns, 1)), 1, kWidest);
  const int width = std::max(columns * cell + kMargin + 10, 400);
  Image image(width, rows * cell + kMargin + kLegend, kPaper);
  image.text(kMargin, 6, "key blocks", kInk);
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < columns; ++j) {
      const Look look = zoomed(grid, i, j, step);
      const Box box{kMargin + j * cell, kMargin - 12 + i * cell, cell, cell};
      image.fill(box, kColors[static_cast<std::size_t>(look)]);
      if (look == Look::kPartial || look == Look::kTakenPartial) {
        if (cell >= 6) image.stripes(box, look == Look::kPartial ? kPaper : kColors[2]);
      }
      if (cell >= 4) image.frame(box, kGrid);
    }
    const int every = std::max(1, (kGlyphHeight + 3 + cell - 1) / cell);
    if (i % every == 0) {
      image.text(4, kMargin - 12 + i * cell, std::to_string(grid.first + i * step), kInk);
    }
  }
  const struct {
    Look look;
    const char* words;
  } legend[] = {{Look::kTakenFull, "FULL, selected"},
                {Look::kTakenPartial, "PARTIAL, selected"},
                {Look::kFull, "FULL"},
                {Look::kPartial, "PARTIAL"},
                {Look::kTakenEmpty, "EMPTY, selected"},
                {Look::kDuplicate, "twice"},
                {Look::kFuture, "future"},
                {Look::kEmpty, "EMPTY"}};
  int x = kMargin, y = kMargin - 6 + rows * cell;
  for (const auto& entry : legend) {
    const int needed = 14 + text_width(entry.words) + 12;
    if (x + needed > width) x = kMargin, y += 14;
    const Box box{x, y, 10, 10};
    image.fill(box, kColors[static_cast<std::size_t>(entry.look)]);
    image.frame(box, kInk);
    image.text(x + 14, y + 1, entry.words, kInk);
    x += needed;
  }
  return image;
}

}  // namespace ps
