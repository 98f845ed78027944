#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  propose_rotation(
      scene, out,
      [](const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
        const std::int64_t d = x.size(-1), half = d / 2;
        const at::Tensor c = cos.slice(-1, 0, half), s = sin.slice(-1, 0, half);
        const at::Tensor even = x.slice(-1, 0, d, 2), odd = x.slice(-1, 1, d, 2);
        return at::stack({even * c - odd * s, odd * c + even * s}, -1).flatten(-2);
      },
      Which::kEach);
}

}  // namespace

extern const FaultSpec rope_interleaved_vs_half;
const FaultSpec rope_interleaved_vs_half = {
    {"rope-interleaved-vs-half", "rope", 5,
     "neighbouring channels (2i, 2i+1) are rotated as pairs; this checkpoint pairs i with i + D/2",
     "use the half-split rotation, or permute the rows of W_q and W_k at conversion, not both",
     "needs a position other than 0 and a head size of 4 or more", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
