// The letters of pictures: printable ASCII, five dots wide, seven high above the line, two below
// it.
#pragma once

#include <array>
#include <cstdint>

namespace ps {

using Glyph = std::array<std::uint8_t, 9>;  // rows from the top; bit 4 is the leftmost dot

const Glyph& glyph_of(char c);  // a box for what is no printable ASCII

}  // namespace ps
