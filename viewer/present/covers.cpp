#include "viewer/present/covers.h"

#include <algorithm>
#include <cstring>

namespace ps::viewer {

bool is_opaque(const std::uint8_t* texels, std::size_t count) {
  std::uint32_t all = 0xffffffffu;
  for (std::size_t i = 0; i < count; ++i) {
    std::uint32_t texel = 0;
    std::memcpy(&texel, texels + i * 4, sizeof texel);
    all &= texel;
  }
  return all >> 24 == 255;
}

namespace {

// Whether every texel that the image shows in `area` is opaque.
bool shows_opaque(const ImDrawVert& a, const ImDrawVert& c, const Clip& area,
                  const Texture& texture) {
  const Texels texels(a, c, texture);
  const auto [left, right] = std::minmax({texels.column(area.x0), texels.column(area.x1 - 1)});
  const auto [top, bottom] = std::minmax({texels.row(area.y0), texels.row(area.y1 - 1)});
  for (int y = top; y <= bottom; ++y) {
    const std::uint8_t* line = texture.colors(y);
    if (line == nullptr ||
        !is_opaque(line + std::ptrdiff_t{4} * left, static_cast<std::size_t>(right - left + 1)))
      return false;
  }
  return true;
}

}  // namespace

std::vector<Cover> covers_of(const ImDrawData& data, const Frame& frame) {
  constexpr std::int64_t kWorth = 128 * 128;
  constexpr std::size_t kMost = 8;
  std::vector<Cover> covers;
  for (const ImDrawList* list : data.CmdLists) {
    for (const ImDrawCmd& command : list->CmdBuffer) {
      if (command.UserCallback != nullptr) continue;
      const Clip clip = clip_of(command, frame);
      const Texture texture(command.TexRef._TexData);
      each_shape(
          *list, command,
          [&](const ImDrawVert& a, const ImDrawVert& b, const ImDrawVert& c, const ImDrawVert* d) {
            if (d == nullptr || a.col >> 24 != 255 || !is_rectangle(a, b, c, *d)) return false;
            const Clip area = pixels_of(a, c, clip);
            const std::int64_t cells =
                std::int64_t{std::max(0, area.x1 - area.x0)} * std::max(0, area.y1 - area.y0);
            if (cells < kWorth || covers.size() == kMost) return true;
            const bool image = a.uv.x != c.uv.x || a.uv.y != c.uv.y;
            const bool opaque = image ? a.col == 0xffffffffu && shows_opaque(a, c, area, texture)
                                      : texture.at(a.uv.x, a.uv.y) >> 24 == 255;
            if (opaque) covers.push_back({&a, area, image});
            return true;
          });
    }
  }
  return covers;
}

}  // namespace ps::viewer
