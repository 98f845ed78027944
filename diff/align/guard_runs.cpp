#include <algorithm>
#include <cmath>

#include "core/config.h"
#include "diff/align/guard.h"
#include "diff/align/weight_sums.h"
#include "diff/mask/step_mask.h"

namespace ps {

namespace {

Finding invalid(const StepPair& step, std::string id, std::string point, std::string message) {
  Finding f;
  f.id = std::move(id);
  f.fault_class = "capture";
  f.step = step.step;
  f.rank = step.rank;
  f.point = std::move(point);
  f.message = std::move(message);
  return f;
}

const TensorView* input(const TraceStep& step, std::string_view name) {
  return step.tensors == nullptr ? nullptr : step.tensors->find(name);
}

// The first place where two integer tensors of one shape differ; -1: nowhere.
std::int64_t first_difference(const TensorView& a, const TensorView& b) {
  for (std::int64_t i = 0; i < a.count(); ++i) {
    if (value_at(a, i) != value_at(b, i)) return i;
  }
  return -1;
}

std::string whole(double x) { return std::to_string(static_cast<std::int64_t>(x)); }

std::string differ_at(const TensorView& a, const TensorView& b, std::int64_t i) {
  const std::int64_t columns = a.shape.empty() ? 1 : std::max<std::int64_t>(1, a.shape.back());
  return "row " + std::to_string(i / columns) + " column " + std::to_string(i % columns) + ": " +
         whole(value_at(a, i)) + " in the candidate, " + whole(value_at(b, i)) + " expected";
}

bool constant(const TensorView& v) {
  for (std::int64_t i = 1; i < v.count(); ++i) {
    if (value_at(v, i) != value_at(v, 0)) return false;
  }
  return v.count() > 1;
}

bool all_real(const TensorView& mask) {
  for (std::int64_t i = 0; i < mask.count(); ++i) {
    if (value_at(mask, i) != 1) return false;
  }
  return true;
}

// Every row is p, p + 1, p + 2, ... from the same p.
bool counts_up(const TensorView& positions) {
  const std::int64_t length = positions.shape.empty() ? 1 : positions.shape.back();
  for (std::int64_t i = 0; i < positions.count(); ++i) {
    if (value_at(positions, i) != value_at(positions, 0) + static_cast<double>(i % length)) {
      return false;
    }
  }
  return true;
}

// [.., S, C], 1 or true = may attend: each query sees all that is not behind it, as without a mask.
bool plain_causal(const TensorView& mask) {
  if (mask.shape.size() < 2 || is_floating(mask.dtype)) return false;
  const std::int64_t columns = mask.shape.back(), queries = mask.shape[mask.shape.size() - 2];
  for (std::int64_t i = 0; i < mask.count(); ++i) {
    const std::int64_t query = i / columns % queries, key = i % columns;
    if ((value_at(mask, i) != 0) != (key <= columns - queries + query)) return false;
  }
  return true;
}

// Without a word about it, a run had no padding, counted its positions up, and was causal.
bool says_nothing(const std::string& name, const TensorView& input) {
  if (name == "input_mask" || input.shape.size() == 4) return plain_causal(input);
  return name == "attention_mask" ? all_real(input) : counts_up(input);
}

const char* what_it_says(const std::string& name) {
  if (name == "input_mask") return ", and it is not the causal one";
  return name == "attention_mask" ? ", and it marks padding"
                                  : ", and they are not the ones that the other run took";
}

// Tensors that must be equal where both traces have them.
void same_input(const StepPair& step, const std::string& name, std::vector<Finding>& out) {
  const TensorView* a = input(*step.candidate, name);
  const TensorView* b = input(*step.expected, name);
  const bool ids = name == "input_ids";
  if (a == nullptr || b == nullptr) {
    if ((a == nullptr) == (b == nullptr) || (ids && !step.pairs.empty() && a == nullptr)) return;
    // Where a trace carries its tokens, an absent mask means that all are real, and absent
    // positions mean past ... past + S - 1: the other trace must say the same.
    const TraceStep& lacking = a == nullptr ? *step.candidate : *step.expected;
    if (ids || input(lacking, "input_ids") == nullptr) return;
    const TensorView& there = a != nullptr ? *a : *b;
    if (says_nothing(name, there)) return;
    out.push_back(invalid(step, "capture-inputs", name,
                          std::string("only the ") + (a != nullptr ? "candidate" : "expected") +
                              " trace has " + name + what_it_says(name)));
    return;
  }
  if (a->shape != b->shape) {
    const bool phase =
        ids && a->shape.size() == 2 && b->shape.size() == 2 && a->shape[0] == b->shape[0];
    out.push_back(invalid(
        step, phase ? "capture-phase" : "capture-inputs", name,
        (phase ? "the runs are in different phases here: " : name + " has another shape: ") +
            to_string(a->shape) + " in the candidate, " + to_string(b->shape) + " expected"));
    return;
  }
  const std::int64_t at = first_difference(*a, *b);
  if (at < 0) return;
  std::string message = "the runs have different " + name + "; " + differ_at(*a, *b, at);
  if (ids && constant(*a) && !constant(*b)) {
    message += "; one token repeated looks like a warm-up run";
  }
  out.push_back(invalid(step, ids ? "capture-tokens" : "capture-inputs", name, std::move(message)));
}

// Two programs in words: another wording of one mask cannot be told from another mask here.
void same_mask_program(const StepPair& step, std::vector<Finding>& out) {
  const std::string a = mask::mask_program_of(*step.candidate);
  const std::string b = mask::mask_program_of(*step.expected);
  if (a == b || (!a.empty() && !b.empty())) return;
  const TraceStep& lacking = a.empty() ? *step.candidate : *step.expected;
  if (input(lacking, "input_mask") != nullptr) return;
  out.push_back(invalid(step, "capture-inputs", "mask_program",
                        std::string("only the ") + (a.empty() ? "expected" : "candidate") +
                            " trace was given a mask program"));
}

std::string_view words(StepOp op) {
  switch (op) {
    case StepOp::kForward:
      return "a forward step";
    case StepOp::kReorderCache:
      return "a cache reordering";
    case StepOp::kGenerate:
      return "a generation";
  }
  return "a step";
}

struct Field {
  std::string_view name;
  double candidate, expected;
};

void same_model(const Trace& candidate, const Trace& expected, std::vector<Finding>& out) {
  const std::string& mine = candidate.manifest().model_json;
  const std::string& theirs = expected.manifest().model_json;
  if (mine.empty() || theirs.empty() || mine == theirs) return;
  const Result<ParsedConfig> pa = parse_config(mine, "candidate");
  const Result<ParsedConfig> pb = parse_config(theirs, "expected");
  if (!pa.ok() || !pb.ok()) return;
  const ModelConfig &a = pa->config, &b = pb->config;
  const auto n = [](auto x) { return static_cast<double>(x); };
  const Field fields[] = {
      {"architecture", n(a.architecture), n(b.architecture)},
      {"vocab_size", n(a.vocab_size), n(b.vocab_size)},
      {"hidden_size", n(a.hidden_size), n(b.hidden_size)},
      {"intermediate_size", n(a.intermediate_size), n(b.intermediate_size)},
      {"num_hidden_layers", n(a.layers), n(b.layers)},
      {"num_attention_heads", n(a.heads), n(b.heads)},
      {"num_key_value_heads", n(a.kv_heads), n(b.kv_heads)},
      {"head_dim", n(a.head_dim), n(b.head_dim)},
      {"rms_norm_eps", a.rms_norm_eps, b.rms_norm_eps},
      {"rope_theta", a.rope.theta, b.rope.theta},
      {"rope_scaling type", n(a.rope.kind), n(b.rope.kind)},
      {"rope_scaling factor", a.rope.factor, b.rope.factor},
      {"sliding_window", n(a.sliding_window), n(b.sliding_window)},
      {"parscale_n", n(a.replicas), n(b.replicas)},
      {"parscale_n_tokens", n(a.prefix_tokens), n(b.prefix_tokens)},
      {"parscale_attn_smooth", a.attn_smooth, b.attn_smooth},
  };
  for (const Field& f : fields) {
    if (f.candidate == f.expected) continue;
    char numbers[96];
    std::snprintf(numbers, sizeof numbers, ": %.9g in the candidate's trace, %.9g expected",
                  f.candidate, f.expected);
    out.push_back(
        invalid({}, "capture-model", std::string(f.name),
                "the two traces name different models: " + std::string(f.name) + numbers));
    return;
  }
}

}  // namespace

std::vector<Finding> guard_runs(const Trace& candidate, const Trace& expected,
                                const std::vector<StepPair>& steps) {
  std::vector<Finding> out;
  same_model(candidate, expected, out);
  const Result<TraceExtras> mine = trace_extras(candidate), theirs = trace_extras(expected);
  for (const Result<TraceExtras>* extras : {&mine, &theirs}) {
    if (!extras->ok()) {
      out.push_back(invalid({}, "capture-manifest", "", extras->error().line()));
      return out;
    }
  }
  for (const bool is_mine : {true, false}) {
    const std::string& ended = is_mine ? mine->ended : theirs->ended;
    if (ended.empty()) continue;
    Finding f = invalid({}, "capture-ended-early", "",
                        std::string(is_mine ? "the candidate" : "the expected run") +
                            " did not come to its end: " + ended);
    f.severity = Severity::kWarning;
    out.push_back(std::move(f));
  }
  if (auto f = other_weights(mine->weights, theirs->weights)) out.push_back(*std::move(f));
  for (const StepPair& step : steps) {
    if (step.candidate == nullptr || step.expected == nullptr) continue;
    if (step.candidate->op != step.expected->op) {
      out.push_back(invalid(step, "capture-phase", "",
                            "this step is " + std::string(words(step.candidate->op)) +
                                " in the candidate, and " + std::string(words(step.expected->op)) +
                                " in the expected trace"));
      continue;
    }
    if (step.candidate->beam_idx != step.expected->beam_idx) {
      out.push_back(invalid(step, "capture-inputs", "beam_idx",
                            "the caches are reordered by different beam_idx"));
    }
    for (const char* name : {"input_ids", "attention_mask", "position_ids", "input_mask"}) {
      same_input(step, name, out);
    }
    same_mask_program(step, out);
  }
  return out;
}

}  // namespace ps
