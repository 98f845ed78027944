// What several panels ask of the selection.
#pragma once

#include <cstdint>

#include "viewer/app/app.h"

namespace ps::viewer {

const TraceStep* find_step(const Run& run, std::int64_t step, std::int64_t rank);
// Tokens that the forward steps before have left in the cache, without the prefix.
std::int64_t past_of(const Run& run, std::int64_t step, std::int64_t rank);
// The layer of the selected point; -1 outside of the layers.
std::int64_t selected_layer(const Selection& selection);

struct RowPlace {
  std::int64_t replica = 0, batch = 0;
  std::int64_t samples = 1, replicas = 1;
  std::int64_t row() const { return replica * samples + batch; }
};
// The selected row of a run's step, held to what there is.
RowPlace row_place(const App& app, const Run* run, std::int64_t step);

}  // namespace ps::viewer
