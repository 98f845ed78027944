// Which mask is looked at, and how one goes through its wrong cells: for the Mask panel and for the
// commands that work without it.
#pragma once

#include <cstdint>

#include "diff/view/mask_errors.h"
#include "viewer/app/app.h"
#include "viewer/data/mask_model.h"

namespace ps::viewer {

// `work` becomes what the model of the key is made from.
MaskKey mask_key(const App& app, MaskWork& work);
// How much has to be read for it.
std::int64_t mask_bytes(const MaskWork& work, const MaskKey& key);

// N and Shift+N go through the cells of a mask: the Mask panel has the keyboard, or there is
// nothing but masks.
bool looks_at_masks(const App& app);
// Selects the cell, and moves the view there where it is zoomed.
void go_to_mask_cell(App& app, const view::CellAt& cell);
// The next (direction 1), previous (-1) or first (0) wrong piece of this plane, then of the planes
// of other heads and samples. False: no mask that can be compared is wrong anywhere.
Result<bool> go_to_mask_error(App& app, int direction);

}  // namespace ps::viewer
