// The rasteriser leaves out what later shapes hide; what is seen must be as if it drew everything.
#include "viewer/present/soft.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include <gtest/gtest.h>
#include <imgui.h>

#include "core/rng.h"
#include "tests/viewer/stage_fixture.h"

namespace ps::viewer {
namespace {

constexpr int kWidth = 331, kHeight = 217;  // a cover is worth it from 128 x 128 on
constexpr std::uint32_t kBack = 0xff302010u;

struct Shape {
  enum class Kind : std::uint8_t { kFlat, kImage, kTriangle } kind = Kind::kFlat;
  int x0 = 0, y0 = 0, x1 = 0, y1 = 0;
  std::uint32_t color = 0xffffffffu;
  int scale = 1;                             // pixels a texel
  std::unique_ptr<ImTextureData> texture{};  // of an image
};

ImDrawVert vertex(int x, int y, float u, float v, std::uint32_t color) {
  return {ImVec2(static_cast<float>(x), static_cast<float>(y)), ImVec2(u, v), color};
}

void add(ImDrawList& list, const Shape& s) {
  const auto first = static_cast<ImDrawIdx>(list.VtxBuffer.Size);
  float u = 0, v = 0;
  if (s.texture != nullptr) {
    u = static_cast<float>(s.x1 - s.x0) / static_cast<float>(s.scale * s.texture->Width);
    v = static_cast<float>(s.y1 - s.y0) / static_cast<float>(s.scale * s.texture->Height);
  }
  const bool triangle = s.kind == Shape::Kind::kTriangle;
  list.VtxBuffer.push_back(vertex(s.x0, s.y0, 0, 0, s.color));
  list.VtxBuffer.push_back(vertex(s.x1, s.y0, u, 0, s.color));
  list.VtxBuffer.push_back(vertex(s.x1, s.y1, u, v, s.color));
  list.VtxBuffer.push_back(vertex(s.x0, s.y1, 0, v, s.color));
  ImDrawCmd command;
  command.ClipRect = ImVec4(0, 0, kWidth, kHeight);
  command.IdxOffset = static_cast<unsigned>(list.IdxBuffer.Size);
  command.TexRef._TexData = s.texture.get();
  for (const int i : {0, 1, 2, 0, 2, 3}) {
    if (triangle && command.ElemCount == 3) break;
    list.IdxBuffer.push_back(static_cast<ImDrawIdx>(first + i));
    ++command.ElemCount;
  }
  list.CmdBuffer.push_back(command);
}

Frame drawn_by_rasteriser(const std::vector<const Shape*>& shapes, std::uint32_t back) {
  ImDrawList list(nullptr);
  for (const Shape* s : shapes) add(list, *s);
  ImDrawData data;
  data.CmdLists.push_back(&list);
  Frame frame;
  frame.resize(kWidth, kHeight);
  std::fill(frame.pixels.begin(), frame.pixels.end(), 0x12345678u);  // what was there before
  rasterise(data, frame, back);
  return frame;
}

std::uint32_t over(std::uint32_t color, std::uint32_t pixel) {
  const std::uint32_t alpha = color >> 24;
  std::uint32_t out = 0xff000000u;
  for (unsigned s = 0; s < 24; s += 8) {
    const auto part = [s](std::uint32_t c, std::uint32_t a) {
      const std::uint32_t t = (c >> s & 255) * a + 128;
      return (t + (t >> 8)) >> 8;
    };
    out |= std::min(255u, part(color, alpha) + part(pixel, 255 - alpha)) << s;
  }
  return out;
}

// Every shape over all that was there, pixel by pixel. Where a triangle is, the rasteriser says
// itself, of the triangle alone.
Frame drawn_plainly(const std::vector<Shape>& shapes) {
  Frame frame;
  frame.resize(kWidth, kHeight);
  std::fill(frame.pixels.begin(), frame.pixels.end(), kBack);
  for (const Shape& s : shapes) {
    Frame alone;
    if (s.kind == Shape::Kind::kTriangle) alone = drawn_by_rasteriser({&s}, ~s.color | 0xff000000u);
    for (int y = std::max(0, s.y0); y < std::min(kHeight, s.y1); ++y) {
      for (int x = std::max(0, s.x0); x < std::min(kWidth, s.x1); ++x) {
        const auto at = static_cast<std::size_t>(y * kWidth + x);
        std::uint32_t color = s.color;
        if (s.kind == Shape::Kind::kTriangle && alone.pixels[at] != s.color) continue;
        if (s.texture != nullptr) {
          std::memcpy(&color, s.texture->GetPixelsAt((x - s.x0) / s.scale, (y - s.y0) / s.scale),
                      4);
        }
        frame.pixels[at] = over(color, frame.pixels[at]);
      }
    }
  }
  return frame;
}

class Draws {
 public:
  explicit Draws(std::uint64_t seed) : rng_(seed, 7) {}
  int below(int n) { return static_cast<int>(rng_.below(next_++, n)); }
  std::uint32_t color() { return static_cast<std::uint32_t>(rng_.bits(next_++)); }

 private:
  Rng rng_;
  std::uint64_t next_ = 0;
};

Shape any_shape(Draws& draws) {
  Shape s;
  s.x0 = draws.below(120) - 20;
  s.y0 = draws.below(60) - 20;
  s.x1 = s.x0 + 2 * (20 + draws.below(130));
  s.y1 = s.y0 + 2 * (20 + draws.below(90));
  const int kind = draws.below(5);
  if (kind < 2) {
    s.color = draws.color();
    if (kind == 0) s.color |= 0xff000000u;
  } else if (kind == 2) {
    s.kind = Shape::Kind::kTriangle;
    s.color = draws.color() | 0xff000000u;
  } else {
    s.kind = Shape::Kind::kImage;
    s.scale = 1 + draws.below(2);
    // As the viewer's pictures have it: a texture with room beside what is shown, transparent.
    const int w = (s.x1 - s.x0) / s.scale, h = (s.y1 - s.y0) / s.scale;
    s.texture = std::make_unique<ImTextureData>();
    s.texture->Create(ImTextureFormat_RGBA32, w + 5, h + 3);
    for (int y = 0; y < h; ++y) {
      for (int x = 0; x < w; ++x) {
        const std::uint32_t texel = draws.color() | 0xff000000u;
        std::memcpy(s.texture->GetPixelsAt(x, y), &texel, 4);
      }
    }
    const bool hole = draws.below(2) == 0;
    const std::uint32_t glass = 0x400080ffu;
    if (hole) std::memcpy(s.texture->GetPixelsAt(draws.below(w), draws.below(h)), &glass, 4);
  }
  return s;
}

TEST(Rasteriser, WhatIsHiddenIsLeftOutAndNothingElse) {
  for (std::uint64_t seed = 0; seed < 150; ++seed) {
    Draws draws(seed);
    std::vector<Shape> shapes(static_cast<std::size_t>(2 + draws.below(11)));
    std::vector<const Shape*> all;
    for (Shape& s : shapes) {
      s = any_shape(draws);
      all.push_back(&s);
    }
    EXPECT_EQ(difference(drawn_by_rasteriser(all, kBack), drawn_plainly(shapes)), "")
        << "seed " << seed;
  }
}

}  // namespace
}  // namespace ps::viewer
