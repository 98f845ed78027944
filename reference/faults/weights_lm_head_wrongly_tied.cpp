#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  if (scene.ops("linear", "lm_head").empty()) return;
  out.push_back({"", {}, [](const Net& net, Overrides& overrides) {
                   Op op = *net.find("lm_head");
                   op.weights = {"model.embed_tokens.weight"};
                   overrides.insert_or_assign("lm_head", std::move(op));
                 }});
}

}  // namespace

extern const FaultSpec weights_lm_head_wrongly_tied;
const FaultSpec weights_lm_head_wrongly_tied = {
    {"weights-lm-head-wrongly-tied", "weights", 3,
     "the logits are made with the embedding instead of the checkpoint's own lm_head",
     "honour tie_word_embeddings: false, and load lm_head.weight", "needs an lm_head of its own",
     false},
    [](const ModelConfig& c) { return !c.tie_word_embeddings; },
    propose};

}  // namespace ps::reference::faults
