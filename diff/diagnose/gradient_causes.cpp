// Why gradients are missing or wrong. A flow cut at an op (no_grad, detach) is replayed: the
// parameters that can only be reached through it must be those without a gradient, and all others
// must come out as the trace has them.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>

#include "core/points.h"
#include "diff/diagnose/gradients.h"
#include "diff/run/record.h"

namespace ps {

namespace {

using State = JudgedGradient::State;
using Names = std::set<std::string>;

constexpr double kAlike =
    0.05;  // of a gradient that is a multiple of the right one, in 16 bits too

std::string json_list(const std::vector<std::string>& names) {
  constexpr std::size_t kMost = 12;
  std::string out = "[";
  for (std::size_t i = 0; i < std::min(kMost, names.size()); ++i) {
    out += (i == 0 ? "" : ",") + json_string(names[i]);
  }
  return out + "]";
}

std::string number(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", x);
  return text;
}

std::string count_of_names(std::size_t n, const char* what) {
  return std::to_string(n) + " " + what + (n == 1 ? "" : "s");
}

// Parameters (of those in `truth`) that no gradient reaches once `cut` is detached.
Names unreached(const std::vector<OpInfo>& ops, const std::string& cut, const GradientMap& truth) {
  Names live, reached;  // points that a gradient flows into, backwards from the logits
  for (auto op = ops.rbegin(); op != ops.rend(); ++op) {
    const bool last = op == ops.rbegin();
    if ((!last && !live.contains(op->point)) || op->point == cut) continue;
    live.insert(op->inputs.begin(), op->inputs.end());
    reached.insert(op->weights.begin(), op->weights.end());
  }
  Names out;
  for (const auto& [name, gradient] : truth) {
    const bool is_point =
        std::any_of(ops.begin(), ops.end(), [&](const OpInfo& op) { return op.point == name; });
    if (!is_point && !reached.contains(name)) out.insert(name);
  }
  return out;
}

Finding finding(const std::string& name, Confidence confidence) {
  Finding f;
  f.id = "runtime-training-only";
  f.fault_class = "runtime";
  f.point = "grad/" + name;
  f.confidence = confidence;
  return f;
}

class Causes {
 public:
  Causes(const GradientScene& scene, const std::vector<JudgedGradient>& judged)
      : scene_(scene), judged_(judged) {}

  std::vector<Finding> find() {
    for (const JudgedGradient& g : judged_) {
      if (g.state == State::kMissing || g.state == State::kZero) {
        // A parameter on the list of frozen ones, not a point on the way.
        if (g.parameter && !on_purpose(g.name)) missing_.insert(g.name);
        if (g.parameter && g.state == State::kZero) zero_.insert(g.name);
        if (!g.parameter) wrong_.push_back(&g);
      } else if (g.state != State::kOk) {
        wrong_.push_back(&g);
      }
    }
    if (missing_.empty() && wrong_.empty()) return {};
    const Result<std::vector<OpInfo>> ops = scene_.reference.ops(scene_.inputs);
    if (ops.ok()) ops_ = *ops;
    if (!wrong_.empty() && common_factor()) {
      wrong_.clear();
      if (!missing_.empty()) frozen();
      return std::move(found_);
    }
    cut_flow();
    if (!cut_found_ && !missing_.empty()) frozen();
    if (!cut_found_) {
      unselected_keys();
      groups_of_factors();
      unexplained();
    }
    return std::move(found_);
  }

 private:
  bool on_purpose(const std::string& name) const {
    const auto& frozen = scene_.options.frozen;
    return std::any_of(frozen.begin(), frozen.end(),
                       [&](const std::string& p) { return matches(p, name); });
  }
  std::vector<std::string> missing_list() const { return {missing_.begin(), missing_.end()}; }
  std::string how_missing() const {
    const bool zeros = std::any_of(missing_.begin(), missing_.end(),
                                   [&](const std::string& n) { return zero_.contains(n); });
    return zeros ? "a gradient of zeros" : "no gradient";
  }

  // One number that makes everything right: nothing else is wrong.
  bool common_factor() {
    double factor = 0;
    std::size_t scaled = 0;
    for (const JudgedGradient* g : wrong_) {
      if (g->state != State::kWrong || g->residual > kAlike) return false;
      factor += g->factor;
      ++scaled;
    }
    std::size_t right = 0;
    for (const JudgedGradient& g : judged_) right += g.state == State::kOk ? 1 : 0;
    if (scaled == 0 || right > scaled / 4) return false;
    factor /= static_cast<double>(scaled);
    const double simple = simplest(factor);
    const std::vector<JudgedGradient> again =
        compare_gradients(scene_.step, scene_.config, scene_.truth, simple);
    for (const JudgedGradient& g : again) {
      if (g.state == State::kWrong) return false;
    }
    Finding f = finding(wrong_.front()->name, Confidence::kExact);
    f.message = "all gradients are " + number(simple) + " times the reference's: " + reason(simple);
    f.evidence = {{"factor", number(simple)}, {"gradients", std::to_string(scaled)}};
    f.fix =
        "divide the loss once by what it is a mean over, and zero the gradients before each "
        "backward pass";
    found_.push_back(std::move(f));
    return true;
  }

  std::int64_t targets() const {
    const StepInputs& in = scene_.inputs;
    std::int64_t n = 0;
    for (std::int64_t b = 0; b < in.batch; ++b) {
      for (std::int64_t t = 1; t < in.length; ++t) {
        const auto at = static_cast<std::size_t>(b * in.length + t);
        const auto& mask = in.attention_mask;
        n += !mask || ((*mask)[at] != 0 && (*mask)[at - 1] != 0) ? 1 : 0;
      }
    }
    return n;
  }
  // A whole number, a whole part, or a count of targets, where the measured factor is one.
  double simplest(double factor) const {
    const double all = static_cast<double>(targets());
    const double rows = static_cast<double>(scene_.inputs.batch * (scene_.inputs.length - 1));
    for (const double x :
         {std::round(factor), 1 / std::round(1 / factor), all / rows, rows / all}) {
      if (x != 0 && std::isfinite(x) && std::fabs(factor / x - 1) < 0.01) return x;
    }
    return factor;
  }
  std::string reason(double factor) const {
    const double all = static_cast<double>(targets());
    const auto near = [&](double x) { return std::fabs(factor / x - 1) < 1e-3; };
    if (near(-1)) return "the sign is turned";
    if (near(all)) {
      return "the loss is a sum over its " + std::to_string(targets()) +
             " targets, and 1/N is missing";
    }
    if (near(1 / all)) return "divided by the number of targets once too often";
    if (near(static_cast<double>(scene_.inputs.batch))) {
      return "as many times as the batch has rows: summed over it, not averaged";
    }
    if (factor > 1.5 && near(std::round(factor))) {
      return "accumulated over " + number(factor) +
             " passes, or summed over as many ranks, without the mean";
    }
    if (factor < 0.7 && near(1 / std::round(1 / factor))) {
      return "averaged over " + number(std::round(1 / factor)) +
             " micro-batches or ranks that were not there";
    }
    return "the loss was scaled (a loss scale that was not taken back?)";
  }

  // Which op cut the flow: each that leaves no more parameters without a gradient than the trace.
  void cut_flow() {
    struct Tried {
      const OpInfo* op;
      Names lost;
    };
    std::vector<Tried> candidates;
    for (const OpInfo& op : ops_) {
      if (op.inputs.empty() && op.weights.empty()) continue;
      Names lost = unreached(ops_, op.point, scene_.truth);
      if (lost.size() == scene_.truth.size()) continue;
      // Where all others are right, a cut has lost exactly what is missing.
      const bool fits = wrong_.empty() ? lost == missing_
                                       : std::includes(missing_.begin(), missing_.end(),
                                                       lost.begin(), lost.end());
      if (fits) candidates.push_back({&op, std::move(lost)});
    }
    std::stable_sort(candidates.begin(), candidates.end(),
                     [](const Tried& a, const Tried& b) { return a.lost.size() > b.lost.size(); });
    std::vector<const OpInfo*> matching;
    Names lost;
    int tried = 0;
    for (const Tried& candidate : candidates) {
      if (!matching.empty() && candidate.lost != lost) break;
      if (++tried > scene_.options.most_cuts) break;
      if (!explains(candidate.op->point)) continue;
      matching.push_back(candidate.op);
      lost = candidate.lost;
    }
    if (matching.empty()) return;
    // A cut that changes nothing but what is missing is a freeze as well.
    if (wrong_.empty()) {
      also_cut_ = matching.front()->point;
      return;
    }
    cut_found_ = true;
    std::vector<std::string> points, rest;
    for (const OpInfo* op : matching) points.push_back(op->point);
    Finding f = finding(lost.empty() ? wrong_.front()->name : *lost.begin(), Confidence::kExact);
    f.where = points.front();
    f.message =
        "the gradient's flow is cut at " + points.front() +
        (points.size() > 1 ? " (or anywhere up to " + points.back() + ", which is the same)" : "") +
        ": " + count_of_names(lost.size(), "parameter") + " got " +
        (lost.empty() ? "less than all of it" : how_missing()) +
        ", and all others come out as if that op ran under no_grad";
    f.evidence = {{"cut", json_string(points.front())},
                  {"equivalent_cuts", json_list(points)},
                  {"parameters", json_list({lost.begin(), lost.end()})}};
    f.fix = "take " + points.front() +
            " out of no_grad, detach() and inference_mode; .data and "
            "numpy() cut as well";
    found_.push_back(std::move(f));
    std::set_difference(missing_.begin(), missing_.end(), lost.begin(), lost.end(),
                        std::back_inserter(rest));
    if (!rest.empty()) {
      missing_ = Names(rest.begin(), rest.end());
      frozen();
    }
  }

  bool explains(const std::string& point) {
    GradientRequest request = scene_.request;
    request.cuts = {point};
    const Result<GradientMap> cut = scene_.reference.gradients(scene_.inputs, request);
    if (!cut.ok()) return false;
    for (const JudgedGradient& g : compare_gradients(scene_.step, scene_.config, *cut, 1.0)) {
      if (g.state == State::kWrong || g.state == State::kShape) return false;
      const bool excused = missing_.contains(g.name) || on_purpose(g.name);
      if ((g.state == State::kMissing || g.state == State::kZero) && g.parameter && !excused) {
        return false;
      }
    }
    // What the cut leaves without a gradient must not have one in the trace.
    for (const JudgedGradient& g : judged_) {
      const bool has = g.state == State::kOk || g.state == State::kWrong;
      if (g.parameter && has && !cut->contains(g.name)) return false;
    }
    return true;
  }

  void frozen() {
    const std::vector<std::string> names = missing_list();
    const bool others_right = wrong_.empty() || cut_found_;
    Finding f = finding(names[0], others_right ? Confidence::kExact : Confidence::kConsistent);
    f.message = count_of_names(names.size(), "parameter") +
                (names.size() == 1 ? " has " : " have ") + how_missing() +
                " where the reference has one";
    if (others_right) {
      f.message +=
          "; every other gradient is right, so the flow was not cut: a wrong list of "
          "frozen parameters";
    }
    f.evidence = {{"parameters", json_list(names)}};
    if (!also_cut_.empty()) {
      f.evidence.emplace_back("or_cut_at", json_string(also_cut_));
      f.message += " (or the first op that uses them, " + also_cut_ +
                   ", runs under no_grad: that "
                   "would look the same)";
    }
    f.fix = "freeze by exact names; what is frozen on purpose goes into --frozen";
    found_.push_back(std::move(f));
  }

  // In a block-sparse layer, keys that no query selected have a gradient of exactly zero.
  void unselected_keys() {
    for (const JudgedGradient*& g : wrong_) {
      if (g->parameter || g->state != State::kWrong || !g->value) continue;
      const bool keys = g->name.ends_with(":k_rope") || g->name.ends_with(":k_cache") ||
                        g->name.ends_with(":v_cache") || g->name.ends_with(".v_proj");
      if (!keys) continue;
      const Gradient& right = scene_.truth.at(g->name);
      std::int64_t rows = 0, first = -1;
      const std::int64_t width = g->shape.back();
      for (std::int64_t row = 0; row < count_of(g->shape) / width; ++row) {
        bool none = true, some = false;
        for (std::int64_t d = 0; d < width; ++d) {
          none = none && value_at(right.value.view(), row * width + d) == 0;
          some = some || value_at(*g->value, row * width + d) != 0;
        }
        if (!none || !some) continue;
        if (first < 0) first = row;
        ++rows;
      }
      if (rows == 0) continue;
      Finding f = finding(g->name, Confidence::kExact);
      f.id = "SP019";
      f.fault_class = "sparse";
      f.where = "row " + std::to_string(first);
      f.message = count_of_names(static_cast<std::size_t>(rows), "key") +
                  " that no query attends to " + (rows == 1 ? "has" : "have") +
                  " a gradient that is not zero: the backward pass is that of another attention";
      f.evidence = {{"rows", std::to_string(rows)}};
      f.fix = "the gradient is that of dense attention under the same constant mask";
      found_.push_back(std::move(f));
      g = nullptr;
    }
    std::erase(wrong_, nullptr);
  }

  // Some gradients are one multiple, the others right: the mean or sum was done for some only.
  void groups_of_factors() {
    std::vector<const JudgedGradient*> group;
    for (const JudgedGradient* g : wrong_) {
      if (g->state != State::kWrong || g->residual > kAlike) continue;
      if (group.empty() || std::fabs(g->factor / group.front()->factor - 1) < 0.01) {
        group.push_back(g);
      }
    }
    if (group.empty() || std::fabs(group.front()->factor - 1) < 0.02) return;
    const double simple = simplest(group.front()->factor);
    for (const JudgedGradient& g :
         compare_gradients(scene_.step, scene_.config, scene_.truth, simple)) {
      const bool in = std::any_of(group.begin(), group.end(),
                                  [&](const JudgedGradient* m) { return m->name == g.name; });
      if (in && g.state == State::kWrong) return;
    }
    std::vector<std::string> names;
    for (const JudgedGradient* g : group) names.push_back(g->name);
    Finding f = finding(names[0], Confidence::kExact);
    f.message = count_of_names(names.size(), "gradient") + (names.size() == 1 ? " is " : " are ") +
                number(simple) + " times the reference's, the others are not: " +
                "summed over ranks or uses of a shared parameter where it is once, or the reverse";
    f.evidence = {{"factor", number(simple)}, {"parameters", json_list(names)}};
    f.fix = "reduce each gradient over the ranks that hold a copy, once";
    found_.push_back(std::move(f));
    std::erase_if(wrong_, [&](const JudgedGradient* g) {
      return std::find(group.begin(), group.end(), g) != group.end();
    });
  }

  // At the last op of the forward pass whose gradient is wrong: backwards, it is the first.
  void unexplained() {
    if (wrong_.empty()) return;
    const auto place = [&](const JudgedGradient& g) {
      for (std::size_t i = ops_.size(); i-- > 0;) {
        const auto& w = ops_[i].weights;
        if (ops_[i].point == g.name || std::find(w.begin(), w.end(), g.name) != w.end()) {
          return static_cast<std::int64_t>(i);
        }
      }
      return std::int64_t{-1};
    };
    const JudgedGradient* worst = wrong_.front();
    for (const JudgedGradient* g : wrong_) {
      if (place(*g) > place(*worst)) worst = g;
    }
    Finding f = finding(worst->name, Confidence::kUnnamed);
    f.id = "unnamed";
    f.fault_class = "gradient";
    const std::int64_t at = place(*worst);
    if (at >= 0) f.where = ops_[static_cast<std::size_t>(at)].point;
    f.message = worst->state == State::kShape ? "this gradient has another shape than its parameter"
                : worst->state == State::kZero
                    ? "this gradient is all zero, and the reference's is not"
                    : "this gradient is wrong: its error is " + number(worst->ratio) +
                          " times what rounding explains (relative " + number(worst->rel_l2) +
                          "); going backwards it is the first of " +
                          count_of_names(wrong_.size(), "wrong gradient");
    f.evidence = {{"ratio", std::isfinite(worst->ratio) ? number(worst->ratio) : "null"},
                  {"factor", number(worst->factor)},
                  {"cosine", number(worst->cosine)}};
    f.fix = "look at the backward of the ops behind " + (f.where.empty() ? f.point : f.where);
    found_.push_back(std::move(f));
  }

  const GradientScene& scene_;
  const std::vector<JudgedGradient>& judged_;
  std::vector<OpInfo> ops_;
  Names missing_, zero_;
  std::vector<const JudgedGradient*> wrong_;
  std::vector<Finding> found_;
  std::string also_cut_;
  bool cut_found_ = false;
};

}  // namespace

std::vector<Finding> gradient_causes(const GradientScene& scene,
                                     const std::vector<JudgedGradient>& judged) {
  return Causes(scene, judged).find();
}

}  // namespace ps
