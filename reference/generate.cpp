// Greedy and beam generation, as transformers does it without an end token and without a length
// penalty: scores are sums of log probabilities, divided by the number of new tokens at the end.
#include "reference/bridge.h"
#include "reference/engine.h"

namespace ps::reference {

namespace {

// Keeps the last position's logits of a step.
class LastLogits final : public Tap {
 public:
  bool wants(std::string_view point) override { return point == "lm_head"; }
  void take(std::string_view, const TensorView& value) override {
    const at::Tensor logits = borrow(value);
    last_ = logits.slice(1, logits.size(1) - 1).squeeze(1).clone();  // [B,V]
  }
  const at::Tensor& last() const { return last_; }

 private:
  at::Tensor last_;
};

// Position ids as generate() makes them: cumulative count of real tokens less one, 1 on padding.
std::vector<std::int64_t> running_positions(const std::vector<std::int64_t>& mask,
                                            std::int64_t batch, std::int64_t length) {
  std::vector<std::int64_t> out(mask.size());
  for (std::int64_t b = 0; b < batch; ++b) {
    std::int64_t seen = 0;
    for (std::int64_t t = 0; t < length; ++t) {
      const auto i = static_cast<std::size_t>(b * length + t);
      seen += mask[i] != 0 ? 1 : 0;
      out[i] = mask[i] != 0 ? seen - 1 : 1;
    }
  }
  return out;
}

at::Tensor repeat_rows(const std::vector<std::int64_t>& values, std::int64_t batch,
                       std::int64_t length, std::int64_t times) {
  return from_int64(values, {batch, length}).repeat_interleave(times, 0);
}

std::vector<std::int64_t> to_vector(const at::Tensor& t) {
  const at::Tensor flat = t.contiguous();
  const auto* p = flat.const_data_ptr<std::int64_t>();
  return {p, p + flat.numel()};
}

}  // namespace

Result<Generated> ReferenceEngine::generate(const StepInputs& prompt, std::int64_t beams,
                                            std::int64_t new_tokens) {
  PS_TRY_VOID(check_inputs(prompt, config_, 0, 0));
  if (beams < 1 || new_tokens < 1) {
    return bad_input("generate", "beams and new tokens must be positive", "1 or more",
                     std::to_string(beams) + " beams, " + std::to_string(new_tokens) + " tokens");
  }
  reset();
  try {
    const at::NoGradGuard no_grad;
    const std::int64_t b = prompt.batch, rows = b * beams, vocab = config_.vocab_size;
    at::Tensor sequences = repeat_rows(prompt.input_ids, b, prompt.length, beams);
    const bool padded = prompt.attention_mask.has_value();
    at::Tensor mask =
        padded ? repeat_rows(*prompt.attention_mask, b, prompt.length, beams) : at::Tensor();

    StepInputs step;
    step.batch = rows;
    step.length = prompt.length;
    step.input_ids = to_vector(sequences);
    if (padded) {
      step.attention_mask = to_vector(mask);
      step.position_ids = running_positions(*step.attention_mask, rows, prompt.length);
    }
    // Only the first beam of a sample counts in the first step: all are equal there.
    at::Tensor scores = at::zeros({b, beams}, types_.island);
    if (beams > 1) scores.slice(1, 1).fill_(-1e9);

    for (std::int64_t t = 0; t < new_tokens; ++t) {
      LastLogits logits;
      PS_TRY_VOID(forward(step, logits));
      const at::Tensor log_p = at::log_softmax(logits.last().to(types_.island), -1);
      at::Tensor next;  // [rows]
      if (beams == 1) {
        next = log_p.argmax(-1);
      } else {
        const at::Tensor all = (log_p.view({b, beams, vocab}) + scores.unsqueeze(-1)).flatten(1);
        const auto [best, index] = at::topk(all, beams, 1);
        scores = best;
        const at::Tensor base = at::arange(b, at::kLong).unsqueeze(1) * beams;
        const at::Tensor beam_idx = (base + at::floor_divide(index, vocab)).flatten();
        next = at::remainder(index, vocab).flatten();
        sequences = sequences.index_select(0, beam_idx);
        if (padded) mask = mask.index_select(0, beam_idx);
        if (t + 1 < new_tokens) reorder(to_vector(beam_idx));
      }
      sequences = at::cat({sequences, next.unsqueeze(1)}, 1);
      step.length = 1;
      step.input_ids = to_vector(next);
      if (padded) {
        mask = at::cat({mask, at::ones({rows, 1}, at::kLong)}, 1);
        step.attention_mask = to_vector(mask);
        step.position_ids = to_vector(mask.sum(1) - 1);
      }
    }

    Generated out;
    out.batch = b;
    out.length = prompt.length + new_tokens;
    out.sequences = to_vector(sequences.view({b, beams, -1}).select(1, 0));  // topk sorts: beam 0
    if (beams > 1) {
      const at::Tensor mean =
          (scores.select(1, 0) / static_cast<double>(new_tokens)).to(at::kDouble);
      for (std::int64_t i = 0; i < b; ++i) out.scores.push_back(mean[i].item<double>());
    }
    reset();
    return out;
  } catch (const std::exception& e) {
    return torch_error("reference generate", e);
  }
}

}  // namespace ps::reference
