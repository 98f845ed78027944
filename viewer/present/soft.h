// Draws what Dear ImGui asks for by the CPU alone: integer edges, integer blending, nearest texels.
// The same bytes on every machine, without a display, a driver or GL. Pictures, golden tests and
// windows without a GPU come from it.
#pragma once

#include <cstdint>
#include <vector>

#include "diff/picture/image.h"

struct ImDrawData;

namespace ps::viewer {

struct Frame {
  int width = 0, height = 0;
  std::vector<std::uint32_t> pixels;  // 0xAABBGGRR, rows from the top

  void resize(int w, int h);
  Image image() const;
};

// Takes over the textures that the frame wants made, changed or gone: their pixels stay with ImGui.
void accept_textures(ImDrawData& data);
void rasterise(const ImDrawData& data, Frame& frame, std::uint32_t background);

}  // namespace ps::viewer
