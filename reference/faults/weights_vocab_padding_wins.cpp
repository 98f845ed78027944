#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const std::vector<Point> head = scene.ops("linear", "lm_head");
  const std::int64_t extra = scene.observed().dim() == 3 && scene.expected().dim() == 3
                                 ? scene.observed().size(2) - scene.expected().size(2)
                                 : 0;
  if (head.empty() || scene.point() != "lm_head" || extra <= 0) return;
  propose_wrap(scene, out, head,
               [extra](const Op& good, const Tensors& in, const Tensors& w) {
                 const at::Tensor y = good.run(in, w);
                 return at::cat({y, at::zeros({y.size(0), y.size(1), extra}, y.options())}, 2);
               },
               "", {{"columns", std::to_string(extra)}});
}

}  // namespace

extern const FaultSpec weights_vocab_padding_wins;
const FaultSpec weights_vocab_padding_wins = {
    {"weights-vocab-padding-wins", "weights", 3,
     "the logits have more columns than the vocabulary: padding rows of lm_head take part, and "
     "their zeros can win",
     "cut the logits to vocab_size, or fill the padding with minus infinity",
     "needs a padded vocabulary", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
