// Weights by checksum: whether two runs held the same ones, without either's checkpoint.
#pragma once

#include <optional>
#include <vector>

#include "core/checkpoint.h"
#include "core/finding.h"
#include "core/trace_extras.h"

namespace ps {

// Of every tensor that the config asks for, as stored. A tied lm_head is not among them.
std::vector<WeightSum> weight_sums(const Checkpoint& checkpoint, const ModelConfig& config,
                                   int threads);

// Two traces: an error (they cannot be compared) where they hold a weight in one dtype and it is
// not the same. What only one of them lists, or lists in another dtype, is no evidence.
std::optional<Finding> other_weights(const std::vector<WeightSum>& candidate,
                                     const std::vector<WeightSum>& expected);

// A trace's weights against a checkpoint, whose tensors are rounded to the trace's dtype first. A
// wrong weight may be the very fault that is looked for: a warning, which names the weights and,
// where one holds another tensor's bytes, whose.
std::optional<Finding> weights_unlike(const std::vector<WeightSum>& held, const Model& model,
                                      int threads);

}  // namespace ps
