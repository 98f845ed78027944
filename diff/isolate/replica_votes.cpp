#include "diff/isolate/replica_votes.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace ps {

namespace {

struct Place {
  std::int64_t batch = 0, token = 0;
};

bool is_real(const StepInputs& inputs, std::int64_t past, const Place& at) {
  if (!inputs.attention_mask) return true;
  const std::int64_t keys = past + inputs.length;
  return (*inputs.attention_mask)[static_cast<std::size_t>(at.batch * keys + past + at.token)] != 0;
}

// The tokens to count: of each sample the last `each` real ones.
std::vector<Place> places_of(const StepInputs& inputs, std::int64_t past, std::int64_t each,
                             std::int64_t& left_out) {
  std::vector<Place> out;
  for (std::int64_t b = 0; b < inputs.batch; ++b) {
    std::vector<Place> real;
    for (std::int64_t t = 0; t < inputs.length; ++t) {
      if (is_real(inputs, past, {b, t})) real.push_back({b, t});
    }
    const auto n = static_cast<std::int64_t>(real.size());
    const std::int64_t skipped = std::max<std::int64_t>(0, n - each);
    left_out += skipped;
    out.insert(out.end(), real.begin() + skipped, real.end());
  }
  return out;
}

using Logits = std::vector<std::vector<double>>;  // of one place: [P][V]

// The rows of every replica at these places, one after the other: [places, P, h].
void add_rows(const TensorView& norm, const std::vector<Place>& places, const StepInputs& inputs,
              const ModelConfig& c, std::vector<double>& rows) {
  const std::int64_t h = c.hidden_size;
  for (const Place& at : places) {
    for (std::int64_t r = 0; r < c.replicas; ++r) {
      const std::int64_t from = ((r * inputs.batch + at.batch) * inputs.length + at.token) * h;
      for (std::int64_t i = 0; i < h; ++i) rows.push_back(value_at(norm, from + i));
    }
  }
}

// lm_head of many rows at once: its weights are read once. Replicas take the place of tokens.
Result<std::vector<Logits>> head(Reference& reference, const ModelConfig& c,
                                 const StepInputs& inputs, std::int64_t past,
                                 const std::vector<double>& rows) {
  const auto n = static_cast<std::int64_t>(rows.size()) / c.hidden_size;
  const Tensor in = Tensor::of<double>(DType::kF64, {1, n, c.hidden_size}, rows);
  const PointLookup lookup = [&](std::string_view) { return std::optional(in.view()); };
  PS_TRY(const Tensor out, reference.replay(inputs, past, "lm_head", lookup));
  std::vector<double> all(static_cast<std::size_t>(out.view().count()));
  to_doubles(out.view(), all);
  const std::int64_t v = out.view().count() / n;
  std::vector<Logits> result(static_cast<std::size_t>(n / c.replicas));
  for (std::int64_t r = 0; r < n; ++r) {
    result[static_cast<std::size_t>(r / c.replicas)].emplace_back(all.begin() + r * v,
                                                                  all.begin() + (r + 1) * v);
  }
  return result;
}

std::vector<double> weights_at(const TensorView& weights, std::int64_t length, const Place& at,
                               std::int64_t p) {
  std::vector<double> out;
  for (std::int64_t r = 0; r < p; ++r) {
    out.push_back(value_at(weights, (at.batch * length + at.token) * p + r));
  }
  return out;
}

// The first of the largest; NaN is never one.
std::int64_t argmax_of(const std::vector<double>& x) {
  std::size_t best = 0;
  for (std::size_t i = 1; i < x.size(); ++i) {
    if (x[i] > x[best] || std::isnan(x[best])) best = i;
  }
  return static_cast<std::int64_t>(best);
}

std::vector<double> aggregate(const Logits& logits, const std::vector<double>& weights,
                              std::size_t without) {
  std::vector<double> out(logits[0].size());
  double total = 0;
  for (std::size_t p = 0; p < logits.size(); ++p) {
    if (p == without) continue;
    total += weights[p];
    for (std::size_t v = 0; v < out.size(); ++v) out[v] += weights[p] * logits[p][v];
  }
  if (without < logits.size() && total != 0) {
    for (double& x : out) x /= total;
  }
  return out;
}

std::vector<double> softmax(const std::vector<double>& x) {
  const double most = *std::max_element(x.begin(), x.end());
  std::vector<double> out(x.size());
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += out[i] = std::exp(x[i] - most);
  for (double& y : out) y /= sum;
  return out;
}

double disagreement(const Logits& logits) {
  const auto n = static_cast<double>(logits.size());
  std::vector<double> mean(logits[0].size());
  double entropy_of_each = 0;
  const auto add_entropy = [](double e, double p) { return p > 0 ? e - p * std::log(p) : e; };
  for (const auto& l : logits) {
    const std::vector<double> q = softmax(l);
    for (std::size_t i = 0; i < q.size(); ++i) mean[i] += q[i] / n;
    entropy_of_each += std::accumulate(q.begin(), q.end(), 0.0, add_entropy) / n;
  }
  const double all = std::accumulate(mean.begin(), mean.end(), 0.0, add_entropy);
  return std::clamp((all - entropy_of_each) / std::log(n), 0.0, 1.0);
}

std::vector<std::int64_t> argmaxes(const Logits& logits) {
  std::vector<std::int64_t> out;
  for (const auto& l : logits) out.push_back(argmax_of(l));
  return out;
}

void fill(const Logits& logits, const ReplicaVotesOptions& options, ReplicaToken& t) {
  const std::size_t p = logits.size();
  const std::vector<double> all = aggregate(logits, t.weights, p);
  t.argmax = argmax_of(all);
  t.replica_argmax = argmaxes(logits);
  t.js = disagreement(logits);
  std::vector<std::vector<double>> without;
  for (std::size_t r = 0; r < p; ++r) {
    without.push_back(aggregate(logits, t.weights, r));
    t.without_argmax.push_back(argmax_of(without.back()));
  }
  std::vector<std::size_t> order(all.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto top = std::min(order.size(), static_cast<std::size_t>(options.top));
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(top), order.end(),
                    [&](std::size_t a, std::size_t b) {
                      const auto key = [&](std::size_t i) {
                        return std::isnan(all[i]) ? -HUGE_VAL : all[i];
                      };
                      return key(a) != key(b) ? key(a) > key(b) : a < b;
                    });
  for (std::size_t i = 0; i < top; ++i) {
    ReplicaToken::Choice c{static_cast<std::int64_t>(order[i]), all[order[i]], {}, {}};
    for (std::size_t r = 0; r < p; ++r) {
      c.replica.push_back(logits[r][order[i]]);
      c.without.push_back(without[r][order[i]]);
    }
    t.top.push_back(std::move(c));
  }
}

bool fits(const ReplicaOutputs& o, const ModelConfig& c, const StepInputs& inputs) {
  return o.norm.shape == Shape{c.replicas * inputs.batch, inputs.length, c.hidden_size} &&
         o.weights.shape == Shape{inputs.batch, inputs.length, c.replicas};
}

}  // namespace

Result<void> add_replica_votes(Reference& reference, const ModelConfig& config,
                               const StepInputs& inputs, std::int64_t step, std::int64_t past,
                               const ReplicaOutputs& candidate, const ReplicaOutputs& expected,
                               const ReplicaVotesOptions& options, ReplicaVotes& votes) {
  // A value of a wrong shape is a finding already.
  if (!fits(candidate, config, inputs) || !fits(expected, config, inputs)) return {};
  votes.replicas = config.replicas;
  const double a_token = 2.0 * static_cast<double>(config.replicas) *
                         static_cast<double>(config.vocab_size) *
                         static_cast<double>(config.hidden_size);
  const auto samples = static_cast<double>(std::max<std::int64_t>(inputs.batch, 1));
  const auto affordable = static_cast<std::int64_t>(options.most_work / a_token / samples);
  const std::int64_t each =
      std::max<std::int64_t>(1, std::min(affordable, options.most_tokens / inputs.batch));
  const std::vector<Place> all = places_of(inputs, past, each, votes.left_out);
  // As many at a time as 128 MiB of logits hold.
  const std::int64_t chunk = std::max<std::int64_t>(
      1, (std::int64_t{1} << 24) / (2 * config.replicas * config.vocab_size));
  for (std::size_t begin = 0; begin < all.size(); begin += static_cast<std::size_t>(chunk)) {
    const std::size_t end = std::min(all.size(), begin + static_cast<std::size_t>(chunk));
    const std::vector<Place> places(all.begin() + static_cast<std::ptrdiff_t>(begin),
                                    all.begin() + static_cast<std::ptrdiff_t>(end));
    std::vector<double> rows;
    add_rows(candidate.norm, places, inputs, config, rows);
    add_rows(expected.norm, places, inputs, config, rows);
    PS_TRY(const auto logits, head(reference, config, inputs, past, rows));
    for (std::size_t i = 0; i < places.size(); ++i) {
      const Place& at = places[i];
      const Logits &own = logits[i], &truth = logits[places.size() + i];
      ReplicaToken t;
      t.step = step;
      t.batch = at.batch;
      t.token = at.token;
      t.input_id = inputs.input_ids[static_cast<std::size_t>(at.batch * inputs.length + at.token)];
      t.weights = weights_at(candidate.weights, inputs.length, at, config.replicas);
      t.expected_weights = weights_at(expected.weights, inputs.length, at, config.replicas);
      fill(own, options, t);
      t.expected_argmax = argmax_of(aggregate(truth, t.expected_weights, truth.size()));
      t.expected_replica_argmax = argmaxes(truth);
      t.expected_js = disagreement(truth);
      votes.tokens.push_back(std::move(t));
    }
  }
  return {};
}

}  // namespace ps
