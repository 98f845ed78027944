#include "reference/fault_tools.h"
#include "reference/ops/blocks.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  propose_rotation(
      scene, out,
      [](const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
        const std::int64_t d = x.size(-1), half = d / 2;
        const at::Tensor c = cos.slice(-1, 0, half), s = sin.slice(-1, 0, half);
        const at::Tensor even = x.slice(-1, 0, d, 2), odd = x.slice(-1, 1, d, 2);
        return at::cat({even * c - odd * s, odd * c + even * s}, -1);
      },
      Which::kEach, "pairs (2i, 2i+1) written as halves");
  propose_rotation(
      scene, out,
      [](const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
        const at::Tensor y = rotate(x, cos, sin);
        const std::int64_t half = x.size(-1) / 2;
        return at::stack({y.slice(-1, 0, half), y.slice(-1, half)}, -1).flatten(-2);
      },
      Which::kEach, "halves written as pairs (2i, 2i+1)");
  propose_rotation(
      scene, out,
      [](const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
        const at::Tensor y = rotate(x, cos, sin);
        const std::int64_t d = x.size(-1);
        return at::cat({y.slice(-1, 0, d, 2), y.slice(-1, 1, d, 2)}, -1);
      },
      Which::kEach, "even channels first, odd ones after");
}

}  // namespace

extern const FaultSpec rope_output_layout_not_restored;
const FaultSpec rope_output_layout_not_restored = {
    {"rope-output-layout-not-restored", "rope", 2,
     "the rotation is right, but its result is written in the other layout (all even channels, "
     "then all odd ones, or the reverse)",
     "write each rotated pair back to the channels it was read from",
     "needs a head size of 4 or more", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
