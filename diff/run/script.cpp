#include "diff/run/script.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace ps {

namespace {

std::vector<std::int64_t> repeat_rows(const std::vector<std::int64_t>& values, std::int64_t batch,
                                      std::int64_t times) {
  std::vector<std::int64_t> out;
  const auto n = static_cast<std::ptrdiff_t>(values.size()) / batch;
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t i = 0; i < times; ++i) {
      out.insert(out.end(), values.begin() + b * n, values.begin() + (b + 1) * n);
    }
  }
  return out;
}

// Columns [begin, begin + length) of each row of `width`.
std::vector<std::int64_t> columns(const std::vector<std::int64_t>& values, std::int64_t width,
                                  std::int64_t begin, std::int64_t length) {
  std::vector<std::int64_t> out;
  for (std::size_t row = 0; row < values.size(); row += static_cast<std::size_t>(width)) {
    const auto from = values.begin() + static_cast<std::ptrdiff_t>(row) + begin;
    out.insert(out.end(), from, from + length);
  }
  return out;
}

}  // namespace

Script::Script(RunPlan plan) : plan_(std::move(plan)) {
  StepInputs& p = plan_.prompt;
  if (plan_.beams > 1) {
    p.input_ids = repeat_rows(p.input_ids, p.batch, plan_.beams);
    if (p.attention_mask) p.attention_mask = repeat_rows(*p.attention_mask, p.batch, plan_.beams);
    if (p.position_ids) p.position_ids = repeat_rows(*p.position_ids, p.batch, plan_.beams);
    p.batch *= plan_.beams;
  }
  if (plan_.chunk <= 0 || plan_.chunk > p.length) plan_.chunk = p.length;
  scores_.assign(static_cast<std::size_t>(p.batch), 0.0);
  for (std::size_t r = 0; r < scores_.size(); ++r) {
    // Only the first beam of a sample counts at first: the others are copies of it.
    if (static_cast<std::int64_t>(r) % plan_.beams != 0) scores_[r] = -1e9;
  }
}

std::int64_t Script::total_steps() const {
  const std::int64_t chunks = (plan_.prompt.length + plan_.chunk - 1) / plan_.chunk;
  return chunks + plan_.decode_steps * (plan_.beams > 1 ? 2 : 1);
}

StepInputs Script::prompt_slice(std::int64_t begin, std::int64_t length) const {
  const StepInputs& p = plan_.prompt;
  StepInputs in;
  in.batch = p.batch;
  in.length = length;
  in.input_ids = columns(p.input_ids, p.length, begin, length);
  if (p.attention_mask) in.attention_mask = columns(*p.attention_mask, p.length, 0, begin + length);
  if (p.position_ids) in.position_ids = columns(*p.position_ids, p.length, begin, length);
  return in;
}

ScriptStep Script::forward_step(StepInputs inputs, bool greedy) {
  ScriptStep out;
  out.step.step = step_++;
  out.step.op = StepOp::kForward;
  out.step.greedy = greedy;
  last_length_ = inputs.length;
  out.inputs = std::move(inputs);
  if (plan_.visible) {
    out.inputs.visible = plan_.visible(out.inputs.batch, out.inputs.length, past_);
  }
  return out;
}

// Per sample the best continuations of all its beams, in double, ties to the smaller index.
void Script::choose(const TensorView& logits) {
  const std::int64_t rows = logits.shape[0], length = logits.shape[1], vocab = logits.shape[2];
  const std::int64_t beams = plan_.beams, samples = rows / beams;
  tokens_.assign(static_cast<std::size_t>(rows), 0);
  beam_idx_.assign(static_cast<std::size_t>(rows), 0);
  std::vector<double> next_scores(static_cast<std::size_t>(rows));
  std::vector<double> all(static_cast<std::size_t>(beams * vocab));
  std::vector<std::int64_t> order(all.size());
  for (std::int64_t s = 0; s < samples; ++s) {
    for (std::int64_t b = 0; b < beams; ++b) {
      const std::int64_t row = s * beams + b;
      const std::int64_t at = (row * length + length - 1) * vocab;
      double* out = all.data() + b * vocab;
      double top = -HUGE_VAL, sum = 0;
      for (std::int64_t v = 0; v < vocab; ++v)
        top = std::max(top, out[v] = value_at(logits, at + v));
      if (beams == 1) continue;  // the largest logit: a shift could round two of them into a tie
      for (std::int64_t v = 0; v < vocab; ++v) sum += std::exp(out[v] - top);
      const double shift = scores_[static_cast<std::size_t>(row)] - top - std::log(sum);
      for (std::int64_t v = 0; v < vocab; ++v) out[v] += shift;
    }
    std::iota(order.begin(), order.end(), 0);
    const auto better = [&](std::int64_t a, std::int64_t b) {
      const double x = all[static_cast<std::size_t>(a)], y = all[static_cast<std::size_t>(b)];
      if (std::isnan(x) || std::isnan(y)) {  // NaN is worst: a sort needs an order of everything
        return std::isnan(x) && std::isnan(y) ? a < b : std::isnan(y);
      }
      return x > y || (x == y && a < b);
    };
    std::partial_sort(order.begin(), order.begin() + beams, order.end(), better);
    for (std::int64_t b = 0; b < beams; ++b) {
      const auto row = static_cast<std::size_t>(s * beams + b);
      const std::int64_t pick = order[static_cast<std::size_t>(b)];
      tokens_[row] = pick % vocab;
      beam_idx_[row] = s * beams + pick / vocab;
      next_scores[row] = all[static_cast<std::size_t>(pick)];
    }
  }
  scores_ = std::move(next_scores);
}

StepInputs Script::decode_inputs(const std::vector<std::int64_t>& tokens) {
  StepInputs in;
  in.batch = plan_.prompt.batch;
  in.length = 1;
  in.input_ids = tokens;
  if (!mask_.empty()) {
    std::vector<std::int64_t> grown;
    const std::int64_t width = static_cast<std::int64_t>(mask_.size()) / in.batch;
    for (std::int64_t b = 0; b < in.batch; ++b) {
      grown.insert(grown.end(), mask_.begin() + b * width, mask_.begin() + (b + 1) * width);
      grown.push_back(1);
    }
    mask_ = grown;
    in.attention_mask = std::move(grown);
  }
  if (!positions_.empty()) {
    for (std::int64_t& p : positions_) ++p;
    in.position_ids = positions_;
  }
  return in;
}

std::optional<ScriptStep> Script::next(const std::optional<TensorView>& logits) {
  past_ += last_length_;
  last_length_ = 0;
  const StepInputs& p = plan_.prompt;
  if (filled_ < p.length) {
    const std::int64_t length = std::min(plan_.chunk, p.length - filled_);
    StepInputs in = prompt_slice(filled_, length);
    filled_ += length;
    if (filled_ == p.length) {
      if (p.attention_mask) mask_ = *p.attention_mask;
      if (p.position_ids) positions_ = columns(*p.position_ids, p.length, p.length - 1, 1);
    }
    return forward_step(std::move(in), false);
  }
  if (decoded_ >= plan_.decode_steps) return std::nullopt;
  if (!reordered_) {
    PS_CHECK(logits.has_value(), "a decode step needs the logits of the step before");
    choose(*logits);
    if (plan_.beams > 1) {
      reordered_ = true;
      ScriptStep out;
      out.step.step = step_++;
      out.step.op = StepOp::kReorderCache;
      out.step.beam_idx = beam_idx_;
      return out;
    }
  }
  reordered_ = false;
  ++decoded_;
  return forward_step(decode_inputs(tokens_), plan_.beams == 1);
}

}  // namespace ps
