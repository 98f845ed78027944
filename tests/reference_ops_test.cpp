// Each op of the reference alone: replay from a run's own points gives the run's own bits, for
// every architecture; gradients agree with finite differences; the conventions for rows without a
// key; sliding windows.
#include <cmath>
#include <cstring>
#include <numeric>

#include <gtest/gtest.h>

#include "core/points.h"
#include "diff/run/inputs.h"
#include "tests/support/fixtures.h"
#include "tests/support/random_model.h"
#include "tests/support/run.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

namespace fs = std::filesystem;

bool same_bits(const TensorView& a, const TensorView& b) {
  return a.dtype == b.dtype && a.shape == b.shape &&
         std::memcmp(a.bytes.data(), b.bytes.data(), a.bytes.size()) == 0;
}

// Every op of a prefill and of a decode step, replayed from what the run tapped.
void replay_everything(const fs::path& dir, DType dtype) {
  const Model model = value_or_die(open_model(dir));
  const auto reference = make_reference(model, dtype);
  StepInputs in = random_inputs(3, 7, 5, model.config);
  const bool literal =
      model.config.architecture == Architecture::kParScaleCrossKv && !model.config.cross_kv_causal;
  KeepAll previous, now;
  std::int64_t past = 0;
  for (int step = 0; step < (literal ? 1 : 2); ++step) {
    ok_or_die(reference->forward(in, now));
    const auto lookup = [&](std::string_view name) -> std::optional<TensorView> {
      const bool before = name.starts_with("past:");
      const KeepAll& source = before ? previous : now;
      const auto it = source.points.find(std::string(before ? name.substr(5) : name));
      if (it == source.points.end()) return std::nullopt;
      return it->second.view();
    };
    for (const OpInfo& op : value_or_die(reference->ops(in, past))) {
      const Tensor again = value_or_die(reference->replay(in, past, op.point, lookup));
      EXPECT_TRUE(same_bits(again.view(), now.at(op.point).view()))
          << dir << " step " << step << " " << op.point;
      const auto known = find_point(op.point);
      EXPECT_TRUE(!known || known->spec->op == op.kind) << op.point << " " << op.kind;
    }
    past += in.length;
    StepInputs next;
    next.batch = in.batch;
    next.length = 1;
    next.input_ids.assign(static_cast<std::size_t>(in.batch), 11);
    if (in.attention_mask) {
      next.attention_mask.emplace();
      for (std::int64_t b = 0; b < in.batch; ++b) {
        const auto row = in.attention_mask->begin() + b * in.length;
        next.attention_mask->insert(next.attention_mask->end(), row, row + in.length);
        next.attention_mask->push_back(1);
      }
      next.position_ids.emplace(static_cast<std::size_t>(in.batch), in.length);
    }
    in = next;
    std::swap(previous, now);
    now = KeepAll();
  }
}

TEST(ReferenceReplay, GivesTheRunsOwnBitsForEveryArchitecture) {
  const fs::path golden = fixtures_dir() / "golden" / "parscale";
  for (const char* name : {"hf_llama3_rope_decode", "hf_qwen2_rightpad", "ps_n4_t5_leftpad_posids",
                           "ps_n2_t2_yarn", "xa_base_n1_t4", "xa_cross_some_n4_t2_rrope",
                           "xa_cross_all_n2_t3", "xa_xkv_causal_n2", "xa_xkv_literal_n2"}) {
    replay_everything(golden / name, DType::kF64);
    replay_everything(golden / name, DType::kBF16);
  }
  replay_everything(fixtures_dir() / "models" / "parscale-bytes", DType::kF16);
}

TEST(ReferenceReplay, NamesAMissingInput) {
  const Model model = value_or_die(open_model(fixtures_dir() / "models" / "parscale-bytes"));
  const auto reference = make_reference(model, DType::kF32);
  const auto result =
      reference->replay(random_inputs(2, 5, 1, model.config), 0, "model.layers.1.self_attn:scores",
                        [](std::string_view) { return std::nullopt; });
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().line().find("model.layers.1.self_attn:q_rope"), std::string::npos);
}

TEST(ReferenceReplay, RefusesAnInputOfAnotherShape) {
  const Model model = value_or_die(open_model(fixtures_dir() / "models" / "parscale-bytes"));
  const auto reference = make_reference(model, DType::kF32);
  const Tensor wrong(DType::kF32, {3, 5, 7});
  const auto result = reference->replay(random_inputs(2, 5, 1, model.config), 0, "model.norm",
                                        [&](std::string_view) { return wrong.view(); });
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().kind, Error::Kind::kInput);
}

TEST(ReferenceInputs, AreCheckedBeforeTheyRun) {
  const Model model = value_or_die(open_model(fixtures_dir() / "models" / "parscale-bytes"));
  const auto reference = make_reference(model, DType::kF32);
  NoTap tap;
  StepInputs in = random_inputs(2, 5, 1, model.config);
  in.input_ids[3] = 256;
  EXPECT_FALSE(reference->forward(in, tap).ok());
  in.input_ids[3] = -1;
  EXPECT_FALSE(reference->forward(in, tap).ok());
  in.input_ids[3] = 0;
  in.attention_mask = std::vector<std::int64_t>(9, 1);
  EXPECT_FALSE(reference->forward(in, tap).ok());
  in.attention_mask = std::vector<std::int64_t>(10, 2);
  EXPECT_FALSE(reference->forward(in, tap).ok());
  in.attention_mask.reset();
  EXPECT_TRUE(reference->forward(in, tap).ok());
  in = random_inputs(3, 2, 1, model.config);
  EXPECT_FALSE(reference->forward(in, tap).ok()) << "the cache holds 2 rows";
}

// Gradient of the loss by one weight, against a central difference of two runs in float64.
TEST(ReferenceGradients, AgreeWithFiniteDifferences) {
  const TempDir temp;
  const fs::path source = fixtures_dir() / "golden" / "parscale" / "xa_cross_some_n4_t2_rrope";
  const Model model = value_or_die(open_model(source));
  const StepInputs in = random_inputs(2, 5, 3, model.config);
  const auto reference = make_reference(model, DType::kF64);
  KeepAll grads;
  ok_or_die(reference->gradients(in, Loss::kSumOfLogits, grads));
  std::int64_t parameters = 0;
  for (const WeightSpec& spec : expected_weights(model.config)) {
    ASSERT_TRUE(grads.points.contains("grad/" + spec.name)) << spec.name;
    ++parameters;
  }
  EXPECT_GT(parameters, 30);

  const auto loss_with = [&](const std::string& name, std::int64_t index, double delta) {
    const fs::path dir = temp.path() / "changed";
    fs::create_directories(dir);
    fs::copy(source / "config.json", dir / "config.json", fs::copy_options::overwrite_existing);
    SafetensorsWriter writer = value_or_die(SafetensorsWriter::create(dir / "model.safetensors"));
    for (const std::string& each : model.checkpoint->names()) {
      const TensorView view = *model.checkpoint->peek(each);
      Tensor wide(DType::kF64, view.shape);
      to_doubles(view, wide.as<double>());
      if (each == name) wide.as<double>()[static_cast<std::size_t>(index)] += delta;
      ok_or_die(writer.add(each, wide.view()));
    }
    ok_or_die(writer.close());
    const auto run = make_reference(value_or_die(open_model(dir)), DType::kF64);
    KeepAll points;
    ok_or_die(run->forward(in, points));
    const auto logits = points.at("lm_head").view().as<double>();
    return std::accumulate(logits.begin(), logits.end(), 0.0);
  };
  for (const char* name :
       {"model.layers.0.self_attn.prefix_k", "model.layers.0.self_attn.q_proj.bias",
        "model.layers.1.self_attn.prefix_v", "model.layers.0.input_layernorm.weight",
        "model.layers.1.mlp.gate_proj.weight", "model.aggregate_layer.0.weight",
        "model.norm.weight"}) {
    const std::int64_t index = 5;
    constexpr double kDelta = 1e-5;
    const double slope =
        (loss_with(name, index, kDelta) - loss_with(name, index, -kDelta)) / (2 * kDelta);
    const double gradient = value_at(grads.at("grad/" + std::string(name)).view(), index);
    EXPECT_NEAR(gradient, slope, 1e-6 * std::max(1.0, std::fabs(slope))) << name;
  }
}

TEST(ReferenceGradients, NextTokenLossReachesEveryParameter) {
  const Model model = value_or_die(open_model(fixtures_dir() / "models" / "parscale-bytes"));
  const auto reference = make_reference(model, DType::kF32);
  KeepAll grads;
  ok_or_die(reference->gradients(random_inputs(3, 6, 2, model.config), Loss::kNextToken, grads));
  for (const WeightSpec& spec : expected_weights(model.config)) {
    EXPECT_TRUE(grads.points.contains("grad/" + spec.name)) << spec.name;
  }
}

// One row of padding in front, no prefix: its first query sees no key.
class EmptyRowsTest : public ::testing::Test {
 protected:
  KeepAll run(EmptyRows convention) {
    const Model model =
        value_or_die(open_model(fixtures_dir() / "golden" / "parscale" / "ps_n1_leftpad_eager"));
    StepInputs in;
    in.batch = 1;
    in.length = 5;
    in.input_ids = {1, 2, 3, 4, 5};
    in.attention_mask = {0, 0, 1, 1, 1};
    KeepAll points;
    ok_or_die(make_reference(model, DType::kF64, convention)->forward(in, points));
    return points;
  }
  static double prob(const KeepAll& points, std::int64_t query, std::int64_t key) {
    return value_at(points.at("model.layers.0.self_attn:probs").view(), query * 5 + key);
  }
};

TEST_F(EmptyRowsTest, ZerosGiveZeroProbabilitiesAndZeroContext) {
  const KeepAll points = run(EmptyRows::kZeros);
  for (std::int64_t key = 0; key < 5; ++key) EXPECT_EQ(prob(points, 1, key), 0.0);
  EXPECT_EQ(value_at(points.at("model.layers.0.self_attn:context").view(), 0), 0.0);
  EXPECT_EQ(prob(points, 2, 2), 1.0);
}

TEST_F(EmptyRowsTest, UniformSeesEveryColumn) {
  const KeepAll points = run(EmptyRows::kUniform);
  for (std::int64_t key = 0; key < 5; ++key) EXPECT_DOUBLE_EQ(prob(points, 1, key), 0.2);
}

TEST_F(EmptyRowsTest, NanStaysNanAndReachesRealTokens) {
  const KeepAll points = run(EmptyRows::kNan);
  EXPECT_TRUE(std::isnan(prob(points, 1, 0)));
  EXPECT_FALSE(std::isnan(prob(points, 2, 2)));
  const TensorView logits = points.at("lm_head").view();
  EXPECT_TRUE(std::isnan(value_at(logits, logits.count() - 1))) << "0 x NaN in the next layer";
}

TEST_F(EmptyRowsTest, OpenedRowsSeeEveryRealColumn) {
  const KeepAll points = run(EmptyRows::kOpened);
  const TensorView mask = points.at("model:mask").view();
  for (std::int64_t key = 0; key < 5; ++key) {
    EXPECT_EQ(value_at(mask, 5 + key), 1.0);
    EXPECT_GT(prob(points, 1, key), 0.0);
  }
}

std::string sliding_config(const std::string& layer_types) {
  return R"({"model_type": "qwen3", "vocab_size": 53, "hidden_size": 24, "intermediate_size": 20,
    "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 10,
    "use_sliding_window": true, "sliding_window": 4, "max_window_layers": 1,
    "max_position_embeddings": 128, "torch_dtype": "float32")" +
         layer_types + "}";
}

TEST(ReferenceSlidingWindow, HidesKeysThatAreAWindowBehind) {
  const TempDir dir;
  const Model model = random_model(dir.path(), sliding_config(""), 7);
  ASSERT_EQ(model.config.sliding_layer, (std::vector<bool>{false, true, true}));
  KeepAll points;
  ok_or_die(
      make_reference(model, DType::kF64)->forward(random_inputs(1, 9, 1, model.config), points));
  for (const auto& [name, window] : {std::pair{"model:mask", 1000}, {"model:mask_sliding", 4}}) {
    const TensorView mask = points.at(name).view();
    ASSERT_EQ(mask.shape, (Shape{1, 1, 9, 9}));
    for (std::int64_t q = 0; q < 9; ++q) {
      for (std::int64_t k = 0; k < 9; ++k) {
        EXPECT_EQ(value_at(mask, q * 9 + k) != 0, k <= q && k > q - window) << name << q << k;
      }
    }
  }
  for (const std::int64_t layer : {0, 1, 2}) {
    const std::string name = "model.layers." + std::to_string(layer) + ".self_attn:probs";
    const double far = value_at(points.at(name).view(), 8 * 9 + 4);  // query 8, key 4
    EXPECT_EQ(far == 0, layer > 0) << layer;
  }
}

TEST(ReferenceSlidingWindow, IsTheOnlyMaskWhereEveryLayerSlides) {
  const TempDir dir;
  const Model model = random_model(
      dir.path(),
      sliding_config(
          R"(, "layer_types": ["sliding_attention","sliding_attention","sliding_attention"])"),
      7);
  KeepAll points;
  ok_or_die(
      make_reference(model, DType::kF64)->forward(random_inputs(1, 9, 1, model.config), points));
  EXPECT_FALSE(points.points.contains("model:mask_sliding"));
  EXPECT_EQ(value_at(points.at("model:mask").view(), 8 * 9 + 4), 0.0);
  EXPECT_EQ(value_at(points.at("model:mask").view(), 8 * 9 + 5), 1.0);
}

}  // namespace
}  // namespace ps
