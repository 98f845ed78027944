// What is drawn over and beside the cells of a mask: stretches of the axes, counts of wrong cells,
// rings and arrows that lead to them, tiles of block lists.
#pragma once

#include <optional>
#include <vector>

#include <imgui.h>

#include "diff/view/mask_errors.h"
#include "diff/view/mask_raster.h"
#include "viewer/data/mask_model.h"
#include "viewer/ui/canvas.h"

namespace ps::viewer {

ImU32 band_color(view::AxisBand::Kind kind, std::size_t index);
void draw_bands(ImDrawList& list, const std::vector<view::AxisBand>& all, const Canvas& canvas,
                float strip, bool keys);
// How many wrong cells each row and column of pixels has, over the whole plane.
void draw_margins(ImDrawList& list, const MaskModel& m, const Canvas& canvas,
                  const view::Viewport& viewport, float margin);
// A few wrong cells that are small on the screen are ringed, so that the eye finds them.
void draw_rings(ImDrawList& list, const MaskModel& m, const Canvas& canvas);
// Arrows at the edge, towards wrong cells that are not on the screen; the cell that was asked for.
std::optional<view::CellAt> draw_arrows(ImDrawList& list, const MaskModel& m, const Canvas& canvas);
// Numbers and names; the bands, `shift` pixels wide, lie between them and the cells.
void draw_mask_axes(ImDrawList& list, const Canvas& canvas, float shift);
void draw_blocks(ImDrawList& list, const MaskBlocks& blocks, const Canvas& canvas);

}  // namespace ps::viewer
