#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

at::Tensor tf32(const at::Tensor& x, bool nearest) {
  const at::Tensor bits = x.to(at::kFloat).contiguous().view(at::kInt);
  const at::Tensor kept = (nearest ? bits + 0x1000 : bits).bitwise_and(~0x1fff);
  return kept.view(at::kFloat).to(x.scalar_type());
}

void propose(Scene& scene, Proposals& out) {
  std::vector<Point> points = scene.ops("linear");
  for (const char* kind : {"scores", "context", "linear_of_silu"}) {
    const std::vector<Point> more = scene.ops(kind);
    points.insert(points.end(), more.begin(), more.end());
  }
  for (const bool nearest : {true, false}) {
    propose_wrap(
        scene, out, points,
        [nearest](const Op& good, const Tensors& in, const Tensors& w) {
          Tensors x = in, v = w;
          for (at::Tensor& t : x) t = tf32(t, nearest);
          if (!v.empty()) v[0] = tf32(v[0], nearest);
          return good.run(x, v);
        },
        nearest ? "" : "by cutting bits off");
  }
}

}  // namespace

extern const FaultSpec numeric_tf32;
const FaultSpec numeric_tf32 = {
    {"numeric-tf32", "numeric", 4,
     "matrix products round their inputs to TF32 (10 bits of mantissa) in a float32 run",
     "switch TF32 off (allow_tf32 = False), or compare with a 16-bit tolerance",
     "needs a float32 run", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
