#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

// Hardware rounds halves away from zero, software to even; both are seen, and so is cutting.
enum class Ending : std::uint8_t { kAway, kEven, kCut };

at::Tensor tf32(const at::Tensor& x, Ending ending) {
  at::Tensor bits = x.to(at::kFloat).contiguous().view(at::kInt);
  if (ending == Ending::kAway) bits = bits + 0x1000;
  if (ending == Ending::kEven) bits = bits + 0xfff + bits.bitwise_right_shift(13).bitwise_and(1);
  return bits.bitwise_and(~0x1fff).view(at::kFloat).to(x.scalar_type());
}

void propose(Scene& scene, Proposals& out) {
  std::vector<Point> points = scene.ops("linear");
  for (const char* kind : {"scores", "context", "linear_of_silu"}) {
    const std::vector<Point> more = scene.ops(kind);
    points.insert(points.end(), more.begin(), more.end());
  }
  for (const Ending ending : {Ending::kAway, Ending::kEven, Ending::kCut}) {
    propose_wrap(
        scene, out, points,
        [ending](const Op& good, const Tensors& in, const Tensors& w) {
          Tensors x = in, v = w;
          for (at::Tensor& t : x) t = tf32(t, ending);
          if (!v.empty()) v[0] = tf32(v[0], ending);
          return good.run(x, v);
        },
        ending == Ending::kCut ? "by cutting bits off" : "");
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
