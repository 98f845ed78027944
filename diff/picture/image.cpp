#include "diff/picture/image.h"

#include <algorithm>
#include <cstddef>
#include <string>

#include "core/result.h"
#include "diff/picture/font.h"

namespace ps {

namespace {

// Larger pictures are a mistake of ours: tensors are shrunk to a grid before they are drawn.
constexpr int kMostPixelsAside = 1 << 14;

}  // namespace

Image::Image(int width, int height, Color background) : width_(width), height_(height) {
  PS_CHECK(width > 0 && height > 0 && width <= kMostPixelsAside && height <= kMostPixelsAside,
           std::to_string(width) + "x" + std::to_string(height));
  rgb_.resize(std::size_t{3} * static_cast<std::size_t>(width) * static_cast<std::size_t>(height));
  fill({0, 0, width, height}, background);
}

Color Image::at(int x, int y) const {
  PS_CHECK(x >= 0 && y >= 0 && x < width_ && y < height_,
           std::to_string(x) + "," + std::to_string(y));
  const auto i = 3 * (static_cast<std::size_t>(y) * static_cast<std::size_t>(width_) +
                      static_cast<std::size_t>(x));
  return {rgb_[i], rgb_[i + 1], rgb_[i + 2]};
}

void Image::set(int x, int y, Color color) { fill({x, y, 1, 1}, color); }

void Image::fill(const Box& box, Color color) {
  const int x0 = std::max(box.x, 0), x1 = std::min(box.x + box.width, width_);
  const int y0 = std::max(box.y, 0), y1 = std::min(box.y + box.height, height_);
  for (int y = y0; y < y1; ++y) {
    auto i = 3 * (static_cast<std::size_t>(y) * static_cast<std::size_t>(width_) +
                  static_cast<std::size_t>(x0));
    for (int x = x0; x < x1; ++x) {
      rgb_[i++] = color.r;
      rgb_[i++] = color.g;
      rgb_[i++] = color.b;
    }
  }
}

void Image::frame(const Box& box, Color color) {
  fill({box.x, box.y, box.width, 1}, color);
  fill({box.x, box.y + box.height - 1, box.width, 1}, color);
  fill({box.x, box.y, 1, box.height}, color);
  fill({box.x + box.width - 1, box.y, 1, box.height}, color);
}

void Image::stripes(const Box& box, Color color) {
  for (int y = 0; y < box.height; ++y) {
    for (int x = 0; x < box.width; ++x) {
      if ((x + y) % 4 == 0) set(box.x + x, box.y + y, color);
    }
  }
}

void Image::text(int x, int y, std::string_view words, Color color, int scale) {
  for (const char c : words) {
    const Glyph& glyph = glyph_of(c);
    for (int row = 0; row < kGlyphHeight; ++row) {
      for (int column = 0; column < kGlyphWidth; ++column) {
        const bool dot = (glyph.at(static_cast<std::size_t>(row)) >> (4 - column) & 1) != 0;
        if (dot) fill({x + column * scale, y + row * scale, scale, scale}, color);
      }
    }
    x += kAdvance * scale;
  }
}

Image Image::cropped(int height) const {
  Image out(width_, height, {});
  const std::size_t bytes = std::min(out.rgb_.size(), rgb_.size());
  std::copy_n(rgb_.begin(), bytes, out.rgb_.begin());
  return out;
}

std::uint64_t Image::hash() const {
  std::uint64_t h = 0xcbf29ce484222325U;
  const auto eat = [&h](std::uint8_t byte) { h = (h ^ byte) * 0x100000001b3U; };
  for (const int side : {width_, height_}) {
    for (int shift = 0; shift < 32; shift += 8) eat(static_cast<std::uint8_t>(side >> shift));
  }
  for (const std::uint8_t byte : rgb_) eat(byte);
  return h;
}

int text_width(std::string_view words, int scale) {
  return words.empty() ? 0 : (static_cast<int>(words.size()) * kAdvance - 1) * scale;
}

}  // namespace ps
