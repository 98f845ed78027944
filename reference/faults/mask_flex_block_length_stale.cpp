#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const StepContext& c = scene.context();
  const std::int64_t columns = c.config->prefix_tokens + c.past + c.length();
  std::vector<std::int64_t> lengths;
  if (c.past > 0) lengths.push_back(columns - c.length());
  for (std::int64_t block = 8; block <= 128; block *= 2) {
    const std::int64_t length = (columns - 1) / block * block;
    if (length > 0 && std::find(lengths.begin(), lengths.end(), length) == lengths.end()) {
      lengths.push_back(length);
    }
  }
  for (const std::int64_t length : lengths) {
    for (const bool visible : {false, true}) {
      propose_mask(scene, out,
                   [=](const MaskParts& m) {
                     at::Tensor mask = with_prefix(m, m.causal().unsqueeze(0).logical_and(m.real));
                     mask.slice(-1, length).fill_(visible);
                     const std::int64_t rows = mask.size(2), past = m.context->past;
                     if (past == 0 && rows == mask.size(3) && length < rows) {
                       mask.slice(2, length).fill_(visible);
                     }
                     return mask;
                   },
                   visible ? "visible beyond" : "hidden beyond",
                   {{"length", std::to_string(length)}});
    }
  }
}

}  // namespace

extern const FaultSpec mask_flex_block_length_stale;
const FaultSpec mask_flex_block_length_stale = {
    {"mask-flex-block-length-stale", "mask", 2,
     "the mask was built for a shorter sequence and used again: what lies beyond its length is "
     "hidden, or all visible",
     "build the block mask anew whenever the number of queries or keys changes",
     "needs a step that is longer than the one before, or longer than a block", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
