// Values of a golden trace, dumped as vLLM, llama.cpp and transformers would, are the same values
// again: bit for bit where nothing was padded, and right in the eyes of `diagnose`.
#include <limits>
#include <map>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "diff/foreign/axes.h"
#include "tests/support/foreign_dump.h"
#include "tests/support/program.h"
#include "tests/support/run.h"

namespace ps {
namespace {

namespace fs = std::filesystem;

fs::path golden(const std::string& name) { return fixtures_dir() / "golden" / "parscale" / name; }

struct DumpFault {
  std::string first;  // after the name of a layer's first value
  bool swap_gate_up = false;
  bool swap_kv = false;
};

constexpr std::int64_t kSlots = 4;  // of a page

// Each sequence's tokens of the cache, in pages that lie in any order.
void put_paged(const fs::path& dir, const GoldenStep& g, const std::string& layer,
               const std::vector<std::vector<std::int64_t>>& columns) {
  const Floats k = g.value("model." + layer + ".self_attn:k_cache");
  const Floats v = g.value("model." + layer + ".self_attn:v_cache");
  const std::int64_t heads = k.shape[1], slots = k.shape[2], size = k.shape[3];
  const std::int64_t pages_each = (slots + kSlots - 1) / kSlots;
  const std::int64_t pages = g.batch * pages_each + 2;
  Floats out;
  out.shape = {2, pages, kSlots, heads, size};
  out.cells.assign(static_cast<std::size_t>(2 * pages * kSlots * heads * size), 777.0F);
  std::vector<std::int64_t> table;
  for (std::int64_t b = 0; b < g.batch; ++b) {
    for (std::int64_t p = 0; p < pages_each; ++p) table.push_back(pages - 1 - (p * g.batch + b));
    const auto& mine = columns[static_cast<std::size_t>(b)];
    for (std::size_t i = 0; i < mine.size(); ++i) {
      const auto token = static_cast<std::int64_t>(i);
      const std::int64_t page = table[static_cast<std::size_t>(b * pages_each + token / kSlots)];
      for (std::int64_t h = 0; h < heads; ++h) {
        for (std::int64_t d = 0; d < size; ++d) {
          const auto from =
              static_cast<std::size_t>(((b * heads + h) * slots + mine[i]) * size + d);
          const std::int64_t to = ((page * kSlots + token % kSlots) * heads + h) * size + d;
          out.cells[static_cast<std::size_t>(to)] = k.cells[from];
          out.cells[static_cast<std::size_t>(pages * kSlots * heads * size + to)] = v.cells[from];
        }
      }
    }
  }
  put_floats(dir / ("model." + layer + ".self_attn.attn.kv_cache.npy"), out);
  put_integers(dir / "block_tables.npy", {g.batch, pages_each}, table);
}

void dump_as_vllm(const fs::path& model, const fs::path& dir, const DumpFault& fault = {}) {
  const Result<Trace> trace = Trace::open(model / "expected");
  ASSERT_TRUE(trace.ok());
  std::vector<std::vector<std::int64_t>> columns;
  for (const GoldenStep& g : golden_steps(*trace)) {
    const fs::path out = dir / ("step-" + std::to_string(g.step->step));
    std::vector<std::int64_t> ids, positions, ends = {0};
    columns.resize(static_cast<std::size_t>(g.batch));
    for (std::int64_t b = 0; b < g.batch; ++b) {
      for (const std::int64_t s : g.real[static_cast<std::size_t>(b)]) {
        auto& mine = columns[static_cast<std::size_t>(b)];
        positions.push_back(static_cast<std::int64_t>(mine.size()));
        mine.push_back(g.past + s);
        ids.push_back(static_cast<std::int64_t>(
            value_at(*g.step->tensors->find("input_ids"), b * g.length + s)));
      }
      ends.push_back(static_cast<std::int64_t>(ids.size()));
    }
    const auto tokens = static_cast<std::int64_t>(ids.size());
    put_integers(out / "input_ids.npy", {tokens}, ids);
    put_integers(out / "positions.npy", {tokens}, positions);
    put_integers(out / "query_start_loc.npy", {g.batch + 1}, ends);
    if (g.has("lm_head")) put_floats(out / "logits_processor.npy", g.flat("lm_head"));
    if (!g.has("model.layers.0.self_attn.q_proj")) continue;  // golden steps of inputs alone
    for (int n = 0; n < 2; ++n) {
      const std::string layer = "layers." + std::to_string(n), name = "model." + layer;
      const auto put = [&](const std::string& what, const Floats& f) {
        put_floats(out / (name + what + ".npy"), f);
      };
      // vLLM's linear layers return a pair, of which a hook may write the first as NAME.0.
      put(".self_attn.qkv_proj" + fault.first,
          beside({g.flat(name + ".self_attn.q_proj"),
                  g.flat(name + (fault.swap_kv ? ".self_attn.v_proj" : ".self_attn.k_proj")),
                  g.flat(name + (fault.swap_kv ? ".self_attn.k_proj" : ".self_attn.v_proj"))}));
      put(".self_attn.rotary_emb.0", g.flat_heads(name + ".self_attn:q_rope"));
      put(".self_attn.rotary_emb.1", g.flat_heads(name + ".self_attn:k_rope"));
      put(".self_attn.attn", g.flat(name + ".self_attn:context"));
      put(".self_attn.o_proj" + fault.first, g.flat(name + ".self_attn.o_proj"));
      const std::string gate = fault.swap_gate_up ? ".mlp.up_proj" : ".mlp.gate_proj";
      const std::string up = fault.swap_gate_up ? ".mlp.gate_proj" : ".mlp.up_proj";
      put(".mlp.gate_up_proj" + fault.first, beside({g.flat(name + gate), g.flat(name + up)}));
      put(".mlp.down_proj" + fault.first, g.flat(name + ".mlp.down_proj"));
      put(".0", g.flat(name + ".mlp.down_proj"));  // what a layer returns
      put(n == 0 ? ".input_layernorm" : ".input_layernorm.0", g.flat(name + ".input_layernorm"));
      if (n > 0) put(".input_layernorm.1", g.flat("model.layers." + std::to_string(n - 1)));
      put(".post_attention_layernorm.0", g.flat(name + ".post_attention_layernorm"));
      put_paged(out, g, layer, columns);
    }
    put_floats(out / "model.norm.0.npy", g.flat("model.norm"));
    put_floats(out / "model.norm.1.npy", g.flat("model.layers.1"));
  }
}

// Every value of `made` against the golden one of its name; how many there were.
std::int64_t same_values(const fs::path& made, const fs::path& model) {
  const Result<Trace> mine = Trace::open(made), theirs = Trace::open(model / "expected");
  EXPECT_TRUE(mine.ok() && theirs.ok());
  std::int64_t compared = 0;
  for (std::size_t i = 0; i < theirs->steps().size(); ++i) {
    for (const auto& entry : mine->steps()[i].tensors->entries()) {
      const TensorView* expected = theirs->steps()[i].tensors->find(entry.name);
      if (entry.name == "position_ids") continue;  // not stored by the golden
      EXPECT_NE(expected, nullptr) << entry.name;
      if (expected == nullptr) continue;
      EXPECT_EQ(entry.view.shape, expected->shape) << entry.name;
      const bool same = std::equal(entry.view.bytes.begin(), entry.view.bytes.end(),
                                   expected->bytes.begin(), expected->bytes.end());
      EXPECT_TRUE(same) << "step " << i << " " << entry.name;
      ++compared;
    }
  }
  return compared;
}

TEST(Convert, ADumpOfVllmWithPagedCachesIsTheTraceAgainBitForBit) {
  const fs::path model = golden("hf_llama3_rope_decode");
  for (const char* first : {"", ".0"}) {
    const TempDir dir;
    DumpFault names;
    names.first = first;
    dump_as_vllm(model, dir / "dump", names);
    const Ran ran = run_parscope({"convert", dir / "dump", "-o", dir / "trace", "--model", model});
    ASSERT_EQ(ran.code, 0) << ran.err;
    EXPECT_NE(ran.out.find("names of vllm (recognised): "), std::string::npos) << ran.out;
    EXPECT_EQ(ran.out.find("do not fit"), std::string::npos) << ran.out;
    EXPECT_GE(same_values(dir / "trace", model), 2 * 2 * 14);
  }
}

TEST(Convert, ARaggedDumpOfVllmIsRightInTheEyesOfDiagnose) {
  PS_NEEDS_REFERENCE();
  const TempDir dir;
  const fs::path model = golden("hf_qwen2_rightpad");
  dump_as_vllm(model, dir / "dump");
  const Ran ran = run_parscope({"diagnose", dir / "dump", "--model", model, "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err << ran.out;
  const auto report = nlohmann::json::parse(ran.out);
  EXPECT_EQ(report["verdict"], "equivalent");
  EXPECT_GT(report["points"].size(), 25U);
  EXPECT_NE(report["inputs"]["conversion"].get<std::string>().find("vllm"), std::string::npos);
}

TEST(Convert, AMistakeInADumpIsStillFound) {
  PS_NEEDS_REFERENCE();
  const fs::path model = golden("hf_qwen2_rightpad");
  for (const bool kv : {false, true}) {
    const TempDir dir;
    DumpFault fault;
    fault.swap_kv = kv;
    fault.swap_gate_up = !kv;
    dump_as_vllm(model, dir / "dump", fault);
    const Ran ran = run_parscope({"diagnose", dir / "dump", "--model", model, "--json"});
    ASSERT_EQ(ran.code, 1) << ran.err << ran.out;
    const auto report = nlohmann::json::parse(ran.out);
    EXPECT_EQ(report["first_divergence"]["point"],
              kv ? "model.layers.0.self_attn.k_proj" : "model.layers.0.mlp.gate_proj");
  }
}

// One sequence of the golden batch as llama.cpp's callback gives it: ggml's order of sizes, heads
// whose channels stand pair by pair (LLaMA's converter), a cache longer than it is full.
void dump_as_llama_cpp(const fs::path& model, const fs::path& dir, bool ggml_sizes) {
  const Result<Trace> trace = Trace::open(model / "expected");
  ASSERT_TRUE(trace.ok());
  constexpr std::int64_t kRoom = 32;
  for (GoldenStep g : golden_steps(*trace)) {
    const fs::path out = dir / ("step-" + std::to_string(g.step->step));
    g.real.resize(1);
    const std::int64_t whole = g.batch;
    const auto row0 = [&](Floats f) {
      f.cells.resize(f.cells.size() / static_cast<std::size_t>(whole));
      f.shape[0] = 1;
      return f;
    };
    const auto put = [&](const std::string& name, Floats f, Shape shape) {
      if (ggml_sizes) std::reverse(shape.begin(), shape.end());
      f.shape = shape;
      put_floats(out / (name + ".npy"), f);
    };
    const auto tokens = [&](const std::string& name) {
      GoldenStep one = g;
      one.real.resize(static_cast<std::size_t>(whole));  // the others have no token
      return one.flat(name);
    };
    const auto pairs = [&](Floats f, std::int64_t size) {  // halves to neighbours
      Floats to = f;
      for (std::size_t i = 0; i < f.cells.size(); ++i) {
        const auto d = static_cast<std::int64_t>(i) % size;
        const std::int64_t base = static_cast<std::int64_t>(i) - d;
        const std::int64_t half = size / 2;
        to.cells[static_cast<std::size_t>(base + d % half * 2 + d / half)] = f.cells[i];
      }
      return to;
    };
    std::vector<std::int64_t> ids;
    for (const std::int64_t s : g.real[0]) {
      ids.push_back(static_cast<std::int64_t>(value_at(*g.step->tensors->find("input_ids"), s)));
    }
    const auto n = static_cast<std::int64_t>(ids.size());
    put_integers(out / "inp_tokens.npy", {n}, ids);
    if (g.has("lm_head")) put("result_output", tokens("lm_head"), {n, 97});
    if (!g.has("model.layers.0.self_attn.q_proj")) continue;  // golden steps of inputs alone
    for (int layer = 0; layer < 2; ++layer) {
      const std::string name = "model.layers." + std::to_string(layer);
      const std::string at = "-" + std::to_string(layer);
      const Floats q = row0(g.value(name + ".self_attn:q_rope"));
      const std::int64_t heads = q.shape[1], size = q.shape[3];
      put("attn_norm" + at, tokens(name + ".input_layernorm"), {n, 32});
      put("Qcur" + at, pairs(tokens(name + ".self_attn.q_proj"), size), {n, heads * size});
      GoldenStep one = g;
      one.real.resize(static_cast<std::size_t>(whole));
      put("Qcur" + at + "#1", pairs(one.flat_heads(name + ".self_attn:q_rope"), size),
          {n, heads, size});
      put("Kcur" + at, pairs(tokens(name + ".self_attn.k_proj"), size), {n, size});
      put("Vcur" + at, tokens(name + ".self_attn.v_proj"), {n, size});
      put("kqv_out" + at, tokens(name + ".self_attn:context"), {n, heads * size});
      put("attn_out" + at, tokens(name + ".self_attn.o_proj"), {n, 32});
      put("ffn_norm" + at, tokens(name + ".post_attention_layernorm"), {n, 32});
      put("ffn_gate" + at, tokens(name + ".mlp.gate_proj"), {n, 40});
      put("ffn_up" + at, tokens(name + ".mlp.up_proj"), {n, 40});
      put("ffn_out" + at, tokens(name + ".mlp.down_proj"), {n, 32});
      put("l_out" + at, tokens(name), {n, 32});
      Floats cache = row0(g.value(name + ".self_attn:k_cache"));  // [1, 1, C, D]
      cache = pairs(cache, size);
      cache.cells.resize(static_cast<std::size_t>(kRoom * size), 0.0F);
      put("cache_k_l" + std::to_string(layer), cache, {kRoom, size});
    }
    put("result_norm", tokens("model.norm"), {n, 32});
  }
}

TEST(Convert, ADumpOfLlamaCppIsRightInEitherOrderOfSizes) {
  PS_NEEDS_REFERENCE();
  const fs::path model = golden("hf_llama3_rope_decode");
  for (const bool ggml : {true, false}) {
    const TempDir dir;
    dump_as_llama_cpp(model, dir / "dump", ggml);
    const Ran ran = run_parscope(
        {"diagnose", dir / "dump", "--model", model, "--names", "llama.cpp-norm", "--json"});
    ASSERT_EQ(ran.code, 0) << ggml << ran.err << ran.out;
    const auto report = nlohmann::json::parse(ran.out);
    EXPECT_EQ(report["verdict"], "equivalent");
    EXPECT_GT(report["points"].size(), 50U);
    for (const auto& point : report["points"]) {
      EXPECT_NE(point["status"], "unmatched") << point["point"];
    }
  }
}

// Channels pair by pair under names that say otherwise: scores and logits are the same, so nothing
// is wrong with the model; what differs is said, by its name.
TEST(Convert, LlamasChannelsUnderTheNamesOfOtherModelsAreSaidToBePermuted) {
  PS_NEEDS_REFERENCE();
  const fs::path model = golden("hf_llama3_rope_decode");
  const TempDir dir;
  dump_as_llama_cpp(model, dir / "dump", true);
  const Ran ran = run_parscope({"diagnose", dir / "dump", "--model", model, "--json"});
  EXPECT_EQ(ran.code, 0) << ran.err << ran.out;
  EXPECT_NE(ran.err.find("names of llama.cpp (recognised)"), std::string::npos) << ran.err;
  const auto report = nlohmann::json::parse(ran.out);
  ASSERT_FALSE(report["findings"].empty());
  const auto& first = report["findings"][0];
  EXPECT_EQ(first["id"], "rope-permute-skipped");
  EXPECT_EQ(first["severity"], "info");
  EXPECT_EQ(first["point"], "model.layers.0.self_attn.q_proj");
}

TEST(Convert, WhatAUserSavesOfTransformersIsRight) {
  PS_NEEDS_REFERENCE();
  const fs::path hf = fixtures_dir() / "foreign" / "hf";
  const Ran ran = run_parscope({"diagnose", hf / "out.pt", "--model", hf, "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err << ran.out;
  EXPECT_NE(ran.err.find("names of hf (recognised)"), std::string::npos) << ran.err;
  const auto report = nlohmann::json::parse(ran.out);
  EXPECT_EQ(report["verdict"], "equivalent");
  std::map<std::string, std::string> status;
  for (const auto& p : report["points"]) status[p["point"]] = p["status"];
  for (const char* point : {"model.embed_tokens", "model.layers.0", "model.norm", "lm_head",
                            "model.layers.1.self_attn:probs", "model.layers.1.self_attn:k_cache"}) {
    EXPECT_EQ(status[point], "ok") << point;
  }
}

TEST(Convert, AUsersOwnRulesReadATransposedCache) {
  const TempDir dir;
  const fs::path model = golden("hf_llama3_rope_decode");
  const Result<Trace> trace = Trace::open(model / "expected");
  ASSERT_TRUE(trace.ok());
  const GoldenStep g = golden_steps(*trace)[0];
  const Floats k = g.value("model.layers.1.self_attn:k_cache");  // [2, 1, 6, 16]
  Floats turned;
  turned.shape = {2, 1, 16, 6};
  turned.cells.resize(k.cells.size());
  for (std::size_t b = 0; b < 2; ++b) {
    for (std::size_t t = 0; t < 6; ++t) {
      for (std::size_t d = 0; d < 16; ++d) {
        turned.cells[(b * 16 + d) * 6 + t] = k.cells[(b * 6 + t) * 16 + d];
      }
    }
  }
  put_floats(dir / "dump" / "KT1.npy", turned);
  std::vector<std::int64_t> ids(12, 5);
  put_integers(dir / "dump" / "tokens.npy", {2, 6}, ids);
  put_file(dir / "my.names",
           "# mine\ninput tokens input_ids\n"
           "map KT(\\d+) model.layers.$1.self_attn:k_cache B,K,D,C\n");
  const Ran ran = run_parscope({"convert", dir / "dump", "-o", dir / "trace", "--names",
                                dir / "my.names", "--model", model});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const Result<Trace> made = Trace::open(dir / "trace");
  const TensorView* mine = made->steps()[0].tensors->find("model.layers.1.self_attn:k_cache");
  ASSERT_NE(mine, nullptr) << ran.out;
  EXPECT_EQ(mine->shape, (Shape{2, 1, 6, 16}));
  for (std::int64_t i = 0; i < mine->count(); ++i) {
    ASSERT_EQ(value_at(*mine, i), k.cells[static_cast<std::size_t>(i)]) << i;
  }
}

TEST(Convert, AFusedProjectionOfOneRankIsCutByTheRanksOwnHeads) {
  ModelConfig config;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 8;
  config.hidden_size = 32;
  config.intermediate_size = 40;
  config.layers = 1;
  config.vocab_size = 97;
  BatchMap batch;
  batch.batch = 2;
  batch.length = 2;
  batch.columns = 2;
  batch.lengths = {1, 2};  // the first sequence is padded
  batch.column_of = {{1}, {0, 1}};
  std::vector<float> cells(3 * 32);
  for (std::size_t i = 0; i < cells.size(); ++i) cells[i] = static_cast<float>(i);
  const Tensor value = Tensor::of<float>(DType::kF32, {3, 32}, cells);
  const auto layout = parse_layout("t,H*D|K*D|K*D", "test");
  ASSERT_TRUE(layout.ok());
  const std::vector<std::string> targets = {"R,S,H*D", "R,S,K*D", "R,K,S,D"};
  const auto parts = arrange(value.view(), *layout, targets, sizes_of(&config, 2), batch, false);
  ASSERT_TRUE(parts.ok()) << parts.error().line();
  ASSERT_EQ((*parts)[0].shape(), (Shape{2, 2, 16}));
  ASSERT_EQ((*parts)[1].shape(), (Shape{2, 2, 8}));
  ASSERT_EQ((*parts)[2].shape(), (Shape{2, 1, 2, 8}));
  EXPECT_EQ(value_at((*parts)[0].view(), 0), 0);             // padding
  EXPECT_EQ(value_at((*parts)[0].view(), 16 + 3), 3);        // token 0
  EXPECT_EQ(value_at((*parts)[0].view(), 32), 32);           // token 1
  EXPECT_EQ(value_at((*parts)[1].view(), 8 + 5), 16 + 5);    // token 0, k
  EXPECT_EQ(value_at((*parts)[2].view(), 24 + 7), 64 + 31);  // token 2, v
  EXPECT_FALSE(arrange(value.view(), *layout, targets, sizes_of(&config, 1), batch, false).ok());
}

TEST(Convert, BadInputIsOneLineAndNothingIsWritten) {
  const TempDir dir;
  expect_bad_input(run_parscope({"convert", dir / "none", "-o", dir / "t"}), "does not exist");
  expect_bad_input(run_parscope({"convert", dir.path()}), "no -o TRACE");
  expect_bad_input(run_parscope({"convert", dir.path(), "-o", dir / "t"}), "holds no tensors");
  put_file(dir / "x.txt", "hello");
  expect_bad_input(run_parscope({"convert", dir / "x.txt", "-o", dir / "t"}), ".npz");
  put_file(dir / "bad.names", "map (open model.norm t,h\n");
  const fs::path out = fixtures_dir() / "foreign" / "stored.npz";
  expect_bad_input(run_parscope({"convert", out, "-o", dir / "t", "--names", dir / "bad.names"}),
                   "bad.names:1: is no regular expression");
  expect_bad_input(run_parscope({"convert", out, "-o", dir / "t", "--names", "vlm"}),
                   "one of sglang, vllm");
  expect_bad_input(
      run_parscope({"convert", fixtures_dir() / "foreign" / "module.pt", "-o", dir / "t"}),
      "not allowed");
  EXPECT_FALSE(fs::exists(dir / "t"));
}

// What users save most often: outputs alone, without the tokens that they come from.
TEST(Convert, WithoutTokensNothingIsCutAway) {
  const TempDir dir;
  const auto numbered = [](Shape shape) {
    Floats f{shape, std::vector<float>(static_cast<std::size_t>(count_of(shape)))};
    for (std::size_t i = 0; i < f.cells.size(); ++i) f.cells[i] = 0.25F + static_cast<float>(i);
    return f;
  };
  put_floats(dir / "dump" / "hidden_states.0.npy", numbered({1, 4, 8}));
  put_floats(dir / "dump" / "hidden_states.1.npy", numbered({1, 4, 8}));
  put_floats(dir / "dump" / "attentions.0.npy", numbered({1, 2, 4, 4}));
  put_floats(dir / "dump" / "past_key_values.0.0.npy", numbered({1, 2, 4, 3}));
  put_floats(dir / "dump" / "logits.npy", numbered({1, 4, 11}));
  const Ran made = run_parscope({"convert", dir / "dump", "-o", dir / "t"});
  ASSERT_EQ(made.code, 0) << made.err;
  const Trace trace = value_or_die(Trace::open(dir / "t"));
  const SafetensorsFile& step = *trace.steps().at(0).tensors;
  ASSERT_NE(step.find("model.layers.0.self_attn:probs"), nullptr) << made.out;
  EXPECT_EQ(step.find("model.layers.0.self_attn:probs")->shape, (Shape{1, 2, 4, 4}));
  ASSERT_NE(step.find("model.layers.0.self_attn:k_cache"), nullptr) << made.out;
  EXPECT_EQ(step.find("model.layers.0.self_attn:k_cache")->shape, (Shape{1, 2, 4, 3}));
  // The last hidden state of transformers stands behind the final norm: it is no layer's.
  EXPECT_EQ(step.find("model.layers.0"), nullptr);
  EXPECT_NE(step.find("model.norm"), nullptr);
}

TEST(Convert, NamesThatNobodyKnowsAreSaidToBe) {
  for (const bool known : {false, true}) {
    const TempDir dir;
    put_integers(dir / "dump" / "input_ids.npy", {1, 4}, {3, 1, 4, 1});
    put_floats(dir / "dump" / (known ? "model.norm.npy" : "engine.norm.npy"),
               {{1, 4, 5}, std::vector<float>(20, 0.5F)});
    put_floats(dir / "dump" / (known ? "lm_head.npy" : "engine.head.npy"),
               {{1, 4, 11}, std::vector<float>(44, 0.5F)});
    const Ran ran = run_parscope({"convert", dir / "dump", "-o", dir / "t"});
    ASSERT_EQ(ran.code, 0) << ran.err;
    EXPECT_EQ(ran.out.find("most names are unknown") == std::string::npos, known) << ran.out;
  }
}

TEST(Convert, AMaskOfEveryPairGoesAlong) {
  const TempDir dir;
  const std::vector<std::int64_t> ids = {3, 1, 4, 1}, pairs(16, 1);
  put_integers(dir / "dump" / "input_ids.npy", {1, 4}, ids);
  put_integers(dir / "dump" / "attention_mask.npy", {1, 1, 4, 4}, pairs);
  put_floats(dir / "dump" / "logits.npy", {{1, 4, 11}, std::vector<float>(44, 0.5F)});
  ASSERT_EQ(run_parscope({"convert", dir / "dump", "-o", dir / "t"}).code, 0);
  const Trace trace = value_or_die(Trace::open(dir / "t"));
  const TensorView* mask = trace.steps().at(0).tensors->find("attention_mask");
  ASSERT_NE(mask, nullptr);
  EXPECT_EQ(mask->shape, (Shape{1, 1, 4, 4}));
}

TEST(Convert, AConversionThatFailsLeavesNoTrace) {
  const TempDir dir;
  for (const auto& [step, batch] :
       {std::pair<std::string, std::int64_t>{"step-0", 2}, {"step-1", 3}}) {
    const std::vector<std::int64_t> ids(static_cast<std::size_t>(batch), 5);
    put_integers(dir / "dump" / step / "input_ids.npy", {batch, 1}, ids);
    put_floats(dir / "dump" / step / "logits.npy",
               {{batch, 1, 7}, std::vector<float>(static_cast<std::size_t>(7 * batch), 1.0F)});
  }
  EXPECT_EQ(run_parscope({"convert", dir / "dump", "-o", dir / "t"}).code, 2);
  EXPECT_EQ(run_parscope({"lint", dir / "t"}).code, 2);
  EXPECT_FALSE(fs::exists(dir / "t" / "step-00000.rank-00000.safetensors"));
}

TEST(Convert, LengthsThatWrapAroundAreRefused) {
  const TempDir dir;
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  put_integers(dir / "dump" / "input_ids.npy", {4}, {1, 2, 3, 4});
  put_integers(dir / "dump" / "seq_lens.npy", {3}, {kMost, kMost, 6});
  put_floats(dir / "dump" / "logits.npy", {{4, 7}, std::vector<float>(28, 1.0F)});
  expect_bad_input(run_parscope({"convert", dir / "dump", "-o", dir / "t", "--names", "vllm"}),
                   "seq_lens");
}

}  // namespace
}  // namespace ps
