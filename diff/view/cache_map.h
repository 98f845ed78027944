// A key/value cache as an address space, layers by slots, for one row of it (a replica's sample):
// who wrote a slot and when, and what happened to it since. Told from the bytes of a trace's caches
// alone, step after step.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/config.h"
#include "core/tensor.h"
#include "core/trace.h"

namespace ps::view {

enum class SlotState : std::uint8_t {
  kAbsent,       // the layer's cache does not reach that far, or was not captured
  kPrefix,       // the replica's prefix
  kPadding,      // of a token that does not count
  kWritten,      // by a step of this trace
  kBefore,       // of a step that the trace lacks, or whose cache it lacks
  kOverwritten,  // its bytes changed in a later step: a double write
  kStale,        // a reorder should have moved another row here, and did not
  kForeign,      // a new slot that does not hold the step's own key or value
  kEmpty,        // zeros, where something should be
};
std::string_view to_string(SlotState state);
bool is_wrong(SlotState state);

struct CacheSlot {
  SlotState state = SlotState::kAbsent;
  std::int64_t written = -1;  // the step; -1: prefix, or before the trace
  std::int64_t changed = -1;  // the step that made it wrong
  std::int64_t owner = -1;    // the row that wrote it: another one after a beam reorder
  bool operator==(const CacheSlot&) const = default;
};

struct CacheMap {
  std::int64_t layers = 0, slots = 0;
  std::vector<CacheSlot> cells;  // [layers, slots]
  std::int64_t wrong = 0;
  const CacheSlot& at(std::int64_t layer, std::int64_t slot) const {
    return cells[static_cast<std::size_t>(layer * slots + slot)];
  }
};

enum class CacheSide : std::uint8_t { kKeys, kValues, kBoth };  // kBoth: the worse of the two

// After `step` of the trace's steps of `rank`, for cache row `row` = replica * batch + sample.
CacheMap cache_map(const Trace& trace, const ModelConfig& config, std::int64_t step,
                   std::int64_t rank, std::int64_t row, CacheSide side);

// Per slot the largest |actual - expected| of a row of two caches [rows, heads, slots, channels]
// (NaN where a value class differs) over the largest |expected| of the cache.
std::vector<double> slot_errors(const TensorView& actual, const TensorView& expected,
                                std::int64_t row);
// Per slot the root mean square of a row: what expected and actual show.
std::vector<double> slot_sizes(const TensorView& cache, std::int64_t row);

}  // namespace ps::view
