// Checkpoints of families that fuse or transpose their projections: fixtures/shards, written by
// transformers, whose own code also said which rows are q, k and v of which head. Plans read every
// tensor; a rank's rows are the heads' rows; mistakes of loaders are planted and named.
#include <set>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "diff/shard/check_shards.h"
#include "diff/shard/families.h"
#include "diff/shard/hypotheses.h"
#include "diff/shard/loader_ledger.h"
#include "tests/support/fixtures.h"
#include "tests/support/program.h"
#include "tests/support/run.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

namespace fs = std::filesystem;

fs::path family_dir(const std::string& name) { return fixtures_dir() / "shards" / name; }

const std::vector<std::string>& families() {
  static const std::vector<std::string> all = {"gpt_neox",   "bloom",     "gpt2", "falcon",
                                               "falcon_new", "falcon_rw", "phi3"};
  return all;
}

TEST(ShardFamilies, EveryTensorIsReadAndCovered) {
  for (const std::string& name : families()) {
    for (const std::int64_t tp : {1, 2, 4}) {
      const ShardModel model = value_or_die(open_shard_model(family_dir(name), tp));
      ASSERT_TRUE(model.rejected.empty()) << name << " " << tp;
      ASSERT_NE(model.family, nullptr) << name;
      const Plan plan = value_or_die(make_plan(model.config, tp, model.options()));
      EXPECT_EQ(coverage_problems(plan, model.config), std::vector<std::string>{}) << name;
      const LoaderLedger ledger = loader_ledger(plan, model);
      EXPECT_EQ(ledger.missing, std::vector<std::string>{}) << name;
      EXPECT_EQ(ledger.unread, std::vector<std::string>{}) << name;
      for (const PlanRecord& record : plan.records) {
        EXPECT_EQ(value_or_die(build_shard(record, model.sources())).shape(), record.shape)
            << name << " " << record.dest;
      }
    }
  }
}

// The rows that transformers itself calls those of q, k and v.
TEST(ShardFamilies, RanksHoldTheRowsOfTheirHeads) {
  for (const std::string& name : families()) {
    const auto rows = nlohmann::json::parse(get_file(family_dir(name) / "rows.json"));
    for (const std::int64_t tp : {1, 2, 4}) {
      const ShardModel model = value_or_die(open_shard_model(family_dir(name), tp));
      const Plan plan = value_or_die(make_plan(model.config, tp, model.options()));
      ASSERT_EQ(model.config.heads, static_cast<std::int64_t>(rows["q"].size())) << name;
      ASSERT_EQ(model.config.kv_heads, static_cast<std::int64_t>(rows["k"].size())) << name;
      const std::string dest =
          family_tensor(*model.family, "", "layers.0.self_attn.qkv_proj.weight");
      for (std::int64_t r = 0; r < tp; ++r) {
        const PlanRecord& record = *plan.find(r, dest);
        std::vector<std::int64_t> wanted;
        const auto add = [&](const char* part, std::int64_t first, std::int64_t count) {
          for (std::int64_t h = first; h < first + count; ++h) {
            for (const auto& row : rows[part][static_cast<std::size_t>(h)]) wanted.push_back(row);
          }
        };
        // Spec 1.2: copies of a key/value head lie on neighbouring ranks.
        const std::int64_t heads = model.config.heads / tp;
        const std::int64_t copies = std::max<std::int64_t>(1, tp / model.config.kv_heads);
        const std::int64_t kv = std::max<std::int64_t>(1, model.config.kv_heads / tp);
        add("q", r * heads, heads);
        add("k", r / copies * kv, kv);
        add("v", r / copies * kv, kv);
        const Tensor held = value_or_die(build_shard(record, model.sources()));
        const TensorView& fused = *model.checkpoint->peek(record.parts[0].source);
        const bool conv1d = name == "gpt2";
        const std::int64_t hidden = model.config.hidden_size;
        ASSERT_EQ(held.shape(), (Shape{static_cast<std::int64_t>(wanted.size()), hidden})) << name;
        for (std::size_t i = 0; i < wanted.size(); ++i) {
          for (std::int64_t c = 0; c < hidden; ++c) {
            const std::int64_t at =
                conv1d ? c * fused.shape[1] + wanted[i] : wanted[i] * hidden + c;
            ASSERT_EQ(value_at(held.view(), static_cast<std::int64_t>(i) * hidden + c),
                      value_at(fused, at))
                << name << " tp " << tp << " rank " << r << " row " << i;
          }
        }
      }
    }
  }
}

// Families that transformers has no code for: 4 query heads, 2 key/value heads of 6, 2 layers.
TEST(ShardFamilies, InternLm2AndMegatronAreReadByTheirNames) {
  struct Named {
    std::string config;
    std::map<std::string, Shape> once, layer;
  };
  const std::string sizes =
      R"("hidden_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2,
         "intermediate_size": 40, "num_hidden_layers": 2, "vocab_size": 53,
         "tie_word_embeddings": false})";
  const std::vector<Named> all = {
      {R"({"model_type": "internlm2", "bias": false, )" + sizes,
       {{"model.tok_embeddings.weight", {53, 24}},
        {"output.weight", {53, 24}},
        {"model.norm.weight", {24}}},
       {{"model.layers.*.attention.wqkv.weight", {48, 24}},
        {"model.layers.*.attention.wo.weight", {24, 24}},
        {"model.layers.*.attention_norm.weight", {24}},
        {"model.layers.*.ffn_norm.weight", {24}},
        {"model.layers.*.feed_forward.w1.weight", {40, 24}},
        {"model.layers.*.feed_forward.w3.weight", {40, 24}},
        {"model.layers.*.feed_forward.w2.weight", {24, 40}}}},
      {R"({"model_type": "llama", )" + sizes,
       {{"embedding.word_embeddings.weight", {53, 24}},
        {"output_layer.weight", {53, 24}},
        {"decoder.final_layernorm.weight", {24}}},
       {{"decoder.layers.*.self_attention.linear_qkv.weight", {48, 24}},
        {"decoder.layers.*.self_attention.linear_qkv.layer_norm_weight", {24}},
        {"decoder.layers.*.self_attention.linear_qkv._extra_state", {1}},
        {"decoder.layers.*.self_attention.linear_proj.weight", {24, 24}},
        {"decoder.layers.*.mlp.linear_fc1.weight", {80, 24}},
        {"decoder.layers.*.mlp.linear_fc1.layer_norm_weight", {24}},
        {"decoder.layers.*.mlp.linear_fc2.weight", {24, 40}}}},
  };
  for (const Named& named : all) {
    const TempDir dir;
    put_file(dir / "config.json", named.config);
    auto writer = value_or_die(SafetensorsWriter::create(dir / "model.safetensors"));
    for (const auto& [name, shape] : named.once) {
      ok_or_die(writer.add(name, Tensor(DType::kBF16, shape).view()));
    }
    for (const auto& [name, shape] : named.layer) {
      for (const char* layer : {"0", "1"}) {
        std::string full = name;
        full.replace(full.find('*'), 1, layer);
        ok_or_die(writer.add(full, Tensor(DType::kBF16, shape).view()));
      }
    }
    ok_or_die(writer.close());
    for (const std::int64_t tp : {2, 4}) {
      const ShardModel model = value_or_die(open_shard_model(dir.path(), tp));
      const Plan plan = value_or_die(make_plan(model.config, tp, model.options()));
      EXPECT_EQ(coverage_problems(plan, model.config), std::vector<std::string>{});
      const LoaderLedger ledger = loader_ledger(plan, model);
      EXPECT_EQ(ledger.missing, std::vector<std::string>{});
      EXPECT_EQ(ledger.unread, std::vector<std::string>{});
      for (const PlanRecord& record : plan.records) {
        EXPECT_EQ(value_or_die(build_shard(record, model.sources())).shape(), record.shape)
            << record.dest;
      }
    }
  }
}

using Edit = std::function<void(const ShardModel&, PlanRecord&)>;

// A file a rank, of a plan whose records were edited.
void write_shards(const ShardModel& model, const Plan& plan, std::int64_t tp, const fs::path& dir,
                  const Edit& edit, const std::string& root = "") {
  for (std::int64_t r = 0; r < tp; ++r) {
    auto writer = value_or_die(
        SafetensorsWriter::create(dir / ("rank" + std::to_string(r) + ".safetensors")));
    for (PlanRecord record : plan.records) {
      if (record.rank != r) continue;
      edit(model, record);
      Tensor t = value_or_die(build_shard(record, model.sources()));
      ok_or_die(writer.add(root + record.dest, t.view()));
    }
    ok_or_die(writer.close());
  }
}

class FamilyShards : public ::testing::Test {
 protected:
  using Ids = std::set<std::string>;

  // Shards of a plan whose records were edited, checked as a user would.
  Ids found(const std::string& name, std::int64_t tp, const Edit& edit,
            const std::string& root = "") {
    const ShardModel model = value_or_die(open_shard_model(family_dir(name), tp));
    const Plan plan = value_or_die(make_plan(model.config, tp, model.options()));
    const TempDir dir;
    write_shards(model, plan, tp, dir.path(), edit, root);
    const Ran ran = run_parscope(
        {"shard", "check", family_dir(name), "--tp", std::to_string(tp), dir.path(), "--json"});
    const auto json = nlohmann::json::parse(ran.out);
    Ids out;
    for (const auto& f : json["findings"]) out.insert(f["id"]);
    EXPECT_EQ(ran.code == 0, out.empty() || out == Ids{"shard-order"}) << ran.err;
    return out;
  }
  // An edit of one layer's fused projection.
  static Edit of_qkv(const std::function<void(const ShardModel&, PlanRecord&)>& edit) {
    return [edit](const ShardModel& model, PlanRecord& record) {
      const bool fused =
          record.dest == family_tensor(*model.family, "", "layers.1.self_attn.qkv_proj.weight");
      if (fused) edit(model, record);
    };
  }
  static void cut_contiguously(const ShardModel&, PlanRecord& record) {
    const ShardPart first = record.parts[0];
    const std::int64_t rows = record.shape[0];
    record.parts = {{first.source, first.dim, record.rank * rows, rows, 0, first.transposed}};
  }
};

TEST_F(FamilyShards, RightOnesAreRight) {
  for (const std::string& name : families()) {
    for (const std::int64_t tp : {2, 4}) {
      EXPECT_EQ(found(name, tp, [](const ShardModel&, PlanRecord&) {}), Ids{}) << name;
    }
  }
  EXPECT_EQ(found("bloom", 2, [](const ShardModel&, PlanRecord&) {}, "transformer."), Ids{});
}

TEST_F(FamilyShards, OnePieceOfTheFusedTensorIsRightOnlyHeadByHead) {
  EXPECT_EQ(found("gpt2", 2, of_qkv(cut_contiguously)), Ids{"TP004"});
  EXPECT_EQ(found("phi3", 2, of_qkv(cut_contiguously)), Ids{"TP004"});
  EXPECT_EQ(found("gpt_neox", 2, of_qkv(cut_contiguously)), Ids{"shard-order"});
  // One key/value head a rank: head by head is q, k, v.
  EXPECT_EQ(found("falcon_new", 2, of_qkv(cut_contiguously)), Ids{});
  // Four ranks hold copies of two key/value heads: no piece of the file is a rank's.
  EXPECT_EQ(found("falcon_new", 4, of_qkv([](const ShardModel& model, PlanRecord& record) {
                    record.shape[0] = 12;
                    cut_contiguously(model, record);
                  })),
            Ids{"TP001"});
}

TEST_F(FamilyShards, MistakesHaveTheirNames) {
  const auto exchange_kv = [](const ShardModel&, PlanRecord& record) {
    const std::size_t n = record.parts.size() / 3;  // as many ranges of q, k and v
    std::swap_ranges(record.parts.begin() + static_cast<std::ptrdiff_t>(n),
                     record.parts.begin() + static_cast<std::ptrdiff_t>(2 * n),
                     record.parts.begin() + static_cast<std::ptrdiff_t>(2 * n));
  };
  for (const char* name : {"gpt_neox", "gpt2", "phi3", "falcon_new"}) {
    EXPECT_EQ(found(name, 2, of_qkv(exchange_kv)), Ids{"TP005"}) << name;
  }
  const auto not_transposed = [](const ShardModel&, PlanRecord& record) {
    if (record.dest == "h.0.attn.c_proj.weight") record.parts[0].transposed = false;
  };
  EXPECT_EQ(found("gpt2", 2, not_transposed), Ids{"TP002"});
  const auto modulo = [](const ShardModel& model, PlanRecord& record) {
    // Rank 1 holds head 0 and takes head 1, rank 2 the other way round.
    const FusedRows right = fused_rows(model.config, rank_share(model.config, 4), model.layout,
                                       record.rank % 2 == 0 ? 0 : 2);
    record.parts[record.parts.size() - 2].start = right.k[0].start;
    record.parts[record.parts.size() - 1].start = right.v[0].start;
  };
  EXPECT_EQ(found("falcon_new", 4, of_qkv(modulo)), Ids{"TP006"});
  const auto other_rank = [](const ShardModel&, PlanRecord& record) {
    if (record.dest == "h.1.mlp.c_fc.weight") record.parts[0].start = 48 - record.parts[0].start;
  };
  EXPECT_EQ(found("gpt2", 2, other_rank), Ids{"TP003"});
  const auto other_layer = [](const ShardModel&, PlanRecord& record) {
    if (record.dest != "h.1.ln_1.bias") return;
    record.parts[0].source = "transformer.h.0.ln_1.bias";
  };
  EXPECT_EQ(found("bloom", 2, other_layer), Ids{});  // no such name there
  EXPECT_EQ(found("gpt2", 2, other_layer), Ids{"TP007"});
}

// Rules of 2.3, planted in a checkpoint.
TEST(LoaderLedger, EveryTensorIsReadOrMayStayUnread) {
  const TempDir dir;
  fs::create_directories(dir / "m");
  fs::copy(family_dir("gpt_neox") / "config.json", dir / "m/config.json");
  const auto ledger = [&](const EditTensor& edit, const std::string& extra) {
    std::map<std::string, Tensor> more;
    if (!extra.empty()) more.emplace(extra, Tensor(DType::kBF16, {3}));
    edit_tensors(family_dir("gpt_neox") / "model.safetensors", dir / "m/model.safetensors", edit,
                 more);
    const ShardModel model = value_or_die(open_shard_model(dir / "m", 2));
    return loader_ledger(value_or_die(make_plan(model.config, 2, model.options())), model);
  };
  const auto keep = [](const std::string&, Tensor&) { return true; };
  EXPECT_TRUE(ledger(keep, "gpt_neox.layers.0.attention.rotary_emb.inv_freq").unread.empty());
  EXPECT_TRUE(ledger(keep, "gpt_neox.layers.0.attention.bias").unread.empty());
  EXPECT_EQ(ledger(keep, "gpt_neox.layers.0.attention.gate.weight").unread,
            std::vector<std::string>{"gpt_neox.layers.0.attention.gate.weight"});
  const std::string bias = "gpt_neox.layers.1.mlp.dense_h_to_4h.bias";
  const auto without = [&](const std::string& name, Tensor&) { return name != bias; };
  EXPECT_EQ(ledger(without, "").missing, std::vector<std::string>{bias});
  const Ran plan = run_parscope({"shard", "plan", dir / "m", "--tp", "2"});
  EXPECT_EQ(plan.code, 2);
  EXPECT_NE(plan.err.find("TP007: " + bias), std::string::npos) << plan.err;
  EXPECT_NE(plan.out.find("missing: " + bias), std::string::npos) << plan.out;
}

TEST(LoaderLedger, ATiedHeadThatDiffersIsSaidOnce) {
  for (const std::string name : {"phi3", "gpt_neox"}) {  // one with Llama's names, one without
    const ShardModel model = value_or_die(open_shard_model(family_dir(name), 2));
    const Plan plan = value_or_die(make_plan(model.config, 2, model.options()));
    const TempDir dir;
    fs::create_directories(dir / "m");
    fs::create_directories(dir / "shards");
    auto config = nlohmann::json::parse(get_file(family_dir(name) / "config.json"));
    config["tie_word_embeddings"] = true;
    put_file(dir / "m/config.json", config.dump());
    const auto times_said = [&](bool differs) {
      Tensor head = Tensor::copy_of(*model.checkpoint->peek(plan.embedding));
      if (differs) head.bytes()[1] ^= std::byte{1};
      std::map<std::string, Tensor> more;
      more.emplace(plan.head, std::move(head));
      const auto but_the_head = [&](const std::string& n, Tensor&) { return n != plan.head; };
      edit_tensors(family_dir(name) / "model.safetensors", dir / "m/model.safetensors",
                   but_the_head, more);
      const ShardModel tied = value_or_die(open_shard_model(dir / "m", 2));
      write_shards(tied, value_or_die(make_plan(tied.config, 2, tied.options())), 2, dir / "shards",
                   [](const ShardModel&, PlanRecord&) {});
      const Ran ran =
          run_parscope({"shard", "check", dir / "m", "--tp", "2", dir / "shards", "--json"});
      const auto json = nlohmann::json::parse(ran.out);
      return std::count_if(json["findings"].begin(), json["findings"].end(),
                           [](const auto& f) { return f["id"] == "TP010"; });
    };
    EXPECT_EQ(times_said(true), 1) << name;
    EXPECT_EQ(times_said(false), 0) << name;
  }
}

TEST(LoaderLedger, MemoryThatNobodyWroteIsCalledSo) {
  const ShardModel model = value_or_die(open_shard_model(family_dir("phi3"), 2));
  const Plan plan = value_or_die(make_plan(model.config, 2, model.options()));
  const SourceLookup sources = model.sources();
  const PlanRecord& record = *plan.find(1, "layers.0.mlp.down_proj.weight");
  Tensor memory(DType::kF32, record.shape);
  for (std::uint32_t& word : memory.as<std::uint32_t>()) word = 0x7FC0DEAD;
  const ShardQuestion question{&plan, &model.config, &sources, &record, memory.view()};
  const auto names = name_shards({question});
  ASSERT_EQ(names.size(), 1U);
  EXPECT_EQ(names[0].code, "TP007");
  EXPECT_NE(names[0].words.find("7fc0dead"), std::string::npos) << names[0].words;
}

}  // namespace
}  // namespace ps
