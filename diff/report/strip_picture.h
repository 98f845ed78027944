// The strip as a picture: blues are within the bound, the cause is saturated, what it only passed
// on is grey. Every cell also carries its letter.
#pragma once

#include <string>

#include "diff/picture/colors.h"
#include "diff/picture/image.h"
#include "diff/report/strip.h"

namespace ps {

Color color_of(const StripCell& cell, Theme theme);
Image draw_strip(const Strip& strip, const std::string& title, const std::string& subtitle,
                 Theme theme);

}  // namespace ps
