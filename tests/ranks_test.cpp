// Real ranks from the outside: processes under `parscope launch` and under the variables of
// torchrun and mpirun, one of them killed, one of them different; ledgers in traces.
#include <algorithm>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/ledger.h"
#include "core/trace.h"
#include "diff/shard/ledgers.h"
#include "tests/support/processes.h"
#include "tests/support/run.h"

namespace ps {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

Words joined(Words a, const Words& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

class RealRanks : public ::testing::Test {
 protected:
  void SetUp() override {
    PS_NEEDS_GLOO();
    PS_NEEDS_REFERENCE();
  }
  TempDir temp_;
};

TEST_F(RealRanks, CheckFindsWhatSimulatedRanksFind) {
  for (const std::string tp : {"2", "4"}) {
    const std::string model =
        fixtures_dir() / "models" / (tp == "2" ? "parscale-bytes" : "cross-attn-bytes");
    const Words check = {"check", model,     "--tp", tp,         "--dtype", "f32",   "--random",
                         "2x7",   "--steps", "1",    "--device", "host",    "--json"};
    const Ran simulated = run_parscope(check);
    const Ran real = run_parscope(joined({"launch", "-n", tp}, check));
    ASSERT_EQ(simulated.code, 0) << simulated.err;
    ASSERT_EQ(real.code, 0) << real.err;
    EXPECT_EQ(real.err, "");
    const auto a = nlohmann::json::parse(simulated.out), b = nlohmann::json::parse(real.out);
    EXPECT_EQ(b["verdict"], a["verdict"]);
    EXPECT_EQ(b["environment"]["ranks"], "processes");
    ASSERT_EQ(b["points"].size(), a["points"].size());
    for (std::size_t i = 0; i < a["points"].size(); ++i) {
      EXPECT_EQ(b["points"][i]["point"], a["points"][i]["point"]);
      EXPECT_EQ(b["points"][i]["status"], "ok") << b["points"][i];
    }
  }
}

TEST_F(RealRanks, AWrongWeightIsFoundOnThemToo) {
  copy_bytes_model(temp_ / "wrong", [](const std::string& name, Tensor& tensor) {
    if (name == "model.layers.1.mlp.down_proj.weight") {
      for (std::byte& b : tensor.bytes()) b = std::byte{0};
    }
    return true;
  });
  const Words check = {"check",    bytes_model(), "--candidate", temp_ / "wrong", "--tp",
                       "2",        "--dtype",     "f32",         "--random",      "2x5",
                       "--device", "host",        "--json"};
  const Ran simulated = run_parscope(check);
  const Ran real = run_parscope(joined({"launch", "-n", "2"}, check));
  EXPECT_EQ(real.code, 1) << real.err;
  const auto a = nlohmann::json::parse(simulated.out), b = nlohmann::json::parse(real.out);
  EXPECT_EQ(b["first_divergence"], a["first_divergence"]);
  EXPECT_EQ(b["first_divergence"]["point"], "model.layers.1.mlp.down_proj");
}

TEST_F(RealRanks, TraceIsThatOfSimulatedRanks) {
  const std::string sim = temp_ / "sim", real = temp_ / "real";
  const Words trace = {"trace",   bytes_model(), "--engine", "model", "--device", "host",
                       "--dtype", "f32",         "--random", "2x6",   "--steps",  "2",
                       "--beams", "2",           "--tp",     "2",     "-o"};
  const Ran a = run_parscope(joined(trace, {sim}));
  const Ran b = run_parscope(joined(joined({"launch", "-n", "2"}, trace), {real}));
  ASSERT_EQ(a.code, 0) << a.err;
  ASSERT_EQ(b.code, 0) << b.err;
  EXPECT_EQ(std::count(b.out.begin(), b.out.end(), '\n'), 1) << b.out;  // rank 0's alone
  // Two addends have one sum: every bit is the same.
  EXPECT_EQ(contents(real).size(), contents(sim).size());
  for (const auto& [name, bytes] : contents(sim)) {
    if (name == "trace.json") continue;
    EXPECT_TRUE(contents(real)[name] == bytes) << name;
  }
  const auto ledgers = value_or_die(read_ledgers(real));
  const auto simulated = value_or_die(read_ledgers(sim));
  ASSERT_EQ(ledgers.size(), simulated.size());
  std::size_t forward = 0;
  for (std::size_t i = 0; i < ledgers.size(); ++i) {
    EXPECT_EQ(ledgers[i].rank, simulated[i].rank);
    EXPECT_TRUE(ledgers[i].issued == simulated[i].issued) << i;
    forward += ledgers[i].issued.empty() ? 0 : 1;
    if (ledgers[i].issued.empty()) continue;
    EXPECT_EQ(ledgers[i].issued.size(), 8u);  // 2 a layer
  }
  EXPECT_EQ(forward, 2u * 3u);
  const Ran lint = run_parscope({"lint", real});
  EXPECT_EQ(lint.code, 0) << lint.out;
  const Ran diagnose = run_parscope({"diagnose", real, "--model", bytes_model()});
  EXPECT_EQ(diagnose.code, 0) << diagnose.out << diagnose.err;
}

TEST_F(RealRanks, LaunchersVariablesAreRead) {
  const Words words = {parscope_program(),
                       "trace",
                       bytes_model(),
                       "--engine",
                       "model",
                       "--device",
                       "host",
                       "--tp",
                       "2",
                       "--prompt",
                       "ab",
                       "--points",
                       "lm_head",
                       "-o"};
  {
    const FreePort port;
    std::vector<std::unique_ptr<Process>> ranks;
    for (const std::string r : {"0", "1"}) {
      ranks.push_back(
          std::make_unique<Process>(joined(words, {temp_ / "mpirun"}),
                                    Words{"OMPI_COMM_WORLD_RANK=" + r, "OMPI_COMM_WORLD_SIZE=2",
                                          "OMPI_COMM_WORLD_LOCAL_RANK=" + r,
                                          "MASTER_ADDR=localhost", "MASTER_PORT=" + port.text()}));
    }
    for (const auto& rank : ranks) {
      const Ran ran = rank->wait(std::chrono::seconds(60));
      EXPECT_EQ(ran.code, 0) << ran.err;
    }
  }
  FreePort taken;  // as torchrun's own store does
  ASSERT_TRUE(taken.listen());
  std::vector<std::unique_ptr<Process>> ranks;
  for (const std::string r : {"1", "0"}) {
    ranks.push_back(std::make_unique<Process>(
        joined(words, {temp_ / "torchrun"}),
        Words{"RANK=" + r, "WORLD_SIZE=2", "LOCAL_RANK=" + r, "LOCAL_WORLD_SIZE=2",
              "MASTER_ADDR=127.0.0.1", "MASTER_PORT=" + taken.text(),
              "TORCHELASTIC_USE_AGENT_STORE=True"}));
  }
  for (const auto& rank : ranks) {
    const Ran ran = rank->wait(std::chrono::seconds(60));
    EXPECT_EQ(ran.code, 0) << ran.err;
  }
  EXPECT_EQ(value_or_die(Trace::open(temp_ / "torchrun")).steps().size(), 2u);
}

// Two ranks in the middle of a long trace.
struct Running {
  FreePort port;
  std::vector<std::unique_ptr<Process>> ranks;
};
std::unique_ptr<Running> long_trace(const fs::path& dir, int size) {
  auto out = std::make_unique<Running>();
  for (int r = 0; r < size; ++r) {
    out->ranks.push_back(std::make_unique<Process>(
        Words{parscope_program(), "trace", bytes_model(), "--engine", "model", "--device", "host",
              "--tp", std::to_string(size), "--prompt", "ab", "--steps", "3000", "--points",
              "model.norm", "-o", dir},
        Words{"RANK=" + std::to_string(r), "WORLD_SIZE=" + std::to_string(size),
              "MASTER_ADDR=127.0.0.1", "MASTER_PORT=" + out->port.text()}));
  }
  return out;
}

TEST_F(RealRanks, AKilledRankEndsTheOthersWithItsNameAndLeavesNoWholeTrace) {
  for (const std::size_t victim : {1u, 0u}) {
    const fs::path dir = temp_ / ("killed" + std::to_string(victim));
    const auto running = long_trace(dir, 4);
    ASSERT_TRUE(
        comes_true([&] { return fs::exists(dir / "step-00002.rank-00003.safetensors.part"); },
                   std::chrono::seconds(60)))
        << running->ranks[0]->err();
    running->ranks[victim]->signal(SIGKILL);
    const auto begun = std::chrono::steady_clock::now();
    for (std::size_t r = 0; r < running->ranks.size(); ++r) {
      if (r == victim) continue;
      const Ran ran = running->ranks[r]->wait(std::chrono::seconds(10));
      EXPECT_EQ(ran.code, 3) << r << " " << ran.err;
      EXPECT_EQ(ran.lines_of_err(), 1) << ran.err;
      EXPECT_TRUE(ran.err.starts_with("parscope: rank " + std::to_string(victim) + ": is gone"))
          << ran.err;
    }
    EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(10));
    EXPECT_FALSE(fs::exists(dir / "trace.json"));
    EXPECT_FALSE(Trace::open(dir).ok());
    expect_bad_input(run_parscope({"lint", dir}), "is no trace");
  }
}

// In the middle of a check, where rank 0 judges while the others wait, and the other way round.
TEST_F(RealRanks, AKilledRankEndsACheckWithItsNameAndNoVerdict) {
  for (const std::size_t victim : {1u, 0u}) {
    const FreePort port;
    std::vector<std::unique_ptr<Process>> ranks;
    for (const std::string r : {"0", "1"}) {
      ranks.push_back(std::make_unique<Process>(
          Words{parscope_program(), "check", bytes_model(), "--device", "host", "--tp", "2",
                "--random", "3x33", "--steps", "200"},
          Words{"RANK=" + r, "WORLD_SIZE=2", "MASTER_ADDR=127.0.0.1",
                "MASTER_PORT=" + port.text()}));
    }
    const std::string maps = "/proc/" + std::to_string(ranks[1]->pid()) + "/maps";
    ASSERT_TRUE(
        comes_true([&] { return get_file(maps).find("libparscope_gloo.so") != std::string::npos; },
                   std::chrono::seconds(60)));
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    ranks[victim]->signal(SIGKILL);
    const Ran ran = ranks[1 - victim]->wait(std::chrono::seconds(10));
    EXPECT_EQ(ran.code, 3) << ran.err;
    EXPECT_EQ(ran.out, "");
    EXPECT_TRUE(ran.err.starts_with("parscope: rank " + std::to_string(victim) + ": is gone"))
        << ran.err;
  }
}

TEST_F(RealRanks, AStoppedRankEndsTheOthersWithin10Seconds) {
  const auto running = long_trace(temp_ / "stopped", 2);
  ASSERT_TRUE(comes_true(
      [&] { return fs::exists(temp_ / "stopped/step-00002.rank-00001.safetensors.part"); },
      std::chrono::seconds(60)));
  running->ranks[1]->signal(SIGSTOP);
  const Ran ran = running->ranks[0]->wait(std::chrono::seconds(10));
  EXPECT_EQ(ran.code, 3) << ran.err;
  EXPECT_TRUE(ran.err.starts_with("parscope: rank 1: does not answer")) << ran.err;
}

TEST_F(RealRanks, ADifferentRankIsNamedBeforeAnythingRuns) {
  const FreePort port;
  std::vector<std::unique_ptr<Process>> ranks;
  for (const std::string r : {"0", "1"}) {
    ranks.push_back(std::make_unique<Process>(
        Words{parscope_program(), "check", bytes_model(), "--device", "host", "--tp", "2",
              "--prompt", "abc", "--dtype", r == "1" ? "bf16" : "f32"},
        Words{"RANK=" + r, "WORLD_SIZE=2", "MASTER_ADDR=127.0.0.1", "MASTER_PORT=" + port.text()}));
  }
  for (const auto& rank : ranks) {
    expect_bad_input(rank->wait(std::chrono::seconds(30)),
                     "rank 1: was started with another --dtype than rank 0: expected f32, found "
                     "bf16");
  }
}

TEST_F(RealRanks, WrongNumbersOfRanksAreBadInput) {
  const Ran missing = run_parscope({"launch", "-n", "2", "check", bytes_model()});
  EXPECT_EQ(missing.code, 2);
  EXPECT_NE(missing.err.find("[rank 1] parscope: --tp: this process is rank 1 of 2"),
            std::string::npos)
      << missing.err;
  const Ran heads = run_parscope({"launch", "-n", "3", "check", bytes_model(), "--tp", "3"});
  EXPECT_EQ(heads.code, 2);
  EXPECT_NE(heads.err.find("REJ_HEADS"), std::string::npos) << heads.err;
  const Ran taken =
      run_parscope({"launch", "-n", "2", "trace", bytes_model(), "--tp", "2", "-o", bytes_model()});
  EXPECT_EQ(taken.code, 2);
  EXPECT_NE(taken.err.find("[rank 1] parscope: rank 0: ended the run: "), std::string::npos)
      << taken.err;
}

// ---- the launcher -----------------------------------------------------------------------------

TEST(Launch, GivesEveryRankItsVariablesAndReturnsTheWorstCode) {
  const Ran ran = run_parscope(
      {"launch", "-n", "3", "sh", "-c",
       "echo out $RANK/$WORLD_SIZE $LOCAL_RANK $MASTER_ADDR; echo err >&2; exit $RANK"});
  EXPECT_EQ(ran.code, 2);
  EXPECT_EQ(ran.out, "out 0/3 0 127.0.0.1\n");
  for (const std::string line :
       {"[rank 0] err\n", "[rank 1] err\n", "[rank 1] out 1/3 1 127.0.0.1\n", "[rank 2] err\n"}) {
    EXPECT_NE(ran.err.find(line), std::string::npos) << ran.err;
  }
}

TEST(Launch, SaysWhichSignalEndedARank) {
  const Ran ran = run_parscope({"launch", "-n", "2", "sh", "-c", "[ $RANK = 0 ] || kill -9 $$"});
  EXPECT_EQ(ran.code, 3);
  EXPECT_NE(ran.err.find("rank 1 was ended by signal 9"), std::string::npos) << ran.err;
}

TEST(Launch, PassesSignalsOn) {
  Process launcher({parscope_program(), "launch", "-n", "2", "sh", "-c",
                    "trap 'echo got it >&2; exit 7' TERM; echo ready >&2; while :; do sleep 0.1; "
                    "done"},
                   {});
  ASSERT_TRUE(comes_true(
      [&] {
        const std::string err = launcher.err();
        return err.find("[rank 0] ready") != std::string::npos &&
               err.find("[rank 1] ready") != std::string::npos;
      },
      std::chrono::seconds(20)));
  launcher.signal(SIGTERM);
  const Ran ran = launcher.wait(std::chrono::seconds(10));
  EXPECT_EQ(ran.code, 7);
  EXPECT_NE(ran.err.find("[rank 1] got it"), std::string::npos) << ran.err;
}

TEST(Launch, BadUsageIsOneLine) {
  expect_bad_input(run_parscope({"launch", "check", "x"}), "no -n N");
  expect_bad_input(run_parscope({"launch", "-n", "2"}), "no COMMAND");
  expect_bad_input(run_parscope({"launch", "-n", "0", "check"}), "-n: wrong number");
  const Ran absent = run_parscope({"launch", "-n", "1", "no-such-program-here"});
  EXPECT_EQ(absent.code, 2);
  EXPECT_NE(absent.err.find("no-such-program-here: cannot be run"), std::string::npos);
}

// ---- ledgers ----------------------------------------------------------------------------------

Ledger some_ledger() {
  return {{"all_reduce", {2, 7, 64}, DType::kBF16, "model.layers.0.self_attn.o_proj"},
          {"all_reduce", {2, 7, 64}, DType::kBF16, "model.layers.0.mlp.down_proj"},
          {"all_gather", {2, 7, 128}, DType::kBF16, "lm_head"}};
}

TEST(Ledgers, AreReadBackFromAManifest) {
  const std::vector<StepLedger> ledgers = {
      {0, 0, some_ledger()}, {0, 1, some_ledger()}, {1, 0, {}}};
  const std::string text = with_ledgers("{\n \"format\": \"parscope-trace/1\"\n}\n", ledgers);
  EXPECT_EQ(nlohmann::json::parse(text)["collectives"].size(), 3u);
  const auto back = value_or_die(parse_ledgers(text, "x"));
  ASSERT_EQ(back.size(), 3u);
  EXPECT_TRUE(back[1].issued == some_ledger());
  EXPECT_EQ(back[1].rank, 1);
  EXPECT_EQ(with_ledgers("{\n \"a\": 1\n}\n", {}), "{\n \"a\": 1\n}\n");
  EXPECT_TRUE(value_or_die(parse_ledgers("{\"format\": 1}", "x")).empty());
  for (
      const std::string bad :
      {R"({"collectives": {}})", R"({"collectives": [{"step": 0}]})",
       R"({"collectives": [{"step": 0, "rank": 0, "issued": [["all_reduce", [2], "f99", ""]]}]})",
       R"({"collectives": [{"step": 0, "rank": 0, "issued": [["all_reduce", [-2], "float32", ""]]}]})"}) {
    const auto read = parse_ledgers(bad, "trace.json");
    ASSERT_FALSE(read.ok()) << bad;
    EXPECT_TRUE(read.error().line().starts_with("trace.json: /collectives")) << read.error().line();
  }
}

Finding only_finding(std::vector<StepLedger> ledgers) {
  const auto found = ledger_findings(ledgers);
  EXPECT_EQ(found.size(), 1u);
  return found.empty() ? Finding{} : found[0];
}

TEST(Ledgers, TheRankThatDisagreesIsNamedWithHow) {
  const Ledger right = some_ledger();
  EXPECT_TRUE(ledger_findings({{0, 0, right}, {0, 1, right}, {0, 2, right}}).empty());
  Ledger skips = right;
  skips.erase(skips.begin());
  const Finding skipped = only_finding({{4, 0, skips}, {4, 1, right}, {4, 2, right}});
  EXPECT_EQ(skipped.id, "TP015");
  EXPECT_EQ(skipped.step, 4);
  EXPECT_EQ(skipped.rank, 0);
  EXPECT_EQ(skipped.point, "model.layers.0.self_attn.o_proj");
  EXPECT_NE(skipped.message.find("it leaves one out"), std::string::npos) << skipped.message;
  Ledger shape = right;
  shape[1].shape = {2, 6, 64};
  const Finding shaped = only_finding({{0, 0, right}, {0, 1, shape}});
  EXPECT_EQ(shaped.rank, 1);
  EXPECT_NE(shaped.message.find("the shapes differ"), std::string::npos) << shaped.message;
  Ledger type = right;
  type[2].dtype = DType::kF32;
  EXPECT_NE(only_finding({{0, 0, right}, {0, 1, type}}).message.find("the types differ"),
            std::string::npos);
  Ledger order = right;
  std::swap(order[0], order[1]);
  EXPECT_EQ(only_finding({{0, 0, right}, {0, 1, right}, {0, 2, order}}).rank, 2);
  Ledger ends = right;
  ends.pop_back();
  EXPECT_NE(only_finding({{0, 0, right}, {0, 1, ends}}).message.find("nothing more"),
            std::string::npos);
}

TEST(Ledgers, LintAndDiagnoseCompareThoseOfATrace) {
  PS_NEEDS_REFERENCE();
  const TempDir temp;
  const std::string dir = temp / "t";
  const Ran traced = run_parscope(
      {"trace", bytes_model(), "--engine", "reference", "--tp", "2", "--prompt", "abc", "-o", dir});
  ASSERT_EQ(traced.code, 0) << traced.err;
  EXPECT_EQ(run_parscope({"lint", dir}).code, 0);
  auto manifest = nlohmann::json::parse(get_file(fs::path(dir) / "trace.json"));
  ASSERT_EQ(manifest["collectives"].size(), 2u);
  manifest["collectives"][1]["issued"].erase(3);
  put_file(fs::path(dir) / "trace.json", manifest.dump());
  for (const Words& words :
       {Words{"lint", dir, "--json"}, Words{"diagnose", dir, "--model", bytes_model(), "--json"}}) {
    const Ran ran = run_parscope(words);
    EXPECT_EQ(ran.code, 1) << ran.err;
    const auto findings = nlohmann::json::parse(ran.out)["findings"];
    const bool named = std::any_of(findings.begin(), findings.end(), [](const auto& f) {
      return f["id"] == "TP015" && f["rank"] == 1 && f["severity"] == "error";
    });
    EXPECT_TRUE(named) << ran.out;
  }
}

}  // namespace
}  // namespace ps
