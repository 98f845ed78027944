// Masks that a run is given: heads that differ, what a trace brings along, and what is judged by
// it.
#include "diff/mask/step_mask.h"

#include <cmath>
#include <cstring>
#include <filesystem>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/program.h"
#include "tests/support/run.h"
#include "tests/support/temp_dir.h"

namespace ps::mask {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

// The byte-level model: 4 heads, 8 prefix slots. Two heads look back two tokens only.
const std::string kByHead =
    "kv_range(0, 8) | shift(dk=-8, causal & (heads(0, 2) | window(2) | q_range(0, 2)))";

// `edit` on the step files of a trace; they keep their metadata unless `program` is given.
void rewrite(const fs::path& from, const fs::path& to, const EditTensor& edit,
             const std::map<std::string, Tensor>& more = {}, const std::string& program = "") {
  fs::create_directories(to);
  for (const auto& entry : fs::directory_iterator(from)) {
    const fs::path out = to / entry.path().filename();
    if (entry.path().extension() != ".safetensors") {
      fs::copy_file(entry.path(), out);
      continue;
    }
    edit_tensors(entry.path(), out, edit, more);
    if (program.empty()) continue;
    std::string bytes = get_file(out);
    std::uint64_t size = 0;
    std::memcpy(&size, bytes.data(), 8);
    json header = json::parse(bytes.substr(8, size));
    header["__metadata__"]["mask_program"] = program;
    const std::string text = header.dump();
    const std::uint64_t length = text.size();
    std::string whole(8, '\0');
    std::memcpy(whole.data(), &length, 8);
    put_file(out, whole + text + bytes.substr(8 + size));
  }
}

Ran diagnosed(const fs::path& trace) {
  return run_parscope({"diagnose", trace.string(), "--model", bytes_model().string(), "--json"});
}

json report_of(const Ran& ran) {
  EXPECT_EQ(ran.err, "");
  return json::parse(ran.out, nullptr, false);
}

class GivenMask : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    const Ran ran = run_parscope({"trace", bytes_model().string(), "--engine", "model", "--device",
                                  "host", "--random", "2x7", "--steps", "1", "--mask", kByHead,
                                  "-o", (*dir_) / "given"});
    EXPECT_EQ(ran.code, 0) << ran.err;
  }
  static void TearDownTestSuite() { delete dir_; }
  static fs::path given() { return fs::path((*dir_) / "given"); }
  static TempDir* dir_;
};
TempDir* GivenMask::dir_ = nullptr;

TEST_F(GivenMask, HeadsThatDifferAreAppliedByModelAndReference) {
  PS_NEEDS_REFERENCE();
  const Ran check = run_parscope({"check", bytes_model().string(), "--device", "host", "--random",
                                  "2x7", "--steps", "1", "--mask", kByHead, "--json"});
  EXPECT_EQ(check.code, 0) << check.err << check.out.substr(0, 2000);
  const json report = report_of(check);
  for (const json& point : report["points"]) {
    if (point["point"] != "model:mask" || point["step"] != 0) continue;
    EXPECT_EQ(point["shape"], json({8, 4, 7, 15}));
  }
}

TEST_F(GivenMask, ATraceIsJudgedByTheMaskThatItBrings) {
  PS_NEEDS_REFERENCE();
  const Ran whole = diagnosed(given());
  EXPECT_EQ(whole.code, 0) << whole.err;
  EXPECT_EQ(report_of(whole)["verdict"], "equivalent");

  TempDir dir;
  const auto all = [](const std::string&, Tensor&) { return true; };
  const auto without = [](const std::string& name, Tensor&) { return name != "input_mask"; };
  // Without it the causal rule counts, and the run broke it.
  rewrite(given(), dir / "none", without);
  const json none = report_of(diagnosed(dir / "none"));
  EXPECT_EQ(none["first_divergence"]["point"], "model:mask");
  // In words instead, under the file's metadata.
  rewrite(given(), dir / "words", without, {}, kByHead);
  EXPECT_EQ(report_of(diagnosed(dir / "words"))["verdict"], "equivalent");
  // Another mask than was applied: one head's window is a token wider.
  std::string wider = kByHead;
  wider.replace(wider.find("window(2)"), 9, "window(3)");
  rewrite(given(), dir / "wider", without, {}, wider);
  const json other = report_of(diagnosed(dir / "wider"));
  EXPECT_EQ(other["first_divergence"]["point"], "model:mask");
  EXPECT_EQ(other["first_divergence"]["where"], "replica=0 batch=0 head=1 query=3 key=8");
  // The same with nothing of the mask captured: the probabilities show it.
  rewrite(
      given(), dir / "probs",
      [](const std::string& name, Tensor&) { return name != "model:mask" && name != "input_mask"; },
      {}, wider);
  EXPECT_EQ(report_of(diagnosed(dir / "probs"))["first_divergence"]["point"],
            "model.layers.0.self_attn:probs");
  rewrite(given(), dir / "broken", all, {}, "causal & widnow(3)");
  EXPECT_EQ(diagnosed(dir / "broken").code, 0) << "the tensor stands before the words";
  rewrite(given(), dir / "unknown", without, {}, "causal & widnow(3)");
  expect_bad_input(diagnosed(dir / "unknown"), "metadata mask_program:1:10: unknown word");
}

// What is made of a trace keeps its mask, its other metadata and what its manifest says besides.
TEST_F(GivenMask, ConvertAndGoldenRecordCarryIt) {
  PS_NEEDS_REFERENCE();
  TempDir dir;
  const auto without = [](const std::string& name, Tensor&) { return name != "input_mask"; };
  rewrite(given(), dir / "words", without, {}, kByHead);
  const fs::path manifest = fs::path(dir / "words") / "trace.json";
  json said = json::parse(get_file(manifest));
  said["backends"] = {{{"op", "attention"}, {"requested", "sdpa"}, {"executed", "sdpa"}}};
  said["weights"] = {
      {"model.norm.weight", {{"dtype", "float32"}, {"shape", {128}}, {"crc32", "0357c450"}}}};
  said["whose"] = "another program's";
  put_file(manifest, said.dump());
  const auto program_of = [](const fs::path& trace) {
    return mask_program_of(value_or_die(Trace::open(trace)).steps()[1]);
  };
  const auto same_manifest = [&](const fs::path& trace) {
    const json made = json::parse(get_file(trace / "trace.json"));
    for (const char* field : {"backends", "weights", "whose"}) EXPECT_EQ(made[field], said[field]);
  };

  const Ran converted = run_parscope({"convert", dir / "words", "-o", dir / "made"});
  ASSERT_EQ(converted.code, 0) << converted.err;
  EXPECT_EQ(program_of(dir / "made"), kByHead);
  same_manifest(dir / "made");
  EXPECT_EQ(report_of(diagnosed(dir / "made"))["verdict"], "equivalent");

  for (const std::string form : {"--digest", "--json"}) {  // the second: whole values
    const fs::path golden = fs::path(dir / "golden") / form.substr(2);
    const auto record = [&](const fs::path& trace) {
      return run_parscope(
          {"golden", "record", trace, "-o", golden, "--model", bytes_model().string(), form});
    };
    const Ran recorded = record(dir / "words");
    ASSERT_EQ(recorded.code, 0) << recorded.err;
    EXPECT_EQ(program_of(golden / "trace"), kByHead);
    same_manifest(golden / "trace");
    // Run again with the mask, every value is there again: without it, none behind it would be.
    const Ran verified = run_parscope({"golden", "verify", golden, "--json"});
    EXPECT_EQ(verified.code, 0) << verified.out;
    EXPECT_NE(verified.out.find("computed again and within bounds"), std::string::npos);

    std::string wider = kByHead;
    wider.replace(wider.find("window(2)"), 9, "window(3)");
    rewrite(dir / "words", dir / "wider", without, {}, wider);
    const Ran changed = record(dir / "wider");
    EXPECT_EQ(changed.code, 1);
    EXPECT_NE(changed.out.find("metadata:mask_program"), std::string::npos) << changed.out;
    fs::remove_all(dir / "wider");
    // An edited golden is no golden.
    rewrite(golden / "trace", dir / "edited", without, {}, wider);
    fs::remove_all(golden / "trace");
    fs::rename(dir / "edited", golden / "trace");
    const Ran edited = run_parscope({"golden", "verify", golden});
    EXPECT_EQ(edited.code, 1);
    EXPECT_NE(edited.out.find("metadata:mask_program is not what was recorded"), std::string::npos)
        << edited.out;
  }
}

TEST_F(GivenMask, AnAttentionMaskOfFourAxesIsOne) {
  PS_NEEDS_REFERENCE();
  TempDir dir;
  // Added to the scores, without the prefix's columns, as callers of transformers pass it.
  const auto others = [](const std::string& name, Tensor&) {
    return name != "attention_mask" && name != "input_mask";
  };
  fs::create_directories(dir / "four");
  for (const auto& entry : fs::directory_iterator(given())) {
    const fs::path out = fs::path(dir / "four") / entry.path().filename();
    if (entry.path().extension() != ".safetensors") {
      fs::copy_file(entry.path(), out);
      continue;
    }
    const SafetensorsFile file = value_or_die(SafetensorsFile::open(entry.path()));
    const TensorView bits = *file.find("input_mask");
    const std::int64_t keys = bits.shape[3] - 8;
    Tensor mask(DType::kF32, {bits.shape[0], bits.shape[1], bits.shape[2], keys});
    for (std::int64_t i = 0; i < count_of(mask.shape()); ++i) {
      const bool may = value_at(bits, i / keys * bits.shape[3] + 8 + i % keys) != 0;
      mask.as<float>()[static_cast<std::size_t>(i)] = may ? 0.F : -HUGE_VALF;
    }
    edit_tensors(entry.path(), out, others, {{"attention_mask", std::move(mask)}});
  }
  const Ran ran = diagnosed(dir / "four");
  EXPECT_EQ(ran.code, 0) << ran.err << ran.out.substr(0, 2000);
}

TEST_F(GivenMask, LintAndDiffKnowIt) {
  EXPECT_EQ(run_parscope({"lint", given().string()}).code, 0);
  TempDir dir;
  rewrite(given(), dir / "flipped", [](const std::string& name, Tensor& t) {
    if (name == "input_mask") {
      auto cells = t.as<std::uint8_t>();
      cells[cells.size() - 2] ^= 1;
    }
    return true;
  });
  const json lint = json::parse(run_parscope({"lint", dir / "flipped", "--json"}).out);
  EXPECT_EQ(lint["findings"][0]["id"], "mask-differs");
  EXPECT_EQ(lint["findings"][0]["severity"], "error");
  // Runs under different masks are no two runs of one thing.
  const json diff =
      json::parse(run_parscope({"diff", dir / "flipped", given().string(), "--json"}).out);
  EXPECT_EQ(diff["verdict"], "invalid");
  rewrite(given(), dir / "none",
          [](const std::string& name, Tensor&) { return name != "input_mask"; });
  EXPECT_EQ(run_parscope({"diff", dir / "none", given().string()}).code, 2);
}

TEST(StepMaskSize, WhatDoesNotFitIsOneLine) {
  const std::string model = bytes_model().string();
  const std::vector<std::string> run = {"check", model, "--device", "host", "--random", "2x7"};
  const auto with = [&](std::vector<std::string> more) {
    std::vector<std::string> words = run;
    words.insert(words.end(), more.begin(), more.end());
    return run_parscope(words);
  };
  expect_bad_input(with({"--mask", "B=3 H=1 Q=7 KV=15; causal"}), "another batch");
  expect_bad_input(with({"--mask", "B=1 H=3 Q=7 KV=15; causal"}), "another number of heads");
  expect_bad_input(with({"--mask", kByHead, "--tp", "4"}), "one head a rank");
}

// Heads 1 and 3 look everywhere: each of two ranks holds one of those and one that does not.
TEST(StepMaskRanks, EachRankTakesTheMasksOfItsHeads) {
  PS_NEEDS_REFERENCE();
  const std::string mask =
      "kv_range(0, 8) | shift(dk=-8, causal & (heads(1, 3) | window(2) | q_range(0, 2)))";
  const TempDir dir;
  const auto trace = [&](const std::string& name, std::vector<std::string> more) {
    std::vector<std::string> words = {"trace",    bytes_model(), "--dtype", "f32",
                                      "--random", "2x7",         "--steps", "1",
                                      "--mask",   mask,          "-o",      dir / name};
    words.insert(words.end(), more.begin(), more.end());
    const Ran ran = run_parscope(words);
    EXPECT_EQ(ran.code, 0) << ran.err;
  };
  trace("whole", {"--engine", "reference"});
  trace("model", {"--engine", "model", "--device", "host", "--tp", "2"});
  trace("truth", {"--engine", "reference", "--tp", "2"});
  for (const char* ranks : {"model", "truth"}) {
    const json diff = json::parse(run_parscope({"diff", dir / ranks, dir / "whole", "--json"}).out);
    EXPECT_EQ(diff["verdict"], "equivalent") << ranks;
    const auto shards = json::parse(get_file(fs::path(dir / ranks) / "trace.json"))["shards"];
    EXPECT_EQ(shards["model:mask"]["dim"], 1) << ranks;
  }
  const Ran check = run_parscope({"check", bytes_model(), "--device", "host", "--dtype", "f32",
                                  "--random", "2x7", "--tp", "2", "--mask", mask});
  EXPECT_EQ(check.code, 0) << check.err << check.out;
}

}  // namespace
}  // namespace ps::mask
