// Plans and the checks of shards: what is illegal has its code, every element is covered as often
// as it should be, and each mistake of a loader is planted in shards and found under its name.
#include <set>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "diff/shard/check_shards.h"
#include "diff/shard/fsdp.h"
#include "tests/support/fixtures.h"
#include "tests/support/program.h"
#include "tests/support/run.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

namespace fs = std::filesystem;

std::string code(HeadSizes s, std::int64_t tp) {
  const auto wrong = rejections(s, tp);
  return wrong.empty() ? "" : wrong[0].code;
}

TEST(ShardGeometry, EveryRuleHasItsCode) {
  EXPECT_EQ(code({14, 2, 64, 4864, false}, 2), "");
  EXPECT_EQ(code({14, 2, 64, 4864, false}, 4), "REJ_HEADS");  // Qwen2.5-0.5B
  EXPECT_EQ(code({14, 2, 64, 4864, false}, 8), "REJ_HEADS");
  EXPECT_EQ(code({14, 2, 64, 4864, false}, 7), "REJ_KV");
  EXPECT_EQ(code({14, 4, 64, 4864, false}, 1), "REJ_GROUP");
  EXPECT_EQ(code({12, 6, 64, 96, false}, 4), "REJ_KV");
  EXPECT_EQ(code({12, 3, 64, 98, false}, 6), "REJ_INTER");
  EXPECT_EQ(code({6, 3, 5, 48, false}, 3), "REJ_HEADDIM");
  EXPECT_EQ(code({6, 3, 4, 48, true}, 3), "REJ_QKNORM_WIDE");
  EXPECT_EQ(code({6, 3, 4, 48, true}, 1), "");
}

ModelConfig config_with(const std::function<void(nlohmann::json&)>& edit) {
  auto json = nlohmann::json::parse(get_file(bytes_model() / "config.json"));
  edit(json);
  return value_or_die(first_error_or_config(value_or_die(parse_config(json.dump(), "test")), "t"));
}

TEST(ShardPlan, EveryElementIsCoveredAsOftenAsItShouldBe) {
  const ModelConfig config = config_with([](nlohmann::json& j) {
    j["num_attention_heads"] = 8;
    j["vocab_size"] = 251;
  });
  for (const std::int64_t tp : {1, 2, 4, 8}) {
    for (const bool replicate : {false, true}) {
      PlanOptions options;
      options.replicate_vocab = replicate;
      options.vocab_multiple = 3;
      Plan plan = value_or_die(make_plan(config, tp, options));
      EXPECT_EQ(coverage_problems(plan, config), std::vector<std::string>{});
      if (tp == 1) continue;
      // One row too far, for each kind that is cut.
      for (std::size_t i = 0; i < plan.records.size(); ++i) {
        ShardPart& part = plan.records[i].parts[0];
        if (!part.dim || part.length == 0) continue;
        part.length -= 1;
        EXPECT_NE(coverage_problems(plan, config), std::vector<std::string>{})
            << plan.records[i].dest << " tp " << tp;
        part.length += 1;
      }
    }
  }
}

TEST(ShardPlan, PrefixesAreCutByHeadsAndNeverByReplica) {
  const ModelConfig config = config_with([](nlohmann::json&) {});
  const Plan plan = value_or_die(make_plan(config, 4, {}));
  const PlanRecord* r = plan.find(3, "layers.2.self_attn.prefix_k");
  ASSERT_NE(r, nullptr);
  EXPECT_EQ(r->kind, ShardKind::kKvHeads);
  EXPECT_EQ(r->shape, (Shape{4, 1, 8, 32}));
  EXPECT_EQ(r->parts[0].dim, 1);
  EXPECT_EQ(r->parts[0].start, 1);
}

TEST(ShardPlan, Phi3IsCutOutOfItsFusedTensors) {
  const TempDir dir;
  put_file(dir / "config.json",
           R"({"model_type":"phi3","vocab_size":61,"hidden_size":48,"intermediate_size":42,
               "num_hidden_layers":1,"num_attention_heads":6,"num_key_value_heads":3,
               "rope_scaling":{"type":"longrope"},"rms_norm_eps":1e-5,"max_position_embeddings":64,
               "hidden_act":"silu","tie_word_embeddings":false})");
  const ShardModel wrong = value_or_die(open_shard_model(dir.path(), 2));
  ASSERT_EQ(wrong.rejected.size(), 1U);  // 3 key/value heads do not go over 2 ranks
  EXPECT_EQ(wrong.rejected[0].code, "REJ_KV");
  const ShardModel model = value_or_die(open_shard_model(dir.path(), 6));
  ASSERT_EQ(model.layout, CheckpointLayout::kConcat);
  PlanOptions options;
  options.layout = model.layout;
  const Plan plan = value_or_die(make_plan(model.config, 6, options));
  const PlanRecord& qkv = *plan.find(5, "layers.0.self_attn.qkv_proj.weight");
  ASSERT_EQ(qkv.parts.size(), 3U);
  EXPECT_EQ(qkv.parts[0].source, "model.layers.0.self_attn.qkv_proj.weight");
  EXPECT_EQ(qkv.parts[0].start, 40);
  EXPECT_EQ(qkv.parts[1].start, 48 + 16);  // head 2 of 3, shared by ranks 4 and 5
  EXPECT_EQ(qkv.parts[2].start, 72 + 16);
  const PlanRecord& gate_up = *plan.find(5, "layers.0.mlp.gate_up_proj.weight");
  EXPECT_EQ(gate_up.parts[1].start, 42 + 35);
}

TEST(Fsdp, TheSeedsPrefixLeavesFourRanksEmpty) {
  EXPECT_EQ(rows_of_rank(4, 8, 3).rows, 1);
  EXPECT_EQ(rows_of_rank(4, 8, 4).rows, 0);
  EXPECT_EQ(repeated_rows(4, 8, 4).have[0], 4);
  EXPECT_EQ(repeated_rows(4, 8, 4).want[0], 2);
  EXPECT_FALSE(repeated_rows(4, 8, 4).consistent());
  EXPECT_TRUE(repeated_rows(4, 8, 1).consistent());
  EXPECT_TRUE(repeated_rows(8, 8, 4).consistent());
}

// Shards of the byte model, as a right loader writes them, then edited.
class ShardCheck : public ::testing::Test {
 protected:
  static constexpr std::int64_t kTp = 4;
  using Edit = std::function<void(std::int64_t rank, const std::string& dest, Tensor& tensor)>;

  ShardCheck() : model_(value_or_die(open_shard_model(bytes_model(), kTp))) {
    plan_ = value_or_die(make_plan(model_.config, kTp, {}));
  }
  Tensor shard(std::int64_t rank, const std::string& dest) {
    return value_or_die(build_shard(*plan_.find(rank, dest), model_.sources()));
  }
  Report check(const Edit& edit) {
    const TempDir dir;
    for (std::int64_t r = 0; r < kTp; ++r) {
      auto writer = value_or_die(
          SafetensorsWriter::create(dir / ("rank" + std::to_string(r) + ".safetensors")));
      for (const PlanRecord& record : plan_.records) {
        if (record.rank != r) continue;
        Tensor t = value_or_die(build_shard(record, model_.sources()));
        edit(r, record.dest, t);
        if (t.shape().empty()) continue;
        ok_or_die(writer.add("model." + record.dest, t.view()));
      }
      ok_or_die(writer.close());
    }
    const ShardSet shards = value_or_die(open_shards(dir.path()));
    return value_or_die(check_shards(model_, kTp, shards, {}));
  }
  static std::set<std::string> ids(const Report& report) {
    std::set<std::string> out;
    for (const Finding& f : report.findings) {
      if (f.severity != Severity::kInfo) out.insert(f.id);
    }
    return out;
  }
  std::set<std::string> found(const std::string& dest,
                              const std::function<Tensor(std::int64_t)>& f) {
    return ids(check([&](std::int64_t r, const std::string& name, Tensor& t) {
      if (name == dest) t = f(r);
    }));
  }
  using Ids = std::set<std::string>;
  ShardModel model_;
  Plan plan_;
};

TEST_F(ShardCheck, RightShardsAreRight) {
  const Report report = check([](std::int64_t, const std::string&, Tensor&) {});
  EXPECT_EQ(report.findings.size(), 0U);
  EXPECT_EQ(exit_code(report), 0);
}

TEST_F(ShardCheck, MistakesHaveTheirNames) {
  const std::string down = "layers.1.mlp.down_proj.weight", prefix = "layers.2.self_attn.prefix_k";
  EXPECT_EQ(found(down, [&](std::int64_t r) { return shard((r + 1) % kTp, down); }), Ids{"TP003"});
  EXPECT_EQ(
      found(down, [&](std::int64_t r) { return Tensor(DType::kBF16, shard(r, down).shape()); }),
      Ids{"TP007"});
  EXPECT_EQ(found(down, [&](std::int64_t r) { return shard(r, "layers.3.mlp.down_proj.weight"); }),
            Ids{"TP007"});
  EXPECT_EQ(found(down, [&](std::int64_t) { return Tensor(); }), Ids{"TP007"});
  EXPECT_EQ(found(down, [&](std::int64_t) { return Tensor(DType::kBF16, {88, 128}); }),
            Ids{"TP001"});
  // Rank 1 of head 0's two copies takes head 1: r % heads.
  EXPECT_EQ(found(prefix, [&](std::int64_t r) { return shard(r % 2 == 0 ? 0 : 3, prefix); }),
            Ids{"TP006"});
  const std::string bias = "layers.0.self_attn.qkv_proj.bias";
  EXPECT_EQ(
      found(bias, [&](std::int64_t r) { return Tensor(DType::kBF16, shard(r, bias).shape()); }),
      Ids{"TP008"});
}

TEST_F(ShardCheck, OneBitIsEnough) {
  const Report report = check([](std::int64_t r, const std::string& dest, Tensor& t) {
    if (r == 2 && dest == "norm.weight") t.as<std::uint16_t>()[77] ^= 1;
  });
  ASSERT_EQ(report.findings.size(), 1U);
  EXPECT_EQ(report.findings[0].id, "TP007");
  EXPECT_EQ(report.findings[0].rank, 2);
}

TEST(ShardCommand, IllegalRanksAreBadInputWithTheirCode) {
  const Ran plan = run_parscope({"shard", "plan", bytes_model(), "--tp", "3"});
  expect_bad_input(plan, "REJ_HEADS");
  const Ran check = run_parscope({"shard", "check", bytes_model(), "--tp", "8", "/tmp", "--json"});
  EXPECT_EQ(check.code, 2);
  EXPECT_EQ(nlohmann::json::parse(check.out)["findings"][0]["id"], "REJ_HEADS");
}

TEST(ShardCommand, PlanPrintsEveryRecord) {
  const Ran ran = run_parscope({"shard", "plan", bytes_model(), "--tp", "2", "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const auto json = nlohmann::json::parse(ran.out);
  EXPECT_EQ(json["records"].size() % 2, 0U);
  EXPECT_EQ(json["records"][0]["crc32"].get<std::string>().size(), 8U);
}

}  // namespace
}  // namespace ps
