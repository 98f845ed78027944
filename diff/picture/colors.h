// Colours that the colour-blind can tell apart: blue is within the bound, orange to dark red over
// it, and everything that is no ratio differs in lightness or pattern too.
#pragma once

#include <cstdint>

#include "diff/picture/image.h"

namespace ps {

enum class Theme : std::uint8_t { kLight, kDark };

struct Palette {
  Color background, ink, faint_ink, grid;
  Color broken;      // NaN and infinities: a value class differs
  Color propagated;  // wrong only because its inputs were; grey, so that the cause stands out
  Color healed;
  Color missing;
  Color empty;  // no such cell
};

const Palette& palette_of(Theme theme);

// `ratio` is error / bound, on a logarithmic scale: 0.001 and less to 1 in blues, 1 to a million
// and more in oranges and reds. There is a jump of colour at 1. NaN is `broken`.
Color color_of_ratio(double ratio, Theme theme);
// Black or white, whichever reads better on it.
Color ink_on(Color background);
// 0 (nothing) to 1 (everything), evenly lighter: an approximation of the cividis map.
Color cividis(double share);

}  // namespace ps
