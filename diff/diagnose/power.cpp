#include "diff/diagnose/power.h"

#include <algorithm>
#include <array>
#include <chrono>

#include "core/points.h"

namespace ps {

namespace {

// Faults whose numbers nobody can know beforehand: whatever they are, they are not the right ones,
// so each is seen wherever the op that it spoils was looked at.
struct AnyNumbers {
  std::string_view id, kind, suffix;
};
constexpr std::array kAnyNumbers = {
    AnyNumbers{"attention-dropout-in-eval", "probs", ""},
    AnyNumbers{"weights-prefix-uninitialised", "cache_append", ""},
    AnyNumbers{"weights-k-bias-uninitialised", "linear", ".k_proj"},
    AnyNumbers{"weights-dtype-scale-dropped", "linear", ""},
    AnyNumbers{"shard-quant-scale-wrong-slice", "linear", ""},
    AnyNumbers{"layer-skip-last", "residual", ""},  // its points would be missing
    AnyNumbers{"weights-vocab-padding-wins", "linear", "lm_head"},
    AnyNumbers{"weights-lm-head-missing-or-untied", "linear", "lm_head"},
};

// Instances of an op that are looked at in one kind of step: the first layers differ in what they
// are (sliding or not, with cross-replica attention or without), deeper ones repeat them.
constexpr int kInstances = 3;
// A large model's replays take long, and nobody asked for them: what is left after this is said to
// be untried.
constexpr double kSeconds = 20;
constexpr std::int64_t kLargeMatrix = std::int64_t{1} << 25;  // weights; 256 MiB in float64
constexpr std::int64_t kLargeVocabulary = 32768;

// Places that are alike: the same op of all layers, in the same kind of step.
std::string place_of_op(const OpInfo& op, std::int64_t past) {
  const std::optional<PointRef> ref = find_point(op.point);
  std::string place(ref ? ref->spec->name : op.point);
  if (past > 0) place += "+past";
  for (const std::string& input : op.inputs) {
    if (input.starts_with("model:mask")) place += input;
  }
  return place;
}

}  // namespace

PowerMeter::PowerMeter(std::vector<FaultInfo> applicable, const ModelConfig& config)
    : faults_(std::move(applicable)),
      large_(config.hidden_size * config.intermediate_size > kLargeMatrix) {
  for (const FaultInfo& fault : faults_) unseen_.emplace(fault.id);
  unseen_.emplace("cache-beam-reorder-skipped");
}

bool PowerMeter::seen_by_kind(const std::string& id, const JudgedPoint& point) const {
  if (id == "cache-stale-block-or-hash") {  // another request's rows must be there to be confused
    return point.op.kind == "cache_append" && point.candidate.shape[0] > 1;
  }
  return std::any_of(kAnyNumbers.begin(), kAnyNumbers.end(), [&](const AnyNumbers& any) {
    return any.id == id && any.kind == point.op.kind && point.op.point.ends_with(any.suffix);
  });
}

void PowerMeter::watch(const JudgedPoint& point) {
  const std::set<std::string> before = unseen_;
  news_ = {place_of_op(point.op, point.past), {}, 0, false};
  ++places_[news_.place].judged;
  look(point);
  for (const std::string& id : before) {
    if (unseen_.contains(id)) continue;
    news_.seen.push_back(id);
    seen_at_[id] = news_.place;
  }
  news_.seconds = seconds_;
  news_.exhausted = exhausted_;
}

void PowerMeter::take_over(const PowerNews& news) {
  ++places_[news.place].judged;
  ++looked_[news.place];
  for (const std::string& id : news.seen) {
    unseen_.erase(id);
    seen_at_[id] = news.place;
  }
  seconds_ = news.seconds;
  exhausted_ = news.exhausted;
}

void PowerMeter::left_out(const OpInfo& op, std::int64_t past) {
  ++places_[place_of_op(op, past)].left_out;
}

void PowerMeter::look(const JudgedPoint& point) {
  if (reordered_) unseen_.erase("cache-beam-reorder-skipped");
  if (++looked_[news_.place] > kInstances || unseen_.empty()) return;
  std::erase_if(unseen_, [&](const std::string& id) { return seen_by_kind(id, point); });
  const bool heavy =
      point.op.kind == "linear" && (large_ || point.candidate.shape.back() > kLargeVocabulary);
  if (seconds_ > kSeconds || heavy) {
    exhausted_ = true;
    return;
  }
  const auto start = std::chrono::steady_clock::now();
  SuspectOptions how;
  how.only.assign(unseen_.begin(), unseen_.end());
  how.solve = false;
  how.near_only = false;
  how.seconds = 5;
  const TensorView ignored = point.ignored ? point.ignored->view() : TensorView();
  if (point.ignored) how.ignored = ignored;
  const Result<void> done = point.reference.suspects(
      point.op.point, point.lookup, point.rounding, how, [&](const Suspect& suspect) {
        const std::string id(suspect.fault.id);
        if (!unseen_.contains(id)) return true;
        const bool fits = suspect.replayed->value.shape() == point.candidate.shape;
        if (fits) {
          // Seen if this op's own bound does not cover the difference.
          CompareOptions compared;
          compared.bound = BoundSpec::per_cell(point.expected.bound.view());
          compared.ignore = point.ignored ? &ignored : nullptr;
          const Comparison c =
              compare(suspect.replayed->value.view(), point.expected.value.view(), compared);
          if (c.ok()) return true;
        }
        unseen_.erase(id);
        return !unseen_.empty();
      });
  (void)done;  // what cannot be replayed here stays unseen
  seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::vector<BlindSpot> PowerMeter::blind_spots() const {
  std::vector<BlindSpot> out;
  for (const FaultInfo& fault : faults_) {
    if (unseen_.contains(std::string(fault.id))) {
      const std::string why(fault.blind);
      out.push_back({std::string(fault.id), exhausted_ ? "not tried to the end: " + why : why});
    }
  }
  if (unseen_.contains("cache-beam-reorder-skipped")) {
    out.push_back({"cache-beam-reorder-skipped", "needs a beam step in which rows change places"});
  }
  for (const auto& [id, place] : seen_at_) {
    const Places& p = places_.at(place);
    if (p.left_out == 0) continue;
    out.push_back({id, "shows at " + place + ", of which the sample judged " +
                           std::to_string(p.judged) + " of " +
                           std::to_string(p.judged + p.left_out)});
  }
  return out;
}

double PowerMeter::power() const {
  const double all = static_cast<double>(faults_.size()) + 1.0;
  double missed = static_cast<double>(unseen_.size());
  for (const auto& [id, place] : seen_at_) missed += 1.0 - places_.at(place).share();
  return 1.0 - missed / all;
}

}  // namespace ps
