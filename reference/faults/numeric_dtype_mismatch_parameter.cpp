#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    propose_wrap(
        scene, out, scene.ops("cache_append"),
        [type](const Op& good, const Tensors& in, const Tensors& w) {
          if (w.empty()) return good.run(in, w);
          return good.run(in, {through(w[0], type)});
        },
        type == at::kHalf ? "prefix rounded to float16" : "prefix rounded to bfloat16");
  }
}

}  // namespace

extern const FaultSpec numeric_dtype_mismatch_parameter;
const FaultSpec numeric_dtype_mismatch_parameter = {
    {"numeric-dtype-mismatch-parameter", "numeric", 3,
     "the prefix parameters are held in another type than the model",
     "cast adapter and prefix parameters with the rest of the model",
     "needs a prefix, and a run in a finer type than the parameters were rounded to", false},
    [](const ModelConfig& c) { return c.prefix_tokens > 0; },
    propose};

}  // namespace ps::reference::faults
