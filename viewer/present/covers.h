// What of a frame need not be drawn, because something opaque is drawn over it later.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <imgui.h>

#include "viewer/present/shapes.h"
#include "viewer/present/soft.h"

namespace ps::viewer {

// What hides all that was drawn there before: an opaque rectangle of one colour or of an image.
// Windows lie on docks that lie on the background, and a panel's picture on all of them.
struct Cover {
  const ImDrawVert* corner = nullptr;
  Clip area{};
  bool image = false;
};

// The covers of a frame that are worth it, in the order in which they are drawn.
std::vector<Cover> covers_of(const ImDrawData& data, const Frame& frame);

// Whether a row of colours hides all that is under it.
bool is_opaque(const std::uint8_t* texels, std::size_t count);

}  // namespace ps::viewer
