// The main job: clean runs are equivalent in every type, and each of a dozen planted faults is
// found at the op that has it.
#include <algorithm>
#include <cstring>
#include <filesystem>

#include <gtest/gtest.h>

#include "diff/isolate/lockstep.h"
#include "diff/run/inputs.h"
#include "model/candidate.h"
#include "tests/support/changed_model.h"
#include "tests/support/engine_around.h"
#include "tests/support/fixtures.h"
#include "tests/support/run.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

namespace fs = std::filesystem;

const fs::path kTiny = fixtures_dir() / "models" / "parscale-bytes";

std::unique_ptr<Engine> host_model(const Model& model, DType dtype) {
  CandidateOptions options;
  options.dtype = dtype;
  options.device = Device::kHost;
  options.threads = 1;
  return value_or_die(open_candidate(model, options));
}

std::unique_ptr<Reference> truth_for(const Model& model, DType dtype) {
  ReferenceOptions options;
  options.dtype = DType::kF64;
  options.weights_through = dtype;
  options.threads = 1;
  return value_or_die(open_reference(model, options));
}

RunPlan plan_of(const Model& model, std::int64_t decode_steps, std::int64_t chunk = 0,
                std::int64_t beams = 1) {
  RunPlan plan;
  plan.prompt = random_inputs(3, 13, 4, model.config);
  plan.decode_steps = decode_steps;
  plan.chunk = chunk;
  plan.beams = beams;
  return plan;
}

Report run_check(Engine& candidate, const Model& model, DType dtype, const RunPlan& plan) {
  LockstepOptions options;
  options.run = dtype;
  const auto reference = truth_for(model, dtype);
  return value_or_die(lockstep(candidate, *reference, model.config, plan, options));
}

std::string worst_of(const Report& report) {
  const auto worst =
      std::max_element(report.points.begin(), report.points.end(),
                       [](const PointRow& a, const PointRow& b) { return a.ratio < b.ratio; });
  if (worst == report.points.end()) return "no points";
  return worst->point + " ratio " + std::to_string(worst->ratio);
}

TEST(Check, CleanRunsAreEquivalentInEveryType) {
  for (const fs::path& dir : model_dirs()) {
    const Model model = value_or_die(open_model(dir));
    const bool literal = model.config.architecture == Architecture::kParScaleCrossKv &&
                         !model.config.cross_kv_causal;
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      const auto candidate = host_model(model, dtype);
      const Report report =
          run_check(*candidate, model, dtype, plan_of(model, literal ? 0 : 2, literal ? 0 : 5));
      EXPECT_EQ(report.verdict, Verdict::kEquivalent)
          << dir << " " << short_name(dtype) << ": "
          << (report.first_divergence
                  ? report.first_divergence->point + " " + report.first_divergence->where
                  : "")
          << " worst " << worst_of(report);
      EXPECT_GT(report.points.size(), 20U);
    }
  }
}

TEST(Check, BeamsAreFollowed) {
  const Model model = value_or_die(open_model(kTiny));
  const auto candidate = host_model(model, DType::kF32);
  const Report report = run_check(*candidate, model, DType::kF32, plan_of(model, 2, 0, 3));
  EXPECT_EQ(report.verdict, Verdict::kEquivalent) << worst_of(report);
}

struct Planted {
  const char* name;
  std::vector<std::pair<std::string, std::string>> config;
  EditTensor edit;
  const char* point;  // where it must be found
};

void swap_rows(Tensor& t, std::int64_t a, std::int64_t b) {
  const auto row = static_cast<std::ptrdiff_t>(t.bytes().size()) / t.shape()[0];
  std::swap_ranges(t.bytes().begin() + a * row, t.bytes().begin() + (a + 1) * row,
                   t.bytes().begin() + b * row);
}
EditTensor only(std::string wanted, std::function<void(Tensor&)> edit) {
  return [=](const std::string& name, Tensor& t) {
    if (name == wanted) edit(t);
  };
}
void zero(Tensor& t) { std::fill(t.bytes().begin(), t.bytes().end(), std::byte{0}); }

const Planted kPlanted[] = {
    {"theta", {{"rope_theta", "500000.0"}}, nullptr, "model.rotary_emb:inv_freq"},
    {"eps", {{"rms_norm_eps", "0.001"}}, nullptr, "model.layers.0.input_layernorm"},
    {"activation", {{"hidden_act", "\"gelu\""}}, nullptr, "model.layers.0.mlp:act"},
    {"smoothing", {{"parscale_attn_smooth", "0.0"}}, nullptr, "model:aggregate_weights"},
    {"q_bias",
     {},
     only("model.layers.1.self_attn.q_proj.bias", zero),
     "model.layers.1.self_attn.q_proj"},
    {"replica_order",
     {},
     [](const std::string& name, Tensor& t) {
       if (name.find("prefix_") != std::string::npos) swap_rows(t, 0, 2);
     },
     "model.layers.0.self_attn:k_cache"},
    {"prefix_v_only",
     {},
     only("model.layers.2.self_attn.prefix_v", [](Tensor& t) { swap_rows(t, 1, 3); }),
     "model.layers.2.self_attn:v_cache"},
    {"embedding_row",
     {},
     [](const std::string& name, Tensor& t) {
       if (name == "model.embed_tokens.weight") {
         for (std::int64_t i = 0; i + 1 < t.shape()[0]; i += 2) swap_rows(t, i, i + 1);
       }
     },
     "model.embed_tokens"},
    {"o_proj_transposed",
     {},
     only("model.layers.0.self_attn.o_proj.weight",
          [](Tensor& t) {
            const std::int64_t n = t.shape()[0];
            auto cells = t.as<std::uint16_t>();
            for (std::int64_t i = 0; i < n; ++i) {
              for (std::int64_t j = 0; j < i; ++j) {
                std::swap(cells[static_cast<std::size_t>(i * n + j)],
                          cells[static_cast<std::size_t>(j * n + i)]);
              }
            }
          }),
     "model.layers.0.self_attn.o_proj"},
    {"norm_weight",
     {},
     only("model.norm.weight", [](Tensor& t) { swap_rows(t, 5, 60); }),
     "model.norm"},
    {"k_rows",
     {},
     only("model.layers.3.self_attn.k_proj.weight", [](Tensor& t) { swap_rows(t, 0, 33); }),
     "model.layers.3.self_attn.k_proj"},
    {"gate_columns",
     {},
     only("model.aggregate_layer.2.weight", [](Tensor& t) { swap_rows(t, 0, 1); }),
     "model.aggregate_layer.2"},
    {"down_proj_zero",
     {},
     only("model.layers.2.mlp.down_proj.weight", zero),
     "model.layers.2.mlp.down_proj"},
};

class PlantedFault : public ::testing::TestWithParam<Planted> {};

TEST_P(PlantedFault, IsFoundAtItsOp) {
  const Planted& planted = GetParam();
  const TempDir dir;
  const Model model = value_or_die(open_model(kTiny));
  const Model wrong = changed_model(kTiny, dir.path() / "candidate", planted.config, planted.edit);
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    const auto candidate = host_model(wrong, dtype);
    const Report report = run_check(*candidate, model, dtype, plan_of(model, 1));
    ASSERT_EQ(report.verdict, Verdict::kDiverged) << short_name(dtype);
    EXPECT_EQ(report.first_divergence->point, planted.point) << short_name(dtype);
    EXPECT_EQ(report.first_divergence->step, 0);
    ASSERT_FALSE(report.findings.empty());
    EXPECT_EQ(exit_code(report), 1);
    // Everything before it is right, and what follows is inherited, not blamed.
    std::int64_t blamed = 0;
    for (const PointRow& row : report.points)
      blamed += row.status == PointStatus::kDiverged ? 1 : 0;
    EXPECT_LT(blamed, 24) << "of " << report.points.size();
  }
}

INSTANTIATE_TEST_SUITE_P(All, PlantedFault, ::testing::ValuesIn(kPlanted),
                         [](const auto& test) { return std::string(test.param.name); });

// An engine that loses part of its inputs on the way.
class Forgetful final : public EngineAround {
 public:
  Forgetful(std::unique_ptr<Engine> inner, bool mask, bool positions)
      : EngineAround(std::move(inner)), mask_(mask), positions_(positions) {}
  Result<void> forward(const StepInputs& inputs, Tap& tap) override {
    StepInputs less = inputs;
    if (mask_) less.attention_mask.reset();
    if (positions_) less.position_ids.reset();
    return inner_->forward(less, tap);
  }

 private:
  bool mask_, positions_;
};

TEST(Check, AForgottenPaddingMaskIsFoundAtTheMask) {
  const Model model = value_or_die(open_model(kTiny));
  Forgetful candidate(host_model(model, DType::kBF16), true, false);
  const Report report = run_check(candidate, model, DType::kBF16, plan_of(model, 1));
  ASSERT_TRUE(report.first_divergence);
  EXPECT_EQ(report.first_divergence->point, "model:mask");
}

TEST(Check, ForgottenPositionsAreFoundAtTheTables) {
  const Model model = value_or_die(open_model(kTiny));
  Forgetful candidate(host_model(model, DType::kF32), false, true);
  const Report report = run_check(candidate, model, DType::kF32, plan_of(model, 1));
  ASSERT_TRUE(report.first_divergence);
  EXPECT_EQ(report.first_divergence->point, "model.rotary_emb:cos");
}

TEST(Check, PaddingAndRowsWithoutAKeyAreCountedAndNotJudged) {
  const Model model =
      value_or_die(open_model(fixtures_dir() / "golden" / "parscale" / "ps_n1_leftpad_eager"));
  const auto candidate = make_reference(model, DType::kF32, EmptyRows::kUniform);
  const Report report = run_check(*candidate, model, DType::kF32, plan_of(model, 1));
  EXPECT_EQ(report.verdict, Verdict::kEquivalent) << worst_of(report);
  std::int64_t ignored = 0;
  for (const PointRow& row : report.points) ignored += row.ignored;
  EXPECT_GT(ignored, 0);
}

}  // namespace
}  // namespace ps
