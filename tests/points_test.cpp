#include "core/points.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/trace.h"
#include "tests/support/config_text.h"
#include "tests/support/fixtures.h"

namespace ps {
namespace {

ModelConfig config_of(std::string_view type, const std::vector<ConfigChange>& changes = {}) {
  Result<ParsedConfig> parsed = parse_config(config_text(type, changes), "config.json");
  EXPECT_TRUE(parsed.ok());
  return std::move(parsed).value().config;
}

TEST(Points, EveryRowIsFoundByItsOwnName) {
  for (std::size_t row = 0; row < point_table().size(); ++row) {
    const PointSpec& spec = point_table()[row];
    const std::string name = point_name(spec, 17);
    const std::optional<PointRef> found = find_point(name);
    ASSERT_TRUE(found.has_value()) << name;
    EXPECT_EQ(found->row, row);
    EXPECT_EQ(found->spec, &spec);
    EXPECT_EQ(found->layer, spec.name.find('N') == std::string_view::npos ? -1 : 17) << name;
    EXPECT_FALSE(found->partial);
    const std::optional<PointRef> partial = find_point(name + ":partial");
    ASSERT_TRUE(partial.has_value());
    EXPECT_TRUE(partial->partial);
    EXPECT_EQ(partial->row, row);
  }
}

TEST(Points, OtherNamesAreUnknown) {
  for (const char* name : {"",
                           "model",
                           "model.layers",
                           "model.layers.",
                           "model.layers.N",
                           "model.layers.x.mlp:act",
                           "model.layers.-1",
                           "model.layers.+1",
                           "model.layers.01",
                           "model.layers.0x1",
                           "model.layers.1.",
                           "model.layers.99999999999999999999",
                           "model.layers.1.mlp:acts",
                           "input_ids",
                           "grad/model.norm",
                           "model.norm.weight",
                           "MODEL.NORM",
                           ":partial",
                           "model.norm:partial:partial",
                           "model.layers.1mlp:act"}) {
    EXPECT_FALSE(find_point(name).has_value()) << name;
  }
  EXPECT_TRUE(find_point("model.layers.0").has_value());
}

TEST(Points, ModulesAreReadAsTheirLastLinear) {
  EXPECT_EQ(canonical_point("model.layers.3.mlp"), "model.layers.3.mlp.down_proj");
  EXPECT_EQ(canonical_point("model.layers.12.self_attn"), "model.layers.12.self_attn.o_proj");
  EXPECT_EQ(canonical_point("model.layers.3.mlp:partial"), "model.layers.3.mlp.down_proj:partial");
  EXPECT_EQ(canonical_point("model.layers.3.mlp:act"), "model.layers.3.mlp:act");
  EXPECT_EQ(canonical_point("other"), "other");
  EXPECT_EQ(find_point("model.layers.3.mlp")->spec->name, "model.layers.N.mlp.down_proj");
}

TEST(Points, OrderIsHeadThenLayersThenTailThenUnknown) {
  const std::vector<std::string> in_order = {
      "model.embed_tokens",
      "model:replicated",
      "model:mask",
      "model.layers.0.input_layernorm",
      "model.layers.0.self_attn.o_proj:partial",
      "model.layers.0.self_attn.o_proj",
      "model.layers.0",
      "model.layers.2.input_layernorm",
      "model.layers.10.input_layernorm",
      "model.norm",
      "lm_head",
      "another",
      "zebra",
  };
  std::vector<std::string> shuffled = in_order;
  std::reverse(shuffled.begin(), shuffled.end());
  std::sort(shuffled.begin(), shuffled.end(), point_before);
  EXPECT_EQ(shuffled, in_order);
  EXPECT_FALSE(point_before("zebra", "zebra"));
}

TEST(Points, ScopesFollowTheConfig) {
  const ModelConfig plain = config_of("qwen2");
  const ModelConfig ours = config_of("qwen2_parscale");
  const ModelConfig cross =
      config_of("parscale_cross_attn", {{"enable_cross_attn", "true"},
                                        {"enable_replica_rope", "true"},
                                        {"parscale_cross_attn_layers", "[1]"}});
  const auto at = [](const char* name, const ModelConfig& c) {
    return applies(*find_point(name), c);
  };
  EXPECT_TRUE(at("model.layers.2", plain));
  EXPECT_FALSE(at("model.layers.3", plain));
  EXPECT_FALSE(at("model:aggregate_weights", plain));
  EXPECT_TRUE(at("model:aggregate_weights", ours));
  EXPECT_FALSE(at("model.layers.1.cross_replica_attn:probs", ours));
  EXPECT_TRUE(at("model.layers.1.cross_replica_attn:probs", cross));
  EXPECT_TRUE(at("model.layers.1.cross_replica_attn:q_rope", cross));
  EXPECT_FALSE(at("model.layers.0.cross_replica_attn:probs", cross));
  EXPECT_TRUE(at("model.replica_rope:cos", cross));
  EXPECT_FALSE(at("model.replica_rope:cos", ours));
  EXPECT_FALSE(at("model:mask_cross_kv", cross));
  EXPECT_TRUE(at("model.layers.0.self_attn.q_norm", config_of("qwen3")));
  EXPECT_FALSE(at("model.layers.0.self_attn.q_norm", plain));
}

TEST(Points, ShapesComeFromConfigAndStep) {
  // n 5, T 7, 6 heads of 8, 2 kv heads.
  const ModelConfig config = config_of("qwen2_parscale");
  const StepSizes sizes{.batch = 3, .length = 4, .past = 11};
  const auto shapes = [&](const char* name) {
    return allowed_shapes(*find_point(name), config, sizes);
  };
  EXPECT_EQ(shapes("model.layers.0.self_attn:k_cache"), (std::vector<Shape>{{15, 2, 22, 8}}));
  EXPECT_EQ(shapes("model.rotary_emb:cos"), (std::vector<Shape>{{1, 4, 8}, {3, 4, 8}, {15, 4, 8}}));
  EXPECT_EQ(shapes("model:mask"),
            (std::vector<Shape>{{1, 1, 4, 22}, {1, 6, 4, 22}, {15, 1, 4, 22}, {15, 6, 4, 22}}));
  EXPECT_EQ(shapes("model:aggregate_input"), (std::vector<Shape>{{3, 4, 120}}));
  EXPECT_EQ(shapes("lm_head"), (std::vector<Shape>{{3, 1, 97}, {3, 4, 97}}));
  EXPECT_EQ(shapes("model.rotary_emb:inv_freq"), (std::vector<Shape>{{4}}));
  EXPECT_EQ(shapes("model.layers.2.self_attn.o_proj:partial"), (std::vector<Shape>{{15, 4, 24}}));
}

TEST(Points, ShapesThatMeetAreListedOnce) {
  const ModelConfig config = config_of("qwen2");
  const StepSizes sizes{.batch = 1, .length = 1, .past = 0};
  EXPECT_EQ(allowed_shapes(*find_point("model.rotary_emb:cos"), config, sizes),
            (std::vector<Shape>{{1, 1, 8}}));
}

TEST(Points, CrossKvLayersHaveNoPrefixInTheirCache) {
  const ModelConfig config =
      config_of("parscale_cross_attn", {{"architectures", R"(["ParScaleCrossKVForCausalLM"])"},
                                        {"enable_cross_attn", "true"},
                                        {"xkv_causal", "true"},
                                        {"parscale_cross_attn_layers", "[1]"}});
  const StepSizes sizes{.batch = 3, .length = 4, .past = 11};
  const auto shapes = [&](const char* name) {
    return allowed_shapes(*find_point(name), config, sizes);
  };
  EXPECT_EQ(shapes("model.layers.1.self_attn:k_cache"), (std::vector<Shape>{{15, 2, 15, 8}}));
  EXPECT_EQ(shapes("model.layers.0.self_attn:k_cache"), (std::vector<Shape>{{15, 2, 22, 8}}));
  EXPECT_EQ(shapes("model.layers.1.self_attn:probs"), (std::vector<Shape>{{3, 6, 20, 75}}));
  EXPECT_EQ(shapes("model:mask_cross_kv"), (std::vector<Shape>{{3, 1, 20, 75}}));
}

TEST(Points, WrongShapeIsExplainedByItsAxis) {
  const ModelConfig config = config_of("qwen2_parscale");
  const StepSizes sizes{.batch = 3, .length = 4, .past = 0};
  const PointRef rope = *find_point("model.layers.0.self_attn:k_rope");
  EXPECT_EQ(explain_shape(rope, config, sizes, {15, 2, 4, 8}), "");
  EXPECT_EQ(explain_shape(rope, config, sizes, {15, 6, 4, 8}),
            "axis 1 is K (num_key_value_heads): 2 expected, 6 found");
  EXPECT_EQ(explain_shape(rope, config, sizes, {15, 2, 32}),
            "has the axes R,K,S,D: 4 axes expected, 3 found");
  EXPECT_EQ(explain_shape(*find_point("model.rotary_emb:cos"), config, sizes, {5, 4, 8}),
            "axis 0 is 1 (one for all) or B (batch) or R (replicas * batch): 1 or 3 or 15 "
            "expected, 5 found");
  EXPECT_EQ(explain_shape(*find_point("model:aggregate_input"), config, sizes, {3, 4, 24}),
            "axis 2 is h*P (hidden_size times parscale_n): 120 expected, 24 found");
}

// Goldens come from other implementations: the table must know what they call things.
TEST(Points, EveryPointOfEveryGoldenTraceIsKnownAndHasAnAllowedShape) {
  const std::set<std::string> inputs = {"input_ids", "attention_mask", "position_ids", "sequences",
                                        "sequences_scores"};
  int checked = 0;
  for (const auto& dir : model_dirs()) {
    for (const char* name : {"expected", "expected-f64"}) {
      if (!std::filesystem::exists(dir / name)) continue;
      const Result<Trace> trace = Trace::open(dir / name);
      ASSERT_TRUE(trace.ok()) << trace.error().line();
      const Result<ParsedConfig> config = parse_config(trace->manifest().model_json, "model");
      ASSERT_TRUE(config.ok()) << config.error().line();
      StepSizes sizes;
      std::int64_t seen = 0;
      for (const TraceStep& step : trace->steps()) {
        if (step.op == StepOp::kForward) {
          const Result<StepInputs> given = step_inputs(step, seen);
          ASSERT_TRUE(given.ok()) << given.error().line();
          sizes = {given->batch, given->length, seen};
          seen += given->length;
        } else if (step.op == StepOp::kReorderCache) {
          sizes.length = 0;  // nothing new: the cache holds what was seen
          sizes.past = seen;
        }
        for (const SafetensorsFile::Entry& e : step.tensors->entries()) {
          if (inputs.contains(e.name)) continue;
          const std::optional<PointRef> point = find_point(e.name);
          ASSERT_TRUE(point.has_value()) << dir << " " << e.name;
          EXPECT_TRUE(applies(*point, config->config)) << dir << " " << e.name;
          EXPECT_EQ(explain_shape(*point, config->config, sizes, e.view.shape), "")
              << dir << " " << e.name;
          const std::vector<Shape> shapes = allowed_shapes(*point, config->config, sizes);
          EXPECT_EQ(std::count(shapes.begin(), shapes.end(), e.view.shape), 1) << e.name;
          ++checked;
        }
      }
    }
  }
  EXPECT_GT(checked, 1000);
}

}  // namespace
}  // namespace ps
