// `parscope diff` as a user runs it, on golden traces with planted faults and spoilt captures.
#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string>

#include <gtest/gtest.h>

#include "core/json.h"
#include "core/safetensors.h"
#include "support/fixtures.h"
#include "support/program.h"
#include "support/temp_dir.h"

namespace ps {
namespace {

namespace fs = std::filesystem;

fs::path golden(const std::string& name) {
  return fixtures_dir() / "golden" / "parscale" / name / "expected-f64";
}
const std::string kCase = "ps_n2_t0";  // two layers, two replicas, all points captured, two steps
const std::string kFile0 = "step-00000.rank-00000.safetensors";
const std::string kFile1 = "step-00001.rank-00000.safetensors";

// A copy of a golden trace, with tensors of one step edited.
void copy_trace(const fs::path& from, const fs::path& to, const std::string& file,
                const EditTensor& edit, const std::map<std::string, Tensor>& more = {}) {
  fs::create_directories(to);
  for (const auto& entry : fs::directory_iterator(from)) {
    fs::copy(entry.path(), to / entry.path().filename(), fs::copy_options::overwrite_existing);
  }
  edit_tensors(from / file, to / file, edit, more);
}

struct Diffed {
  int code = -1;
  Json report;
  std::string text(const char* name) const { return report.find(name)->text; }
  std::string first(const char* field) const {
    const Json* d = report.find("first_divergence");
    return d->is(Json::Kind::kObject) ? d->find(field)->text : "";
  }
  const Json* finding(const std::string& id) const {
    for (const Json& f : report.find("findings")->items) {
      if (f.find("id")->text == id) return &f;
    }
    return nullptr;
  }
  std::string status(const std::string& point, std::int64_t step = 0) const {
    for (const Json& p : report.find("points")->items) {
      if (p.find("point")->text == point && p.find("step")->integer == step) {
        return p.find("status")->text;
      }
    }
    return "";
  }
};

Diffed diff(const fs::path& candidate, const fs::path& expected,
            const std::vector<std::string>& more = {}) {
  std::vector<std::string> words = {"diff", candidate.string(), expected.string(), "--json"};
  words.insert(words.end(), more.begin(), more.end());
  const Ran ran = run_parscope(words);
  Diffed out;
  out.code = ran.code;
  EXPECT_EQ(ran.err, "");
  Result<Json> json = parse_json(ran.out, "report");
  EXPECT_TRUE(json.ok()) << ran.out.substr(0, 400);
  if (json.ok()) out.report = std::move(json).value();
  return out;
}

// Edits one tensor, as doubles or bytes, and compares.
Diffed diff_edited(const std::function<bool(const std::string&, Tensor&)>& edit,
                   const std::string& file = kFile0, const std::vector<std::string>& more = {}) {
  const TempDir dir;
  copy_trace(golden(kCase), dir / "c", file, edit);
  return diff(dir / "c", golden(kCase), more);
}

TEST(DiffCommand, EqualTracesAreEquivalent) {
  const Diffed d = diff(golden(kCase), golden(kCase));
  EXPECT_EQ(d.code, 0);
  EXPECT_EQ(d.text("verdict"), "equivalent");
  EXPECT_EQ(d.text("format"), "parscope-report/1");
  EXPECT_TRUE(d.report.find("first_divergence")->is(Json::Kind::kNull));
  EXPECT_EQ(d.status("model.layers.1"), "ok");
}

TEST(DiffCommand, EveryGoldenCaseAgreesWithItsFloat64) {
  std::int64_t cases = 0;
  for (const auto& entry : fs::directory_iterator(fixtures_dir() / "golden" / "parscale")) {
    if (!fs::exists(entry.path() / "expected")) continue;
    const Diffed d =
        diff(entry.path() / "expected", entry.path() / "expected-f64", {"--allow-missing"});
    EXPECT_EQ(d.code, 0) << entry.path();
    EXPECT_EQ(d.text("verdict"), "equivalent") << entry.path();
    ++cases;
  }
  EXPECT_GT(cases, 20);
}

TEST(DiffCommand, AFaultIsFirstWhereItIsPlanted) {
  const std::string point = "model.layers.1.self_attn:q_rope";
  const Diffed d = diff_edited([&](const std::string& name, Tensor& t) {
    if (name != point && name != "lm_head") return true;
    const std::int64_t n = t.view().count();
    const std::int64_t from = name == point ? n - t.shape().back() : 0;
    for (std::int64_t i = from; i < n; ++i) t.as<double>()[static_cast<std::size_t>(i)] += 0.01;
    return true;
  });
  EXPECT_EQ(d.code, 1);
  EXPECT_EQ(d.text("verdict"), "diverged");
  EXPECT_EQ(d.first("point"), point);
  EXPECT_TRUE(d.first("where").starts_with("replica=1 batch=")) << d.first("where");
  const Json* finding = d.finding("unnamed");
  ASSERT_NE(finding, nullptr);
  EXPECT_EQ(finding->find("class")->text, "rope");
  EXPECT_EQ(finding->find("confidence")->text, "unnamed");
  EXPECT_NE(finding->find("evidence")->find("geometry"), nullptr);
  EXPECT_EQ(d.status("lm_head"), "diverged");
  EXPECT_EQ(d.status("model.layers.0"), "ok");
}

TEST(DiffCommand, MissingPointsAreErrorsUnlessAllowed) {
  const auto without = [](const std::string& name, Tensor&) {
    return name != "model.layers.0.self_attn.v_proj";
  };
  const Diffed d = diff_edited(without);
  EXPECT_EQ(d.code, 1);
  EXPECT_EQ(d.status("model.layers.0.self_attn.v_proj"), "missing");
  ASSERT_NE(d.finding("missing-point"), nullptr);
  EXPECT_EQ(d.finding("missing-point")->find("severity")->text, "error");
  const Diffed allowed = diff_edited(without, kFile0, {"--allow-missing"});
  EXPECT_EQ(allowed.code, 0);
  EXPECT_EQ(allowed.finding("missing-point")->find("severity")->text, "warning");
}

TEST(DiffCommand, NamesOfTheCandidateAloneAreUnmatchedAndNoError) {
  const TempDir dir;
  copy_trace(golden(kCase), dir / "c", kFile0, [](const std::string&, Tensor&) { return true; },
             {{"my.own.tensor", Tensor(DType::kF32, {3})}});
  const Diffed d = diff(dir / "c", golden(kCase));
  EXPECT_EQ(d.code, 0);
  EXPECT_EQ(d.status("my.own.tensor"), "unmatched");
  EXPECT_NE(d.finding("unmatched-name"), nullptr);
}

TEST(DiffCommand, NanIsNonfiniteAndAnotherShapeIsShape) {
  const Diffed nan = diff_edited([](const std::string& name, Tensor& t) {
    if (name == "model.norm") t.as<double>()[t.as<double>().size() - 1] = std::nan("");
    return true;
  });
  EXPECT_EQ(nan.code, 1);
  EXPECT_EQ(nan.status("model.norm"), "nonfinite");
  const Diffed shape = diff_edited([](const std::string& name, Tensor& t) {
    if (name != "model.norm") return true;
    Shape s = t.shape();
    s.back() -= 1;
    t = Tensor(DType::kF64, s);
    return true;
  });
  EXPECT_EQ(shape.code, 1);
  EXPECT_EQ(shape.status("model.norm"), "shape");
  EXPECT_EQ(shape.first("point"), "model.norm");
}

void expect_invalid(const Diffed& d, const std::string& id) {
  EXPECT_EQ(d.code, 2);
  EXPECT_EQ(d.text("verdict"), "invalid");
  EXPECT_NE(d.finding(id), nullptr) << id << " not in " << d.report.find("findings")->brief(600);
}

TEST(DiffCommand, OtherTokensPositionsOrPhaseAreInvalid) {
  expect_invalid(diff_edited([](const std::string& name, Tensor& t) {
                   if (name == "input_ids") t.as<std::int64_t>()[1] ^= 1;
                   return true;
                 }),
                 "capture-tokens");
  const TempDir dir;
  const auto from = golden(kCase);
  copy_trace(from, dir / "c", kFile0, [](const std::string&, Tensor&) { return true; });
  fs::copy(from / kFile1, dir / "c" / kFile0, fs::copy_options::overwrite_existing);
  expect_invalid(diff(dir / "c", from), "capture-phase");
}

// Absent positions are past ... past + S - 1; absent marks mean that every token is real.
TEST(DiffCommand, AbsentInputsMustMeanWhatTheOtherTraceSays) {
  const auto with = [](const std::string& name, const Shape& shape,
                       const std::vector<std::int64_t>& values) {
    const TempDir dir;
    copy_trace(golden(kCase), dir / "c", kFile0, [](const std::string&, Tensor&) { return true; },
               {{name, Tensor::of<std::int64_t>(DType::kI64, shape, values)}});
    return diff(dir / "c", golden(kCase));
  };
  EXPECT_EQ(with("position_ids", {2, 5}, {0, 1, 2, 3, 4, 0, 1, 2, 3, 4}).code, 0);
  EXPECT_EQ(with("attention_mask", {2, 5}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1}).code, 0);
  expect_invalid(with("position_ids", {2, 5}, {0, 1, 2, 3, 4, 0, 0, 1, 2, 3}), "capture-inputs");
  expect_invalid(with("attention_mask", {2, 5}, {1, 1, 1, 1, 1, 0, 1, 1, 1, 1}), "capture-inputs");
}

TEST(DiffCommand, AnotherModelIsInvalid) {
  const TempDir dir;
  copy_trace(golden(kCase), dir / "c", kFile0, [](const std::string&, Tensor&) { return true; });
  std::string text = get_file(dir / "c" / "trace.json");
  const std::size_t at = text.find("\"rms_norm_eps\"");
  ASSERT_NE(at, std::string::npos);
  const std::size_t number = text.find_first_of("0123456789", at + 14);
  text.replace(number, text.find_first_of(",}\n", number) - number, "0.125");
  put_file(dir / "c" / "trace.json", text);
  expect_invalid(diff(dir / "c", golden(kCase)), "capture-model");
}

void set_zero(Tensor& t) { std::memset(t.bytes().data(), 0, t.bytes().size()); }

TEST(DiffCommand, AnAllZeroCaptureIsInvalidWhereWhatFollowsIsRight) {
  expect_invalid(diff_edited([](const std::string& name, Tensor& t) {
                   if (name == "model.layers.0.self_attn:context") set_zero(t);
                   return true;
                 }),
                 "capture-all-zero");
  expect_invalid(diff_edited([](const std::string& name, Tensor& t) {
                   if (name != "input_ids" && name != "attention_mask" && name != "position_ids") {
                     set_zero(t);
                   }
                   return true;
                 }),
                 "capture-all-zero");
}

// A fault of the run: from the zeros on, everything differs.
TEST(DiffCommand, ZerosThatTheRunWentOnWithAreADivergence) {
  bool behind = false;
  const Diffed d = diff_edited([&](const std::string& name, Tensor& t) {
    if (name == "model.layers.0.self_attn:context") {
      set_zero(t);
      return true;
    }
    behind = name == "model.layers.0" || name.starts_with("model.layers.0:attn_residual") ||
             name.starts_with("model.layers.0.post") || name.starts_with("model.layers.0.mlp") ||
             name.starts_with("model.layers.0.self_attn.o_proj") ||
             name.starts_with("model.layers.1") || name.starts_with("model.norm") ||
             name.starts_with("model.aggregate") || name.starts_with("model:aggregate") ||
             name == "lm_head";
    for (double& x : t.as<double>()) {
      if (behind) x = 0.7 * x + 0.1;
    }
    return true;
  });
  EXPECT_EQ(d.code, 1);
  EXPECT_EQ(d.text("verdict"), "diverged");
  EXPECT_EQ(d.first("point"), "model.layers.0.self_attn:context");
}

// k_proj and v_proj are right, but nothing that q_proj goes into is.
TEST(DiffCommand, RightNeighboursDoNotProveACaptureWrong) {
  const Diffed d = diff_edited([&](const std::string& name, Tensor& t) {
    if (name == "model.layers.0.self_attn.q_proj") {
      set_zero(t);
      return true;
    }
    const bool behind = !name.starts_with("model.rotary") && name != "model:replicated" &&
                        name != "model.layers.0.input_layernorm" &&
                        name.find("layers.0.self_attn.k_") == std::string::npos &&
                        name.find("layers.0.self_attn.v_") == std::string::npos &&
                        name.find("layers.0.self_attn:k_") == std::string::npos &&
                        name.find("layers.0.self_attn:v_") == std::string::npos &&
                        is_floating(t.dtype());
    for (std::size_t i = 0; behind && i < t.as<double>().size(); ++i) {
      t.as<double>()[i] = 0.7 * t.as<double>()[i] + 0.1;
    }
    return true;
  });
  EXPECT_EQ(d.code, 1);
  EXPECT_EQ(d.text("verdict"), "diverged");
  EXPECT_EQ(d.first("point"), "model.layers.0.self_attn.q_proj");
  EXPECT_NE(d.finding("unnamed")->find("message")->text.find("all zero"), std::string::npos);
}

TEST(DiffCommand, DuplicatedAndResidualCapturesAreInvalid) {
  const Result<SafetensorsFile> file = SafetensorsFile::open(golden(kCase) / kFile0);
  ASSERT_TRUE(file.ok());
  const auto holds = [&](const std::string& point, const std::string& other) {
    return diff_edited([&](const std::string& name, Tensor& t) {
      if (name == point) t = Tensor::copy_of(*file->find(other));
      return true;
    });
  };
  expect_invalid(holds("model.layers.0.self_attn.k_proj", "model.layers.0.self_attn.v_proj"),
                 "capture-duplicated");
  const TensorView* input = file->find("model.layers.0");
  expect_invalid(diff_edited([&](const std::string& name, Tensor& t) {
                   if (name != "model.layers.1.self_attn.o_proj") return true;
                   for (std::size_t i = 0; i < t.as<double>().size(); ++i) {
                     t.as<double>()[i] += value_at(*input, static_cast<std::int64_t>(i));
                   }
                   return true;
                 }),
                 "capture-residual");
  expect_invalid(holds("model.layers.0", "model.layers.0.mlp.down_proj"), "capture-residual");
}

TEST(DiffCommand, AStaleDecodeStepIsInvalid) {
  const std::string name = "ps_n4_t2_decode_leftpad";
  const std::string file2 = "step-00002.rank-00000.safetensors";
  const Result<SafetensorsFile> before = SafetensorsFile::open(golden(name) / kFile1);
  ASSERT_TRUE(before.ok());
  const TempDir dir;
  copy_trace(golden(name), dir / "c", file2, [&](const std::string& point, Tensor& t) {
    const TensorView* old = before->find(point);
    const bool input = point == "input_ids" || point == "attention_mask" || point == "position_ids";
    if (old != nullptr && !input && old->shape == t.shape()) t = Tensor::copy_of(*old);
    return true;
  });
  expect_invalid(diff(dir / "c", golden(name)), "capture-stale");
}

TEST(DiffCommand, BareFilesWithAnyNamesAreCompared) {
  const TempDir dir;
  const auto write = [&](const char* name, float delta, const char* extra) {
    auto writer = SafetensorsWriter::create(dir / name);
    ASSERT_TRUE(writer.ok());
    Tensor t(DType::kF32, {2, 3});
    for (std::size_t i = 0; i < 6; ++i)
      t.as<float>()[i] = static_cast<float>(i) + (i == 4 ? delta : 0);
    ASSERT_TRUE(writer->add("some.weight", t.view()).ok());
    if (*extra != 0) {
      ASSERT_TRUE(writer->add(extra, t.view()).ok());
    }
    ASSERT_TRUE(writer->close().ok());
  };
  write("a.safetensors", 0.5f, "");
  write("b.safetensors", 0, "");
  write("c.safetensors", 0, "other");
  const Diffed d = diff(dir / "a.safetensors", dir / "b.safetensors");
  EXPECT_EQ(d.code, 1);
  EXPECT_EQ(d.first("point"), "some.weight");
  EXPECT_EQ(d.first("where"), "axis0=1 axis1=1");
  EXPECT_EQ(diff(dir / "a.safetensors", dir / "b.safetensors", {"--tolerance", "0.5,0"}).code, 0);
  EXPECT_EQ(diff(dir / "a.safetensors", dir / "b.safetensors", {"--tolerance", "0.4,0"}).code, 1);
  EXPECT_EQ(diff(dir / "b.safetensors", dir / "c.safetensors").status("other"), "missing");
  EXPECT_EQ(diff(dir / "c.safetensors", dir / "b.safetensors").code, 0);
}

TEST(DiffCommand, BadUsageIsOneClearLine) {
  expect_bad_input(run_parscope({"diff", "x"}), "needs CANDIDATE and EXPECTED");
  expect_bad_input(run_parscope({"diff", "/nowhere", golden(kCase).string()}), "/nowhere");
  for (const char* bad : {"1e-5", "a,b", "1,-1", "nan,1", "1,2,3", ",1"}) {
    expect_bad_input(
        run_parscope({"diff", golden(kCase).string(), golden(kCase).string(), "--tolerance", bad}),
        "--tolerance", bad);
  }
}

TEST(DiffCommand, ReportsAreWritten) {
  const TempDir dir;
  const Ran ran = run_parscope({"diff", golden(kCase).string(), golden(kCase).string(), "--quiet",
                                "--report", (dir / "out").string()});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(ran.out, "");
  for (const char* name : {"report.json", "report.md", "report.html", "junit.xml", "sarif.json"}) {
    EXPECT_TRUE(fs::exists(dir / "out" / name)) << name;
  }
}

}  // namespace
}  // namespace ps
