// Positions, masks, caches and gradients of a trace against its own inputs: every pattern is built
// here by its definition and must come out under its name; stored runs of others have none. Planted
// and seen red: the prefix taken off instead of added, causality without the past, one zero
// gradient among steps taken for all.
#include <algorithm>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "diff/lint/lint.h"
#include "diff/lint/trace_checks.h"
#include "tests/support/program.h"
#include "tests/support/raw_safetensors.h"

namespace ps {
namespace {

namespace fs = std::filesystem;
using Numbers = std::vector<std::int64_t>;

// The byte-level model's: P=4, T=8.
ModelConfig config() {
  Result<ModelConfig> read = load_config(bytes_model());
  EXPECT_TRUE(read.ok());
  return std::move(read).value();
}

TEST(LintGolden, StoredRunsAndModelsHaveNoFinding) {
  int traces = 0;
  for (const fs::path& dir : model_dirs()) {
    std::vector<Result<Report>> reports;
    reports.push_back(lint_model(dir));
    for (const char* run : {"expected", "expected-f64"}) {
      if (!fs::exists(dir / run)) continue;
      ++traces;
      reports.push_back(lint_trace(dir / run, dir));
      reports.push_back(lint_trace(dir / run, std::nullopt));
    }
    for (const Result<Report>& report : reports) {
      ASSERT_TRUE(report.ok()) << dir << report.error().line();
      for (const Finding& f : report->findings) {
        // A prefix at one replica: these cases are about it.
        const bool meant = f.id == "runtime-wrong-default-config";
        EXPECT_TRUE(meant || f.severity == Severity::kInfo)
            << dir << ": " << f.id << " " << f.point;
      }
    }
  }
  EXPECT_EQ(traces, 62);
}

// Two samples, the first with two tokens of padding on the left; `past` of the tokens are cached.
StepInputs ragged(std::int64_t past, std::int64_t length) {
  StepInputs in;
  in.batch = 2;
  in.length = length;
  in.input_ids.assign(static_cast<std::size_t>(2 * length), 7);
  Numbers mask(static_cast<std::size_t>(2 * (past + length)), 1);
  mask[0] = mask[1] = 0;
  in.attention_mask = mask;
  return in;
}
// position_ids of ragged(): position(b, token counted from the start of the run).
std::string position_id(std::int64_t past, std::int64_t length,
                        const std::function<std::int64_t(std::int64_t, std::int64_t)>& position) {
  StepInputs in = ragged(past, length);
  in.position_ids.emplace();
  for (std::int64_t b = 0; b < 2; ++b) {
    for (std::int64_t i = 0; i < length; ++i) in.position_ids->push_back(position(b, past + i));
  }
  const std::optional<Finding> f = position_finding(in, config(), past);
  return f ? f->id : "";
}

TEST(LintPositions, PatternsHaveTheirNames) {
  const auto right = [](std::int64_t b, std::int64_t i) {
    return b == 0 ? std::max<std::int64_t>(0, i - 2) : i;
  };
  for (const std::int64_t past : {0, 5}) {
    EXPECT_EQ(position_id(past, 3, right), "");
    EXPECT_EQ(position_id(past, 3, [&](auto b, auto i) { return right(b, i) + 8; }),
              "rope-position-offset-by-prefix");
    EXPECT_EQ(position_id(past, 3, [](auto, auto i) { return i; }),
              "rope-ragged-batch-scalar-past");
    EXPECT_EQ(position_id(past, 3, [&](auto b, auto i) { return 2 * right(b, i) + 3; }), "");
  }
  EXPECT_EQ(position_id(5, 3, [](auto, auto i) { return i - 5; }), "rope-decode-position-restarts");
  EXPECT_EQ(position_id(5, 3, [&](auto b, auto i) { return right(b, i) + 1; }),
            "rope-decode-off-by-one");
  // One more at the start is no decode fault.
  EXPECT_EQ(position_id(0, 3, [&](auto b, auto i) { return right(b, i) + 1; }), "");
  // What stands at padding does not matter.
  EXPECT_EQ(position_id(0, 3, [&](auto b, auto i) { return b == 0 && i < 2 ? 1 : right(b, i); }),
            "");
}

TEST(LintPositions, TheFirstWrongTokenIsNamed) {
  StepInputs in = ragged(4, 2);
  in.position_ids = Numbers{3, 4, 5, 6};
  const std::optional<Finding> f = position_finding(in, config(), 4);
  ASSERT_TRUE(f);
  EXPECT_EQ(f->where, "batch=0 token=0");
  EXPECT_EQ(f->evidence[0].second + " " + f->evidence[1].second, "2 3");
  in.position_ids.reset();
  EXPECT_FALSE(position_finding(in, config(), 4));
}

class LintMask : public ::testing::Test {
 protected:
  using Rule = std::function<bool(std::int64_t b, std::int64_t i, std::int64_t j)>;
  // The id of a mask [R,1,S,C] that holds rule(sample, query, column).
  std::string id(const Rule& rule) {
    Tensor mask(DType::kBool, {8, 1, length_, columns()});
    for (std::int64_t r = 0; r < 8; ++r) {
      for (std::int64_t i = 0; i < length_; ++i) {
        for (std::int64_t j = 0; j < columns(); ++j) {
          mask.bytes()[static_cast<std::size_t>((r * length_ + i) * columns() + j)] =
              static_cast<std::byte>(rule(r % 2, i, j));
        }
      }
    }
    const auto f = mask_finding(mask.view(), ragged(past_, length_), config_, past_);
    return f ? f->id : "";
  }
  std::int64_t columns() const { return 8 + past_ + length_; }
  static bool real(std::int64_t b, std::int64_t j) { return b != 0 || j - 8 >= 2; }
  bool right(std::int64_t b, std::int64_t i, std::int64_t j) const {
    return j < 8 || (j - 8 <= past_ + i && real(b, j) && slides(i, j, window_));
  }
  bool slides(std::int64_t i, std::int64_t j, std::int64_t w) const {
    return window_ == 0 || j - 8 > past_ + i - w;
  }
  std::int64_t past_ = 3, length_ = 6, window_ = 0;
  ModelConfig config_ = config();
};

TEST_F(LintMask, PatternsHaveTheirNames) {
  for (const std::int64_t past : {0, 3}) {
    past_ = past;
    const auto r = [&](auto b, auto i, auto j) { return right(b, i, j); };
    EXPECT_EQ(id(r), "");
    EXPECT_EQ(id([&](auto b, auto i, auto j) { return j <= i && (j < 8 || real(b, j)); }),
              "mask-causal-topleft-alignment");
    EXPECT_EQ(id([&](auto b, auto, auto j) { return j < 8 || real(b, j); }),
              "mask-causal-skipped-with-cache");
    EXPECT_EQ(id([&](auto, auto i, auto j) { return j < 8 || j - 8 <= past_ + i; }),
              "mask-padding-ignored");
    EXPECT_EQ(id([&](auto b, auto i, auto j) { return !right(b, i, j); }),
              "mask-polarity-inverted");
    EXPECT_EQ(
        id([&](auto b, auto i, auto j) { return j < 8 || (j - 8 <= past_ + i + 1 && real(b, j)); }),
        "mask-causal-sees-next-token");
    EXPECT_EQ(id([&](auto b, auto i, auto j) { return right(b, i, j) && j - 8 != past_ + i; }),
              "mask-causal-hides-self");
    EXPECT_EQ(id([&](auto b, auto i, auto j) { return j >= columns() - 8 || right(b, i, j + 8); }),
              "mask-prefix-appended");
    EXPECT_EQ(id([&](auto b, auto i, auto j) { return right(b, i, j) && j != 10; }),
              "mask-differs");
    // Rows of padding may hold anything: backends differ there.
    if (past == 0) {
      EXPECT_EQ(id([&](auto b, auto i, auto j) { return (b == 0 && i < 2) || right(b, i, j); }),
                "");
    }
  }
}

TEST_F(LintMask, WindowsHaveTheirNames) {
  window_ = 4;
  config_.sliding_window = 4;
  config_.sliding_layer.assign(config_.sliding_layer.size(), true);
  EXPECT_EQ(id([&](auto b, auto i, auto j) { return right(b, i, j); }), "");
  const auto with = [&](std::int64_t w) {
    return [this, w](auto b, auto i, auto j) {
      return j < 8 || (j - 8 <= past_ + i && real(b, j) && slides(i, j, w));
    };
  };
  EXPECT_EQ(id(with(5)), "mask-window-off-by-one");
  EXPECT_EQ(id(with(3)), "mask-window-off-by-one");
  EXPECT_EQ(id(with(99)), "mask-window-missing");
  // Where only some layers slide, model:mask is the others'.
  config_.sliding_layer[0] = false;
  EXPECT_EQ(id(with(99)), "");
}

// Traces of one step with points of the byte-level model.
class LintSteps : public ::testing::Test {
 protected:
  using Tensors = std::map<std::string, Tensor>;
  static Tensors ids(std::int64_t length) {
    const Numbers tokens(static_cast<std::size_t>(2 * length), 5);
    return {{"input_ids", Tensor::of<std::int64_t>(DType::kI64, {2, length}, tokens)}};
  }
  // "id point" of every finding.
  std::vector<std::string> lint(const std::vector<Tensors>& steps,
                                const std::function<void(nlohmann::json&)>& edit = {}) {
    auto model = nlohmann::json::parse(get_file(bytes_model() / "config.json"));
    if (edit) edit(model);
    nlohmann::json manifest = {{"format", "parscope-trace/1"}, {"model", model}};
    for (std::size_t s = 0; s < steps.size(); ++s) {
      const std::string file = "step-0000" + std::to_string(s) + ".rank-00000.safetensors";
      Result<SafetensorsWriter> writer = SafetensorsWriter::create(dir_ / file);
      EXPECT_TRUE(writer.ok());
      for (const auto& [name, tensor] : steps[s]) {
        EXPECT_TRUE(writer->add(name, tensor.view()).ok());
      }
      EXPECT_TRUE(writer->close().ok());
      manifest["steps"].push_back({{"step", s}, {"rank", 0}, {"file", file}});
    }
    put_file(dir_ / "trace.json", manifest.dump());
    const Result<Report> report = lint_trace(dir_.path(), std::nullopt);
    EXPECT_TRUE(report.ok()) << (report.ok() ? "" : report.error().line());
    std::vector<std::string> out;
    if (!report.ok()) return out;
    report_ = *report;
    EXPECT_EQ(report_.verdict == Verdict::kDiverged, exit_code(report_) == 1);
    for (const Finding& f : report->findings) out.push_back(f.id + " " + f.point);
    return out;
  }
  TempDir dir_;
  Report report_;
};
using Ids = std::vector<std::string>;

TEST_F(LintSteps, CachesOfWrongLengthAreNamed) {
  const std::string cache = "model.layers.0.self_attn:k_cache";
  // T=8, past=5, S=3: 16 slots, all of zeros, which agree with no name that says what they hold.
  for (const auto& [slots, id] :
       std::map<std::int64_t, std::string>{{16, ""},
                                           {8, "cache-prefix-never-prepended"},
                                           {24, "TP040"},
                                           {19, "TP040"},
                                           {32, "TP040"},
                                           {11, "TP040"},
                                           {15, "cache-hole-or-slot-off-by-one"},
                                           {17, "cache-hole-or-slot-off-by-one"},
                                           {21, "TP040"}}) {
    Tensors second = ids(3);
    second[cache] = Tensor(DType::kF32, {8, 2, slots, 32});
    EXPECT_EQ(lint({ids(5), second}), id.empty() ? Ids{} : Ids{id + " " + cache}) << slots;
  }
}

TEST_F(LintSteps, PositionsOfAStepAreChecked) {
  Tensors second = ids(2);
  second["position_ids"] = Tensor::of<std::int64_t>(DType::kI64, {1, 2}, Numbers{0, 1});
  EXPECT_EQ(lint({ids(5), second}), Ids{"rope-decode-position-restarts position_ids"});
  EXPECT_EQ(report_.findings[0].step, 1);
  EXPECT_EQ(exit_code(report_), 1);
}

TEST_F(LintSteps, TokensOfThePrefixOrTooFew) {
  Tensors t = ids(9);
  t["model.norm"] = Tensor(DType::kF32, {8, 17, 128});
  EXPECT_EQ(lint({t}), Ids{"replica-prefix-rows-not-stripped model.norm"});
  t.erase("model.norm");
  t["model.embed_tokens"] = Tensor(DType::kF32, {2, 6, 128});
  EXPECT_EQ(lint({t}), Ids{"runtime-input-truncated model.embed_tokens"});
}

TEST_F(LintSteps, ParametersWithoutAGradient) {
  Tensors t = ids(4);
  for (const WeightSpec& spec : expected_weights(config())) {
    Tensor gradient(DType::kF32, spec.shape);
    gradient.as<float>().back() = 0.25F;
    t["grad/" + spec.name] = gradient;
  }
  EXPECT_EQ(lint({t}), Ids{});
  Tensors without = t;
  without.erase("grad/model.layers.2.self_attn.prefix_k");
  without.erase("grad/model.aggregate_layer.0.bias");
  EXPECT_EQ(lint({without}), Ids{"runtime-training-only grad/model.layers.2.self_attn.prefix_k"});
  EXPECT_NE(report_.findings[0].message.find("2 parameters have no gradient"), std::string::npos);
  EXPECT_EQ(report_.findings[0].evidence[0].second,
            R"(["model.layers.2.self_attn.prefix_k","model.aggregate_layer.0.bias"])");
  EXPECT_EQ(exit_code(report_), 0);
  Tensors zero = t;
  zero["grad/model.norm.weight"] = Tensor(DType::kF32, {128});
  EXPECT_EQ(lint({zero}), Ids{"runtime-training-only grad/model.norm.weight"});
  EXPECT_NE(report_.findings[0].message.find("a gradient of zeros"), std::string::npos);
  EXPECT_EQ(lint({zero, t}), Ids{}) << "a later step has one";
  t["grad/model.norm.weight"].as<float>()[3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(lint({t}), Ids{"nonfinite grad/model.norm.weight"});
}

// Shapes with a zero are legal in the file; no division and no reading beyond it may follow.
TEST(LintEmptyShapes, AMaskWithoutRowsIsBadInput) {
  const TempDir dir;
  const std::string ids(32, '\0');
  put_file(dir / "z.safetensors",
           raw_safetensors(
               R"({"input_ids":{"dtype":"I64","shape":[1,4],"data_offsets":[0,32]},)"
               R"("attention_mask":{"dtype":"BOOL","shape":[0,1,4,4],"data_offsets":[32,32]}})",
               ids));
  for (const char* command : {"lint", "diagnose"}) {
    const Ran ran =
        run_parscope({command, dir / "z.safetensors", "--model", bytes_model().string()});
    EXPECT_TRUE(ran.code == 1 || ran.code == 2) << command << " " << ran.code << " " << ran.err;
  }
}

TEST(LintEmptyShapes, AnEmptyMaskIsNotRepeatedOverAWholeOne) {
  const TempDir dir;
  put_file(dir / "none.safetensors",
           raw_safetensors(
               R"({"model:mask":{"dtype":"F32","shape":[0,1,4,4],"data_offsets":[0,0]}})", ""));
  put_file(
      dir / "one.safetensors",
      raw_safetensors(R"({"model:mask":{"dtype":"F32","shape":[1,1,4,4],"data_offsets":[0,64]}})",
                      std::string(64, '\0')));
  for (const auto& [a, b] : {std::pair{"none", "one"}, {"one", "none"}}) {
    const Ran ran = run_parscope(
        {"diff", dir / (std::string(a) + ".safetensors"), dir / (std::string(b) + ".safetensors")});
    EXPECT_NE(ran.code, 0) << a;
    EXPECT_LE(ran.code, 2) << a;
    EXPECT_EQ(ran.out.find("16 cells"), std::string::npos) << ran.out;
  }
}

}  // namespace
}  // namespace ps
