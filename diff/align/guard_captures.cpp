#include <algorithm>
#include <cstring>
#include <map>
#include <string>

#include "core/points.h"
#include "diff/align/guard.h"

namespace ps {

namespace {

Finding wrong_capture(const Pair& pair, std::string id, std::string message) {
  Finding f;
  f.id = std::move(id);
  f.fault_class = "capture";
  f.step = pair.step;
  f.rank = pair.rank;
  f.point = pair.point;
  f.message = std::move(message);
  return f;
}

bool same_bits(const TensorView& a, const TensorView& b) {
  return a.dtype == b.dtype && a.bytes.size() == b.bytes.size() && !a.bytes.empty() &&
         std::memcmp(a.bytes.data(), b.bytes.data(), a.bytes.size()) == 0;
}

std::uint64_t hash_of(const TensorView& v) {
  std::uint64_t h = v.bytes.size();
  // A few cells are enough to tell tensors apart; equal ones are compared whole.
  const std::size_t step = std::max<std::size_t>(1, v.bytes.size() / 512);
  for (std::size_t i = 0; i < v.bytes.size(); i += step) {
    h = (h ^ static_cast<std::uint64_t>(v.bytes[i])) * 0x100000001b3ull;
  }
  return h;
}

bool judged_wrong(PointStatus s) {
  return s == PointStatus::kDiverged || s == PointStatus::kNonfinite;
}

class StepGuard {
 public:
  StepGuard(const std::vector<JudgedPair>& step, const std::vector<JudgedPair>* before,
            const Agree& agree, std::vector<Finding>& out)
      : step_(step), before_(before), agree_(agree), out_(out) {
    for (const JudgedPair& j : step) by_name_[j.pair->point] = &j;
    if (before != nullptr) {
      for (const JudgedPair& j : *before) before_by_name_[j.pair->point] = &j;
    }
  }

  void run() {
    everything_zero();
    everything_stale();
    if (!out_.empty()) return;
    for (const JudgedPair& j : step_) {
      if (!judged_wrong(j.status) || j.pair->candidate == nullptr || j.pair->expected == nullptr) {
        continue;
      }
      if (!is_floating(j.pair->candidate->dtype)) continue;
      if (j.candidate_all_zero && !j.expected_all_zero) {
        if (proven_right_later(j)) {
          out_.push_back(wrong_capture(*j.pair, "capture-all-zero",
                                       "the candidate's capture is all zero, though what was "
                                       "computed from the value is right"));
        }
      } else if (proven_right_later(j)) {
        duplicated(j);
        stale(j);
      }
      residual(j);
    }
  }

 private:
  // Something that is always computed from this value came out right: the layer's output, or
  // anything after it. A right value cannot come from a wrong one.
  bool proven_right_later(const JudgedPair& j) const {
    const std::optional<PointRef> ref = find_point(j.pair->point);
    if (!ref) return false;
    for (const JudgedPair& later : step_) {
      if (later.status != PointStatus::kOk || later.expected_all_zero) continue;
      const std::optional<PointRef> other = find_point(later.pair->point);
      if (!other || !is_floating(later.pair->expected->dtype)) continue;
      if (ref->spec->op == "rope_freq" || ref->spec->op == "mask") continue;
      if (is_downstream(*ref, *other, j.pair->point, later.pair->point)) return true;
    }
    return false;
  }

  static bool is_downstream(const PointRef& from, const PointRef& to, const std::string& from_name,
                            const std::string& to_name) {
    if (to.spec->op == "rope_table" || to.spec->op == "rope_freq" ||
        to.spec->op == "replica_rope_table" || to.spec->op == "mask" ||
        to.spec->op == "mask_cross_kv") {
      return false;
    }
    if (!point_before(from_name, to_name)) return false;
    if (from.layer <
        0) {  // the embedding and the tables go into every layer, the tail into lm_head
      return to.layer >= 0 ? to.spec->op == "residual" : to.spec->name == "lm_head";
    }
    if (to.layer == from.layer) return to.spec->op == "residual";
    return true;
  }

  void everything_zero() {
    std::int64_t zero = 0, floating = 0;
    const Pair* first = nullptr;
    for (const JudgedPair& j : step_) {
      if (j.pair->candidate == nullptr || j.pair->expected == nullptr) continue;
      if (!is_floating(j.pair->candidate->dtype) || j.expected_all_zero) continue;
      ++floating;
      if (!j.candidate_all_zero) continue;
      ++zero;
      if (first == nullptr) first = j.pair;
    }
    if (floating == 0 || zero != floating) return;
    out_.push_back(wrong_capture(*first, "capture-all-zero",
                                 "every captured value of the candidate's step is zero"));
  }

  // Nothing of the step moved since the one before, though it had other tokens to compute.
  void everything_stale() {
    if (before_ == nullptr) return;
    std::int64_t stale_ones = 0, could = 0;
    const Pair* first = nullptr;
    for (const JudgedPair& j : step_) {
      const auto old = before_by_name_.find(j.pair->point);
      if (old == before_by_name_.end() || !moves(j, *old->second)) continue;
      ++could;
      if (!same_bits(*j.pair->candidate, *old->second->pair->candidate)) continue;
      ++stale_ones;
      if (first == nullptr) first = j.pair;
    }
    if (could < 2 || stale_ones != could) return;
    out_.push_back(wrong_capture(*first, "capture-stale",
                                 "every value of this step is, bit for bit, that of the step "
                                 "before: the capture was not renewed"));
  }

  static bool moves(const JudgedPair& now, const JudgedPair& old) {
    const Pair &a = *now.pair, &b = *old.pair;
    return a.candidate != nullptr && a.expected != nullptr && b.candidate != nullptr &&
           b.expected != nullptr && is_floating(a.candidate->dtype) && !now.candidate_all_zero &&
           a.candidate->shape == b.candidate->shape && !same_bits(*a.expected, *b.expected);
  }

  void stale(const JudgedPair& j) {
    const auto old = before_by_name_.find(j.pair->point);
    if (old == before_by_name_.end() || !moves(j, *old->second)) return;
    if (!same_bits(*j.pair->candidate, *old->second->pair->candidate)) return;
    out_.push_back(wrong_capture(*j.pair, "capture-stale",
                                 "the candidate's capture is, bit for bit, that of the step "
                                 "before, though what was computed from the value is right"));
  }

  void duplicated(const JudgedPair& j) {
    if (hashes_.empty()) {
      for (const JudgedPair& other : step_) {
        if (other.pair->candidate != nullptr) {
          hashes_.emplace(hash_of(*other.pair->candidate), &other);
        }
      }
    }
    const auto [begin, end] = hashes_.equal_range(hash_of(*j.pair->candidate));
    for (auto it = begin; it != end; ++it) {
      const JudgedPair& other = *it->second;
      if (&other == &j || other.pair->expected == nullptr) continue;
      if (!same_bits(*j.pair->candidate, *other.pair->candidate)) continue;
      if (other.pair->expected->shape == j.pair->expected->shape &&
          agree_(*other.pair->expected, *j.pair->expected)) {
        continue;  // the two are equal in truth as well
      }
      out_.push_back(wrong_capture(*j.pair, "capture-duplicated",
                                   "the candidate's capture holds, bit for bit, what " +
                                       other.pair->point +
                                       " holds, though what was computed from the value is right"));
      return;
    }
  }

  // The points that a framework may hand over before or after the residual is added.
  void residual(const JudgedPair& j) {
    const std::optional<PointRef> ref = find_point(j.pair->point);
    if (!ref || ref->layer < 0) return;
    const std::string layer = "model.layers." + std::to_string(ref->layer);
    const std::pair<std::string, std::string> known[] = {
        {layer + ".self_attn.o_proj", layer + ":attn_residual"}, {layer + ".mlp.down_proj", layer}};
    for (const auto& [bare, sum] : known) {
      const bool with = j.pair->point == bare;
      if (!with && j.pair->point != sum) continue;
      const std::string& other = with ? sum : bare;
      const TensorView* captured = expected_of(other);
      Tensor added;
      if (captured == nullptr && with) added = with_layer_input(bare, ref->layer);
      if (captured == nullptr && added.shape().empty()) continue;
      const TensorView truth = captured != nullptr ? *captured : added.view();
      if (truth.shape != j.pair->candidate->shape || !agree_(*j.pair->candidate, truth)) continue;
      // A residual that was never added would be missed by all that follows.
      if (!proven_right_later(j) && !next_layer_alike(ref->layer, with, bare, sum)) continue;
      out_.push_back(wrong_capture(
          *j.pair, "capture-residual",
          with ? "the candidate's capture has the residual in it, the expected one has not"
               : "the candidate's capture lacks the residual that the expected one has"));
    }
  }

  const TensorView* expected_of(const std::string& point) const {
    const auto found = by_name_.find(point);
    return found == by_name_.end() ? nullptr : found->second->pair->expected;
  }

  // The attention's output and what came into the layer; empty where they are not captured, or
  // where cross-replica attention stands between.
  Tensor with_layer_input(const std::string& bare, std::int64_t layer) const {
    const std::string prefix = "model.layers.";
    if (!bare.ends_with("self_attn.o_proj")) return {};
    if (by_name_.contains(prefix + std::to_string(layer) + ".cross_replica_attn.o_proj")) return {};
    const TensorView* input = layer > 0 ? expected_of(prefix + std::to_string(layer - 1))
                                        : expected_of("model:replicated");
    if (input == nullptr && layer == 0) input = expected_of("model.embed_tokens");
    const TensorView* output = expected_of(bare);
    if (input == nullptr || output == nullptr || input->shape != output->shape) return {};
    Tensor sum(DType::kF64, output->shape);
    for (std::int64_t i = 0; i < output->count(); ++i) {
      sum.as<double>()[static_cast<std::size_t>(i)] = value_at(*input, i) + value_at(*output, i);
    }
    return sum;
  }

  // Layer after layer is captured the same way.
  bool next_layer_alike(std::int64_t layer, bool with, const std::string& bare,
                        const std::string& sum) const {
    const std::string old_text = "model.layers." + std::to_string(layer);
    const std::string new_text = "model.layers." + std::to_string(layer + 1);
    const auto shifted = [&](const std::string& name) {
      return new_text + name.substr(old_text.size());
    };
    const auto mine = by_name_.find(shifted(with ? bare : sum));
    const auto theirs = by_name_.find(shifted(with ? sum : bare));
    if (mine == by_name_.end() || theirs == by_name_.end()) return false;
    const TensorView* a = mine->second->pair->candidate;
    const TensorView* b = theirs->second->pair->expected;
    return a != nullptr && b != nullptr && a->shape == b->shape && agree_(*a, *b);
  }

  const std::vector<JudgedPair>& step_;
  const std::vector<JudgedPair>* before_;
  const Agree& agree_;
  std::vector<Finding>& out_;
  std::map<std::string, const JudgedPair*> by_name_, before_by_name_;
  std::multimap<std::uint64_t, const JudgedPair*> hashes_;
};

}  // namespace

std::vector<Finding> guard_captures(const std::vector<std::vector<JudgedPair>>& steps,
                                    const Agree& agree) {
  std::vector<Finding> out;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    if (steps[i].empty()) continue;
    const std::vector<JudgedPair>* before = nullptr;
    for (std::size_t k = 0; k < i; ++k) {
      if (!steps[k].empty() && steps[k][0].pair->rank == steps[i][0].pair->rank) before = &steps[k];
    }
    std::vector<Finding> found;
    StepGuard(steps[i], before, agree, found).run();
    out.insert(out.end(), found.begin(), found.end());
  }
  return out;
}

}  // namespace ps
