// Masks to look at: letters for a terminal, pixels for a file, and the rows and columns worth
// showing of a mask that is too large for text. Zooming out keeps densities exact and never loses a
// pair on which two masks differ.
#pragma once

#include <string>
#include <vector>

#include "diff/mask/mask.h"
#include "diff/picture/image.h"

namespace ps::mask {

struct View {
  const Mask* mask = nullptr;
  const Mask* expected = nullptr;  // null: only `mask` is shown
  const Program* program =
      nullptr;  // of `expected` or of `mask`: segments and generation are marked
  std::int64_t batch = 0, head = 0;
};

// "#" all pairs of the letter's tile allowed, "." none, "+" some; L a leak, H a hidden pair, X both
// inside; "!" behind rows that see no key.
std::string terminal_picture(const View& view, std::int64_t most_rows = 40,
                             std::int64_t most_columns = 96);
Image draw_mask(const View& view, int most_pixels = 960);

// About `count` positions of an axis that say most: where segments begin and end, the first
// generated ones, both ends, and evenly spread others.
std::vector<std::int64_t> positions_to_show(const Program* program, std::int64_t offset,
                                            std::int64_t size, std::size_t count = 25);
// The cells at those positions as a table with both axes labelled.
std::string sampled_text(const View& view);

}  // namespace ps::mask
