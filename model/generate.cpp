// Generation: greedy by the argmax kernel, beams on the host from the last position's logits. No
// end token, no length penalty; a beam's score is its sum of log p over its new tokens.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "model/transformer.h"

namespace ps {
namespace {

std::vector<std::int64_t> repeated(const std::vector<std::int64_t>& rows, std::int64_t count,
                                   std::int64_t times) {
  const auto width = static_cast<std::ptrdiff_t>(rows.size()) / count;
  std::vector<std::int64_t> out;
  for (std::int64_t i = 0; i < count; ++i) {
    for (std::int64_t k = 0; k < times; ++k) {
      out.insert(out.end(), rows.begin() + i * width, rows.begin() + (i + 1) * width);
    }
  }
  return out;
}

// transformers' rule for padded prompts: position = number of real tokens before, pads at 1.
std::vector<std::int64_t> positions_of(const std::vector<std::int64_t>& mask, std::int64_t batch,
                                       std::int64_t length) {
  std::vector<std::int64_t> out;
  for (std::int64_t i = 0; i < batch; ++i) {
    std::int64_t seen = 0;
    for (std::int64_t t = 0; t < length; ++t) {
      const bool real = mask[static_cast<std::size_t>(i * length + t)] != 0;
      out.push_back(real ? seen++ : 1);
    }
  }
  return out;
}

// The prompt, each sample `beams` times, with the positions that generation gives it.
StepInputs expanded(const StepInputs& prompt, std::int64_t beams) {
  StepInputs out = prompt;
  out.batch = prompt.batch * beams;
  out.input_ids = repeated(prompt.input_ids, prompt.batch, beams);
  if (prompt.attention_mask)
    out.attention_mask = repeated(*prompt.attention_mask, prompt.batch, beams);
  if (prompt.position_ids) {
    out.position_ids = repeated(*prompt.position_ids, prompt.batch, beams);
  } else if (out.attention_mask) {
    out.position_ids = positions_of(*out.attention_mask, out.batch, out.length);
  }
  return out;
}

// The step after `last`: one token a row, all of it real.
StepInputs following(const StepInputs& last, const std::vector<std::int64_t>& tokens) {
  StepInputs next{.batch = last.batch,
                  .length = 1,
                  .input_ids = tokens,
                  .attention_mask = {},
                  .position_ids = {}};
  if (last.attention_mask) {
    const auto keys = static_cast<std::ptrdiff_t>(last.attention_mask->size()) / last.batch;
    next.attention_mask.emplace();
    for (std::int64_t i = 0; i < last.batch; ++i) {
      const auto row = last.attention_mask->begin() + i * keys;
      next.attention_mask->insert(next.attention_mask->end(), row, row + keys);
      next.attention_mask->push_back(1);
    }
  }
  if (last.position_ids) {
    next.position_ids.emplace();
    for (std::int64_t i = 0; i < last.batch; ++i) {
      next.position_ids->push_back(
          (*last.position_ids)[static_cast<std::size_t>((i + 1) * last.length - 1)] + 1);
    }
  }
  return next;
}

std::vector<double> log_softmax(const float* logits, std::int64_t count) {
  const double largest = *std::max_element(logits, logits + count);
  double sum = 0;
  for (std::int64_t i = 0; i < count; ++i)
    sum += std::exp(static_cast<double>(logits[i]) - largest);
  const double shift = largest + std::log(sum);
  std::vector<double> out(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i)
    out[static_cast<std::size_t>(i)] = static_cast<double>(logits[i]) - shift;
  return out;
}

// The beams of all samples; row i*beams + k is beam k of sample i.
struct Beams {
  std::int64_t samples, beams;
  std::vector<double> scores;
  std::vector<std::vector<std::int64_t>> tokens;  // new ones, by row

  Beams(std::int64_t sample_count, std::int64_t beam_count)
      : samples(sample_count),
        beams(beam_count),
        tokens(static_cast<std::size_t>(sample_count * beam_count)) {
    for (std::int64_t row = 0; row < samples * beams; ++row)
      scores.push_back(row % beams == 0 ? 0.0 : -1e9);
  }
  // Extends the beams by their best continuations; returns the rows that they come from.
  std::vector<std::int64_t> extend(const std::vector<float>& logits, std::int64_t vocab) {
    std::vector<std::int64_t> from;
    std::vector<double> kept;
    std::vector<std::vector<std::int64_t>> extended;
    for (std::int64_t i = 0; i < samples; ++i) {
      std::vector<double> totals;  // [beam, vocab]
      for (std::int64_t row = i * beams; row < (i + 1) * beams; ++row) {
        for (const double p : log_softmax(logits.data() + row * vocab, vocab)) {
          totals.push_back(scores[static_cast<std::size_t>(row)] + p);
        }
      }
      std::vector<std::int64_t> order(totals.size());
      std::iota(order.begin(), order.end(), std::int64_t{0});
      const auto better = [&](std::int64_t a, std::int64_t b) {
        const double x = totals[static_cast<std::size_t>(a)],
                     y = totals[static_cast<std::size_t>(b)];
        return x != y ? x > y : a < b;
      };
      std::partial_sort(order.begin(), order.begin() + beams, order.end(), better);
      for (std::int64_t k = 0; k < beams; ++k) {
        const std::int64_t pick = order[static_cast<std::size_t>(k)],
                           row = i * beams + pick / vocab;
        from.push_back(row);
        kept.push_back(totals[static_cast<std::size_t>(pick)]);
        extended.push_back(tokens[static_cast<std::size_t>(row)]);
        extended.back().push_back(pick % vocab);
      }
    }
    scores = std::move(kept);
    tokens = std::move(extended);
    return from;
  }
  std::vector<std::int64_t> last_tokens() const {
    std::vector<std::int64_t> out;
    for (const auto& row : tokens) out.push_back(row.back());
    return out;
  }
};

}  // namespace

Result<std::vector<std::int64_t>> Transformer::best_tokens() {
  const std::int64_t batch = logits_.size(0), vocab = logits_.size(2);
  const Array best = arena_.take(DType::kI64, {batch});
  state_.backend->run(Op::argmax, {logits_.reshaped({batch, vocab}), best}, {});
  std::vector<std::int64_t> out(static_cast<std::size_t>(batch));
  state_.backend->download(best, out.data());
  if (state_.backend->error()) return *state_.backend->error();
  return out;
}

Result<std::vector<float>> Transformer::last_logits() {
  Tensor raw(logits_.dtype(), logits_.shape());
  state_.backend->download(logits_, raw.bytes().data());
  if (state_.backend->error()) return *state_.backend->error();
  std::vector<double> wide(static_cast<std::size_t>(logits_.count()));
  to_doubles(raw.view(), wide);
  return std::vector<float>(wide.begin(), wide.end());
}

Result<Generated> Transformer::generate(const StepInputs& prompt, std::int64_t beams,
                                        std::int64_t new_tokens) {
  if (beams < 1 || beams > state_.config().vocab_size)
    return bad_input("num_beams", "out of range", ">= 1", std::to_string(beams));
  if (new_tokens < 1)
    return bad_input("max_new_tokens", "out of range", ">= 1", std::to_string(new_tokens));
  // A run of its own: the cache of the steps before waits until it is over.
  auto cache = std::make_unique<KvCache>(*state_.backend, state_.options.dtype);
  std::swap(cache, cache_);
  const std::int64_t past = std::exchange(past_, 0), batch = std::exchange(batch_, 0);
  Result<Generated> result = run_generate(prompt, beams, new_tokens);
  std::swap(cache, cache_);
  past_ = past;
  batch_ = batch;
  return result;
}

Result<Generated> Transformer::run_generate(const StepInputs& prompt, std::int64_t beams,
                                            std::int64_t new_tokens) {
  NoTap tap;
  StepInputs inputs = expanded(prompt, beams);
  Beams search(prompt.batch, beams);
  for (std::int64_t step_index = 0; step_index < new_tokens; ++step_index) {
    PS_TRY_VOID(step(inputs, tap, Logits::kLast));
    if (beams == 1) {
      PS_TRY(const std::vector<std::int64_t> next, best_tokens());
      for (std::size_t row = 0; row < next.size(); ++row) search.tokens[row].push_back(next[row]);
    } else {
      PS_TRY(const std::vector<float> logits, last_logits());
      const std::vector<std::int64_t> from = search.extend(logits, state_.config().vocab_size);
      if (step_index + 1 < new_tokens) PS_TRY_VOID(reorder_cache(from, tap));
    }
    inputs = following(inputs, search.last_tokens());
  }
  Generated out{
      .batch = prompt.batch, .length = prompt.length + new_tokens, .sequences = {}, .scores = {}};
  for (std::int64_t i = 0; i < prompt.batch; ++i) {
    const auto first = search.scores.begin() + i * beams;
    const auto best =
        static_cast<std::size_t>(std::max_element(first, first + beams) - search.scores.begin());
    const auto start = prompt.input_ids.begin() + i * prompt.length;
    out.sequences.insert(out.sequences.end(), start, start + prompt.length);
    out.sequences.insert(out.sequences.end(), search.tokens[best].begin(),
                         search.tokens[best].end());
    if (beams > 1) out.scores.push_back(search.scores[best] / static_cast<double>(new_tokens));
  }
  return out;
}

}  // namespace ps
