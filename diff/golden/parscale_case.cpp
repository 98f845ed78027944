#include "diff/golden/parscale_case.h"

#include <cmath>
#include <cstdio>
#include <map>
#include <set>

#include <nlohmann/json.hpp>

#include "core/file.h"
#include "core/json.h"
#include "core/points.h"
#include "core/trace.h"
#include "diff/compare/closeness.h"
#include "diff/isolate/ignore.h"

namespace ps {

namespace fs = std::filesystem;

namespace {

// How close a run has to come. Relative to the largest magnitude of the expected tensor; where
// `l2` is set, relative in the L2 norm as well.
struct Tolerance {
  double of_scale = 0;
  double l2 = HUGE_VAL;
  double scores = 0;  // of generated sequences: transformers sums them in float32
};

// Measured: two independent float64 runs differ by less than 1e-14, float32 from float64 by 2e-6.
constexpr Tolerance kFloat64{1e-12, HUGE_VAL, 1e-7};
constexpr Tolerance kFloat32{1e-5, HUGE_VAL, 1e-5};

// tensor-parallel.md section 4: rms 3u sqrt(layers+1), single cells eight times that.
Tolerance sixteen_bit(DType dtype, std::int64_t layers) {
  const double l2 = 3.0 * unit_roundoff(dtype) * std::sqrt(static_cast<double>(layers + 1));
  return {8 * l2, l2, 8 * l2};
}

Tolerance tolerance_of(DType dtype, std::int64_t layers) {
  if (dtype == DType::kF64) return kFloat64;
  if (dtype == DType::kF32) return kFloat32;
  return sixteen_bit(dtype, layers);
}

struct CaseMeta {
  Json json;
  DType dtype = DType::kF32;
  bool opened = false;  // rows without a key were opened before the prefix was added
};

Result<CaseMeta> read_meta(const fs::path& dir) {
  const fs::path path = dir / "meta.json";
  PS_TRY(const std::string text, read_text(path));
  CaseMeta meta;
  PS_TRY(meta.json, parse_json(text, path.string()));
  if (!meta.json.is(Json::Kind::kObject)) return bad_input(path.string(), "not a JSON object");
  if (const Json* name = meta.json.find("dtype"); name != nullptr) {
    const auto dtype = dtype_from_torch(name->text);
    if (!dtype) {
      return bad_input(path.string() + "/dtype", "not a type", "\"float32\"", name->brief());
    }
    meta.dtype = *dtype;
  }
  if (const Json* opened = meta.json.find("cuda_unmask"); opened != nullptr) {
    meta.opened = opened->boolean;
  }
  return meta;
}

// `value` in doubles, with the expected numbers where `mask` (of the same axes, sizes or 1) is set.
Tensor with_ignored_as_expected(const TensorView& value, const TensorView& expected,
                                const Tensor& mask) {
  Tensor out(DType::kF64, value.shape);
  const auto mask_cells = mask.view().as<std::uint8_t>();
  for (std::int64_t i = 0; i < value.count(); ++i) {
    std::int64_t rest = i, at = 0, stride = 1;
    for (std::size_t axis = value.shape.size(); axis-- > 0;) {
      const std::int64_t index = rest % value.shape[axis];
      rest /= value.shape[axis];
      at += mask.shape()[axis] == 1 ? 0 : index * stride;
      stride *= mask.shape()[axis];
    }
    const bool ignored = mask_cells[static_cast<std::size_t>(at)] != 0;
    out.as<double>()[static_cast<std::size_t>(i)] = value_at(ignored ? expected : value, i);
  }
  return out;
}

// Compares every point of a step with what the trace has, and remembers which points came.
class Judge final : public Tap {
 public:
  // `ignore`: cells that only a convention decides (padding, rows without a key), for engines whose
  // convention is not the producer's.
  Judge(const TraceStep& step, const Tolerance& tolerance, const std::string& where,
        std::optional<IgnoreRules> ignore)
      : step_(step), tolerance_(tolerance), where_(where), ignore_(std::move(ignore)) {}

  bool wants(std::string_view point) override {
    return point == "lm_head" || step_.tensors->find(point) != nullptr;
  }
  void take(std::string_view point, const TensorView& value) override {
    if (point == "lm_head") logits_ = Tensor::copy_of(value);
    const TensorView* expected = step_.tensors->find(point);
    if (expected == nullptr) return;
    seen_.insert(std::string(point));
    if (failure_) return;
    const auto mask = ignore_ && value.shape == expected->shape
                          ? ignore_->mask_for(point, value.shape)
                          : std::nullopt;
    if (!mask) return check(point, value, *expected);
    const Tensor judged = with_ignored_as_expected(value, *expected, *mask);
    check(point, judged.view(), *expected);
  }

  // The first wrong point, or the first expected one that was never computed.
  Result<void> verdict() {
    if (failure_) return *failure_;
    for (const auto& entry : step_.tensors->entries()) {
      const bool input = entry.name == "input_ids" || entry.name == "attention_mask" ||
                         entry.name == "position_ids";
      if (!input && !seen_.contains(entry.name)) {
        return bad_input(where_, "expects " + entry.name + ", which this run does not compute");
      }
    }
    return {};
  }
  const Tensor& logits() const { return logits_; }
  double worst() const { return worst_; }
  std::int64_t points() const { return static_cast<std::int64_t>(seen_.size()); }
  std::int64_t cells() const { return cells_; }

 private:
  void check(std::string_view point, const TensorView& value, const TensorView& expected) {
    const Closeness c = compare(value, expected);
    const std::string name(point);
    if (!c.same_shape) {
      failure_ = bad_input(where_, name + " has another shape", to_string(expected.shape),
                           to_string(value.shape));
      return;
    }
    cells_ += c.compared;
    const bool exact = !is_floating(expected.dtype);
    const bool close = exact ? c.max_abs == 0 && c.class_mismatches == 0
                             : c.within(tolerance_.of_scale) && c.rel_l2 <= tolerance_.l2;
    if (c.scale > 0 && !exact) worst_ = std::max(worst_, c.max_abs / c.scale);
    if (close) return;
    char text[160];
    if (c.within(tolerance_.of_scale)) {
      std::snprintf(text, sizeof text, "%.3g in the L2 norm, allowed %.3g; worst cell ", c.rel_l2,
                    tolerance_.l2);
    } else {
      std::snprintf(text, sizeof text, "%.3g of the tensor's scale, allowed %.3g; worst cell ",
                    c.scale > 0 ? c.max_abs / c.scale : HUGE_VAL, tolerance_.of_scale);
    }
    failure_ =
        bad_input(where_, name + " is off by " + text +
                              cell_text(value, expected, std::max<std::int64_t>(c.worst, 0)));
  }

  const TraceStep& step_;
  Tolerance tolerance_;
  std::string where_;
  std::optional<IgnoreRules> ignore_;
  std::set<std::string> seen_;
  std::optional<Error> failure_;
  Tensor logits_;
  double worst_ = 0;
  std::int64_t cells_ = 0;
};

Result<void> check_generated(Engine& engine, const TraceStep& step, const StepInputs& inputs,
                             const Tolerance& tolerance, const std::string& where) {
  PS_TRY(const Generated got, engine.generate(inputs, step.num_beams, step.max_new_tokens));
  if (const TensorView* sequences = step.tensors->find("sequences"); sequences != nullptr) {
    const Tensor mine =
        Tensor::of<std::int64_t>(DType::kI64, {got.batch, got.length}, got.sequences);
    const Closeness c = compare(mine.view(), *sequences);
    if (!c.same_shape || c.max_abs != 0) {
      return bad_input(
          where, "other sequences were generated", to_string(sequences->shape),
          c.same_shape ? cell_text(mine.view(), *sequences, c.worst) : to_string(mine.shape()));
    }
  }
  const TensorView* scores = step.tensors->find("sequences_scores");
  if (scores == nullptr) return {};
  const Tensor mine_scores =
      Tensor::of<double>(DType::kF64, {static_cast<std::int64_t>(got.scores.size())}, got.scores);
  const Closeness s = compare(mine_scores.view(), *scores);
  if (!s.within(tolerance.scores)) {
    return bad_input(where, "sequences_scores differ: " +
                                (s.same_shape ? cell_text(mine_scores.view(), *scores,
                                                          std::max<std::int64_t>(s.worst, 0))
                                              : to_string(mine_scores.shape())));
  }
  return {};
}

// A step that says it is greedy continues with the largest logit of the step before.
Result<void> check_greedy(const StepInputs& inputs, const Tensor& logits,
                          const std::string& where) {
  if (logits.shape().size() != 3 || inputs.length != 1) {
    return bad_input(where, "a greedy step follows a forward step and has one token a row");
  }
  const TensorView view = logits.view();
  const std::int64_t length = view.shape[1], vocab = view.shape[2];
  for (std::int64_t b = 0; b < inputs.batch; ++b) {
    const std::int64_t row = (b * length + length - 1) * vocab;
    std::int64_t best = 0;
    for (std::int64_t v = 1; v < vocab; ++v) {
      if (value_at(view, row + v) > value_at(view, row + best)) best = v;
    }
    const std::int64_t given = inputs.input_ids[static_cast<std::size_t>(b)];
    if (given != best) {
      return bad_input(where, "input_ids of a greedy step are not the largest logits before",
                       std::to_string(best), std::to_string(given));
    }
  }
  return {};
}

// meta.json's facts on a forward step that follow from the config.
Result<void> check_step_meta(const CaseMeta& meta, const ModelConfig& config, const TraceStep& step,
                             const StepInputs& inputs, std::int64_t past,
                             const std::string& where) {
  const Json* steps = meta.json.find("steps");
  if (steps == nullptr || !steps->is(Json::Kind::kArray)) return {};
  for (const Json& entry : steps->items) {
    const Json* number = entry.find("step");
    if (number == nullptr || !number->is(Json::Kind::kInteger) || number->integer != step.step) {
      continue;
    }
    const std::map<std::string, double> facts = {
        {"softmax_scale", 1.0 / std::sqrt(static_cast<double>(config.head_dim))},
        {"get_seq_length", static_cast<double>(past + inputs.length)},
        {"cache_len_physical", static_cast<double>(config.prefix_tokens + past + inputs.length)},
    };
    for (const auto& [name, value] : facts) {
      const Json* fact = entry.find(name);
      if (fact == nullptr) continue;
      const bool is_number = fact->is(Json::Kind::kInteger) || fact->is(Json::Kind::kNumber);
      if (!is_number || std::fabs(fact->number - value) > 1e-12 * std::fabs(value)) {
        return bad_input(where, "meta.json: " + name, std::to_string(value), fact->brief());
      }
    }
  }
  return {};
}

struct RunResult {
  std::int64_t points = 0;
  std::int64_t cells = 0;
  std::int64_t empty_rows = 0;
  double worst = 0;
};

// Query rows that no key is visible to, where the trace has the mask.
std::int64_t count_empty_rows(const TraceStep& step) {
  const TensorView* mask = step.tensors->find("model:mask");
  if (mask == nullptr || mask->shape.empty() || mask->shape.back() == 0) return 0;
  const std::int64_t width = mask->shape.back(), rows = mask->count() / width;
  const auto cells = mask->as<std::uint8_t>();
  std::int64_t empty = 0;
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto row =
        cells.subspan(static_cast<std::size_t>(r * width), static_cast<std::size_t>(width));
    empty += std::all_of(row.begin(), row.end(), [](std::uint8_t c) { return c == 0; }) ? 1 : 0;
  }
  return empty;
}

Result<RunResult> run_trace(const Model& model, const CaseMeta& meta, const Trace& trace,
                            const GoldenOptions& options, DType dtype, const std::string& label) {
  EngineOptions engine_options;
  engine_options.dtype = dtype;
  engine_options.empty_rows = meta.opened ? EmptyRows::kOpened : EmptyRows::kUniform;
  PS_TRY(std::unique_ptr<Engine> engine, options.open(model, engine_options));
  Tolerance tolerance = tolerance_of(dtype, model.config.layers);
  if (unit_roundoff(dtype) > unit_roundoff(meta.dtype)) {
    // The weights are rounded too, and what is expected was computed from weights that were not.
    tolerance.of_scale *= 2;
    tolerance.l2 *= 2;
  }
  RunResult out;
  Tensor logits;
  for (const TraceStep& step : trace.steps()) {
    const std::string where = label + " step " + std::to_string(step.step);
    if (step.op == StepOp::kReorderCache) {
      Judge judge(step, tolerance, where, std::nullopt);
      PS_TRY_VOID(engine->reorder_cache(step.beam_idx, judge));
      PS_TRY_VOID(judge.verdict());
      out.points += judge.points();
      out.cells += judge.cells();
      continue;
    }
    const std::int64_t past = step.op == StepOp::kGenerate ? 0 : engine->past();
    PS_TRY(const StepInputs inputs, step_inputs(step, past));
    if (step.op == StepOp::kGenerate) {
      PS_TRY_VOID(check_generated(*engine, step, inputs, tolerance, where));
      out.points += 2;
      continue;
    }
    PS_TRY_VOID(check_step_meta(meta, model.config, step, inputs, past, where));
    if (step.greedy) PS_TRY_VOID(check_greedy(inputs, logits, where));
    std::optional<IgnoreRules> ignore;
    if (!options.is_reference) ignore.emplace(model.config, inputs, past);
    Judge judge(step, tolerance, where, std::move(ignore));
    PS_TRY_VOID(engine->forward(inputs, judge));
    PS_TRY_VOID(judge.verdict());
    logits = judge.logits();
    out.points += judge.points();
    out.cells += judge.cells();
    out.worst = std::max(out.worst, judge.worst());
    out.empty_rows += count_empty_rows(step);
  }
  return out;
}

// The config that a trace carries is the case's own.
Result<void> same_config(const Trace& trace, const ModelConfig& config, const std::string& label) {
  if (trace.manifest().model_json.empty()) return {};
  // Both texts went through core's parser, which bounds their nesting; nlohmann compares numbers
  // as numbers and objects without their order.
  const auto a = nlohmann::json::parse(trace.manifest().model_json, nullptr, false);
  const auto b = nlohmann::json::parse(config.json, nullptr, false);
  if (a == b) return {};
  for (const auto& [name, value] : b.items()) {
    if (!a.contains(name) || a[name] != value) {
      return bad_input(label + "/trace.json/model/" + name, "differs from config.json",
                       value.dump(), a.contains(name) ? a[name].dump() : "nothing");
    }
  }
  return bad_input(label + "/trace.json/model", "has fields that config.json lacks");
}

std::string brief(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2g", x);
  return text;
}

}  // namespace

Result<std::string> verify_parscale_case(const fs::path& dir, const GoldenOptions& options) {
  PS_TRY(const Model model, open_model(dir));
  PS_TRY(const CaseMeta meta, read_meta(dir));
  PS_TRY(const Trace exact, Trace::open(dir / "expected-f64"));
  PS_TRY_VOID(same_config(exact, model.config, "expected-f64"));
  std::string message;
  const auto note = [&](const char* against, DType dtype, const RunResult& r) {
    if (!message.empty()) message += "; ";
    message += std::string(short_name(dtype)) + " against " + against + ": " +
               std::to_string(r.points) + " points, worst " + brief(r.worst);
    if (r.empty_rows > 0) message += ", " + std::to_string(r.empty_rows) + " rows without a key";
  };
  if (options.is_reference) {
    PS_TRY(const RunResult f64,
           run_trace(model, meta, exact, options, DType::kF64, "expected-f64"));
    note("float64", DType::kF64, f64);
    std::error_code ec;
    if (!fs::exists(dir / "expected", ec)) return message;
    PS_TRY(const Trace own, Trace::open(dir / "expected"));
    PS_TRY_VOID(same_config(own, model.config, "expected"));
    if (own.manifest().dtype && *own.manifest().dtype != meta.dtype) {
      return bad_input("expected/trace.json/dtype", "differs from meta.json",
                       std::string(torch_name(meta.dtype)),
                       std::string(torch_name(*own.manifest().dtype)));
    }
    // What the producer stored in its own type is held to that type's rounding; float32 runs of
    // 16-bit cases would prove nothing more.
    PS_TRY(const RunResult same, run_trace(model, meta, own, options, meta.dtype, "expected"));
    note("the producer's own", meta.dtype, same);
    if (meta.dtype != DType::kF32) {
      PS_TRY(const RunResult rounded,
             run_trace(model, meta, exact, options, meta.dtype, "expected-f64"));
      note("float64", meta.dtype, rounded);
    }
    return message;
  }
  std::vector<DType> dtypes = options.dtypes;
  if (dtypes.empty()) dtypes.push_back(meta.dtype);
  for (const DType dtype : dtypes) {
    PS_TRY(const RunResult r, run_trace(model, meta, exact, options, dtype, "expected-f64"));
    note("float64", dtype, r);
  }
  return message;
}

}  // namespace ps
