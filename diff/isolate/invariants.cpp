#include "diff/isolate/invariants.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "diff/report/report.h"
#include "diff/run/inputs.h"

namespace ps {

namespace {

class Points final : public Tap {
 public:
  bool wants(std::string_view point) override {
    return point == "lm_head" || point == "model:aggregate_weights";
  }
  void take(std::string_view point, const TensorView& value) override {
    (point == "lm_head" ? logits : weights) = Tensor::copy_of(value);
  }
  Tensor logits, weights;
};

// The prompt without its padding question: one row a sample, all of one length, no mask.
StepInputs dense(const StepInputs& prompt) {
  StepInputs in = prompt;
  in.attention_mask.reset();
  in.position_ids.reset();
  return in;
}

StepInputs tokens(const StepInputs& from, std::int64_t begin, std::int64_t length) {
  StepInputs in;
  in.batch = from.batch;
  in.length = length;
  for (std::int64_t b = 0; b < from.batch; ++b) {
    const auto row = from.input_ids.begin() + b * from.length + begin;
    in.input_ids.insert(in.input_ids.end(), row, row + length);
  }
  return in;
}

Result<Points> run(Engine& engine, const StepInputs& in) {
  Points points;
  engine.reset();
  PS_TRY_VOID(engine.forward(in, points));
  return points;
}

struct Cell {
  std::int64_t batch, token;
};

// Largest difference of two runs' logits over the given (sample, token) pairs, over what rounding
// allows twice: both runs err (tensor-parallel.md section 4, sqrt(2) times the bound of one).
double logit_ratio(const TensorView& a, const TensorView& b,
                   const std::vector<std::pair<Cell, Cell>>& pairs, DType run,
                   std::int64_t layers) {
  const std::int64_t vocab = a.shape[2];
  double error2 = 0, norm2 = 0, worst = 0, largest = 0;
  for (const auto& [x, y] : pairs) {
    const std::int64_t at_a = (x.batch * a.shape[1] + x.token) * vocab;
    const std::int64_t at_b = (y.batch * b.shape[1] + y.token) * vocab;
    for (std::int64_t v = 0; v < vocab; ++v) {
      const double p = value_at(a, at_a + v), q = value_at(b, at_b + v);
      if (std::isnan(p) || std::isnan(q)) return HUGE_VAL;
      const double d = std::fabs(p - q);
      worst = std::max(worst, d);
      largest = std::max(largest, std::fabs(q));
      error2 += d * d;
      norm2 += q * q;
    }
  }
  const double c = unit_roundoff(run) < 0x1p-20 ? 32.0 : 3.0;
  const double limit = 1.5 * c * unit_roundoff(run) * std::sqrt(static_cast<double>(layers + 1));
  const double l2 = norm2 > 0 ? std::sqrt(error2 / norm2) / limit : 0;
  const double cell = largest > 0 ? worst / (8.0 * limit * largest) : 0;
  return std::max(l2, cell);
}

std::vector<std::pair<Cell, Cell>> all_cells(std::int64_t batch, std::int64_t begin,
                                             std::int64_t end) {
  std::vector<std::pair<Cell, Cell>> out;
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t t = begin; t < end; ++t) out.push_back({{b, t}, {b, t}});
  }
  return out;
}

InvariantResult verdict(std::string name, double ratio, std::string detail) {
  InvariantResult r;
  r.name = std::move(name);
  r.worst = ratio;
  r.holds = ratio <= 1;
  r.detail = std::move(detail);
  return r;
}

InvariantResult not_applicable(std::string name, std::string why) {
  InvariantResult r;
  r.name = std::move(name);
  r.applies = false;
  r.detail = std::move(why);
  return r;
}

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.view().bytes.size() == b.view().bytes.size() &&
         std::memcmp(a.view().bytes.data(), b.view().bytes.data(), a.view().bytes.size()) == 0;
}

class Checker {
 public:
  Checker(Engine& engine, const ModelConfig& config, const StepInputs& prompt, DType run)
      : engine_(engine), config_(config), in_(dense(prompt)), run_(run) {}

  Result<std::vector<InvariantResult>> all() {
    PS_TRY(whole_, ps::run(engine_, in_));
    std::vector<InvariantResult> out;
    for (const auto check :
         {&Checker::determinism, &Checker::causality, &Checker::chunks, &Checker::decode,
          &Checker::batch_order, &Checker::left_padding, &Checker::weights_sum}) {
      PS_TRY(InvariantResult result, (this->*check)());
      out.push_back(std::move(result));
    }
    engine_.reset();
    return out;
  }

 private:
  double ratio(const Tensor& other, const std::vector<std::pair<Cell, Cell>>& pairs) const {
    return logit_ratio(other.view(), whole_.logits.view(), pairs, run_, config_.layers);
  }
  // Cross-KV as it is literally written sees the future and keeps no cache: nothing to hold it to.
  bool literal() const {
    return config_.architecture == Architecture::kParScaleCrossKv && !config_.cross_kv_causal;
  }

  Result<InvariantResult> determinism() {
    PS_TRY(const Points again, ps::run(engine_, in_));
    return verdict("determinism", same_bits(again.logits, whole_.logits) ? 0.0 : HUGE_VAL,
                   "the same input twice gives the same bits");
  }

  Result<InvariantResult> causality() {
    if (in_.length < 2 || literal())
      return not_applicable("causality", "needs two tokens and a mask");
    StepInputs changed = in_;
    const std::int64_t at = in_.length / 2;
    for (std::int64_t b = 0; b < in_.batch; ++b) {
      std::int64_t& id = changed.input_ids[static_cast<std::size_t>(b * in_.length + at)];
      id = (id + 1) % config_.vocab_size;
    }
    PS_TRY(const Points other, ps::run(engine_, changed));
    return verdict(
        "causality", ratio(other.logits, all_cells(in_.batch, 0, at)),
        "changing token " + std::to_string(at) + " leaves the logits before it unchanged");
  }

  Result<InvariantResult> chunks() {
    if (in_.length < 3 || literal())
      return not_applicable("chunks", "needs three tokens and a cache");
    const std::int64_t first = in_.length / 3 + 1;
    engine_.reset();
    NoTap none;
    Points tail;
    PS_TRY_VOID(engine_.forward(tokens(in_, 0, first), none));
    PS_TRY_VOID(engine_.forward(tokens(in_, first, in_.length - first), tail));
    std::vector<std::pair<Cell, Cell>> pairs;
    for (std::int64_t b = 0; b < in_.batch; ++b) {
      for (std::int64_t t = first; t < in_.length; ++t) pairs.push_back({{b, t - first}, {b, t}});
    }
    return verdict("chunks", ratio(tail.logits, pairs),
                   "a prompt in two chunks (" + std::to_string(first) +
                       " tokens first) equals the prompt at once");
  }

  Result<InvariantResult> decode() {
    if (in_.length < 2 || literal())
      return not_applicable("decode", "needs two tokens and a cache");
    engine_.reset();
    NoTap none;
    Points last;
    PS_TRY_VOID(engine_.forward(tokens(in_, 0, in_.length - 1), none));
    PS_TRY_VOID(engine_.forward(tokens(in_, in_.length - 1, 1), last));
    std::vector<std::pair<Cell, Cell>> pairs;
    for (std::int64_t b = 0; b < in_.batch; ++b) pairs.push_back({{b, 0}, {b, in_.length - 1}});
    return verdict("decode", ratio(last.logits, pairs),
                   "the last token through the cache equals the whole prompt at once");
  }

  Result<InvariantResult> batch_order() {
    if (in_.batch < 2) return not_applicable("batch order", "needs two rows");
    StepInputs turned = in_;  // rows rotated by one
    std::rotate(turned.input_ids.begin(), turned.input_ids.begin() + in_.length,
                turned.input_ids.end());
    PS_TRY(const Points other, ps::run(engine_, turned));
    std::vector<std::pair<Cell, Cell>> pairs;
    for (std::int64_t b = 0; b < in_.batch; ++b) {
      for (std::int64_t t = 0; t < in_.length; ++t)
        pairs.push_back({{b, t}, {(b + 1) % in_.batch, t}});
    }
    return verdict("batch order", ratio(other.logits, pairs),
                   "rotating the rows of the batch rotates the logits");
  }

  Result<InvariantResult> left_padding() {
    if (literal()) return not_applicable("left padding", "this variant ignores padding");
    constexpr std::int64_t kPads = 3;
    StepInputs padded;
    padded.batch = in_.batch;
    padded.length = in_.length + kPads;
    std::vector<std::int64_t> mask;
    for (std::int64_t b = 0; b < in_.batch; ++b) {
      padded.input_ids.insert(padded.input_ids.end(), kPads, 0);
      mask.insert(mask.end(), kPads, 0);
      const auto row = in_.input_ids.begin() + b * in_.length;
      padded.input_ids.insert(padded.input_ids.end(), row, row + in_.length);
      mask.insert(mask.end(), static_cast<std::size_t>(in_.length), 1);
    }
    padded.position_ids = positions_of_mask(mask, padded.batch, padded.length);
    padded.attention_mask = std::move(mask);
    PS_TRY(const Points other, ps::run(engine_, padded));
    std::vector<std::pair<Cell, Cell>> pairs;
    for (std::int64_t b = 0; b < in_.batch; ++b) {
      for (std::int64_t t = 0; t < in_.length; ++t) pairs.push_back({{b, t + kPads}, {b, t}});
    }
    return verdict("left padding", ratio(other.logits, pairs),
                   "three padding tokens on the left, with position_ids, change nothing");
  }

  Result<InvariantResult> weights_sum() {
    if (!config_.aggregates()) return not_applicable("aggregation", "one replica");
    const TensorView w = whole_.weights.view();
    if (w.shape.size() != 3)
      return not_applicable("aggregation", "model:aggregate_weights not tapped");
    const std::int64_t p = config_.replicas;
    const double slack = 8.0 * static_cast<double>(p) * std::max(unit_roundoff(w.dtype), 0x1p-24);
    const double least = config_.attn_smooth / static_cast<double>(p);
    double worst = 0;
    for (std::int64_t row = 0; row < w.count() / p; ++row) {
      double sum = 0;
      for (std::int64_t i = 0; i < p; ++i) {
        const double x = value_at(w, row * p + i);
        sum += x;
        if (x < least - slack) worst = std::max(worst, (least - x) / slack);
      }
      worst = std::isnan(sum) ? HUGE_VAL : std::max(worst, std::fabs(sum - 1.0) / slack);
    }
    return verdict("aggregation", worst,
                   "the replicas' weights sum to 1 and none is below smooth / P");
  }

  Engine& engine_;
  const ModelConfig& config_;
  StepInputs in_;
  DType run_;
  Points whole_;
};

}  // namespace

Result<std::vector<InvariantResult>> check_invariants(Engine& candidate, const ModelConfig& config,
                                                      const StepInputs& prompt,
                                                      const InvariantOptions& options) {
  return Checker(candidate, config, prompt, options.run).all();
}

std::vector<Finding> invariant_findings(const std::vector<InvariantResult>& results) {
  std::vector<Finding> out;
  for (const InvariantResult& r : results) {
    if (!r.applies || r.holds) continue;
    Finding f;
    std::string id = r.name;
    std::replace(id.begin(), id.end(), ' ', '-');
    f.id = "invariant-" + id;
    f.fault_class = "invariant";
    f.point = "lm_head";
    f.confidence = Confidence::kConsistent;
    char ratio[48];
    std::snprintf(ratio, sizeof ratio, "%.3g", r.worst);
    f.message = "a right model does this: " + r.detail + "; here it does not";
    f.evidence = {{"of_allowed", std::isfinite(r.worst) ? ratio : "null"}};
    out.push_back(std::move(f));
  }
  return out;
}

}  // namespace ps
