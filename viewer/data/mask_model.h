// What the Mask panel shows, computed: two masks of one plane and what tells them apart, an
// expression over all masks of the step, and the stretches of both axes.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "diff/view/mask_planes.h"
#include "viewer/app/session.h"

namespace ps::viewer {

struct MaskKey {
  std::uint64_t version = 0;
  std::int64_t run = 0, step = 0, rank = 0, layer = 0, row = 0, head = 0, batch = 0;
  std::string expected, actual, expression, blocks;
  bool operator==(const MaskKey&) const = default;
};

// Tiles over the mask: those that a sparse layer selected, or those of block lists of some size.
struct MaskBlocks {
  view::BlockLayer layer;
  std::int64_t row_origin = 0, column_origin = 0;  // a tile begins there
  std::string words;                               // how many there are
};

struct MaskModel {
  RunPtr run, reference;  // their bytes are read from
  std::shared_ptr<view::MaskSet> set;
  std::vector<std::string> names;
  std::string expected_name, actual_name;
  view::PlanePair pair;
  std::int64_t row = 0, head = 0;
  std::optional<mask::Bands> algebra;
  std::int64_t algebra_cells = 0;
  std::string problem;          // why there is no mask
  std::string algebra_problem;  // what is wrong with the line
  std::vector<view::AxisBand> keys, queries;
  std::optional<MaskBlocks> blocks;
  bool selected = false;  // the layer is block-sparse, and the step says which blocks it took
  std::string blocks_problem, selected_problem;
};
using MaskModelPtr = std::shared_ptr<const MaskModel>;

// Everything that a job needs, by value.
struct MaskWork {
  RunPtr run, reference;
  std::vector<std::shared_ptr<const mask::Source>> sources;
  std::optional<ModelConfig> config;
};

// `work.sources` first: masks that were opened by themselves.
MaskModelPtr made_mask_model(const MaskWork& work, const MaskKey& key);

}  // namespace ps::viewer
