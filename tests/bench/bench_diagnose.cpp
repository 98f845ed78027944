// What a diagnosis costs over the check that it follows, on the tiny model: the same run checked
// with and without naming the cause, whole processes; and cases a minute.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <spawn.h>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include <benchmark/benchmark.h>

#include "core/checkpoint.h"
#include "core/engine.h"
#include "core/trace.h"
#include "diff/isolate/examine.h"
#include "diff/run/inputs.h"
#include "diff/run/record.h"
#include "model/candidate.h"
#include "tests/support/paths.h"
#include "tests/support/run.h"

namespace ps {
namespace {

namespace fs = std::filesystem;

// Faults of several classes that the tiny model can have, and none.
constexpr const char* kPlants[] = {"",
                                   "rope-theta-default",
                                   "replica-prefix-order",
                                   "attention-scale-wrong",
                                   "weights-gate-up-swapped",
                                   "norm-gain-plus-one",
                                   "mask-padding-ignored",
                                   "attention-gqa-repeat-vs-interleave",
                                   "agg-no-smooth",
                                   "weights-qkv-bias-dropped"};

// One trace a plant, of the inputs that the tests use: a ragged batch, two decode steps.
class Traces {
 public:
  Traces() : dir_(fs::temp_directory_path() / ("bench_diagnose." + std::to_string(getpid()))) {
    const Model model = value_or_die(open_model(source_dir() + "/fixtures/models/parscale-bytes"));
    RunPlan plan;
    plan.prompt = random_inputs(3, 13, 1, model.config);
    plan.decode_steps = 2;
    for (std::size_t i = 0; i < std::size(kPlants); ++i) {
      CandidateOptions options;
      options.dtype = model.config.dtype;
      options.device = Device::kHost;
      if (*kPlants[i] != 0) options.plant = PlantChoice{kPlants[i], 1};
      const auto engine = value_or_die(open_candidate(model, options));
      TraceManifest manifest;
      manifest.dtype = options.dtype;
      manifest.model_json = model.config.json;
      (void)value_or_die(record(*engine, plan, path(i), manifest, {}));
    }
  }
  ~Traces() {
    std::error_code ignored;
    fs::remove_all(dir_, ignored);
  }
  fs::path path(std::size_t i) const { return dir_ / std::to_string(i); }

 private:
  fs::path dir_;
};

const Traces& traces() {
  static const Traces made;
  return made;
}

double seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void run_process(std::vector<std::string> words) {
  words.insert(words.begin(), binary_dir() + "/parscope");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t pid = 0;
  int status = 0;
  if (posix_spawn(&pid, argv[0], nullptr, nullptr, argv.data(), environ) != 0 ||
      waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) > 1) {
    std::fprintf(stderr, "parscope did not end with exit code 0 or 1\n");
    std::exit(3);
  }
}

// One trace after the other in this process: judged only, then judged with its cause named.
void BM_NamingOverJudging(benchmark::State& state) {
  const Model model = value_or_die(open_model(source_dir() + "/fixtures/models/parscale-bytes"));
  const auto examined = [&](std::size_t i, bool named) {
    ReferenceOptions truth;
    truth.dtype = DType::kF64;
    truth.weights_through = model.config.dtype;
    const auto reference = value_or_die(open_reference(model, truth));
    const Trace trace = value_or_die(Trace::open(traces().path(i)));
    ExamineOptions how;
    how.name_causes = named;
    how.measure_power = false;
    benchmark::DoNotOptimize(value_or_die(examine(trace, model, *reference, how)).findings.size());
  };
  double judging = 0, naming = 0, worst = 0;
  for (auto _ : state) {
    for (std::size_t i = 1; i < std::size(kPlants); ++i) {
      double plain = 1e9, named = 1e9;
      for (int turn = 0; turn < 3; ++turn) {
        plain = std::min(plain, seconds([&] { examined(i, false); }));
        named = std::min(named, seconds([&] { examined(i, true); }));
      }
      judging += plain;
      naming += named;
      worst = std::max(worst, named / plain);
    }
  }
  state.counters["diagnosis_over_judging"] = naming / judging;
  state.counters["worst"] = worst;
}

// `parscope check` of the clean model, and `parscope diagnose` of each planted trace, whole
// processes.
void BM_DiagnoseOverCheck(benchmark::State& state) {
  const std::string model = source_dir() + "/fixtures/models/parscale-bytes";
  double check = 1e9, diagnose = 0;
  for (auto _ : state) {
    for (int turn = 0; turn < 3; ++turn) {
      check = std::min(check, seconds([&] {
                         run_process({"check", model, "--device", "host", "--quiet", "--random",
                                      "3x13", "--steps", "2"});
                       }));
    }
    for (std::size_t i = 1; i < std::size(kPlants); ++i) {
      const std::string trace = traces().path(i).string();
      diagnose += seconds([&] { run_process({"diagnose", trace, "--model", model, "--json"}); });
    }
  }
  const auto cases = static_cast<double>(std::size(kPlants) - 1);
  state.counters["check_s"] = check;
  state.counters["diagnose_s"] = diagnose / cases;
  state.counters["diagnose_over_check"] = diagnose / cases / check;
  state.counters["cases_a_minute"] = 60.0 * cases / diagnose;
}

BENCHMARK(BM_NamingOverJudging)->UseRealTime()->Unit(benchmark::kSecond)->Iterations(1);
BENCHMARK(BM_DiagnoseOverCheck)->UseRealTime()->Unit(benchmark::kSecond)->Iterations(1);

}  // namespace
}  // namespace ps
