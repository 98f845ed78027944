// What a checkpoint or the shards lack is an error (tensor-parallel.md 2.3): a destination that
// nobody wrote, a key that the checkpoint has not.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "diff/shard/check_fsdp.h"
#include "diff/shard/fsdp.h"
#include "tests/support/planted_shards.h"
#include "tests/support/program.h"

namespace ps {
namespace {

using Errors = std::set<std::string>;

// Leaves out of every rank's file what has one of these in its name.
PlantedShards::Edit without(const std::vector<std::string>& words) {
  return [words](std::int64_t, const std::string& dest, Tensor&) {
    return std::none_of(words.begin(), words.end(), [&](const std::string& word) {
      return dest.find(word) != std::string::npos;
    });
  };
}

bool noted(const Report& report, const std::string& name) {
  return std::any_of(report.findings.begin(), report.findings.end(), [&](const Finding& f) {
    return f.id == "shard-not-checked" && f.message.find(name) != std::string::npos;
  });
}

TEST(MissingShards, ANormThatNoRankHasIsAnErrorBesideOthers) {
  const PlantedShards planted(small_config("llama", 4, kBiases), 2);
  EXPECT_EQ(planted.errors(without({"layers.1.input_layernorm"})),
            Errors{"TP007 layers.1.input_layernorm.weight"});
  EXPECT_EQ(planted.errors(without({"input_layernorm"})),
            Errors{"TP007 layers.0.input_layernorm.weight"});
  for (const Finding& f : planted.check(without({"layers.1.input_layernorm"})).findings) {
    EXPECT_NE(f.id, "shard-not-checked") << f.message;  // layer 0 has one
  }
  // The last norm stands in no layer.
  const auto no_last = [](std::int64_t, const std::string& dest, Tensor&) {
    return dest != "norm.weight";
  };
  EXPECT_EQ(planted.errors(no_last), Errors{"TP007 norm.weight"});
}

// Files of what is cut, and of nothing that each rank copies: a part, and said to be one.
TEST(MissingShards, AWholeKindThatNoRankHasIsNoted) {
  const PlantedShards planted(small_config("llama", 4, kBiases), 2);
  const Report report = planted.check(without({"norm"}));
  EXPECT_EQ(exit_code(report), 0);
  EXPECT_TRUE(noted(report, "layers.*.input_layernorm.weight"));
  EXPECT_TRUE(noted(report, "norm.weight"));
}

TEST(MissingShards, BiasesHaveTheirCodes) {
  const PlantedShards planted(small_config("llama", 4, kBiases), 2);
  EXPECT_EQ(planted.errors(without({"qkv_proj.bias"})),
            Errors{"TP008 layers.0.self_attn.qkv_proj.bias"});
  EXPECT_EQ(planted.errors(without({"o_proj.bias"})),
            Errors{"TP009 layers.0.self_attn.o_proj.bias"});
  EXPECT_EQ(planted.errors(without({"qkv_proj.weight"})),
            Errors{"TP007 layers.0.self_attn.qkv_proj.weight"});
  const auto on_rank_0 = [](std::int64_t r, const std::string& dest, Tensor&) {
    return r == 0 || !dest.ends_with("o_proj.bias");
  };
  EXPECT_EQ(planted.errors(on_rank_0), Errors{});  // added once
}

class MissingFsdp : public ::testing::Test {
 protected:
  static constexpr std::int64_t kWorld = 4;

  // Shards of the byte model without some tensors.
  static Report check(const std::function<bool(const std::string&)>& keep) {
    const Model model = value_or_die(open_model(bytes_model()));
    const TempDir dir;
    for (std::int64_t r = 0; r < kWorld; ++r) {
      auto writer = value_or_die(
          SafetensorsWriter::create(dir / ("rank" + std::to_string(r) + ".safetensors")));
      for (const std::string& name : model.checkpoint->names()) {
        if (!keep(name)) continue;
        const TensorView& whole = *model.checkpoint->peek(name);
        const RowsOfRank rows = rows_of_rank(whole.shape[0], kWorld, r);
        Shape shape = whole.shape;
        shape[0] = rows.rows;
        Tensor t(whole.dtype, shape);
        copy_rows(t, 0, whole, rows.offset, rows.rows);
        ok_or_die(writer.add(name, t.view()));
      }
      ok_or_die(writer.close());
    }
    return value_or_die(check_fsdp_shards(model, kWorld, value_or_die(open_shards(dir.path()))));
  }
  static Errors errors(const std::function<bool(const std::string&)>& keep) {
    Errors out;
    for (const Finding& f : check(keep).findings) {
      if (f.severity == Severity::kError) out.insert(f.id + " " + f.point);
    }
    return out;
  }
};

TEST_F(MissingFsdp, ATensorThatNoRankHasIsAnError) {
  EXPECT_EQ(errors([](const std::string&) { return true; }), Errors{});
  EXPECT_EQ(errors([](const std::string& name) { return name != "model.norm.weight"; }),
            Errors{"TP007 model.norm.weight"});
  const std::string up = "model.layers.1.mlp.up_proj.weight";
  EXPECT_EQ(errors([&](const std::string& name) { return name != up; }), Errors{"TP007 " + up});
}

TEST_F(MissingFsdp, AWholeKindThatNoRankHasIsNoted) {
  const auto prefixes = [](const std::string& name) {
    return name.find("prefix_") != std::string::npos;
  };
  const Report part = check(prefixes);
  EXPECT_EQ(exit_code(part), 0);
  EXPECT_TRUE(noted(part, "self_attn, vocabulary"));
  // Less than half of all, of which one kind is not whole: a part still.
  const Report layer =
      check([](const std::string& name) { return name.starts_with("model.layers.0."); });
  EXPECT_EQ(exit_code(layer), 0);
  EXPECT_TRUE(noted(layer, "norms"));
  const Report no_norms =
      check([](const std::string& name) { return name.find("norm") == std::string::npos; });
  EXPECT_EQ(exit_code(no_norms), 0);
  EXPECT_TRUE(noted(no_norms, "(of norms)"));
}

class PlanOf : public ::testing::Test {
 protected:
  // `shard plan` of the byte model, edited.
  Ran plan(const EditTensor& edit, const std::map<std::string, Tensor>& more = {},
           const std::string& option = "--quiet") {
    const TempDir dir;
    copy_bytes_model(dir / "m", edit, more);
    auto config = nlohmann::json::parse(get_file(dir / "m/config.json"));
    tied_ = config.value("tie_word_embeddings", false);
    return run_parscope({"shard", "plan", dir / "m", "--tp", "2", option});
  }
  bool tied_ = false;
};

TEST_F(PlanOf, ACheckpointThatLacksAKeyIsBadInput) {
  const auto all = [](const std::string&, Tensor&) { return true; };
  EXPECT_EQ(plan(all).code, 0);
  const std::string up = "model.layers.1.mlp.up_proj.weight";
  const auto without_up = [&](const std::string& name, Tensor&) { return name != up; };
  expect_bad_input(plan(without_up), up);
  const Ran json = plan(without_up, {}, "--json");
  EXPECT_EQ(json.code, 2);
  EXPECT_NE(json.err.find("TP007"), std::string::npos) << json.err;
  EXPECT_TRUE(nlohmann::json::accept(json.out));
}

TEST_F(PlanOf, ATiedHeadThatDiffersIsBadInput) {
  const SafetensorsFile file =
      value_or_die(SafetensorsFile::open(bytes_model() / "model.safetensors"));
  const auto all = [](const std::string&, Tensor&) { return true; };
  for (const bool differs : {false, true}) {
    Tensor head = Tensor::copy_of(*file.find("model.embed_tokens.weight"));
    if (differs) head.bytes()[0] ^= std::byte{1};
    std::map<std::string, Tensor> more;
    more.emplace("lm_head.weight", std::move(head));
    const Ran ran = plan(all, more);
    ASSERT_TRUE(tied_);
    if (differs) {
      expect_bad_input(ran, "TP010");
    } else {
      EXPECT_EQ(ran.code, 0) << ran.err;
    }
  }
}

}  // namespace
}  // namespace ps
