// Pictures as PNG files (RGB, 8 bits), byte for byte the same on every machine.
#pragma once

#include <string>
#include <string_view>

#include "diff/picture/image.h"

namespace ps {

std::string png_bytes(const Image& image);
std::string base64(std::string_view bytes);

}  // namespace ps
