#include <limits>

#include "reference/fault_tools.h"
#include "reference/ops/blocks.h"

namespace ps::reference::faults {

namespace {

// Rounded after each addition, as an accumulator of that type is.
at::Tensor sum_one_by_one(const at::Tensor& e, at::ScalarType type) {
  at::Tensor total = at::zeros_like(e.slice(-1, 0, 1));
  for (std::int64_t i = 0; i < e.size(-1); ++i)
    total = through(total + e.slice(-1, i, i + 1), type);
  return total;
}

void propose(Scene& scene, Proposals& out) {
  for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    const std::string name = type == at::kHalf ? "float16" : "bfloat16";
    propose_softmax(
        scene, out,
        [type](const StepContext& c, const at::Tensor& scores, const at::Tensor& mask) {
          return through(masked_softmax(through(scores, type), mask, c.empty_rows, c.types), type);
        },
        "scores and weights in " + name);
    propose_softmax(
        scene, out,
        [type](const StepContext& c, const at::Tensor& scores, const at::Tensor& mask) {
          return through(masked_softmax(scores, mask, c.empty_rows, c.types), type);
        },
        "weights in " + name);
    propose_softmax(
        scene, out,
        [type](const StepContext& c, const at::Tensor& scores, const at::Tensor& mask) {
          return masked_softmax(through(scores, type), mask, c.empty_rows, c.types);
        },
        "scores in " + name);
    propose_softmax(
        scene, out,
        [type](const StepContext&, const at::Tensor& scores, const at::Tensor& mask) {
          const at::Tensor s =
              through(scores, type)
                  .masked_fill(mask.logical_not(), -std::numeric_limits<double>::infinity());
          const at::Tensor top = s.amax(-1, true);
          const at::Tensor e = at::nan_to_num(through(at::exp(through(s - top, type)), type), 0.0);
          return through(e / through(sum_one_by_one(e, type), type), type);
        },
        "every step in " + name);
  }
}

}  // namespace

extern const FaultSpec numeric_softmax_low_precision;
const FaultSpec numeric_softmax_low_precision = {
    {"numeric-softmax-low-precision", "numeric", 3, "the softmax is computed in a 16-bit type",
     "compute attention's softmax in float32 and cast its result",
     "needs a run in float32, or long rows", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
