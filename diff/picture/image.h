// Pictures in memory, drawn by the CPU alone: the same bytes on every machine.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace ps {

struct Color {
  std::uint8_t r = 0, g = 0, b = 0;
  bool operator==(const Color&) const = default;
};

// A part of a picture, in pixels. What lies outside of the picture is not drawn.
struct Box {
  int x = 0, y = 0, width = 0, height = 0;
};

class Image {
 public:
  Image(int width, int height, Color background);

  int width() const { return width_; }
  int height() const { return height_; }
  Color at(int x, int y) const;
  void set(int x, int y, Color color);  // does nothing outside
  void fill(const Box& box, Color color);
  void frame(const Box& box, Color color);    // its outermost pixels
  void stripes(const Box& box, Color color);  // every fourth diagonal
  // Text in the built-in font, `scale` pixels a dot; (x, y) is its upper left corner. Bytes that
  // are no printable ASCII are boxes.
  void text(int x, int y, std::string_view words, Color color, int scale = 1);

  const std::vector<std::uint8_t>& rgb() const { return rgb_; }  // [height, width, 3]
  Image cropped(int height) const;
  std::uint64_t hash() const;  // FNV-1a over width, height and pixels

 private:
  int width_, height_;
  std::vector<std::uint8_t> rgb_;
};

inline constexpr int kGlyphWidth = 5;
inline constexpr int kGlyphHeight = 9;            // the last two rows are below the line
inline constexpr int kAdvance = kGlyphWidth + 1;  // from glyph to glyph
int text_width(std::string_view words, int scale = 1);

}  // namespace ps
