// The candidate against the LibTorch reference in float64, on random models of every family: each
// point that either writes, over prefill, a chunk, decode and a beam reorder, with and without
// padding. f32: |error| <= 1e-5 of the tensor's largest value. Rows without a key are zeros on both
// sides.
#include <cmath>
#include <map>

#include <gtest/gtest.h>

#include "core/points.h"
#include "core/rng.h"
#include "model/candidate.h"
#include "tests/support/config_text.h"
#include "tests/support/random_model.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

constexpr double kBound = 1e-5;

class Keep final : public Tap {
 public:
  bool wants(std::string_view) override { return true; }
  void take(std::string_view point, const TensorView& value) override {
    points[std::string(point)] = Tensor::copy_of(value);
  }
  std::map<std::string, Tensor> points;
};

struct Family {
  const char* name;
  const char* type;
  std::vector<ConfigChange> changes;
};

const std::vector<Family>& families() {
  static const std::vector<ConfigChange> kCross = {{"head_dim", ""}, {"enable_cross_attn", "true"}};
  static const std::vector<Family> all = {
      {"qwen2", "qwen2", {}},
      {"qwen2_sliding",
       "qwen2",
       {{"use_sliding_window", "true"}, {"sliding_window", "3"}, {"max_window_layers", "1"}}},
      {"qwen2_all_sliding",
       "qwen2",
       {{"use_sliding_window", "true"}, {"sliding_window", "4"}, {"max_window_layers", "0"}}},
      {"llama_llama3",
       "llama",
       {{"rope_theta", "500000"},
        {"rope_scaling",
         R"({"rope_type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4,"original_max_position_embeddings":64})"}}},
      {"llama_biases", "llama", {{"attention_bias", "true"}, {"mlp_bias", "true"}}},
      {"llama_gelu_tanh", "llama", {{"hidden_act", "\"gelu_pytorch_tanh\""}}},
      {"llama_relu2", "llama", {{"hidden_act", "\"relu2\""}}},
      {"llama_quick_gelu", "llama", {{"hidden_act", "\"quick_gelu\""}}},
      {"qwen3", "qwen3", {}},
      {"qwen3_sliding",
       "qwen3",
       {{"use_sliding_window", "true"}, {"sliding_window", "3"}, {"max_window_layers", "2"}}},
      {"parscale", "qwen2_parscale", {}},
      {"parscale_yarn_tied",
       "qwen2_parscale",
       {{"parscale_n", "2"},
        {"tie_word_embeddings", "true"},
        {"rope_scaling",
         R"({"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":128})"}}},
      {"parscale_one", "qwen2_parscale", {{"parscale_n", "1"}, {"parscale_n_tokens", "0"}}},
      {"xattn_base_n1", "parscale_base", {{"parscale_n", "1"}}},
      {"cross",
       "parscale_cross_attn",
       {{"head_dim", ""}, {"enable_cross_attn", "true"}, {"parscale_cross_attn_layers", "[0,2]"}}},
      {"cross_replica_rope",
       "parscale_cross_attn",
       {{"head_dim", ""}, {"enable_cross_attn", "true"}, {"enable_replica_rope", "true"}}},
      {"cross_kv",
       "parscale_cross_attn",
       {{"head_dim", ""},
        {"architectures", "[\"ParScaleCrossKVForCausalLM\"]"},
        {"enable_cross_attn", "true"},
        {"parscale_cross_attn_layers", "[1]"},
        {"xkv_causal", "true"}}}};
  return all;
}

enum class Padding { kNone, kLeft, kLeftWithPositions, kRight, kWholeSample };

struct Plan {  // steps of a run: new tokens, or 0 for a reorder
  std::vector<std::int64_t> lengths;
  Padding padding;
};

StepInputs inputs_for(const Plan& plan, std::int64_t batch, std::int64_t past,
                      std::int64_t length) {
  StepInputs in{
      .batch = batch, .length = length, .input_ids = {}, .attention_mask = {}, .position_ids = {}};
  for (std::int64_t i = 0; i < batch * length; ++i)
    in.input_ids.push_back(
        Rng(7, static_cast<std::uint64_t>(past)).below(static_cast<std::uint64_t>(i), 97));
  if (plan.padding == Padding::kNone) return in;
  const std::int64_t prompt = plan.lengths[0];
  in.attention_mask.emplace();
  std::vector<std::int64_t> positions;
  for (std::int64_t i = 0; i < batch; ++i) {
    std::int64_t seen = 0;
    for (std::int64_t key = 0; key < past + length; ++key) {
      bool real = true;
      if (plan.padding == Padding::kRight)
        real = key >= prompt || key < prompt - i;
      else if (plan.padding == Padding::kWholeSample)
        real = i != 1 || key >= prompt;
      else
        real = key >= i + (i > 0 ? 1 : 0);
      in.attention_mask->push_back(real ? 1 : 0);
      if (key >= past) positions.push_back(real ? seen : 1);
      seen += real ? 1 : 0;
    }
  }
  if (plan.padding == Padding::kLeftWithPositions) in.position_ids = positions;
  return in;
}

void expect_equal(const Keep& candidate, const Keep& reference, const std::string& where) {
  for (const auto& [point, want] : reference.points) {
    const auto found = candidate.points.find(point);
    if (found == candidate.points.end()) {
      ADD_FAILURE() << where << ": the candidate has no " << point;
      continue;
    }
    const TensorView have = found->second.view(), truth = want.view();
    ASSERT_EQ(have.count(), truth.count())
        << where << " " << point << " " << to_string(have.shape) << " " << to_string(truth.shape);
    double scale = 0, error = 0;
    for (std::int64_t i = 0; i < have.count(); ++i) {
      const double a = value_at(have, i), b = value_at(truth, i);
      scale = std::max(scale, std::fabs(b));
      error = std::max(error, std::isfinite(a) ? std::fabs(a - b) : INFINITY);
    }
    EXPECT_LE(error, kBound * scale) << where << " " << point << " at scale " << scale;
  }
  for (const auto& [point, value] : candidate.points)
    EXPECT_TRUE(reference.points.contains(point)) << where << ": the reference has no " << point;
}

class AgainstReference : public testing::TestWithParam<std::size_t> {};

TEST_P(AgainstReference, EveryPointAgrees) {
  const Family& family = families()[GetParam()];
  std::vector<ConfigChange> changes = family.changes;
  changes.emplace_back("torch_dtype", "\"float32\"");
  const TempDir dir;
  const Model model = random_model(dir.path(), config_text(family.type, changes), 11 + GetParam());
  ReferenceOptions truth_options;
  truth_options.dtype = DType::kF64;
  CandidateOptions options;
  options.device = Device::kHost;
  for (const Plan& plan : {Plan{{7, 3, 1, 1}, Padding::kNone}, Plan{{6, 1, 0, 2}, Padding::kLeft},
                           Plan{{6, 1, 0, 2}, Padding::kLeftWithPositions},
                           Plan{{5, 1}, Padding::kRight}, Plan{{4, 2}, Padding::kWholeSample}}) {
    auto reference = open_reference(model, truth_options);
    if (!reference.ok()) GTEST_SKIP() << reference.error().line();
    auto candidate = open_candidate(model, options);
    ASSERT_TRUE(candidate.ok()) << candidate.error().line();
    for (std::size_t step = 0; step < plan.lengths.size(); ++step) {
      const std::string where = "padding " + std::to_string(static_cast<int>(plan.padding)) +
                                " step " + std::to_string(step);
      Keep have, want;
      if (plan.lengths[step] == 0) {
        ASSERT_TRUE((*reference)->reorder_cache({2, 0, 0}, want).ok());
        ASSERT_TRUE((*candidate)->reorder_cache({2, 0, 0}, have).ok());
      } else {
        const StepInputs in = inputs_for(plan, 3, (*candidate)->past(), plan.lengths[step]);
        const auto truth_ran = (*reference)->forward(in, want);
        ASSERT_TRUE(truth_ran.ok()) << truth_ran.error().line();
        ASSERT_TRUE((*candidate)->forward(in, have).ok());
      }
      ASSERT_NO_FATAL_FAILURE(expect_equal(have, want, where));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, AgainstReference,
                         testing::Range<std::size_t>(0, families().size()), [](const auto& family) {
                           return std::string(families()[family.param].name);
                         });

}  // namespace
}  // namespace ps
