// The self-ensemble of masks.md 1 on a Llama-shaped model: paraphrases side by side, isolated while
// they are encoded, fused while text is generated. The mask goes into the model and the reference
// from outside; what the method promises is checked on both without looking at the mask again.
#include <cmath>
#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "diff/mask/check.h"
#include "diff/mask/evaluate.h"
#include "diff/mask/text.h"
#include "tests/support/engine_subject.h"
#include "tests/support/program.h"
#include "tests/support/run.h"

namespace ps::mask {
namespace {

using Segments = std::vector<std::pair<std::int64_t, std::int64_t>>;

struct Ensemble {
  Segments segments = {{0, 5}, {5, 12}, {12, 15}, {15, 21}};
  std::int64_t prompt = 21;  // where generation starts
  std::int64_t total = 24;   // with three generated tokens

  std::string text() const {
    std::string list;
    for (const auto& [s, e] : segments)
      list += (list.empty() ? "" : ",") + std::to_string(s) + "-" + std::to_string(e);
    return "causal #future & (generated(" + std::to_string(prompt) + ") | segments(" + list +
           ")) #segment";
  }
};

// The cells of a mask for queries [past, past + length) of one row, as an engine takes them.
std::vector<std::int64_t> visible(const std::string& expr, std::int64_t past, std::int64_t length) {
  const std::string sizes = "Q=" + std::to_string(length) + " KV=" + std::to_string(past + length) +
                            " q_offset=" + std::to_string(past) + "\n";
  const Program p = value_or_die(parse_text(sizes + expr, "test"));
  std::vector<std::int64_t> out;
  for (std::int64_t i = 0; i < length; ++i) {
    for (std::int64_t j = 0; j < past + length; ++j) out.push_back(allowed(p, 0, 0, i, j) ? 1 : 0);
  }
  return out;
}

struct Runner {
  Runner() : subject("llama") {
    for (std::int64_t i = 0; i < e.total; ++i)
      ids.push_back(Rng(21, 4).below(static_cast<std::uint64_t>(i), 97));
  }
  StepInputs inputs(std::int64_t begin, std::int64_t end) const {
    StepInputs in;
    in.batch = 1;
    in.length = end - begin;
    in.input_ids.assign(ids.begin() + begin, ids.begin() + end);
    return in;
  }
  // Final hidden states [tokens, 24] of tokens [begin, end), run alone from an empty cache.
  std::vector<double> hidden(Engine& engine, StepInputs in, const std::string& mask = "",
                             const std::string& point = "model.norm") const {
    Keep tap;
    tap.only = point;
    if (!mask.empty()) in.visible = visible(mask, 0, in.length);
    engine.reset();
    ok_or_die(engine.forward(in, tap));
    return tap.values(point);
  }
  static std::vector<double> rows(const std::vector<double>& all, std::int64_t begin,
                                  std::int64_t end) {
    return {all.begin() + begin * 24, all.begin() + end * 24};
  }
  static double relative(const std::vector<double>& a, const std::vector<double>& b) {
    double d = 0, n = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      d += (a[i] - b[i]) * (a[i] - b[i]);
      n += b[i] * b[i];
    }
    return std::sqrt(d / n);
  }
  // The worst of all segments: together under `mask` against each alone.
  double independence(Engine& engine, const std::string& mask, bool restarted) const {
    StepInputs all = inputs(0, e.prompt);
    if (restarted) {
      all.position_ids.emplace();
      for (const auto& [s, end] : e.segments) {
        for (std::int64_t t = s; t < end; ++t) all.position_ids->push_back(t - s);
      }
    }
    const std::vector<double> together = hidden(engine, all, mask);
    double worst = 0;
    for (const auto& [s, end] : e.segments) {
      worst = std::max(worst, relative(rows(together, s, end), hidden(engine, inputs(s, end))));
    }
    return worst;
  }
  Ensemble e;
  Subject subject;
  std::vector<std::int64_t> ids;
};

TEST(MaskEnsemble, SegmentsAreAsIfRunAlone) {
  const Runner r;
  const auto model = r.subject.open();
  EXPECT_LT(r.independence(*model, r.e.text(), false),
            1e-5);  // float32: rotations differ by a shift
  EXPECT_LT(r.independence(*model, r.e.text(), true), 1e-6);
  EXPECT_GT(r.independence(*model, "causal", false), 0.05);  // the fallback
  Ensemble off = r.e;
  for (auto& [s, end] : off.segments) ++s, ++end;  // bounds counted without the BOS
  EXPECT_GT(r.independence(*model, off.text(), false), 0.05);
  if (!has_reference()) return;
  const auto reference = make_reference(r.subject.model, DType::kF64);
  EXPECT_LT(r.independence(*reference, r.e.text(), false), 1e-6);  // cos and sin are float32
  EXPECT_LT(r.independence(*reference, r.e.text(), true), 1e-13);
  EXPECT_GT(r.independence(*reference, "causal", false), 0.05);
}

TEST(MaskEnsemble, GeneratedTokensFuseAndPositionsAreAMethodOfTheirOwn) {
  const Runner r;
  const auto model = r.subject.open();
  const auto whole = r.hidden(*model, r.inputs(0, r.e.total), r.e.text());
  const auto fallback = r.hidden(*model, r.inputs(0, r.e.total), "causal");
  // The first segment sees the same either way; what is generated does not.
  EXPECT_EQ(Runner::rows(whole, 0, 5), Runner::rows(fallback, 0, 5));
  EXPECT_GT(Runner::relative(Runner::rows(fallback, 21, 24), Runner::rows(whole, 21, 24)), 0.02);
  StepInputs restarted = r.inputs(0, r.e.total);
  restarted.position_ids.emplace();
  for (const auto& [s, end] : r.e.segments) {
    for (std::int64_t t = s; t < end; ++t) restarted.position_ids->push_back(t - s);
  }
  for (std::int64_t t = 21; t < 24; ++t) restarted.position_ids->push_back(t);
  const auto other = r.hidden(*model, restarted, r.e.text());
  EXPECT_GT(Runner::relative(Runner::rows(other, 21, 24), Runner::rows(whole, 21, 24)), 0.01);
}

TEST(MaskEnsemble, DecodingWithTheCacheIsTheFullPass) {
  const Runner r;
  const auto run = [&](Engine& engine) {
    const auto whole = r.hidden(engine, r.inputs(0, r.e.total), r.e.text());
    engine.reset();
    std::vector<double> stepped;
    const std::vector<std::int64_t> ends = {0, 9, 21, 22, 23, 24};  // two chunks, then one by one
    for (std::size_t i = 1; i < ends.size(); ++i) {
      StepInputs in = r.inputs(ends[i - 1], ends[i]);
      in.visible = visible(r.e.text(), ends[i - 1], in.length);
      Keep tap;
      tap.only = "model.norm";
      ok_or_die(engine.forward(in, tap));
      const auto rows = tap.values("model.norm");
      stepped.insert(stepped.end(), rows.begin(), rows.end());
    }
    return Runner::relative(stepped, whole);
  };
  const auto model = r.subject.open();
  EXPECT_LT(run(*model), 1e-6);
  if (!has_reference()) return;
  EXPECT_LT(run(*make_reference(r.subject.model, DType::kF64)), 1e-14);
}

TEST(MaskEnsemble, SeparatorsAreHarmlessAsZerosAndSpreadAsNan) {
  if (!has_reference()) GTEST_SKIP() << "built without LibTorch";
  Runner r;
  r.e.segments = {{0, 5}, {7, 12}, {14, 21}};  // tokens 5, 6, 12, 13 belong to no segment
  const auto empty_rows = [&](EmptyRows policy, const std::string& point) {
    const auto engine = make_reference(r.subject.model, DType::kF64, policy);
    const auto values = r.hidden(*engine, r.inputs(0, r.e.total), r.e.text(), point);
    const std::size_t width = values.size() / static_cast<std::size_t>(r.e.total);
    std::vector<std::int64_t> out;
    for (std::int64_t t = 0; t < r.e.total; ++t) {
      for (std::size_t i = 0; i < width; ++i) {
        if (!std::isnan(values[static_cast<std::size_t>(t) * width + i])) continue;
        out.push_back(t);
        break;
      }
    }
    return out;
  };
  // Masked softmax of -inf: the separators at first, everybody one layer later, by 0 * NaN.
  EXPECT_EQ(empty_rows(EmptyRows::kNan, "model.layers.0.self_attn:context"),
            (std::vector<std::int64_t>{5, 6, 12, 13}));
  EXPECT_EQ(empty_rows(EmptyRows::kNan, "model.layers.1.self_attn:context").size(), 24U);
  EXPECT_TRUE(empty_rows(EmptyRows::kZeros, "model.norm").empty());
  const auto engine = make_reference(r.subject.model, DType::kF64);
  EXPECT_LT(r.independence(*engine, r.e.text(), false), 1e-6);
}

TEST(MaskEnsemble, CheckHoldsTheModelToTheReferenceUnderTheMask) {
  PS_NEEDS_REFERENCE();
  const Runner r;
  TempDir dir;
  std::ofstream(dir / "tokens.json")
      << nlohmann::json(
             std::vector<std::vector<std::int64_t>>{{r.ids.begin(), r.ids.begin() + r.e.prompt}})
             .dump();
  const std::string model = r.subject.dir.path().string();
  const std::string tokens = (dir / "tokens.json").string();
  const Ran ran = run_parscope({"check", model, "--tokens", tokens, "--steps", "3", "--device",
                                "host", "--mask", r.e.text(), "--json"});
  EXPECT_EQ(ran.code, 0) << ran.err << ran.out.substr(0, 2000);
  EXPECT_EQ(nlohmann::json::parse(ran.out)["inputs"]["mask"], "given");
  for (const std::vector<std::string>& more :
       std::vector<std::vector<std::string>>{{"--chunk", "8"}, {"--beams", "2"}}) {
    std::vector<std::string> words = {"check",    model,  "--tokens", tokens,     "--steps", "2",
                                      "--device", "host", "--mask",   r.e.text(), "--quiet"};
    words.insert(words.end(), more.begin(), more.end());
    EXPECT_EQ(run_parscope(words).code, 0) << more[0];
  }
  // Two traces under two masks are different runs, which nobody can compare: invalid.
  for (const char* name : {"segments", "fallback"}) {
    const Ran traced = run_parscope({"trace", model, "--engine", "model", "--device", "host",
                                     "--tokens", tokens, "-o", (dir / name).string(), "--mask",
                                     name == std::string("segments") ? r.e.text() : "causal"});
    EXPECT_EQ(traced.code, 0) << traced.err;
  }
  const Ran other =
      run_parscope({"diff", (dir / "fallback").string(), (dir / "segments").string(), "--json"});
  EXPECT_EQ(other.code, 2) << other.err;
  const auto report = nlohmann::json::parse(other.out);
  EXPECT_EQ(report["verdict"], "invalid");
  ASSERT_FALSE(report["findings"].empty());
  EXPECT_NE(report["findings"][0]["message"].get<std::string>().find("mask"), std::string::npos)
      << other.out.substr(0, 1500);
  const auto check = [&](const std::string& mask) {
    return run_parscope({"check", model, "--tokens", tokens, "--device", "host", "--mask", mask});
  };
  expect_bad_input(check("causal & segmnts(0-5)"), "unknown word 'segmnts'");
  expect_bad_input(check("H=2 Q=21 KV=21; causal & heads(0)"), "another number of heads");
  expect_bad_input(check("B=3 Q=21 KV=21; causal"), "another batch");
  expect_bad_input(check("/nowhere.json"), "no such file");
  expect_bad_input(
      run_parscope({"check", model, "--tokens", tokens, "--mask", "causal", "--invariants"}),
      "holds for causal attention only");
}

TEST(MaskEnsemble, TheMaskOfParScaleWithItsPrefixIsTheModelsOwn) {
  // Given from outside, the rules of a ParScale model give the same bits as its own mask.
  const Subject s("qwen2_parscale");
  const auto engine = s.open();
  StepInputs in = tokens(2, 9);
  const auto own = logits(*engine, in);
  engine->reset();
  const Program p = value_or_die(parse_text("Q=9 KV=16\nparscale_prefix(7)", "test"));
  in.visible.emplace();
  for (std::int64_t b = 0; b < 2; ++b) {
    for (std::int64_t i = 0; i < 9; ++i) {
      for (std::int64_t j = 0; j < 16; ++j) in.visible->push_back(allowed(p, 0, 0, i, j) ? 1 : 0);
    }
  }
  EXPECT_EQ(logits(*engine, in), own);
  in.visible->pop_back();
  engine->reset();
  Keep tap;
  EXPECT_FALSE(engine->forward(in, tap).ok());
}

}  // namespace
}  // namespace ps::mask
