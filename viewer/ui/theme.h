// Fonts and the look. The fonts are in the program, so that a picture is the same everywhere.
#pragma once

#include "viewer/ui/ui.h"

namespace ps::viewer {

void add_fonts(Ui& ui);
// Sizes and text for `scale`, 1 to 2.5.
void apply_theme(double scale);

}  // namespace ps::viewer
