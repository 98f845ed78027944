// Gradients of every parameter, by LibTorch's autograd through the same ops.
#include "reference/bridge.h"
#include "reference/engine.h"

namespace ps::reference {

namespace {

// Mean over the positions whose next token is real, and that are real themselves.
at::Tensor next_token_loss(const at::Tensor& logits, const StepInputs& inputs,
                           at::ScalarType wide) {
  const at::Tensor ids = from_int64(inputs.input_ids, {inputs.batch, inputs.length});
  const at::Tensor log_p = at::log_softmax(logits.slice(1, 0, -1).to(wide), -1);
  const at::Tensor target = ids.slice(1, 1).unsqueeze(-1);
  const at::Tensor nll = log_p.gather(-1, target).squeeze(-1).neg();
  if (!inputs.attention_mask) return nll.mean();
  const at::Tensor real = from_int64(*inputs.attention_mask, {inputs.batch, inputs.length}).ne(0);
  const at::Tensor counts = real.slice(1, 0, -1).logical_and(real.slice(1, 1));
  return nll.masked_fill(counts.logical_not(), 0.0).sum() / counts.sum();
}

}  // namespace

Result<void> ReferenceEngine::gradients(const StepInputs& inputs, Loss loss, Tap& tap) {
  PS_TRY_VOID(check_inputs(inputs, config_, 0, 0));
  if (loss == Loss::kNextToken && inputs.length < 2) {
    return bad_input("input_ids", "a next-token loss needs two tokens", "length 2 or more",
                     std::to_string(inputs.length));
  }
  try {
    const at::AutoGradMode grad(true);
    Weights leaves(checkpoint_, types_.model);
    leaves.track_gradients();
    Net net(context(inputs, 0, true));
    build(net);
    Cache cache;
    const at::Tensor logits = run(net, leaves, tap, cache);
    const at::Tensor value = loss == Loss::kNextToken
                                 ? next_token_loss(logits, inputs, types_.island)
                                 : logits.to(types_.island).sum();
    value.backward();
    for (const auto& [name, leaf] : leaves.kept()) {
      const std::string point = "grad/" + name;
      if (!leaf.grad().defined() || !tap.wants(point)) continue;  // absent = no gradient reached it
      const at::Tensor g = leaf.grad().contiguous();
      tap.take(point, view_of(g));
    }
  } catch (const std::exception& e) {
    return torch_error("reference gradients", e);
  }
  return {};
}

}  // namespace ps::reference
