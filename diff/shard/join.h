// One value out of the ranks' parts of it (tensor-parallel.md section 5): heads in order, a copied
// key/value head once, and what every rank has whole must be the same on all.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/points.h"
#include "core/result.h"
#include "core/tensor.h"
#include "diff/shard/geometry.h"

namespace ps {

enum class Dealt : std::uint8_t { kWhole, kHeads, kKvHeads, kInner, kVocab };

// How a point is spread over ranks, and on which axis.
struct PointDeal {
  Dealt dealt = Dealt::kWhole;
  std::size_t axis = 0;
};
// Of points of the table; others are taken as whole.
PointDeal point_deal(std::string_view point);

struct JoinedPoint {
  Tensor value;
  bool sharded = false;
  // Ranks that should hold the same and do not: one of those that agree, the odd one, and the cell.
  std::optional<std::pair<std::int64_t, std::int64_t>> disagree;
  std::int64_t cell = 0;
  std::int64_t differing = 0;  // cells
};

// parts[r] is rank r's value. An Error says which rank's shape does not fit.
// `declared`: the axis that the trace says it is cut on; from the end where it is negative.
Result<JoinedPoint> join_point(std::string_view point, const std::vector<TensorView>& parts,
                               const ModelConfig& config, const RankShare& share,
                               std::optional<std::int64_t> declared = std::nullopt);

// `parts` behind each other on an axis; all other axes are equal.
Result<Tensor> concatenated(const std::vector<TensorView>& parts, std::size_t axis);

}  // namespace ps
