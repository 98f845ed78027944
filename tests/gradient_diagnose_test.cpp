// Gradients of a trace judged against the reference's: right ones in every type pass, and each way
// of losing, cutting or scaling them is named. The reference's own are held to finite differences.
#include <algorithm>
#include <cmath>
#include <filesystem>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/gradients.h"
#include "core/sparse_attention.h"
#include "core/trace.h"
#include "diff/diagnose/gradients.h"
#include "diff/run/inputs.h"
#include "diff/run/random_model.h"
#include "tests/support/program.h"
#include "tests/support/run.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

namespace fs = std::filesystem;

std::unique_ptr<GradientReference> gradients_of(const Model& model, DType run) {
  ReferenceOptions options;
  options.dtype = DType::kF64;
  options.threads = 1;
  options.weights_through = run;
  return value_or_die(open_gradient_reference(model, options, run));
}

class Gradients : public ::testing::Test {
 protected:
  void SetUp() override { PS_NEEDS_REFERENCE(); }

  Model model() { return value_or_die(open_model(bytes_model())); }
  StepInputs inputs(const Model& m) { return random_inputs(2, 7, 3, m.config); }

  // The reference's gradients in the type of a candidate, as a trace with a change.
  using Map = std::map<std::string, Tensor>;
  Report judged(const Model& m, DType dtype, const GradientRequest& request,
                const std::function<void(Map&)>& change, GradientOptions options = {},
                bool with_cotangent = false) {
    ReferenceOptions own;
    own.dtype = dtype;
    own.threads = 1;
    own.weights_through = dtype;
    const auto made = value_or_die(open_gradient_reference(m, own, dtype));
    const StepInputs in = inputs(m);
    GradientRequest asked = request;
    if (with_cotangent) asked.wants = [](std::string_view p) { return p == "lm_head"; };
    Map map;
    for (auto& [name, g] : value_or_die(made->gradients(in, asked))) {
      Tensor narrow(DType::kF32, g.value.shape());
      for (std::int64_t i = 0; i < g.value.view().count(); ++i) {
        narrow.as<float>()[static_cast<std::size_t>(i)] =
            static_cast<float>(value_at(g.value.view(), i));
      }
      map.emplace(name, std::move(narrow));
    }
    if (change) change(map);
    const fs::path dir = temp_.path() / ("t" + std::to_string(traces_++));
    TraceManifest manifest;
    manifest.model_json = m.config.json;
    manifest.dtype = dtype;
    TraceWriter writer = value_or_die(TraceWriter::create(dir, manifest));
    ok_or_die(writer.begin_step(TraceStep{}, &in));
    for (const auto& [name, value] : map) ok_or_die(writer.add("grad/" + name, value.view()));
    ok_or_die(writer.end_step());
    ok_or_die(writer.close());
    const Trace trace = value_or_die(Trace::open(dir));
    Report report;
    const auto truth = gradients_of(m, dtype);
    ok_or_die(judge_gradients(trace, m.config, *truth, options, report));
    return report;
  }
  TempDir temp_;
  int traces_ = 0;
};

const Finding* first_error(const Report& r) {
  for (const Finding& f : r.findings) {
    if (f.severity == Severity::kError) return &f;
  }
  return nullptr;
}

std::string evidence(const Finding& f, std::string_view name) {
  for (const auto& [n, json] : f.evidence) {
    if (n == name) return json;
  }
  return "";
}

// A step along random directions of every parameter, against central differences.
TEST_F(Gradients, OfTheReferenceAgreeWithFiniteDifferences) {
  const Model dense = value_or_die(
      open_model(fixtures_dir() / "golden" / "parscale" / "xa_cross_some_n4_t2_rrope"));
  Model sparse = value_or_die(open_model(bytes_model()));
  sparse.config.json = value_or_die(
      with_attention(sparse.config.json, "walk:bs=2,tau=2,r=8,skip=0", *sparse.checkpoint));
  for (const Model& m : {dense, sparse}) {
    const auto reference = gradients_of(m, DType::kF64);
    const StepInputs in = inputs(m);
    for (const GradientLoss loss : {GradientLoss::kNextToken, GradientLoss::kSumOfLogits}) {
      GradientRequest request;
      request.loss = loss;
      const auto all = value_or_die(reference->gradients(in, request));
      std::uint64_t stream = 0;
      for (const WeightSpec& spec : expected_weights(m.config)) {
        if (count_of(spec.shape) == 0 || ++stream % 3 != 0) continue;  // every third is enough
        ASSERT_TRUE(all.contains(spec.name)) << spec.name;
        const Rng rng(17, stream);
        Tensor step(DType::kF64, spec.shape), back(DType::kF64, spec.shape);
        constexpr double kStep = 1e-6;
        double slope = 0, size = 0;
        for (std::int64_t i = 0; i < count_of(spec.shape); ++i) {
          const double d = rng.normal(static_cast<std::uint64_t>(i));
          const double g = value_at(all.at(spec.name).value.view(), i);
          step.as<double>()[static_cast<std::size_t>(i)] = kStep * d;
          back.as<double>()[static_cast<std::size_t>(i)] = -kStep * d;
          slope += d * g;
          size += std::fabs(d * g);
        }
        const double up = value_or_die(reference->loss(in, loss, spec.name, step.view()));
        const double down = value_or_die(reference->loss(in, loss, spec.name, back.view()));
        // Where the slope is zero, what is left is the rounding of the two losses: each a sum of
        // many terms, 16 units in the last place at most, over the step.
        const double rounding =
            16 * std::max({1.0, std::fabs(up), std::fabs(down)}) * 0x1p-52 / kStep;
        EXPECT_NEAR((up - down) / (2 * kStep), slope, 1e-5 * size + rounding) << spec.name;
      }
    }
  }
}

TEST_F(Gradients, ThatAreRightPassInEveryType) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF64}) {
    for (const GradientLoss loss : {GradientLoss::kNextToken, GradientLoss::kSumOfLogits}) {
      GradientRequest request;
      request.loss = loss;
      const Report report = judged(model(), dtype, request, nullptr);
      EXPECT_EQ(report.verdict, Verdict::kEquivalent) << to_string(loss);
      EXPECT_TRUE(report.findings.empty());
      EXPECT_GT(report.points.size(), 40u);
    }
  }
}

TEST_F(Gradients, ACutIsNamedWithTheOpThatCut) {
  const struct {
    const char* cut;
    const char* lost;
  } cases[] = {{"model.layers.1.self_attn:context", "model.layers.1.self_attn.q_proj.weight"},
               {"model.layers.2.mlp:act", "model.layers.2.mlp.gate_proj.weight"},
               {"model.layers.1.mlp.down_proj", "model.layers.1.mlp.down_proj.weight"},
               {"model:aggregate_weights", "model.aggregate_layer.0.weight"},
               {"model.layers.1", "model.layers.0.mlp.up_proj.weight"}};
  for (const auto& c : cases) {
    GradientRequest request;
    request.cuts = {c.cut};
    const Report report = judged(model(), DType::kF32, request,
                                 [&](Map& map) { EXPECT_FALSE(map.contains(c.lost)) << c.cut; });
    const Finding* f = first_error(report);
    ASSERT_NE(f, nullptr) << c.cut;
    EXPECT_EQ(f->id, "runtime-training-only");
    EXPECT_EQ(f->confidence, Confidence::kExact) << c.cut;
    EXPECT_NE(evidence(*f, "equivalent_cuts").find(json_string(c.cut)), std::string::npos)
        << c.cut << ": " << f->message;
    EXPECT_NE(evidence(*f, "parameters").find(c.lost), std::string::npos) << f->message;
  }
}

TEST_F(Gradients, AFreezeListIsToldFromACut) {
  const Report report = judged(model(), DType::kF32, {}, [](Map& map) {
    std::erase_if(map, [](const auto& e) { return e.first.find("layers.2") != std::string::npos; });
  });
  const Finding* f = first_error(report);
  ASSERT_NE(f, nullptr);
  EXPECT_EQ(f->id, "runtime-training-only");
  EXPECT_EQ(f->confidence, Confidence::kExact);
  EXPECT_NE(f->message.find("frozen"), std::string::npos) << f->message;
  GradientOptions options;
  options.frozen = {"model.layers.2.*"};
  const Report meant = judged(
      model(), DType::kF32, {},
      [](Map& map) {
        std::erase_if(map,
                      [](const auto& e) { return e.first.find("layers.2") != std::string::npos; });
      },
      options);
  EXPECT_EQ(first_error(meant), nullptr);
}

TEST_F(Gradients, ZerosWhereTheReferenceHasOneAreFound) {
  const Report report = judged(model(), DType::kBF16, {}, [](Map& map) {
    for (float& x : map.at("model.layers.0.self_attn.prefix_k").as<float>()) x = 0;
  });
  const Finding* f = first_error(report);
  ASSERT_NE(f, nullptr);
  EXPECT_NE(f->message.find("zeros"), std::string::npos) << f->message;
  EXPECT_NE(evidence(*f, "parameters").find("prefix_k"), std::string::npos);
}

TEST_F(Gradients, AMultipleIsNamed) {
  const auto times = [](double factor) {
    return [factor](Map& map) {
      for (auto& [name, t] : map) {
        for (float& x : t.as<float>()) x = static_cast<float>(x * factor);
      }
    };
  };
  const StepInputs in = inputs(model());
  double targets = 0;
  for (std::int64_t b = 0; b < in.batch; ++b) {
    for (std::int64_t t = 1; t < in.length; ++t) {
      const auto at = static_cast<std::size_t>(b * in.length + t);
      const auto& mask = in.attention_mask;  // none: no padding
      targets += !mask || ((*mask)[at] != 0 && (*mask)[at - 1] != 0) ? 1 : 0;
    }
  }
  const struct {
    double factor;
    const char* words;
  } cases[] = {{targets, "1/N is missing"},
               {1 / targets, "once too often"},
               {4, "accumulated"},
               {0.25, "averaged over"},
               {-1, "sign"},
               {2.7, "scaled"}};
  GradientOptions options;
  options.loss = GradientLoss::kNextToken;
  for (const auto& c : cases) {
    const Report report = judged(model(), DType::kF32, {}, times(c.factor), options);
    const Finding* f = first_error(report);
    ASSERT_NE(f, nullptr) << c.factor;
    EXPECT_EQ(f->confidence, Confidence::kExact) << f->message;
    EXPECT_NE(f->message.find(c.words), std::string::npos) << c.factor << ": " << f->message;
  }
  // Some of them only: a copy that was reduced over the ranks twice.
  const Report some = judged(model(), DType::kF32, {}, [](Map& map) {
    for (auto& [name, t] : map) {
      if (name.find("layernorm") == std::string::npos) continue;
      for (float& x : t.as<float>()) x *= 2;
    }
  });
  const Finding* f = first_error(some);
  ASSERT_NE(f, nullptr);
  EXPECT_EQ(evidence(*f, "factor"), "2") << f->message;
}

// With the gradient of the logits in the trace, no loss is guessed.
TEST_F(Gradients, TheTracesOwnCotangentIsTaken) {
  GradientRequest sum;
  sum.loss = GradientLoss::kNextTokenSum;
  EXPECT_EQ(judged(model(), DType::kF32, sum, nullptr, {}, true).verdict, Verdict::kEquivalent);
}

TEST_F(Gradients, WhatNothingExplainsIsPlacedAtTheLastOpThatHasIt) {
  const Report report = judged(model(), DType::kF32, {}, [](Map& map) {
    for (const char* name : {"model.layers.1.mlp.up_proj.weight", "model.norm.weight"}) {
      auto cells = map.at(name).as<float>();
      for (std::size_t i = 0; i < cells.size(); i += 2) cells[i] *= 1.3f;
    }
  });
  const Finding* f = first_error(report);
  ASSERT_NE(f, nullptr);
  EXPECT_EQ(f->confidence, Confidence::kUnnamed);
  EXPECT_EQ(f->point, "grad/model.norm.weight");
}

// The keys that no query selected must not be reached; dense attention reaches them.
TEST_F(Gradients, KeysThatNobodySelectedHaveNone) {
  Model sparse = model();
  sparse.config.json = value_or_die(with_attention(
      sparse.config.json, "walk:bs=2,tau=1,n_sink=0,r=8,skip=3", *sparse.checkpoint));
  const std::string point = "model.layers.3.self_attn:k_rope";
  const auto dense = gradients_of(model(), DType::kF32);
  GradientRequest request;
  request.wants = [&](std::string_view p) { return p == point; };
  const auto of_dense = value_or_die(dense->gradients(inputs(sparse), request));
  const Report right = judged(sparse, DType::kF32, request, nullptr);
  EXPECT_EQ(right.verdict, Verdict::kEquivalent);
  const Report wrong = judged(sparse, DType::kF32, request, [&](Map& map) {
    ASSERT_TRUE(map.contains(point));
    for (std::int64_t i = 0; i < of_dense.at(point).value.view().count(); ++i) {
      map.at(point).as<float>()[static_cast<std::size_t>(i)] =
          static_cast<float>(value_at(of_dense.at(point).value.view(), i));
    }
  });
  const Finding* f = first_error(wrong);
  // With tau 1 every block sees itself, so only grouping decides; what differs is found.
  ASSERT_NE(f, nullptr);
}

// Programs that keep the logits of the last position have gradients of those alone.
TEST_F(Gradients, OfTheLastPositionsLogitsAlone) {
  const std::string model = bytes_model().string();
  ASSERT_EQ(run_parscope({"trace", model, "-o", temp_ / "whole", "--engine", "reference", "--grad",
                          "--random", "2x7", "--dtype", "f32"})
                .code,
            0);
  const Model m = value_or_die(open_model(bytes_model()));
  const Trace whole = value_or_die(Trace::open(temp_ / "whole"));
  const TraceStep& step = whole.steps()[0];
  const StepInputs in = value_or_die(step_inputs(step, 0));
  const TensorView all = *step.tensors->find("grad/lm_head");
  // Of the loss's slope at the last position, as if the others had never been computed.
  Tensor slope(DType::kF32, all.shape), last(DType::kF32, {all.shape[0], 1, all.shape[2]});
  const std::int64_t vocab = all.shape[2], length = all.shape[1];
  for (std::int64_t i = 0; i < all.shape[0] * vocab; ++i) {
    const auto x = static_cast<float>(std::sin(0.37 * static_cast<double>(i)));
    last.as<float>()[static_cast<std::size_t>(i)] = x;
    const std::int64_t to = (i / vocab * length + length - 1) * vocab + i % vocab;
    slope.as<float>()[static_cast<std::size_t>(to)] = x;
  }
  GradientRequest request;
  request.cotangent = slope.view();
  const auto truth = value_or_die(gradients_of(m, DType::kF32)->gradients(in, request));
  const auto write = [&](const fs::path& dir, const Tensor* of_logits, double factor) {
    TraceWriter writer = value_or_die(TraceWriter::create(dir, whole.manifest()));
    ok_or_die(writer.begin_step(TraceStep{}, &in));
    ok_or_die(writer.add("lm_head", last.view()));  // its numbers are not asked here
    if (of_logits != nullptr) ok_or_die(writer.add("grad/lm_head", of_logits->view()));
    for (const auto& [name, g] : truth) {
      Tensor narrow(DType::kF32, g.value.shape());
      const double by = name == "model.norm.weight" ? factor : 1.0;
      for (std::int64_t i = 0; i < g.value.view().count(); ++i) {
        narrow.as<float>()[static_cast<std::size_t>(i)] =
            static_cast<float>(by * value_at(g.value.view(), i));
      }
      if (name != "lm_head") ok_or_die(writer.add("grad/" + name, narrow.view()));
    }
    ok_or_die(writer.end_step());
    ok_or_die(writer.close());
  };
  const auto judged = [&](const fs::path& dir) {
    const Trace trace = value_or_die(Trace::open(dir));
    Report report;
    ok_or_die(judge_gradients(trace, m.config, *gradients_of(m, DType::kF32), {}, report));
    return report;
  };
  write(temp_ / "right", &last, 1);
  const Report right = judged(temp_ / "right");
  EXPECT_EQ(first_error(right), nullptr);
  const auto is_lm_head = [](const PointRow& row) { return row.point == "grad/lm_head"; };
  const auto row = std::find_if(right.points.begin(), right.points.end(), is_lm_head);
  ASSERT_NE(row, right.points.end());
  EXPECT_EQ(row->status, PointStatus::kOk);
  EXPECT_EQ(row->shape, last.shape());

  write(temp_ / "wrong", &last, 2);
  const Report wrong = judged(temp_ / "wrong");
  ASSERT_NE(first_error(wrong), nullptr);
  EXPECT_EQ(first_error(wrong)->point, "grad/model.norm.weight");

  write(temp_ / "unknown", nullptr, 1);
  expect_bad_input(run_parscope({"diagnose", temp_ / "unknown", "--model", model}),
                   "lm_head: holds the last position alone");
  const Tensor narrow(DType::kF32, {all.shape[0], all.shape[1], all.shape[2] - 1});
  write(temp_ / "narrow", &narrow, 1);
  expect_bad_input(run_parscope({"diagnose", temp_ / "narrow", "--model", model}),
                   "grad/lm_head: is no gradient of the logits");
}

TEST_F(Gradients, ThroughTheCommandLine) {
  const std::string model = bytes_model().string(), good = temp_ / "good", bad = temp_ / "bad";
  const Ran traced = run_parscope({"trace", model, "-o", good, "--engine", "reference", "--grad",
                                   "--random", "2x7", "--dtype", "f32"});
  ASSERT_EQ(traced.code, 0) << traced.err;
  const Trace trace = value_or_die(Trace::open(good));
  EXPECT_NE(trace.steps()[0].tensors->find("grad/lm_head"), nullptr);
  const Ran right = run_parscope({"diagnose", good, "--model", model});
  EXPECT_EQ(right.code, 0) << right.out << right.err;
  const Ran same = run_parscope({"diff", good, good});
  EXPECT_EQ(same.code, 0) << same.out;
  // Without one parameter's gradient.
  const StepInputs in = value_or_die(step_inputs(trace.steps()[0], 0));
  TraceWriter writer = value_or_die(TraceWriter::create(bad, trace.manifest()));
  ok_or_die(writer.begin_step(TraceStep{}, &in));
  for (const auto& entry : trace.steps()[0].tensors->entries()) {
    const bool input =
        entry.name == "input_ids" || entry.name == "attention_mask" || entry.name == "position_ids";
    if (!input && entry.name != "grad/model.norm.weight")
      ok_or_die(writer.add(entry.name, entry.view));
  }
  ok_or_die(writer.end_step());
  ok_or_die(writer.close());
  const Ran wrong = run_parscope({"diagnose", bad, "--model", model, "--json"});
  EXPECT_EQ(wrong.code, 1) << wrong.out << wrong.err;
  const auto report = nlohmann::json::parse(wrong.out);
  EXPECT_EQ(report["findings"][0]["id"], "runtime-training-only");
  EXPECT_EQ(report["first_divergence"]["point"], "grad/model.norm.weight");
  EXPECT_EQ(run_parscope({"diff", bad, good}).code, 1);
  EXPECT_EQ(run_parscope({"diagnose", bad, "--model", model, "--frozen", "model.norm.weight"}).code,
            0);
  expect_bad_input(run_parscope({"diagnose", good, "--model", model, "--loss", "mse"}),
                   "next-token");
}

}  // namespace
}  // namespace ps
