#include "viewer/data/places.h"

#include <algorithm>

#include "core/points.h"

namespace ps::viewer {

const TraceStep* find_step(const Run& run, std::int64_t step, std::int64_t rank) {
  for (const TraceStep& s : run.trace.steps()) {
    if (s.step == step && s.rank == rank && s.tensors != nullptr) return &s;
  }
  return nullptr;
}

std::int64_t past_of(const Run& run, std::int64_t step, std::int64_t rank) {
  std::int64_t past = 0;
  for (const TraceStep& s : run.trace.steps()) {
    if (s.rank != rank || s.step >= step || s.op != StepOp::kForward || s.tensors == nullptr)
      continue;
    const TensorView* ids = s.tensors->find("input_ids");
    if (ids != nullptr && ids->shape.size() == 2) past += ids->shape[1];
  }
  return past;
}

std::int64_t selected_layer(const Selection& selection) {
  const auto ref = find_point(selection.point);
  return ref ? ref->layer : -1;
}

RowPlace row_place(const App& app, const Run* run, std::int64_t step) {
  const Selection& s = app.state.selection;
  RowPlace out;
  if (const ModelConfig* config = app.session.config()) {
    out.replicas = std::max<std::int64_t>(config->replicas, 1);
  }
  if (run != nullptr) out.samples = std::max<std::int64_t>(run->batch(step, s.rank), 1);
  out.replica = s.at("replica", out.replicas);
  out.batch = s.at("batch", out.samples);
  return out;
}

}  // namespace ps::viewer
