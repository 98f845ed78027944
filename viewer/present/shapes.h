// What Dear ImGui hands over to be drawn, as the rasteriser reads it: textures, clips, and pairs of
// triangles that are rectangles.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <imgui.h>

#include "viewer/present/soft.h"

namespace ps::viewer {

struct Clip {
  int x0, y0, x1, y1;
};

// The texel at (u, v); white without a texture.
class Texture {
 public:
  explicit Texture(const ImTextureData* data) : data_(data) {
    if (data_ != nullptr && data_->Pixels == nullptr) data_ = nullptr;
  }
  int column(float u) const {
    return data_ == nullptr ? 0
                            : std::clamp(static_cast<int>(u * static_cast<float>(data_->Width)), 0,
                                         data_->Width - 1);
  }
  int row(float v) const {
    return data_ == nullptr ? 0
                            : std::clamp(static_cast<int>(v * static_cast<float>(data_->Height)), 0,
                                         data_->Height - 1);
  }
  std::uint32_t at(int x, int y) const {
    if (data_ == nullptr) return 0xffffffffu;
    const auto i = static_cast<std::size_t>(y) * static_cast<std::size_t>(data_->Width) +
                   static_cast<std::size_t>(x);
    if (data_->BytesPerPixel == 1) {
      return static_cast<std::uint32_t>(data_->Pixels[i]) << 24 | 0xffffffu;
    }
    std::uint32_t color = 0;
    std::memcpy(&color, data_->Pixels + i * 4, sizeof color);
    return color;
  }
  // A row of colours; null where the texture has none.
  const std::uint8_t* colors(int y) const {
    if (data_ == nullptr || data_->BytesPerPixel != 4) return nullptr;
    return data_->Pixels + static_cast<std::ptrdiff_t>(y) * data_->Width * 4;
  }
  std::uint32_t at(float u, float v) const { return at(column(u), row(v)); }

 private:
  const ImTextureData* data_;
};

// Which texels the pixels of an image show.
class Texels {
 public:
  Texels(const ImDrawVert& a, const ImDrawVert& c, const Texture& texture)
      : a_(a),
        texture_(texture),
        du_((c.uv.x - a.uv.x) / (c.pos.x - a.pos.x)),
        dv_((c.uv.y - a.uv.y) / (c.pos.y - a.pos.y)) {}
  int column(int x) const {
    return texture_.column(a_.uv.x + (static_cast<float>(x) + 0.5f - a_.pos.x) * du_);
  }
  int row(int y) const {
    return texture_.row(a_.uv.y + (static_cast<float>(y) + 0.5f - a_.pos.y) * dv_);
  }

 private:
  const ImDrawVert& a_;
  const Texture& texture_;
  float du_, dv_;
};

// The first pixel whose centre is at or right of x.
inline int pixel_from(float x) { return static_cast<int>(std::ceil(x - 0.5f)); }

// Whether triangles a b c and a c d are an upright rectangle of one colour.
inline bool is_rectangle(const ImDrawVert& a, const ImDrawVert& b, const ImDrawVert& c,
                         const ImDrawVert& d) {
  const bool upright = a.pos.y == b.pos.y && b.pos.x == c.pos.x && c.pos.y == d.pos.y &&
                       d.pos.x == a.pos.x && a.pos.x < c.pos.x && a.pos.y < c.pos.y;
  const bool one_color = a.col == b.col && a.col == c.col && a.col == d.col;
  const bool straight =
      a.uv.y == b.uv.y && b.uv.x == c.uv.x && c.uv.y == d.uv.y && d.uv.x == a.uv.x;
  return upright && one_color && straight;
}

inline Clip pixels_of(const ImDrawVert& a, const ImDrawVert& c, const Clip& clip) {
  return {std::max(clip.x0, pixel_from(a.pos.x)), std::max(clip.y0, pixel_from(a.pos.y)),
          std::min(clip.x1, pixel_from(c.pos.x)), std::min(clip.y1, pixel_from(c.pos.y))};
}

inline Clip clip_of(const ImDrawCmd& command, const Frame& frame) {
  return {std::max(0, static_cast<int>(command.ClipRect.x)),
          std::max(0, static_cast<int>(command.ClipRect.y)),
          std::min(frame.width, static_cast<int>(command.ClipRect.z)),
          std::min(frame.height, static_cast<int>(command.ClipRect.w))};
}

// Calls use(a, b, c, d, index) for pairs of triangles that may be a rectangle, else
// use(a, b, c, null, index); where use says that it took the pair, goes on after both.
template <class Use>
void each_shape(const ImDrawList& list, const ImDrawCmd& command, const Use& use) {
  const ImDrawVert* vertices = list.VtxBuffer.Data + command.VtxOffset;
  const ImDrawIdx* index = list.IdxBuffer.Data + command.IdxOffset;
  for (unsigned i = 0; i + 2 < command.ElemCount; i += 3) {
    const bool pair =
        i + 5 < command.ElemCount && index[i + 3] == index[i] && index[i + 4] == index[i + 2];
    const ImDrawVert* fourth = pair ? &vertices[index[i + 5]] : nullptr;
    if (use(vertices[index[i]], vertices[index[i + 1]], vertices[index[i + 2]], fourth) && pair)
      i += 3;
  }
}

}  // namespace ps::viewer
