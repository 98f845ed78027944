// What can be said about key/value caches without any reference (tensor-parallel.md 3.3): their
// shapes, axis by axis and in words, and from step to step their contents.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/finding.h"
#include "core/points.h"
#include "core/trace.h"

namespace ps {

struct CacheName {
  std::int64_t layer = 0;
  bool keys = true;
};
// "model.layers.3.self_attn:k_cache", and what other programs call such tensors:
// "past_key_values.3.key", "key_cache.3", "layers.3.values". Nothing for weights and projections.
std::optional<CacheName> cache_name(std::string_view name);

// Nothing, or one finding that explains every axis that is wrong. Without `sizes` (a cache alone,
// no inputs beside it) the number of slots is only known to hold the prefix.
std::optional<Finding> cache_shape_finding(const CacheName& cache, const std::string& name,
                                           const Shape& found, const ModelConfig& config,
                                           const std::optional<StepSizes>& sizes);

// Caches of one file that should be alike and are not: layers, keys and values.
std::vector<Finding> cache_differences(const SafetensorsFile& file, const ModelConfig* config);

// Contents over the steps of each rank, whose caches have `config`'s heads: what was cached stays
// as it was (TP041), the new slots are the new keys and values (TP043 where keys were not rotated),
// a reorder moves the rows of every replica (TP044), the prefix is there and the same in every
// sample.
std::vector<Finding> cache_value_findings(const Trace& trace, const ModelConfig& config);

// Findings that say the same of several layers' keys, or values, as one that lists the layers.
std::vector<Finding> one_for_all_layers(std::vector<Finding> findings);

}  // namespace ps
