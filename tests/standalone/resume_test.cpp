// A check that is killed goes on where it was, and ends with the report of one that never was: the
// program is killed at random points, again and again, until it is through.
#include <csignal>
#include <filesystem>

#include <gtest/gtest.h>

#include "core/json.h"
#include "core/own_run.h"
#include "core/rng.h"
#include "diff/isolate/check_progress.h"
#include "diff/run/inputs.h"
#include "tests/support/processes.h"
#include "tests/support/random_model.h"

namespace ps {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPlainConfig = R"({
  "model_type": "qwen2", "vocab_size": 61, "hidden_size": 24, "intermediate_size": 37,
  "num_hidden_layers": 5, "num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 10,
  "max_position_embeddings": 128, "hidden_act": "silu", "rms_norm_eps": 1e-6,
  "rope_theta": 10000.0, "tie_word_embeddings": false, "torch_dtype": "bfloat16"})";

std::string without_times(const fs::path& report) {
  const std::string text = get_file(report);
  const Result<Json> json = parse_json(text, report.string());
  EXPECT_TRUE(json.ok()) << json.error().line();
  if (!json.ok()) return text;
  std::string out;
  for (std::size_t i = 0; i < json->names.size(); ++i) {
    if (json->names[i] != "timing") out += json->names[i] + ": " + json->items[i].dump() + "\n";
  }
  return out;
}

std::vector<std::string> words(const std::vector<std::string>& what, const fs::path& report) {
  std::vector<std::string> out = {parscope_program(), "check"};
  out.insert(out.end(), what.begin(), what.end());
  out.insert(out.end(), {"--threads", "1", "--quiet", "--report", report.string()});
  return out;
}

const std::vector<std::string> kKeepOften = {"PARSCOPE_KEEP_SECONDS=0"};

std::int64_t size_or_none(const fs::path& file) {
  std::error_code error;
  const auto size = fs::file_size(file, error);
  return error ? -1 : static_cast<std::int64_t>(size);
}

bool has_ended(pid_t pid) {
  siginfo_t info{};
  return ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
         info.si_pid != 0;
}

constexpr int kRounds = 6;  // kills at most
constexpr int kTries = 20;  // until a signal meets a check that still runs

// Stops the process; false where it had ended before.
bool stop(const Process& process) {
  process.signal(SIGSTOP);
  siginfo_t info{};
  const auto pid = static_cast<id_t>(process.pid());
  return ::waitid(P_PID, pid, &info, WSTOPPED | WEXITED | WNOWAIT) == 0 &&
         info.si_code == CLD_STOPPED;
}

// Runs until it ends, and kills it each time that the progress has grown by a random amount.
int run_through_kills(const std::vector<std::string>& what, const fs::path& report,
                      std::uint64_t seed, int& kills) {
  Draw draw(seed, 7);
  std::vector<std::string> all = words(what, report);
  all.emplace_back("--resume");
  for (int round = 0; round <= kRounds; ++round) {
    Process process(all, kKeepOften);
    const fs::path progress = report / "check.progress";
    const std::int64_t enough =
        std::max<std::int64_t>(0, size_or_none(progress)) + draw.from(1'000, 120'000);
    bool killed = false;
    while (!has_ended(process.pid()) && !killed) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      if (round == kRounds || size_or_none(progress) < enough) continue;
      process.signal(SIGKILL);
      killed = true;
      ++kills;
    }
    const Ran ran = process.wait(std::chrono::seconds(120));
    if (ran.code != 128 + SIGKILL) return ran.code;
  }
  return -1;
}

void expect_same_report(const std::vector<std::string>& what, int code, std::uint64_t seeds) {
  PS_NEEDS_REFERENCE();
  const TempDir dir;
  const Ran whole = run_program(words(what, dir / "whole"), kKeepOften);
  ASSERT_EQ(whole.code, code) << whole.err;
  EXPECT_FALSE(fs::exists(dir / "whole" / "check.progress"));
  const std::string expected = without_times(dir / "whole" / "report.json");
  int kills = 0;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    const fs::path report = dir / ("killed-" + std::to_string(seed));
    EXPECT_EQ(run_through_kills(what, report, seed, kills), code) << "seed " << seed;
    EXPECT_EQ(without_times(report / "report.json"), expected) << "seed " << seed;
    EXPECT_FALSE(fs::exists(report / "check.progress"));
    EXPECT_FALSE(fs::exists(report / "check.progress.reference.safetensors"));
  }
  EXPECT_GT(kills, 0) << "nothing was ever killed: the test shows nothing";
}

TEST(Resume, AReplicatedModelEndsWithTheSameReport) {
  expect_same_report({bytes_model().string(), "--random", "2x9", "--steps", "1"}, 0, 2);
}

TEST(Resume, APlainModelEndsWithTheSameReportOverChunksAndSteps) {
  const TempDir dir;
  random_model(dir / "plain", kPlainConfig, 3);
  expect_same_report({(dir / "plain").string(), "--random", "2x11", "--chunk", "4", "--steps", "2"},
                     0, 3);
}

TEST(Resume, AWrongModelEndsWithTheSameFindings) {
  const TempDir dir;
  copy_bytes_model(dir / "wrong", [](const std::string& name, Tensor& t) {
    if (name == "model.layers.2.mlp.up_proj.weight") t.bytes()[1] = std::byte{0x42};
    return true;
  });
  expect_same_report({bytes_model().string(), "--candidate", (dir / "wrong").string(), "--random",
                      "1x7", "--natural"},
                     1, 2);
}

// A progress file in the middle of a run, with its report folder and its model.
struct Stopped {
  TempDir dir;
  fs::path model = dir / "model", report = dir / "report";
  fs::path progress = report / "check.progress";
  std::vector<std::string> all = words({model.string(), "--random", "1x6", "--natural"}, report);

  Stopped() {
    random_model(model, kPlainConfig, 5);
    int code = 0;
    for (int i = 0; i < kTries && code == 0; ++i) {  // 0: it ended first, as on a busy machine
      Process process(all, kKeepOften);
      comes_true([&] { return size_or_none(progress) > 30'000 || has_ended(process.pid()); },
                 std::chrono::seconds(60));
      process.signal(SIGKILL);
      code = process.wait(std::chrono::seconds(60)).code;
    }
    EXPECT_EQ(code, 128 + SIGKILL);
    all.emplace_back("--resume");
  }
};

TEST(Resume, RefusesOtherWeightsTokensAndOptions) {
  PS_NEEDS_REFERENCE();
  Stopped stopped;
  const std::string before = get_file(stopped.progress);
  auto tokens = stopped.all;
  tokens[std::find(tokens.begin(), tokens.end(), "1x6") - tokens.begin()] = "1x8";
  expect_bad_input(run_program(tokens), "the tokens differs: expected 1x6");
  auto option = stopped.all;
  option.insert(option.end(), {"--cross-check", "same"});
  expect_bad_input(run_program(option), "--cross-check differs: expected default, found same");
  EXPECT_EQ(get_file(stopped.progress), before) << "a refusal changed the file";
  // The same size, another value, a later time.
  const fs::path weights = stopped.model / "model.safetensors";
  std::string bytes = get_file(weights);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  put_file(weights, bytes);
  expect_bad_input(run_program(stopped.all), "the model's model.safetensors differs");
  EXPECT_EQ(get_file(stopped.progress), before);
}

TEST(Resume, RefusesACandidateThatComputesSomethingElse) {
  PS_NEEDS_REFERENCE();
  Stopped stopped;
  // Other weights behind the same size and time: only the values can tell.
  const fs::path weights = stopped.model / "model.safetensors";
  const auto time = fs::last_write_time(weights);
  edit_tensors(weights, weights, [](const std::string&, Tensor& t) {
    for (std::byte& b : t.bytes()) b ^= std::byte{1};
    return true;
  });
  fs::last_write_time(weights, time);
  expect_bad_input(run_program(stopped.all, kKeepOften), "the candidate computes something else");
}

TEST(Resume, ATornLastLineIsForgottenAndOtherDamageIsRefused) {
  PS_NEEDS_REFERENCE();
  Stopped stopped;
  const std::string whole = get_file(stopped.progress);
  const std::size_t last = whole.rfind('\n', whole.size() - 2) + 1;
  put_file(stopped.progress, whole.substr(0, last) + whole.substr(last, 30));
  Ran ran = run_program(stopped.all, kKeepOften);
  EXPECT_EQ(ran.code, 0) << ran.err;
  const std::string report = get_file(stopped.report / "report.json");
  EXPECT_NE(report.find("points_judged_before"), std::string::npos)
      << report.substr(report.size() - 300);

  std::string damaged = whole;
  damaged[whole.size() / 2] = static_cast<char>(damaged[whole.size() / 2] ^ 1);
  put_file(stopped.progress, damaged);
  expect_bad_input(run_program(stopped.all), "is damaged and cannot be resumed from");
  for (const char* other : {"no progress\n", "00000000 {}\n", "{}\n", "\n\n"}) {
    put_file(stopped.progress, other);
    expect_bad_input(run_program(stopped.all), "line 1", other);
  }
  // Nothing to go on from: it begins anew.
  put_file(stopped.progress, "");
  ran = run_program(stopped.all);
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(ran.err, "");
}

TEST(Resume, ADamagedOwnRunOnlyCostsTime) {
  PS_NEEDS_REFERENCE();
  Stopped stopped;
  const fs::path own = stopped.report / "check.progress.reference.safetensors";
  ASSERT_TRUE(fs::exists(own));
  std::string bytes = get_file(own);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  put_file(own, bytes);
  const Ran ran = run_program(stopped.all);
  EXPECT_EQ(ran.code, 0) << ran.err;
}

TEST(Resume, OneFileIsForOneCheckAtATime) {
  PS_NEEDS_REFERENCE();
  for (int i = 0; i < kTries; ++i) {
    Stopped stopped;
    const Process other(stopped.all, kKeepOften);
    const std::int64_t before = size_or_none(stopped.progress);
    comes_true([&] { return size_or_none(stopped.progress) > before || has_ended(other.pid()); },
               std::chrono::seconds(60));
    // Without its file it is through with it.
    if (!stop(other) || size_or_none(stopped.progress) < 0) continue;
    expect_bad_input(run_program(stopped.all), "is in use by another check");
    return;
  }
  FAIL() << "every check ended before it could be stopped";
}

TEST(Resume, LeavesNothingBehindAndOtherFilesAlone) {
  PS_NEEDS_REFERENCE();
  const TempDir dir;
  put_file(dir / "notes", "mine\n");
  expect_bad_input(
      run_parscope({"check", bytes_model().string(), "--progress", (dir / "notes").string()}),
      "holds something else than the progress of a check");
  EXPECT_EQ(get_file(dir / "notes"), "mine\n");
  const Ran ran = run_parscope({"check", bytes_model().string(), "--engine", "model", "--device",
                                "cuda", "--progress", (dir / "new").string()},
                               {"CUDA_VISIBLE_DEVICES=-1"});
  EXPECT_NE(ran.code, 0);
  EXPECT_EQ(dir.names(), std::vector<std::string>{"notes"});
}

TEST(Resume, NeedsAPlaceForTheProgress) {
  expect_bad_input(run_parscope({"check", bytes_model().string(), "--resume"}),
                   "--report DIR or --progress FILE");
}

// The reference's own run, taken up by another process in the middle of a step, gives the bits that
// it would have given.
TEST(OwnRun, GoesOnWithTheSameBits) {
  PS_NEEDS_REFERENCE();
  const TempDir dir;
  const Model model = random_model(dir / "plain", kPlainConfig, 3);
  const auto first = make_reference(model, DType::kF64);
  const auto second = make_reference(model, DType::kF64);
  const StepInputs prompt = random_inputs(2, 5, 4, model.config);
  const StepInputs more{2, 1, {3, 4}, std::nullopt, std::nullopt};
  StepInputs next = more;
  if (prompt.attention_mask) next.attention_mask = std::vector<std::int64_t>(12, 1);
  {
    const auto step = value_or_die(first->step(prompt));
    ok_or_die(step->finish());
  }
  const auto truth = value_or_die(first->step(next));
  const std::size_t half = truth->ops().size() / 2;
  for (std::size_t i = 0; i < half; ++i) value_or_die(truth->own(truth->ops()[i].point));
  const auto* own = dynamic_cast<const OwnRun*>(truth.get());
  ASSERT_NE(own, nullptr) << "the library's steps are no OwnRun for this program";
  OwnRunState state = own->put_down(false);
  ASSERT_EQ(state.ops, static_cast<std::int64_t>(half));
  OwnRunState all;
  {
    const auto step = value_or_die(second->step(prompt));
    all.ops = static_cast<std::int64_t>(step->ops().size());
    ok_or_die(dynamic_cast<OwnRun&>(*step).take_up(all));
    ok_or_die(step->finish());
  }
  const auto again = value_or_die(second->step(next));
  ok_or_die(dynamic_cast<OwnRun&>(*again).take_up(state));
  for (std::size_t i = half; i < truth->ops().size(); ++i) {
    const std::string& point = truth->ops()[i].point;
    const Tensor a = value_or_die(truth->own(point)), b = value_or_die(again->own(point));
    const TensorView x = a.view(), y = b.view();
    EXPECT_EQ(x.shape, y.shape);
    EXPECT_TRUE(std::equal(x.bytes.begin(), x.bytes.end(), y.bytes.begin(), y.bytes.end()))
        << point;
  }
  // Without a value that its rest reads it is refused.
  const auto third = make_reference(model, DType::kF64);
  const auto step = value_or_die(third->step(prompt));
  OwnRunState empty;
  empty.ops = static_cast<std::int64_t>(half);
  EXPECT_FALSE(dynamic_cast<OwnRun&>(*step).take_up(empty).ok());
}

TEST(Record, ReadsBackWhatItWrote) {
  JudgedRecord record;
  record.run = 1;
  record.row = {3, 0, "model.layers.2\":x", {2, 1, 7}, "bfloat16", PointStatus::kHealed};
  record.row.max_abs = std::numeric_limits<double>::quiet_NaN();
  record.row.ratio = 0.1;
  record.row.rel_l2 = std::numeric_limits<double>::infinity();
  record.row.max_ulp = std::numeric_limits<std::int64_t>::max();
  record.note = {true, true, false, false, std::nullopt};
  record.power = {"model.layers.N", {"a", "b\n"}, 1.5, true};
  record.candidate = 0xdeadbeef;
  const std::string line = record_line(record);
  EXPECT_EQ(line.find('\n'), std::string::npos);
  const JudgedRecord back = value_or_die(read_record(line, "line"));
  EXPECT_EQ(record_line(back), line);
  EXPECT_EQ(back.power.seen, record.power.seen);
  for (std::size_t i = 0; i < line.size(); ++i) {  // any cut is an error and no crash
    EXPECT_FALSE(read_record(line.substr(0, i), "line").ok());
  }
}

}  // namespace
}  // namespace ps
