// The candidate against every golden case: the steps of the trace are run from their own inputs,
// and every stored point is compared with expected-f64 (expected where a point stands only there).
//   f32:          |error| <= 1e-5 of the tensor's largest value (parscale.md: fp32 runs reach
//   2e-6); bf16, f16:    kCoarse unit round-offs of the largest value. A few layers of width 32
//   lose a few
//                 bits each; the derived bounds are diff/'s, this catches what is plainly wrong.
// Rows without a key follow the case (uniform or opened), and are ignored where the engine gives
// zeros.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include <gtest/gtest.h>

#include "core/file.h"
#include "core/points.h"
#include "core/trace.h"
#include "model/block/checked_block.h"
#include "model/block/launch.h"
#include "model/candidate.h"
#include "tests/support/paths.h"

namespace ps {
namespace {

namespace fs = std::filesystem;

constexpr double kFloatBound = 1e-5;
constexpr double kCoarse = 24;

fs::path golden_dir() { return fs::path(source_dir()) / "fixtures/golden/parscale"; }

std::vector<std::string> golden_cases() {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(golden_dir(), ignored))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

class Recorder final : public Tap {
 public:
  explicit Recorder(std::string only = "") : only_(std::move(only)) {}
  bool wants(std::string_view point) override { return only_.empty() || point == only_; }
  void take(std::string_view point, const TensorView& value) override {
    EXPECT_TRUE(points.emplace(point, Tensor::copy_of(value)).second) << point << " twice";
    order.emplace_back(point);
  }
  std::map<std::string, Tensor, std::less<>> points;
  std::vector<std::string> order;

 private:
  std::string only_;
};

// Tokens of a sample whose query sees no key: [batch, place].
using EmptyTokens = std::map<std::int64_t, std::vector<std::int64_t>>;

struct GoldenCase {
  explicit GoldenCase(const std::string& name) : dir(golden_dir() / name) {
    auto opened = open_model(dir);
    EXPECT_TRUE(opened.ok()) << opened.error().line();
    model = std::move(opened).value();
    auto truth_trace = Trace::open(dir / "expected-f64");
    auto own_trace = Trace::open(dir / "expected");
    EXPECT_TRUE(truth_trace.ok() && own_trace.ok());
    truth = std::move(truth_trace).value();
    own = std::move(own_trace).value();
    const auto meta = read_text(dir / "meta.json");
    EXPECT_TRUE(meta.ok());
    opens_rows = meta->find("\"cuda_unmask\": true") != std::string::npos;
  }
  std::unique_ptr<Engine> open(DType dtype, EmptyRows empty, int threads = 0,
                               const Launch* launch = nullptr) const {
    CandidateOptions options;
    options.dtype = dtype;
    options.empty_rows = empty;
    options.threads = threads;
    options.device = Device::kHost;
    options.host_launch = launch;
    auto engine = open_candidate(model, options);
    EXPECT_TRUE(engine.ok()) << engine.error().line();
    return std::move(engine).value();
  }
  EmptyRows convention() const { return opens_rows ? EmptyRows::kOpened : EmptyRows::kUniform; }

  fs::path dir;
  Model model;
  Trace truth, own;
  bool opens_rows = false;
};

// Is cell `flat` of a point part of a row that saw no key, or the cache slot of such a token?
class Ignored {
 public:
  Ignored(const ModelConfig& config, const StepSizes& sizes, const EmptyTokens& empty)
      : config_(config), sizes_(sizes), empty_(empty) {}
  bool at(const std::string& point, const Shape& shape, std::int64_t flat) const {
    if (empty_.empty()) return false;
    const auto ref = find_point(point);
    if (!ref) return false;
    std::vector<std::string> axes(1);
    for (const char c : ref->spec->axes) c == ',' ? axes.emplace_back() : axes.back() += c;
    const bool cache = point.ends_with("_cache");
    std::int64_t sample = -1, place = -1;
    for (std::size_t axis = shape.size(); axis-- > 0;) {
      const std::int64_t i = flat % shape[axis];
      flat /= shape[axis];
      if (axis == 0 &&
          (axes[0].find('R') != std::string::npos || axes[0].find('B') != std::string::npos))
        sample = i % sizes_.batch;
      if (axes[axis].find('S') != std::string::npos) place = sizes_.past + i;
      if (cache && axes[axis] == "C") place = i - (shape[axis] - sizes_.past - sizes_.length);
    }
    const auto row = empty_.find(sample);
    return row != empty_.end() &&
           std::find(row->second.begin(), row->second.end(), place) != row->second.end();
  }

 private:
  const ModelConfig& config_;
  StepSizes sizes_;
  const EmptyTokens& empty_;
};

struct Compared {
  int points = 0;
  double worst = 0;  // error / (bound * scale)
  std::string worst_point;
};

void compare(const GoldenCase& golden, const TraceStep& step, const Recorder& got, double bound,
             const Ignored& ignored, Compared& result) {
  const auto check = [&](const SafetensorsFile::Entry& entry) {
    static const std::vector<std::string> kInputs{"input_ids", "attention_mask", "position_ids",
                                                  "sequences", "sequences_scores"};
    if (std::find(kInputs.begin(), kInputs.end(), entry.name) != kInputs.end()) return;
    const auto found = got.points.find(entry.name);
    ASSERT_TRUE(found != got.points.end())
        << "step " << step.step << ": the candidate did not write " << entry.name;
    const TensorView actual = found->second.view();
    ASSERT_EQ(actual.shape, entry.view.shape) << entry.name;
    double scale = 0, error = 0;
    for (std::int64_t i = 0; i < actual.count(); ++i) {
      if (ignored.at(entry.name, actual.shape, i)) continue;
      const double want = value_at(entry.view, i), have = value_at(actual, i);
      scale = std::max(scale, std::fabs(want));
      error = std::max(error, std::isfinite(have) ? std::fabs(want - have) : INFINITY);
    }
    const double ratio = error == 0 ? 0 : error / (bound * scale);
    EXPECT_LE(ratio, 1) << golden.dir.filename() << " step " << step.step << " " << entry.name
                        << ": error " << error << " at scale " << scale;
    if (ratio > result.worst) {
      result.worst = ratio;
      result.worst_point = entry.name;
    }
    ++result.points;
  };
  for (const auto& entry : step.tensors->entries()) check(entry);
  for (const TraceStep& other : golden.own.steps()) {
    if (other.step != step.step) continue;
    for (const auto& entry : other.tensors->entries()) {
      if (step.tensors->find(entry.name) == nullptr) check(entry);
    }
  }
}

// Tokens whose query sees no key in a mask [row, 1, query, col]; in cross-KV layers, query p*S + t.
void note_empty(const Recorder& got, const char* point, const StepSizes& sizes,
                EmptyTokens& empty) {
  const auto mask = got.points.find(point);
  if (mask == got.points.end()) return;
  const TensorView view = mask->second.view();
  const auto cols = static_cast<std::size_t>(view.shape[3]);
  for (std::int64_t i = 0; i < sizes.batch; ++i) {
    for (std::int64_t t = 0; t < sizes.length; ++t) {
      const auto row = view.as<std::uint8_t>().subspan(
          static_cast<std::size_t>(i * view.shape[2] + t) * cols, cols);
      if (std::none_of(row.begin(), row.end(), [](std::uint8_t on) { return on != 0; }))
        empty[i].push_back(sizes.past + t);
    }
  }
}

Compared run_case(const GoldenCase& golden, Engine& engine, double bound, EmptyRows rows,
                  bool generates) {
  Compared result;
  EmptyTokens empty;
  for (const TraceStep& step : golden.truth.steps()) {
    Recorder got;
    const StepSizes before{.batch = 0, .length = 0, .past = engine.past()};
    if (step.op == StepOp::kForward) {
      const auto inputs = step_inputs(step, engine.past());
      EXPECT_TRUE(inputs.ok()) << inputs.error().line();
      const auto ran = engine.forward(*inputs, got);
      EXPECT_TRUE(ran.ok()) << ran.error().line();
      const StepSizes sizes{.batch = inputs->batch, .length = inputs->length, .past = before.past};
      if (rows == EmptyRows::kZeros) {
        note_empty(got, "model:mask", sizes, empty);
        note_empty(got, "model:mask_cross_kv", sizes, empty);
      }
      compare(golden, step, got, bound, Ignored(golden.model.config, sizes, empty), result);
      if (!step.use_cache) engine.reset();
    } else if (step.op == StepOp::kReorderCache) {
      const auto ran = engine.reorder_cache(step.beam_idx, got);
      EXPECT_TRUE(ran.ok()) << ran.error().line();
      compare(golden, step, got, bound, Ignored(golden.model.config, before, empty), result);
    } else if (generates) {
      const auto inputs = step_inputs(step, 0);
      EXPECT_TRUE(inputs.ok()) << inputs.error().line();
      const auto out = engine.generate(*inputs, step.num_beams, step.max_new_tokens);
      EXPECT_TRUE(out.ok()) << out.error().line();
      const TraceStep& own = golden.own.steps()[static_cast<std::size_t>(step.step)];
      const TensorView* sequences = own.tensors->find("sequences");
      const TensorView* scores = step.tensors->find("sequences_scores");
      EXPECT_NE(sequences, nullptr);
      EXPECT_EQ(sequences->shape, (Shape{out->batch, out->length}));
      for (std::int64_t i = 0; i < sequences->count(); ++i)
        EXPECT_EQ(value_at(*sequences, i),
                  static_cast<double>(out->sequences[static_cast<std::size_t>(i)]))
            << i;
      for (std::int64_t i = 0; scores != nullptr && i < scores->count(); ++i)
        EXPECT_NEAR(value_at(*scores, i), out->scores[static_cast<std::size_t>(i)], 2e-6);
      ++result.points;
    }
  }
  return result;
}

class Golden : public testing::TestWithParam<std::string> {};

TEST_P(Golden, FloatRunStaysWithinOneInAHundredThousand) {
  const GoldenCase golden(GetParam());
  if (golden.truth.run_dtype() != DType::kF64 || golden.own.run_dtype() != DType::kF32)
    GTEST_SKIP() << "a bf16 case";
  const auto engine = golden.open(DType::kF32, golden.convention());
  const Compared result = run_case(golden, *engine, kFloatBound, golden.convention(), true);
  EXPECT_GT(result.points, 0);
  RecordProperty("worst", result.worst_point + " " + std::to_string(result.worst));
  if (std::getenv("PS_VERBOSE") != nullptr)
    printf("%s: %d points, worst %.3f of the bound at %s\n", GetParam().c_str(), result.points,
           result.worst, result.worst_point.c_str());
}

TEST_P(Golden, RowsWithoutAKeyAreZerosAndReachNobodyElse) {
  const GoldenCase golden(GetParam());
  if (golden.own.run_dtype() != DType::kF32) GTEST_SKIP() << "a bf16 case";
  if (golden.opens_rows) GTEST_SKIP() << "upstream opened rows that see nothing but the prefix";
  const auto engine = golden.open(DType::kF32, EmptyRows::kZeros);
  EXPECT_GT(run_case(golden, *engine, kFloatBound, EmptyRows::kZeros, false).points, 0);
}

TEST_P(Golden, HalfPrecisionStaysWithinACoarseBound) {
  const GoldenCase golden(GetParam());
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    const auto engine = golden.open(dtype, golden.convention());
    const Compared result =
        run_case(golden, *engine, kCoarse * unit_roundoff(dtype), golden.convention(), false);
    EXPECT_GT(result.points, 0);
    if (std::getenv("PS_VERBOSE") != nullptr)
      printf("%s %s: worst %.3f of the bound at %s\n", GetParam().c_str(),
             std::string(short_name(dtype)).c_str(), result.worst, result.worst_point.c_str());
  }
}

// Everything that a run writes, as bytes.
std::vector<std::pair<std::string, std::vector<std::byte>>> everything(const GoldenCase& golden,
                                                                       DType dtype, int threads,
                                                                       const Launch* launch) {
  const auto engine = golden.open(dtype, golden.convention(), threads, launch);
  std::vector<std::pair<std::string, std::vector<std::byte>>> all;
  for (const TraceStep& step : golden.truth.steps()) {
    Recorder got;
    if (step.op == StepOp::kForward) {
      EXPECT_TRUE(engine->forward(*step_inputs(step, engine->past()), got).ok());
      if (!step.use_cache) engine->reset();
    } else if (step.op == StepOp::kReorderCache) {
      EXPECT_TRUE(engine->reorder_cache(step.beam_idx, got).ok());
    }
    for (const std::string& point : got.order) {
      const TensorView view = got.points.find(point)->second.view();
      all.emplace_back(point, std::vector<std::byte>(view.bytes.begin(), view.bytes.end()));
    }
  }
  return all;
}

TEST_P(Golden, BitsDependOnNeitherThreadsNorTheirOrder) {
  const GoldenCase golden(GetParam());
  const auto once = everything(golden, DType::kF32, 1, nullptr);
  EXPECT_EQ(once, everything(golden, DType::kF32, 2, nullptr));
  EXPECT_EQ(once, everything(golden, DType::kF32, 3, nullptr));
  Launch shuffled;
  shuffled.runner = Launch::Runner::kPermuted;
  shuffled.seed = 71;
  EXPECT_EQ(once, everything(golden, DType::kF32, 2, &shuffled));
}

TEST_P(Golden, CheckedRunnerFindsNoRaceNoBoundNoUnsetRead) {
  const GoldenCase golden(GetParam());
  CheckLog log;
  Launch checked;
  checked.runner = Launch::Runner::kChecked;
  checked.log = &log;
  everything(golden, DType::kBF16, 1, &checked);
  EXPECT_TRUE(log.clean()) << log.first << "; races " << log.races << ", bounds " << log.bounds
                           << ", unset " << log.unset << ", unwritten " << log.unwritten;
}

// A tap only looks: with none of attention's inner points, and with all of them, the logits are the
// same.
TEST_P(Golden, LogitsAreTheSameWithAndWithoutInnerTaps) {
  const GoldenCase golden(GetParam());
  const auto whole = golden.open(DType::kF32, golden.convention()),
             bare = golden.open(DType::kF32, golden.convention());
  for (const TraceStep& step : golden.truth.steps()) {
    if (step.op != StepOp::kForward) break;
    const auto inputs = step_inputs(step, whole->past());
    Recorder all, logits("lm_head");
    ASSERT_TRUE(whole->forward(*inputs, all).ok());
    ASSERT_TRUE(bare->forward(*inputs, logits).ok());
    const auto a = all.points.find("lm_head")->second.view().bytes,
               b = logits.points.find("lm_head")->second.view().bytes;
    ASSERT_TRUE(std::equal(a.begin(), a.end(), b.begin(), b.end())) << step.step;
  }
}

// Names and shapes are trace.md's, in an order in which nothing is read before it is written.
TEST_P(Golden, PointsHaveTheShapesOfTheTable) {
  const GoldenCase golden(GetParam());
  const auto engine = golden.open(DType::kF32, golden.convention());
  const TraceStep& step = golden.truth.steps()[0];
  const auto inputs = step_inputs(step, 0);
  Recorder got;
  ASSERT_TRUE(engine->forward(*inputs, got).ok());
  const ModelConfig& config = golden.model.config;
  const StepSizes sizes{.batch = inputs->batch, .length = inputs->length, .past = 0};
  for (const std::string& point : got.order) {
    // Two values that trace.md has no name for, so that every op's inputs can be replayed.
    if (point.ends_with(":cross_residual") || point == "model:mask_sliding") continue;
    const auto ref = find_point(point);
    ASSERT_TRUE(ref.has_value()) << point;
    EXPECT_TRUE(applies(*ref, config)) << point;
    EXPECT_EQ(explain_shape(*ref, config, sizes, got.points.find(point)->second.shape()), "")
        << point;
  }
  for (const PointSpec& spec : point_table()) {
    const bool in_layer = spec.name.find(".N") != std::string_view::npos;
    for (std::int64_t layer = in_layer ? 0 : -1; layer < (in_layer ? config.layers : 0); ++layer) {
      const std::string name = point_name(spec, layer);
      const auto ref = find_point(name);
      ASSERT_TRUE(ref.has_value()) << name;
      const bool cross_kv = layer >= 0 && config.cross_kv_layer[static_cast<std::size_t>(layer)];
      const bool no_cache =
          cross_kv && !config.cross_kv_causal && name.ends_with("_cache");  // literal cross-KV
      if (no_cache || !applies(*ref, config)) continue;
      EXPECT_TRUE(got.points.contains(name)) << name << " was not tapped";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(ParScale, Golden, testing::ValuesIn(golden_cases()),
                         [](const auto& golden) { return golden.param; });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Golden);

TEST(GoldenCases, AreThere) { EXPECT_GE(golden_cases().size(), 30u); }

}  // namespace
}  // namespace ps
