#include "core/ranks.h"

namespace ps {

StepInputs inputs_of_rank(const StepInputs& inputs, const ModelConfig& whole, std::int64_t past,
                          std::int64_t tp, std::int64_t rank) {
  if (!inputs.visible || whole.heads % tp != 0) return inputs;
  const std::int64_t plane = inputs.length * (whole.prefix_tokens + past + inputs.length);
  const auto cells = static_cast<std::int64_t>(inputs.visible->size());
  if (cells != inputs.batch * whole.heads * plane) return inputs;  // one mask for all heads
  StepInputs out = inputs;
  out.visible->clear();
  const std::int64_t heads = whole.heads / tp;
  for (std::int64_t b = 0; b < inputs.batch; ++b) {
    const auto from = inputs.visible->begin() + (b * whole.heads + rank * heads) * plane;
    out.visible->insert(out.visible->end(), from, from + heads * plane);
  }
  return out;
}

}  // namespace ps
