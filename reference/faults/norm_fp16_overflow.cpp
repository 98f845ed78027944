#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  propose_wrap(scene, out, scene.ops("rms_norm"),
               [eps = scene.config().rms_norm_eps](const Op&, const Tensors& in, const Tensors& w) {
                 at::Tensor x = in[0];
                 if (w[0].size(0) != x.size(-1))
                   x = x.reshape({x.size(0), x.size(1), -1, w[0].size(0)});
                 const at::Tensor squares = through(through(x, at::kHalf).square(), at::kHalf);
                 const at::Tensor mean = through(squares.mean(-1, true), at::kHalf);
                 return w[0] * (x * at::rsqrt(mean + eps));
               });
}

}  // namespace

extern const FaultSpec norm_fp16_overflow;
const FaultSpec norm_fp16_overflow = {
    {"norm-fp16-overflow", "norm", 3,
     "the norm's mean of squares overflows float16: rows with values above 255 become 0 or NaN",
     "square and sum in float32", "needs activations above 255", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
