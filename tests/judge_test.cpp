// The derived bounds: an error of twice the bound in one cell is caught at its op and nowhere else,
// half of it is not; every kind of op has a bound; traces that lack points are judged by chains.
#include "diff/isolate/judge.h"

#include <cmath>
#include <map>
#include <set>

#include <gtest/gtest.h>

#include "core/float_bits.h"
#include "core/points.h"
#include "core/rng.h"
#include "diff/run/inputs.h"
#include "tests/support/fixtures.h"
#include "tests/support/run.h"

namespace ps {
namespace {

namespace fs = std::filesystem;

void set_value(Tensor& t, std::int64_t i, double x) {
  const auto at = static_cast<std::size_t>(i);
  switch (t.dtype()) {
    case DType::kF64:
      t.as<double>()[at] = x;
      break;
    case DType::kF32:
      t.as<float>()[at] = static_cast<float>(x);
      break;
    case DType::kBF16:
      t.as<std::uint16_t>()[at] = float_to_bf16(static_cast<float>(x));
      break;
    case DType::kF16:
      t.as<std::uint16_t>()[at] = float_to_f16(static_cast<float>(x));
      break;
    default:
      PS_CHECK(false, "not a floating type");
  }
}

struct Captured {
  Model model;
  StepInputs inputs;
  KeepAll points;  // of the candidate
  std::unique_ptr<Reference> truth;
};

Captured prefill(const fs::path& dir, DType dtype, std::int64_t batch, std::int64_t length) {
  Captured run;
  run.model = value_or_die(open_model(dir));
  run.inputs = random_inputs(batch, length, 9, run.model.config);
  ok_or_die(make_reference(run.model, dtype)->forward(run.inputs, run.points));
  ReferenceOptions options;
  options.dtype = DType::kF64;
  options.weights_through = dtype;
  options.threads = 1;
  run.truth = value_or_die(open_reference(run.model, options));
  return run;
}

PointLookup lookup_in(const std::map<std::string, Tensor>& points) {
  return [&points](std::string_view name) -> std::optional<TensorView> {
    const auto it = points.find(std::string(name));
    return it == points.end() ? std::nullopt : std::optional(it->second.view());
  };
}

std::map<std::string, PointStatus> judge_all(Captured& run, DType dtype,
                                             const std::map<std::string, Tensor>& points) {
  run.truth->reset();
  const auto step = value_or_die(run.truth->step(run.inputs));
  JudgeOptions options;
  options.run = dtype;
  StepJudge judge(run.model.config, *step, run.inputs, 0, 0, options);
  for (const OpInfo& op : step->ops()) ok_or_die(judge.judge(op, lookup_in(points)));
  std::map<std::string, PointStatus> out;
  for (const PointRow& row : judge.rows()) out[row.point] = row.status;
  return out;
}

// For each op: the exact value plus `times` the bound, put into one cell of the candidate.
void plant_at_every_op(const fs::path& dir, DType dtype, double times, PointStatus wanted,
                       std::size_t least_kinds) {
  Captured run = prefill(dir, dtype, 1, 7);
  run.truth->reset();
  const auto step = value_or_die(run.truth->step(run.inputs));
  const IgnoreRules ignore(run.model.config, run.inputs, 0);
  std::set<std::string> kinds;
  for (const OpInfo& op : step->ops()) {
    const Tensor& clean = run.points.at(op.point);
    if (!is_floating(clean.dtype())) continue;
    Rounding rounding;
    rounding.run = dtype;
    rounding.captured = clean.dtype();
    const Replayed exact =
        value_or_die(step->replay(op.point, lookup_in(run.points.points), rounding));
    const std::optional<Tensor> ignored = ignore.mask_for(op.point, clean.shape());
    // The first compared cell of some size, from a place that the point's name decides.
    const std::int64_t n = count_of(clean.shape());
    std::int64_t cell = -1;
    for (std::int64_t i = 0; i < n && cell < 0; ++i) {
      const std::int64_t at = (i + static_cast<std::int64_t>(op.point.size()) * 37) % n;
      const double value = value_at(exact.value.view(), at),
                   bound = value_at(exact.bound.view(), at);
      // Where the type's own steps are as large as the plant, it cannot be planted.
      const double step_size = unit_roundoff(clean.dtype()) * std::fabs(value);
      if (std::fabs(value) > 1e-3 && bound > (times < 1 ? 8.0 : 0.9) * step_size && !ignored) {
        cell = at;
      }
    }
    if (cell < 0) continue;
    kinds.insert(op.kind);
    std::map<std::string, Tensor> points = run.points.points;
    const double bound = value_at(exact.bound.view(), cell);
    set_value(points.at(op.point), cell, value_at(exact.value.view(), cell) + times * bound);
    const auto status = judge_all(run, dtype, points);
    EXPECT_EQ(status.at(op.point), wanted) << op.point << " " << short_name(dtype);
    // Only the ops that read the planted cell may look wrong too: their outputs were not planted.
    for (const OpInfo& other : step->ops()) {
      const bool reads =
          std::find(other.inputs.begin(), other.inputs.end(), op.point) != other.inputs.end();
      if (reads || other.point == op.point) continue;
      EXPECT_NE(status.at(other.point), PointStatus::kDiverged)
          << op.point << " blamed " << other.point;
    }
  }
  EXPECT_GE(kinds.size(), least_kinds);
}

const fs::path kGolden = fixtures_dir() / "golden" / "parscale";

TEST(Bounds, TwiceTheBoundIsCaughtAtEveryOp) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    plant_at_every_op(kGolden / "xa_cross_some_n4_t2_rrope", dtype, 2.5, PointStatus::kDiverged,
                      10);
  }
}

TEST(Bounds, HalfTheBoundIsRoundingInFloat32) {
  plant_at_every_op(kGolden / "xa_cross_some_n4_t2_rrope", DType::kF32, 0.4, PointStatus::kOk, 4);
}

// Ten thousand cells and more of every op and type from random inputs: none over its bound, and no
// bound so loose that nothing comes near it.
TEST(Bounds, HoldOverManyDrawsAndAreNotIdle) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    std::map<std::string, std::pair<std::int64_t, double>> seen;  // kind -> cells, worst ratio
    for (const char* name :
         {"ps_n8_t2_mqa_smooth0", "xa_cross_all_n2_t3", "ps_n2_t3_headdim12_gelu",
          "hf_llama3_rope_decode", "ps_n4_t5_leftpad_posids"}) {
      for (std::int64_t length : {5, 17, 31}) {
        Captured run = prefill(kGolden / name, dtype, 3, length);
        const auto step = value_or_die(run.truth->step(run.inputs));
        JudgeOptions options;
        options.run = dtype;
        StepJudge judge(run.model.config, *step, run.inputs, 0, 0, options);
        std::map<std::string, std::string> kind_of;
        for (const OpInfo& op : step->ops()) {
          kind_of[op.point] = op.kind;
          ok_or_die(judge.judge(op, lookup_in(run.points.points)));
        }
        for (const PointRow& row : judge.rows()) {
          auto& [cells, worst] = seen[kind_of[row.point]];
          cells += row.compared;
          worst = std::max(worst, row.ratio);
          EXPECT_LE(row.ratio, 1.0) << name << " " << row.point << " " << short_name(dtype);
        }
      }
    }
    for (const char* kind :
         {"rms_norm", "linear", "rope", "scores", "probs", "context", "act", "residual"}) {
      EXPECT_GE(seen[kind].first, 10000) << kind;
      const double least = dtype == DType::kF32 ? 0.004 : 0.2;
      EXPECT_GT(seen[kind].second, least) << kind << " " << short_name(dtype);
    }
  }
}

TEST(PartialTraces, AreJudgedByChainsFromWhatIsThere) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    Captured run = prefill(fixtures_dir() / "models" / "parscale-bytes", dtype, 3, 9);
    // Module outputs only; then layers only; then the logits alone.
    for (const int keep : {0, 1, 2}) {
      std::map<std::string, Tensor> some;
      for (const auto& [name, value] : run.points.points) {
        const bool inner = name.find(':') != std::string::npos;
        const bool is_layer = name.starts_with("model.layers.") && name.size() == 14;
        if ((keep == 0 && !inner) || (keep == 1 && is_layer) || name == "lm_head") {
          some.emplace(name, value);
        }
      }
      for (const auto& [point, status] : judge_all(run, dtype, some)) {
        EXPECT_EQ(status, PointStatus::kOk) << point << " " << keep << " " << short_name(dtype);
      }
      // A wrong value in what is there is found there.
      Tensor& logits = some.at("lm_head");
      set_value(logits, 5, value_at(logits.view(), 5) + 3.0);
      EXPECT_EQ(judge_all(run, dtype, some).at("lm_head"), PointStatus::kDiverged);
    }
  }
}

}  // namespace
}  // namespace ps
