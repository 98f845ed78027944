// The search for what would explain a wrong point: every fault that touches an op on the way to it
// is replayed on the candidate's own values.
#include <chrono>

#include "reference/bridge.h"
#include "reference/step.h"

namespace ps::reference {

namespace {

// The candidate's value in the shape that the op gives: a mask of one row for all, a table of one
// row a sample, the last token's logits; itself where nothing of the kind fits.
at::Tensor in_shape_of(const at::Tensor& value, const at::Tensor& like, bool rows_of_samples) {
  if (value.sizes() == like.sizes()) return value;
  at::Tensor v = value;
  while (v.dim() > like.dim() && v.size(0) == 1) v = v.squeeze(0);
  while (v.dim() < like.dim()) v = v.unsqueeze(0);
  if (v.dim() != like.dim()) return value;
  if (rows_of_samples && v.size(0) > 1 && like.size(0) % v.size(0) == 0) {
    std::vector<std::int64_t> times(static_cast<std::size_t>(v.dim()), 1);
    times[0] = like.size(0) / v.size(0);
    v = v.repeat(times);
  }
  for (std::int64_t i = 0; i < v.dim(); ++i) {
    if (v.size(i) != like.size(i) && v.size(i) != 1) return value;
  }
  return v.expand_as(like);
}

}  // namespace

// A fault that explains a part of the error.
struct StepByOps::Near {
  const FaultSpec* fault = nullptr;
  Proposal proposal;
  double left = 0;  // of the distance between the candidate and the right op
};

class StepByOps::SceneHere final : public Scene {
 public:
  SceneHere(StepByOps& step, const Op& op, const PointLookup& lookup, const Rounding& rounding,
            const SuspectOptions& options)
      : step_(step), op_(op), lookup_(lookup), rounding_(rounding), options_(options) {}

  // The right replay, kept: what an edit does not touch is not computed again.
  Result<void> open(const TensorView& captured) {
    Pass pass{lookup_, rounding_, {}, {}, {}};
    PS_TRY(const Value right, step_.run_op(op_, pass, true));
    expected_ = right.exact;
    ran_ = pass.ran;
    // run_op() notes an op before the ops that it needs.
    std::stable_sort(ran_.begin(), ran_.end());
    known_ = std::move(pass.known);
    const at::Tensor value = from_capture(op_.point, captured, step_.engine_.types_);
    last_token_ =
        op_.point == "lm_head" && value.dim() == 3 && value.size(1) == 1 && expected_.size(1) > 1;
    expected_ = trimmed(expected_);
    observed_ = in_shape_of(value, expected_, op_.kind == "rope_table" || op_.kind == "mask");
    counts_ = at::ones({1}, at::kDouble);
    if (options_.ignored && observed_.sizes() == expected_.sizes()) {
      const at::Tensor mask = borrow(*options_.ignored);
      if (mask.dim() == expected_.dim()) counts_ = mask.eq(0).to(at::kDouble);
    }
    return {};
  }

  const Net& net() const override { return step_.net_; }
  const Point& point() const override { return op_.point; }
  const std::vector<const Op*>& chain() const override { return ran_; }
  bool solving() const override { return options_.solve; }
  const at::Tensor& observed() const override { return observed_; }
  const at::Tensor& expected() const override { return expected_; }
  const at::Tensor& counts() const override { return counts_; }
  bool given(const Point& name) const override { return lookup_(name).has_value(); }
  at::Tensor value(const Point& name) override {
    Pass pass = pass_of({});
    Result<Value> found = step_.value_of(name, pass);
    return found.ok() ? found->exact : at::Tensor();
  }
  at::Tensor weight(const std::string& name) override { return step_.engine_.weights_.get(name); }
  const std::vector<StepInputs>& earlier() const override { return step_.engine_.earlier_; }

  at::Tensor replay(const Edit& edit) override {
    try {
      Overrides wrong;
      edit(step_.net_, wrong);
      Pass pass = pass_of(wrong);
      pass.wrong = &wrong;
      const bool last = wrong.contains(op_.point);
      const Op& op = last ? wrong.at(op_.point) : op_;
      Tensors in, w;
      for (const Point& name : op.inputs) {
        // Only exact values are needed here; computing both costs little beside a matmul.
        Result<Value> value = step_.value_of(name, pass);
        if (!value.ok()) return {};
        in.push_back(value->exact);
      }
      for (const std::string& name : op.weights) w.push_back(step_.engine_.weights_.get(name));
      return trimmed(op.run(in, w));
    } catch (const std::exception&) {
      return {};  // this fault cannot be done to these shapes
    }
  }

  // The edited replay with its bound; nothing where the edit does not fit.
  std::optional<Replayed> replay_bounded(const Edit& edit) {
    try {
      Overrides wrong, wrong_same;
      edit(step_.net_, wrong);
      edit(step_.same_net(rounding_.run), wrong_same);
      Pass pass = pass_of(wrong);
      pass.wrong = &wrong;
      pass.wrong_same = &wrong_same;
      at::Tensor exact, bound;
      if (!step_.run_last(op_, pass, exact, bound).ok()) return std::nullopt;
      Replayed out;
      out.value = Tensor::copy_of(view_of(trimmed(exact).contiguous()));
      out.bound = Tensor::copy_of(view_of(trimmed(bound).contiguous()));
      out.basis = std::move(pass.basis);
      out.chain = static_cast<std::int64_t>(pass.ran.size());
      return out;
    } catch (const std::exception&) {
      return std::nullopt;
    }
  }

  // Nearer to the candidate than the right op, and of its shape.
  bool is_near(const at::Tensor& value) const {
    if (!same_shape(value, observed_)) return false;
    if (!same_shape(expected_, observed_)) return true;
    if (!value.is_floating_point()) return true;
    const at::Tensor classes =
        at::isfinite(value).ne(at::isfinite(observed_)).to(at::kDouble) * counts_;
    if (classes.any().item<bool>()) return false;
    const bool nonfinite = at::isfinite(observed_).logical_not().any().item<bool>();
    return nonfinite || distance(*this, value) < 0.9 * distance(*this, expected_);
  }

 private:
  at::Tensor trimmed(const at::Tensor& value) const {
    return last_token_ && value.dim() == 3 && value.size(1) > 1 ? value.slice(1, -1) : value;
  }
  // What the right replay knew and the edited ops do not reach.
  Pass pass_of(const Overrides& wrong) const {
    Pass pass{lookup_, rounding_, known_, {}, {}};
    std::set<Point> dirty;
    for (const Op* op : ran_) {
      const bool reached = wrong.contains(op->point) ||
                           std::any_of(op->inputs.begin(), op->inputs.end(),
                                       [&](const Point& p) { return dirty.contains(p); });
      if (!reached) continue;
      dirty.insert(op->point);
      pass.known.erase(op->point);
    }
    return pass;
  }

  StepByOps& step_;
  const Op& op_;
  const PointLookup& lookup_;
  Rounding rounding_;
  const SuspectOptions& options_;
  at::Tensor observed_, expected_, counts_;
  std::vector<const Op*> ran_;
  std::map<std::string, Value> known_;
  bool last_token_ = false;
};

namespace {

// Two faults at once are looked for only where the error is that many times its bound: near it,
// some pair always fits.
constexpr double kLargeError = 20.0;
constexpr std::size_t kPeeled = 3;  // first faults that are tried
constexpr int kPairSearches = 1;    // in a step
constexpr double kPairSeconds = 5;  // of one

// A chain in which one fault has been done already: what would explain the rest?
class PeeledScene final : public Scene {
 public:
  PeeledScene(Scene& outer, Edit first)
      : outer_(outer), first_(std::move(first)), expected_(outer.replay(first_)) {}
  const Net& net() const override { return outer_.net(); }
  const Point& point() const override { return outer_.point(); }
  const std::vector<const Op*>& chain() const override { return outer_.chain(); }
  bool solving() const override { return outer_.solving(); }
  const at::Tensor& observed() const override { return outer_.observed(); }
  const at::Tensor& expected() const override { return expected_; }
  const at::Tensor& counts() const override { return outer_.counts(); }
  at::Tensor value(const Point& name) override { return outer_.value(name); }
  bool given(const Point& name) const override { return outer_.given(name); }
  at::Tensor weight(const std::string& name) override { return outer_.weight(name); }
  at::Tensor replay(const Edit& edit) override { return outer_.replay(both(first_, edit)); }
  const std::vector<StepInputs>& earlier() const override { return outer_.earlier(); }

 private:
  Scene& outer_;
  Edit first_;
  at::Tensor expected_;
};

void propose(const FaultSpec& fault, Scene& scene, Proposals& out) {
  try {
    fault.propose(scene, out);
  } catch (const std::exception&) {
    // Shapes that the solver did not expect: what it has proposed so far stands.
  }
}

// The nearest way of each fault, the nearest faults first.
template <class Near>
std::vector<Near> nearest_first(std::vector<Near> all) {
  std::stable_sort(all.begin(), all.end(),
                   [](const Near& a, const Near& b) { return a.left < b.left; });
  std::vector<Near> out;
  for (Near& near : all) {
    const bool known = std::any_of(out.begin(), out.end(),
                                   [&](const Near& other) { return other.fault == near.fault; });
    if (!known && out.size() < kPeeled) out.push_back(std::move(near));
  }
  return out;
}

bool covers(const Replayed& replayed, const at::Tensor& observed, const at::Tensor& counts,
            double times) {
  const at::Tensor value = borrow(replayed.value.view()), bound = borrow(replayed.bound.view());
  if (!same_shape(value, observed) || !value.is_floating_point()) return false;
  const at::Tensor error = at::nan_to_num((observed.to(at::kDouble) - value) * counts);
  return error.abs().le(bound * times + 1e-30).all().item<bool>();
}

}  // namespace

// Peels the nearest single faults off, one at a time, and asks every fault about the rest.
void StepByOps::pairs(SceneHere& scene, std::vector<Near> nears, const FaultList& faults,
                      const SuspectCall& call, const std::function<bool()>& late) {
  const double before = distance(scene, scene.expected());
  const double alone = nears.empty() ? 1.0 : nears.front().left;
  for (const Near& first : nears) {
    PeeledScene rest(scene, first.proposal.edit);
    if (!same_shape(rest.expected(), scene.observed())) continue;
    for (const FaultSpec* fault : faults) {
      if (fault == first.fault || late()) continue;
      Proposals proposals;
      propose(*fault, rest, proposals);
      for (const Proposal& second : proposals) {
        if (second.signature || second.freedom > 1 || late()) continue;
        const Edit edit = both(first.proposal.edit, second.edit);
        const double left = distance(scene, scene.replay(edit)) / before;
        if (!(left < 0.05 && left < 0.25 * alone)) continue;
        const std::optional<Replayed> replayed = scene.replay_bounded(edit);
        if (!replayed) continue;
        Suspect suspect;
        suspect.fault = first.fault->info;
        suspect.variant = first.proposal.variant;
        suspect.parameters = first.proposal.parameters;
        suspect.parameters.emplace_back("with", "\"" + std::string(fault->info.id) + "\"");
        if (!second.variant.empty()) {
          suspect.parameters.emplace_back("with_variant", "\"" + second.variant + "\"");
        }
        for (const auto& [name, value] : second.parameters) {
          suspect.parameters.emplace_back("with_" + name, value);
        }
        suspect.freedom = 2 + first.proposal.freedom + second.freedom;
        suspect.fault.late = false;
        suspect.replayed = &*replayed;
        if (!call(suspect)) return;
      }
    }
  }
}

Result<void> StepByOps::suspects(std::string_view point, const PointLookup& lookup,
                                 const Rounding& rounding, const SuspectOptions& options,
                                 const SuspectCall& call) {
  const Op* op = net_.find(point);
  const std::optional<TensorView> captured = lookup(point);
  if (op == nullptr || !captured) {
    return bad_input(std::string(point), "was not captured, or no op of this model writes it");
  }
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  const auto late = [&] {
    return std::chrono::duration<double>(Clock::now() - start).count() > options.seconds;
  };
  try {
    const at::NoGradGuard no_grad;
    SceneHere scene(*this, *op, lookup, rounding, options);
    PS_TRY_VOID(scene.open(*captured));
    FaultList faults;
    for (const FaultSpec* fault : all_faults()) {
      const bool wanted =
          options.only.empty() ||
          std::find(options.only.begin(), options.only.end(), fault->info.id) != options.only.end();
      // Mask faults break the model's own rules, which a mask from outside replaces.
      const bool replaced = inputs_.visible.has_value() && fault->info.fault_class == "mask";
      if (wanted && !replaced && fault->applies(engine_.config_)) faults.push_back(fault);
    }
    // A whole search, at a chain: it may hold two faults.
    const bool may_pair = options.only.empty() && options.solve && options.near_only &&
                          scene.chain().size() > 1 && scene.observed().is_floating_point();
    const double before = may_pair ? distance(scene, scene.expected()) : 0;
    bool explained = false;
    std::vector<Near> nears;
    for (const FaultSpec* fault : faults) {
      Proposals proposals;
      propose(*fault, scene, proposals);
      for (const Proposal& proposal : proposals) {
        if (late()) return {};
        const at::Tensor value = options.near_only ? scene.replay(proposal.edit) : at::Tensor();
        if (options.near_only && !scene.is_near(value)) continue;
        const std::optional<Replayed> replayed = scene.replay_bounded(proposal.edit);
        if (!replayed) continue;
        Suspect suspect;
        suspect.fault = fault->info;
        suspect.variant = proposal.variant;
        suspect.parameters = proposal.parameters;
        suspect.freedom = proposal.freedom;
        suspect.signature = proposal.signature;
        suspect.fault.late = fault->info.late && !proposal.early;
        suspect.replayed = &*replayed;
        if (!call(suspect)) return {};
        if (!may_pair) continue;
        explained = explained || proposal.signature ||
                    covers(*replayed, scene.observed(), scene.counts(), 2.0);
        if (!proposal.signature && proposal.freedom < 2) {
          nears.push_back({fault, proposal, distance(scene, value) / before});
        }
      }
    }
    if (may_pair && !explained && pair_searches_ < kPairSearches) {
      const std::optional<Replayed> right = scene.replay_bounded([](const Net&, Overrides&) {});
      const bool finite = at::isfinite(scene.observed()).all().item<bool>();
      if (right && finite && !covers(*right, scene.observed(), scene.counts(), kLargeError)) {
        ++pair_searches_;
        const Clock::time_point peeling = Clock::now();
        const auto too_late = [&] {
          return late() ||
                 std::chrono::duration<double>(Clock::now() - peeling).count() > kPairSeconds;
        };
        pairs(scene, nearest_first(std::move(nears)), faults, call, too_late);
      }
    }
    return {};
  } catch (const std::exception& e) {
    Error error = torch_error(std::string(point), e);
    if (error.what.find("out of memory") == std::string::npos) error.kind = Error::Kind::kInput;
    return error;
  }
}

std::vector<FaultInfo> ReferenceEngine::faults(bool only_applicable) const {
  std::vector<FaultInfo> out;
  for (const FaultSpec* fault : all_faults()) {
    if (!only_applicable || fault->applies(config_)) out.push_back(fault->info);
  }
  return out;
}

}  // namespace ps::reference
