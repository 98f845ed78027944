// The probe recovers what an engine really does: right masks of every family, and masks that an
// engine was told to get wrong (rows without a key opened, or averaged over everything).
#include "diff/sparse/mask_probe.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/sparse_attention.h"
#include "diff/mask/probe.h"
#include "diff/run/inputs.h"
#include "model/candidate.h"
#include "tests/support/engine_around.h"
#include "tests/support/engine_subject.h"
#include "tests/support/program.h"
#include "tests/support/run.h"

namespace ps::mask {
namespace {

OpenProbe on_host(EmptyRows empty = EmptyRows::kZeros, DType dtype = DType::kF32) {
  return [=](const Model& probe) {
    CandidateOptions options;
    options.device = Device::kHost;
    options.dtype = dtype;
    options.empty_rows = empty;
    return open_candidate(probe, options);
  };
}

std::vector<std::string> ids(const std::vector<Finding>& findings) {
  std::vector<std::string> out;
  for (const Finding& f : findings) out.push_back(f.id);
  return out;
}

void expect_equal(const ModelConfig& config, const ProbePlan& plan,
                  const std::vector<ProbedMask>& probed) {
  for (const ProbedMask& at : probed) {
    const Expected e = value_or_die(Expected::of(expected_program(config, plan.prompt, at)));
    EXPECT_TRUE(equal(e.mask(), at.mask)) << "step " << at.step << " layer " << at.layer;
  }
}

struct Family {
  std::string type;
  std::vector<ConfigChange> changes;
};

TEST(MaskProbe, TheHostModelAppliesTheMaskThatItsConfigSays) {
  // head_dim 8: three groups of columns, the last one partly filled; 7 prefix slots.
  const std::vector<Family> families = {
      {"llama", {}},
      {"qwen2",
       {{"use_sliding_window", "true"}, {"sliding_window", "5"}, {"max_window_layers", "1"}}},
      {"qwen3", {}},
      {"qwen2_parscale", {}},
      {"qwen2_parscale", {{"parscale_n_tokens", "19"}, {"parscale_n", "2"}}}};
  for (const Family& family : families) {
    const Subject s(family.type, family.changes);
    ProbePlan plan{random_inputs(3, 13, 5, s.model.config), 0, 5};
    for (const std::int64_t chunk : {0, 4}) {
      plan.chunk = chunk;
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        const auto probed =
            value_or_die(probe_masks(s.model, plan, on_host(EmptyRows::kZeros, dtype)));
        EXPECT_EQ(probed.size(), static_cast<std::size_t>((chunk == 0 ? 1 : 4) + 5) * 3U);
        expect_equal(s.model.config, plan, probed);
      }
    }
  }
}

TEST(MaskProbe, WhatAnEngineDoesToRowsWithoutAKeyIsSeen) {
  const Subject s("llama");
  const ProbePlan plan{random_inputs(3, 11, 5, s.model.config), 0, 0};
  ASSERT_TRUE(plan.prompt.attention_mask);
  const auto findings = [&](EmptyRows empty) {
    const auto probed = value_or_die(probe_masks(s.model, plan, on_host(empty)));
    const Expected e =
        value_or_die(Expected::of(expected_program(s.model.config, plan.prompt, probed[0])));
    EXPECT_GT(e.mask().empty_rows(), 0);
    return ids(value_or_die(check(e, probed[0].mask)));
  };
  using Ids = std::vector<std::string>;
  EXPECT_EQ(findings(EmptyRows::kZeros), Ids{"MK001"});
  const Ids opened = findings(EmptyRows::kOpened);
  EXPECT_NE(std::find(opened.begin(), opened.end(), "MK003"), opened.end());
  const Ids uniform = findings(EmptyRows::kUniform);  // the mean of all values, future and padding
  EXPECT_NE(std::find(uniform.begin(), uniform.end(), "MK002"), uniform.end());
  EXPECT_NE(std::find(uniform.begin(), uniform.end(), "MK003"), uniform.end());
}

TEST(MaskProbe, ACandidateThatForgetsItsWindowIsFound) {
  const Subject wrong("qwen2");
  const Subject right(
      "qwen2",
      {{"use_sliding_window", "true"}, {"sliding_window", "4"}, {"max_window_layers", "0"}});
  ProbePlan plan;
  plan.prompt.batch = 1;
  plan.prompt.length = 9;
  const auto probed = value_or_die(probe_masks(wrong.model, plan, on_host()));
  const Expected e =
      value_or_die(Expected::of(expected_program(right.model.config, plan.prompt, probed[0])));
  EXPECT_EQ(ids(value_or_die(check(e, probed[0].mask))),
            (std::vector<std::string>{"MK014", "MK005"}));
}

// Queries and keys of all replicas side by side. A prefix layer before them makes replicas differ.
TEST(MaskProbe, CrossKvLayersAreReadReplicaByReplica) {
  for (const char* name : {"xa_xkv_causal_n2", "xa_xkv_literal_n2"}) {
    const Model model = value_or_die(open_model(fixtures_dir() / "golden" / "parscale" / name));
    ProbePlan plan{random_inputs(3, 11, 5, model.config), 0, model.config.cross_kv_causal ? 2 : 0};
    const auto probed = value_or_die(probe_masks(model, plan, on_host()));
    expect_equal(model.config, plan, probed);
    const auto cross = std::find_if(probed.begin(), probed.end(),
                                    [](const ProbedMask& at) { return at.cross_kv; });
    ASSERT_NE(cross, probed.end());
    EXPECT_FALSE(cross->replicas_alike);
    EXPECT_EQ(cross->mask.dims(), (Dims{3, 4, 22, 22}));
    // The other reading of the same config is another mask, and known as such.
    ModelConfig other = model.config;
    other.cross_kv_causal = !other.cross_kv_causal;
    const Expected e = value_or_die(Expected::of(expected_program(other, plan.prompt, *cross)));
    const auto found = ids(value_or_die(check(e, cross->mask)));
    const char* code = other.cross_kv_causal ? "MK002" : "MK006";
    EXPECT_NE(std::find(found.begin(), found.end(), code), found.end()) << name;
  }
}

TEST(MaskProbe, WithoutAPrefixReplicasLookAlikeAndThatIsSaid) {
  Subject s("parscale_cross_attn", {{"architectures", R"(["ParScaleCrossKVForCausalLM"])"},
                                    {"parscale_n_tokens", "0"},
                                    {"parscale_n", "2"},
                                    {"enable_cross_attn", "true"},
                                    {"parscale_cross_attn_layers", "[1]"},
                                    {"xkv_causal", "true"}});
  const ProbePlan plan{random_inputs(2, 9, 5, s.model.config), 0, 0};
  const auto probed = value_or_die(probe_masks(s.model, plan, on_host()));
  expect_equal(s.model.config, plan, probed);
  EXPECT_TRUE(std::any_of(probed.begin(), probed.end(),
                          [](const ProbedMask& at) { return at.replicas_alike; }));
}

// An engine that is told of one token less than it was given: a key that nobody sees.
class HidesOneKey final : public EngineAround {
 public:
  HidesOneKey(std::unique_ptr<Engine> inner, std::int64_t key)
      : EngineAround(std::move(inner)), key_(key) {}
  Result<void> forward(const StepInputs& inputs, Tap& tap) override {
    StepInputs in = inputs;
    const auto total = static_cast<std::int64_t>(in.attention_mask->size()) / in.batch;
    (*in.attention_mask)[static_cast<std::size_t>(total + key_)] = 0;  // of the second sample
    return inner_->forward(in, tap);
  }

 private:
  std::int64_t key_;
};

// Of each replica's queries, in the cross-KV layers as in those before them, and nowhere else.
TEST(MaskProbe, AKeyHiddenFromCrossKvLayersIsFoundInEveryReplica) {
  const Model model =
      value_or_die(open_model(fixtures_dir() / "golden" / "parscale" / "xa_xkv_causal_n2"));
  const ProbePlan plan{random_inputs(3, 11, 5, model.config), 0, 0};
  ASSERT_TRUE(plan.prompt.attention_mask);
  constexpr std::int64_t kHidden = 8;
  ASSERT_EQ((*plan.prompt.attention_mask)[11 + kHidden], 1);
  const auto probed = value_or_die(
      probe_masks(model, plan, [&](const Model& probe) -> Result<std::unique_ptr<Engine>> {
        PS_TRY(auto engine, on_host()(probe));
        return std::unique_ptr<Engine>(std::make_unique<HidesOneKey>(std::move(engine), kHidden));
      }));
  const auto cross =
      std::find_if(probed.begin(), probed.end(), [](const ProbedMask& at) { return at.cross_kv; });
  ASSERT_NE(cross, probed.end());
  const Expected e =
      value_or_die(Expected::of(expected_program(model.config, plan.prompt, *cross)));
  const Comparison c = value_or_die(compare(e, cross->mask));
  EXPECT_EQ(c.leak.count, 0);
  // Queries 8, 9, 10 of both replicas would see it in both replicas' keys; four heads.
  EXPECT_EQ(c.hidden.count, 2 * 3 * 2 * model.config.heads);
  ASSERT_TRUE(c.hidden.first);
  EXPECT_EQ(*c.hidden.first, (CellIndex{1, 0, kHidden, kHidden}));
  const auto found = ids(value_or_die(check(e, cross->mask)));
  EXPECT_NE(std::find(found.begin(), found.end(), "MK006"), found.end());
}

// A mask that is open where it should not be, seen from outside only.
class OpensOneBlock final : public SparseEngine {
 public:
  explicit OpensOneBlock(std::unique_ptr<SparseEngine> inner) : inner_(std::move(inner)) {}
  Result<SparseLayer> prefill(std::int64_t layer, const SparseInputs& inputs) override {
    PS_TRY(SparseLayer out, inner_->prefill(layer, inputs));
    if (!out.lists.empty() && out.lists.rows > 2) out.lists.at(0, 0, 2).pop_back();
    return out;
  }
  Result<SparseLayer> decode(std::int64_t layer, const SparseInputs& inputs) override {
    return inner_->decode(layer, inputs);
  }
  void reset() override { inner_->reset(); }

 private:
  std::unique_ptr<SparseEngine> inner_;
};

TEST(MaskProbe, BlockSparseKernelsAttendWhatTheySelected) {
  for (const char* name : {"walk_basic_grad", "walk_decode", "walk_left_padding_3d",
                           "walk_noncausal", "walk_partial_block_gqa", "walk_per_head_4d_mask"}) {
    const std::string dir = (fixtures_dir() / "golden" / "sparse" / name).string();
    const Ran ran = run_parscope({"mask", "probe", dir, "--device", "host", "--json"});
    EXPECT_EQ(ran.code, 0) << name << "\n" << ran.err << ran.out.substr(0, 1500);
    const auto report = nlohmann::json::parse(ran.out, nullptr, false);
    for (const auto& at : report["inputs"]["probed"]) EXPECT_EQ(at["equal"], true) << name;
    if (name == std::string("walk_decode")) {
      EXPECT_GT(report["inputs"]["probed"].back()["step"], 0);
    }
  }
  const SparseCase base =
      value_or_die(open_sparse_case({fixtures_dir() / "golden" / "sparse" / "walk_basic_grad"}));
  CandidateOptions options;
  options.device = Device::kHost;
  OpensOneBlock engine(value_or_die(open_sparse_candidate(base.config, base.weights, options)));
  std::vector<std::string> found;
  for (const SparseProbedMask& at : value_or_die(probe_sparse_masks(base, engine))) {
    const Expected e = value_or_die(Expected::of(at.expected));
    for (const std::string& id : ids(value_or_die(check(e, at.applied)))) found.push_back(id);
  }
  EXPECT_NE(std::find(found.begin(), found.end(), "MK005"), found.end());
}

// One block more in what the engine says than in what its kernels attend to.
class SaysOneBlockMore final : public Tap {
 public:
  explicit SaysOneBlockMore(Tap& tap) : tap_(tap) {}
  bool wants(std::string_view point) override { return tap_.wants(point); }
  void take(std::string_view point, const TensorView& value) override {
    Tensor copy = Tensor::copy_of(value);
    if (point == "model.layers.2.self_attn:block_mask") {
      const std::int64_t n = value.shape[3], row = value.shape[2] - 1;
      for (std::int64_t j = 0; j < n; ++j) {
        std::uint8_t& cell = copy.as<std::uint8_t>()[static_cast<std::size_t>(row * n + j)];
        if (cell != 0) continue;
        cell = 1;
        break;
      }
    }
    tap_.take(point, copy.view());
  }

 private:
  Tap& tap_;
};
class SaysMore final : public EngineAround {
 public:
  using EngineAround::EngineAround;
  Result<void> forward(const StepInputs& inputs, Tap& tap) override {
    SaysOneBlockMore changed(tap);
    return inner_->forward(inputs, changed);
  }
};

TEST(MaskProbe, BlockSparseLayersOfAModelAttendWhatTheySelected) {
  const Model dense = value_or_die(open_model(bytes_model()));
  for (const char* kind :
       {"walk:bs=4,tau=3,r=16,skip=1", "gate:bs=4,gate=token_budget,token_budget=12,skip=0",
        "gate:bs=8,thr=0.2,n_sink=0,n_local=0,skip=0"}) {
    Model model = dense;
    model.config.json = value_or_die(with_attention(dense.config.json, kind, *dense.checkpoint));
    ProbePlan plan{random_inputs(2, 27, 5, model.config), 0, 4};
    for (const std::int64_t chunk : {0, 10}) {
      plan.chunk = chunk;
      const auto probed = value_or_die(probe_masks(model, plan, on_host()));
      expect_equal(model.config, plan, probed);
      std::int64_t left_out = 0, sparse = 0;
      for (const ProbedMask& at : probed) {
        ProbedMask whole = at;
        whole.block_size = 0;
        if (at.block_size == 0) continue;
        ++sparse;
        const Mask all =
            value_or_die(Expected::of(expected_program(model.config, plan.prompt, whole))).mask();
        left_out += equal(all, at.mask) ? 0 : 1;
      }
      EXPECT_GT(sparse, 0) << kind;
      EXPECT_GT(2 * left_out, sparse) << kind << ": most layers and steps must leave blocks out";
    }
  }
  Model model = dense;
  model.config.json = value_or_die(
      with_attention(dense.config.json, "walk:bs=4,tau=2,r=16,skip=1", *dense.checkpoint));
  const ProbePlan plan{random_inputs(2, 27, 5, model.config), 0, 0};
  const auto probed = value_or_die(
      probe_masks(model, plan, [&](const Model& probe) -> Result<std::unique_ptr<Engine>> {
        PS_TRY(auto engine, on_host()(probe));
        return std::unique_ptr<Engine>(std::make_unique<SaysMore>(std::move(engine)));
      }));
  for (const ProbedMask& at : probed) {
    const Expected e = value_or_die(Expected::of(expected_program(model.config, plan.prompt, at)));
    EXPECT_EQ(equal(e.mask(), at.mask), at.layer != 2) << at.layer;
  }
}

TEST(MaskProbe, TheCommandProbesBlockSparseLayersOfAModel) {
  const Ran ran =
      run_parscope({"mask", "probe", bytes_model().string(), "--random", "2x21", "--steps", "2",
                    "--device", "host", "--attention", "walk:bs=4,tau=2,skip=1", "--json"});
  EXPECT_EQ(ran.code, 0) << ran.err << ran.out.substr(0, 1500);
  const auto report = nlohmann::json::parse(ran.out);
  for (const auto& at : report["inputs"]["probed"]) EXPECT_EQ(at["equal"], true);
  expect_bad_input(
      run_parscope({"mask", "probe", bytes_model().string(), "--attention", "walk:x=1"}),
      "unknown option");
}

TEST(MaskProbe, TheCommandReportsEveryLayerAndStep) {
  const Ran ran = run_parscope({"mask", "probe", bytes_model().string(), "--random", "1x6",
                                "--steps", "2", "--device", "host", "--json"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  const auto report = nlohmann::json::parse(ran.out);
  EXPECT_EQ(report["verdict"], "equivalent");
  EXPECT_GE(report["inputs"]["probed"].size(), 3U);
  for (const auto& at : report["inputs"]["probed"]) EXPECT_EQ(at["equal"], true);
  const Ran wrong = run_parscope({"mask", "probe", bytes_model().string(),
                                  "kv_range(0, 8) | shift(dk=-8, causal(-1))", "--random", "1x6",
                                  "--device", "host", "--json"});
  EXPECT_EQ(wrong.code, 1) << wrong.err;
  expect_bad_input(run_parscope({"mask", "probe", bytes_model().string(), "Q=5 KV=5; causal",
                                 "--random", "1x6"}),
                   "other sizes");
  expect_bad_input(run_parscope({"mask", "probe"}), "probe takes MODEL_DIR");
}

}  // namespace
}  // namespace ps::mask
