#include "diff/cli/zoo.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>

#include "diff/isolate/ignore.h"
#include "diff/isolate/lockstep.h"
#include "diff/run/inputs.h"
#include "diff/run/random_model.h"

namespace ps::cli {

namespace {

constexpr double kWeak = 4;     // round-offs
constexpr double kHuge = 1e30;  // another class of value, or a flipped bit of a mask

// Relative L2 of the change over cells that count, in round-offs of the type.
double strength_of(const TensorView& now, const TensorView& right,
                   const std::optional<Tensor>& ignored) {
  if (now.shape != right.shape || now.dtype != right.dtype) return kHuge;
  if (std::equal(now.bytes.begin(), now.bytes.end(), right.bytes.begin())) return 0;
  const std::int64_t count = now.count();
  double change = 0, size = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    if (ignored) {
      std::int64_t at = 0, left = i, step = 1;
      const Shape& shape = ignored->shape();
      for (std::size_t axis = shape.size(); axis-- > 0;) {
        const std::int64_t index = left % now.shape[axis];
        left /= now.shape[axis];
        if (shape[axis] != 1) at += index * step;
        step *= shape[axis];
      }
      if (value_at(ignored->view(), at) != 0) continue;
    }
    const double a = value_at(now, i), b = value_at(right, i);
    if (std::isnan(a) && std::isnan(b)) continue;
    if (a == b) continue;
    if (!is_floating(now.dtype) || !std::isfinite(a) || !std::isfinite(b)) return kHuge;
    change += (a - b) * (a - b);
  }
  for (std::int64_t i = 0; i < count; ++i) {
    const double b = value_at(right, i);
    if (std::isfinite(b)) size += b * b;
  }
  if (change == 0) return 0;
  return size == 0 ? kHuge : std::sqrt(change / size) / unit_roundoff(now.dtype);
}

using Point = std::pair<std::int64_t, std::string>;  // step and name

// Passes everything on, and looks at each point on the way.
class Watched final : public Engine {
 public:
  using Look = std::function<void(std::int64_t step, std::string_view point, const TensorView&,
                                  const IgnoreRules*)>;
  Watched(Engine& inner, const ModelConfig& config, Look look)
      : inner_(inner), config_(config), look_(std::move(look)) {}

  Result<void> forward(const StepInputs& inputs, Tap& tap) override {
    const IgnoreRules rules(config_, inputs, inner_.past());
    Through through{tap, *this, &rules};
    const Result<void> done = inner_.forward(inputs, through);
    ++step_;
    return done;
  }
  Result<void> reorder_cache(const std::vector<std::int64_t>& rows, Tap& tap) override {
    Through through{tap, *this, nullptr};
    const Result<void> done = inner_.reorder_cache(rows, through);
    ++step_;
    return done;
  }
  void reset() override {
    inner_.reset();
    step_ = 0;
  }
  std::int64_t past() const override { return inner_.past(); }
  Result<Generated> generate(const StepInputs& prompt, std::int64_t beams,
                             std::int64_t tokens) override {
    return inner_.generate(prompt, beams, tokens);
  }

 private:
  struct Through final : Tap {
    Through(Tap& t, Watched& w, const IgnoreRules* r) : tap(t), watched(w), rules(r) {}
    bool wants(std::string_view) override { return true; }
    void take(std::string_view point, const TensorView& value) override {
      watched.look_(watched.step_, point, value, rules);
      if (tap.wants(point)) tap.take(point, value);
    }
    Tap& tap;
    Watched& watched;
    const IgnoreRules* rules;
  };
  Engine& inner_;
  const ModelConfig& config_;
  Look look_;
  std::int64_t step_ = 0;
};

std::string words_of(std::int64_t step, std::string_view point) {
  return "step " + std::to_string(step) + " " + std::string(point);
}

}  // namespace

struct ZooCage::Values {
  std::map<Point, Tensor> right;
};

Result<ZooSubject> zoo_subject(std::uint64_t seed, std::uint64_t index, DType dtype,
                               const std::filesystem::path& dir) {
  constexpr const char* kFamilies[] = {
      "qwen2_parscale", "qwen3", "parscale_cross_attn", "llama",
      "parscale_base",  "qwen2", "qwen2_parscale",      "parscale_cross_kv"};
  Draw draw(seed, index);
  const std::string family = kFamilies[index / 2 % std::size(kFamilies)];
  const std::string config = random_config(draw, {.family = family, .revealing = true});
  ZooSubject out;
  out.dtype = dtype;
  PS_TRY(out.model, write_random_model(dir, config, seed * 1000003 + index));
  const std::int64_t batch = draw.from(2, 3), length = draw.from(9, 13);
  out.plan.prompt = random_inputs(batch, length, seed + index, out.model.config);
  out.plan.decode_steps = 3;
  out.plan.chunk = draw.chance(50) ? draw.from(4, length - 2) : 0;
  out.plan.beams = draw.chance(35) ? 2 : 1;
  const ModelConfig& c = out.model.config;
  out.words = family + " in " + std::string(short_name(dtype)) + ", " + std::to_string(c.layers) +
              " layers, " + std::to_string(c.heads) + "/" + std::to_string(c.kv_heads) +
              " heads of " + std::to_string(c.head_dim) + ", P=" + std::to_string(c.replicas) +
              " T=" + std::to_string(c.prefix_tokens) + ", " + std::to_string(batch) + "x" +
              std::to_string(length) + " chunk " + std::to_string(out.plan.chunk) + " beams " +
              std::to_string(out.plan.beams);
  return out;
}

Result<Report> ZooCage::report(const std::optional<PlantChoice>& plant, ZooRow& row) const {
  CandidateOptions options;
  options.dtype = subject_.dtype;
  options.device = Device::kHost;
  options.threads = 1;  // tensors of this size are not worth a second one
  options.plant = plant;
  PS_TRY(const std::unique_ptr<Engine> candidate, open_candidate(subject_.model, options));
  ReferenceOptions truth;
  truth.dtype = DType::kF64;
  truth.weights_through = subject_.dtype;
  truth.threads = 1;
  PS_TRY(const std::unique_ptr<Reference> reference, open_reference(subject_.model, truth));
  bool changed = false;
  Watched watched(*candidate, subject_.model.config,
                  [&](std::int64_t step, std::string_view point, const TensorView& value,
                      const IgnoreRules* rules) {
                    const Point key{step, std::string(point)};
                    if (!plant) values_->right.insert_or_assign(key, Tensor::copy_of(value));
                    const auto it = values_->right.find(key);
                    // A point that the right run lacks is no place; what is built on it is.
                    if (changed || it == values_->right.end()) return;
                    const auto ignored =
                        rules != nullptr ? rules->mask_for(point, value.shape) : std::nullopt;
                    const double strength = strength_of(value, it->second.view(), ignored);
                    if (row.strength == 0) row.strength = strength;
                    if (strength >= kWeak) {
                      changed = true;
                      row.truth = words_of(step, point);
                      return;
                    }
                    // Rounding alone, or cells that nobody compares: perhaps more comes of it.
                    if (row.born.empty() && strength_of(value, it->second.view(), {}) > 0)
                      row.born = words_of(step, point);
                  });
  LockstepOptions how;
  how.run = subject_.dtype;
  how.measure_power = false;
  return lockstep(watched, *reference, subject_.model.config, subject_.plan, how);
}

Result<ZooCage> ZooCage::open(ZooSubject subject) {
  ZooCage cage(std::move(subject));
  cage.values_ = std::make_shared<Values>();
  cage.clean_.plant = {"clean", "", PlantSort::kBenign};
  PS_TRY(cage.clean_, cage.run(cage.clean_.plant, 0));
  return cage;
}

Result<ZooRow> ZooCage::run(const PlantInfo& plant, std::uint64_t seed) const {
  ZooRow row;
  row.plant = plant;
  row.dtype = subject_.dtype;
  std::optional<PlantChoice> choice;
  if (plant.id != "clean") {
    choice = PlantChoice{std::string(plant.id), seed};
    const Result<std::string> words = plant_fits(subject_.model, subject_.dtype, *choice);
    if (!words.ok()) return row;
    row.words = words.value();
  }
  const auto start = std::chrono::steady_clock::now();
  const Result<Report> checked = this->report(choice, row);
  row.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (!checked.ok()) {
    if (!choice) return checked.error();
    row.found = "error: " + checked.error().line();  // a check that gives up has found nothing
    row.verdict = ZooVerdict::kShown;
    return row;
  }
  const Report& report = *checked;
  row.detected = report.verdict != Verdict::kEquivalent;
  if (report.first_divergence) {
    row.point = words_of(report.first_divergence->step, report.first_divergence->point);
  }
  std::string confusable;
  for (const Finding& f : report.findings) {
    if (f.severity != Severity::kError) continue;
    row.detected = true;
    if (!row.found.empty()) continue;
    row.found = f.id;
    row.message = f.message;
    for (const auto& [name, value] : f.evidence) {
      if (name == "confusable") confusable = value;
      if (name == "nearest") row.message += "; nearest " + value;
    }
  }
  row.located = row.detected && (row.point == row.truth || row.point == row.born);
  row.named = row.found == plant.id;
  row.listed =
      !row.named && confusable.find("\"" + std::string(plant.id) + "\"") != std::string::npos;
  row.misnamed = !row.found.empty() && row.found != "unnamed" && !row.named && !row.listed;
  row.verdict = row.truth.empty() && row.born.empty()   ? ZooVerdict::kSilent
                : row.strength < kWeak && !row.detected ? ZooVerdict::kWeak
                                                        : ZooVerdict::kShown;
  return row;
}

}  // namespace ps::cli
