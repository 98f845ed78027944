#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const double root = std::sqrt(static_cast<double>(scene.config().hidden_size));
  for (const double factor : {root, root * root, 1.0 / root, 1.0 / (root * root)}) {
    propose_wrap(scene, out, scene.ops("embed"),
                 [factor](const Op& good, const Tensors& in, const Tensors& w) {
                   return good.run(in, w) * factor;
                 },
                 "", {{"factor", number(factor)}});
  }
}

}  // namespace

extern const FaultSpec weights_embed_scale;
const FaultSpec weights_embed_scale = {
    {"weights-embed-scale", "weights", 3,
     "the embedding is multiplied by a power of sqrt(hidden size); this model's is not",
     "drop the embedding scale: it belongs to other model families", "always visible", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
