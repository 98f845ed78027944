// Block lists in the Mask panel: what a sparse layer selected, and the tiles of any size.
#pragma once

#include "viewer/data/mask_model.h"

namespace ps::viewer {

// "selected": what is expected of a block-sparse layer, all of the mask that lies in blocks which
// the step says it took (its prefix slots always). Nothing where the layer is dense.
void add_selected(const MaskWork& work, const MaskKey& key, MaskModel& m);
// Fills m.blocks as key.blocks asks: "auto", "none", or a size "128", "128x64".
void add_tiles(const MaskWork& work, const MaskKey& key, MaskModel& m);

}  // namespace ps::viewer
