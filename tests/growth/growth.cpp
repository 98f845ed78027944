// How the work of diff, masks, check and diagnose grows with their inputs: each runs at sizes that
// double. Under callgrind every size's instructions are dumped under its name (growth.py reads
// them); alone, a line a size: what, size, milliseconds, the most that was on the heap beside what
// was there before.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#else
#define CALLGRIND_START_INSTRUMENTATION
#define CALLGRIND_ZERO_STATS
#define CALLGRIND_STOP_INSTRUMENTATION
#define CALLGRIND_DUMP_STATS_AT(name) static_cast<void>(name)
#define RUNNING_ON_VALGRIND 0
#endif

#include "core/rng.h"
#include "core/safetensors.h"
#include "core/trace.h"
#include "diff/align/diff_traces.h"
#include "diff/isolate/examine.h"
#include "diff/isolate/lockstep.h"
#include "diff/mask/check.h"
#include "diff/mask/forms.h"
#include "diff/mask/text.h"
#include "diff/run/inputs.h"
#include "diff/run/random_model.h"
#include "diff/run/record.h"
#include "diff/run/record_ranks.h"
#include "diff/shard/join_trace.h"
#include "diff/shard/rank_engine.h"
#include "model/candidate.h"
#include "tests/growth/heap.h"
#include "tests/support/run.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

struct Subject {
  std::string name;
  std::vector<std::int64_t> sizes;
  // Prepares a size; what it returns is measured.
  std::function<std::function<void()>(std::int64_t size)> prepare;
};

Trace trace_of(const std::string& path, std::int64_t points, std::int64_t cells, float error) {
  auto writer = value_or_die(SafetensorsWriter::create(path));
  Tensor value(DType::kF32, {cells});
  for (std::int64_t p = 0; p < points; ++p) {
    const Rng rng(7, static_cast<std::uint64_t>(p));
    for (std::int64_t i = 0; i < cells; ++i) {
      const auto x = static_cast<float>(rng.normal(static_cast<std::uint64_t>(i)));
      value.as<float>()[static_cast<std::size_t>(i)] = x + error * x;
    }
    const Result<void> added =
        writer.add("model.layers." + std::to_string(p) + ".mlp", value.view());
    if (!added.ok()) std::exit(3);
  }
  if (!writer.close().ok()) std::exit(3);
  return value_or_die(Trace::open(path));
}

std::function<void()> diff_of(const TempDir& dir, std::int64_t points, std::int64_t cells) {
  const Trace a = trace_of(dir / "a.safetensors", points, cells, 1e-7f);
  const Trace b = trace_of(dir / "b.safetensors", points, cells, 0);
  return [a, b] {
    DiffOptions options;
    options.threads = 1;
    if (exit_code(diff_traces(a, b, options)) != 0) std::exit(3);
  };
}

std::string masked(std::int64_t segments, int padding) {
  std::string list;
  for (std::int64_t i = 0; i < segments; ++i) {
    list += (i > 0 ? "," : "") + std::to_string(37 * i) + "-" + std::to_string(37 * (i + 1));
  }
  const std::string size = std::to_string(37 * segments);
  return "Q=" + size + " KV=" + size + "\ncausal #future & kv_range(" + std::to_string(padding) +
         ") #padding & segments(" + list + ") #segment";
}

std::function<void()> masks_of(std::int64_t segments) {
  return [segments] {
    const auto expected =
        value_or_die(mask::Expected::of(value_or_die(mask::parse_text(masked(segments, 5), "a"))));
    const auto other =
        value_or_die(mask::evaluate(value_or_die(mask::parse_text(masked(segments, 9), "b"))));
    if (mask::difference(expected.mask(), other).only_a == 0) std::exit(3);
    if (value_or_die(mask::check(expected, other)).empty()) std::exit(3);
  };
}

// `layers` layers of `heads` heads, as wide as they are many.
Model model_of(const TempDir& dir, std::int64_t layers, std::int64_t heads = 4) {
  const std::string config =
      R"({"model_type":"qwen2","architectures":["Qwen2ForCausalLM"],"hidden_size":32,"intermediate_size":48,)"
      R"("num_attention_heads":)" +
      std::to_string(heads) + R"(,"num_key_value_heads":)" + std::to_string(heads / 2) +
      R"(,"vocab_size":61,"torch_dtype":"float32",)"
      R"("tie_word_embeddings":true,"max_position_embeddings":128,"num_hidden_layers":)" +
      std::to_string(layers) + "}";
  return value_or_die(write_random_model(dir.path() / ("m" + std::to_string(layers)), config, 1));
}

std::unique_ptr<Reference> truth_of(const Model& model) {
  ReferenceOptions options;
  options.dtype = DType::kF64;
  options.threads = 1;
  options.weights_through = DType::kF32;
  return value_or_die(open_reference(model, options));
}

std::unique_ptr<Engine> candidate_of(const Model& model) {
  CandidateOptions options;
  options.threads = 1;
  options.device = Device::kHost;
  return value_or_die(open_candidate(model, options));
}

RunPlan plan_of(const Model& model) {
  RunPlan plan;
  plan.prompt = random_inputs(2, 5, 1, model.config);
  return plan;
}

std::function<void()> check_of(const TempDir& dir, std::int64_t layers) {
  const auto model = std::make_shared<Model>(model_of(dir, layers));
  const std::shared_ptr<Engine> candidate = candidate_of(*model);
  const std::shared_ptr<Reference> truth = truth_of(*model);
  return [=] {
    LockstepOptions options;
    options.measure_power = false;  // looks at a few instances of each op, and has a time limit
    const Report report =
        value_or_die(lockstep(*candidate, *truth, model->config, plan_of(*model), options));
    if (exit_code(report) != 0) std::exit(3);
  };
}

std::function<void()> diagnose_of(const TempDir& dir, std::int64_t layers) {
  const auto model = std::make_shared<Model>(model_of(dir, layers));
  const auto path = dir.path() / ("t" + std::to_string(layers));
  TraceManifest manifest;
  manifest.dtype = DType::kF32;
  manifest.model_json = model->config.json;
  value_or_die(record(*candidate_of(*model), plan_of(*model), path, manifest, {}));
  const std::shared_ptr<Reference> truth = truth_of(*model);
  const auto trace = std::make_shared<Trace>(value_or_die(Trace::open(path)));
  return [=] {
    ExamineOptions options;
    options.measure_power = false;
    if (exit_code(value_or_die(examine(*trace, *model, *truth, options))) != 0) std::exit(3);
  };
}

// The trace of so many ranks is put together and compared with the whole one.
std::function<void()> join_of(const TempDir& dir, std::int64_t ranks) {
  constexpr std::int64_t kLayers = 8, kHeads = 16;
  const Model model = model_of(dir, kLayers, kHeads);
  TraceManifest manifest;
  manifest.dtype = DType::kF32;
  manifest.model_json = model.config.json;
  const auto whole = dir.path() / "whole", parts = dir.path() / ("ranks" + std::to_string(ranks));
  value_or_die(record(*candidate_of(model), plan_of(model), whole, manifest, {}));
  const auto open_rank = [](const Model& local, Collectives& collectives) {
    CandidateOptions options;
    options.threads = 1;
    options.device = Device::kHost;
    options.collectives = &collectives;
    return open_candidate(local, options);
  };
  ThreadRanks crew(value_or_die(RankCrew::open(model, ranks, open_rank)));
  value_or_die(record_ranks(crew, ranks, plan_of(model), parts, manifest, {}));
  return [=] {
    const JoinedTrace joined =
        value_or_die(JoinedTrace::of(value_or_die(Trace::open(parts)), nullptr));
    DiffOptions options;
    options.threads = 1;
    const Trace expected = value_or_die(Trace::open(whole));
    if (exit_code(diff_traces(joined.trace(), expected, options)) != 0) std::exit(3);
  };
}

void run(const Subject& subject) {
  for (const std::int64_t size : subject.sizes) {
    const std::function<void()> work = subject.prepare(size);
    const std::string name = subject.name + " " + std::to_string(size);
    const auto start = std::chrono::steady_clock::now();
    forget_heap_peak();
    const std::int64_t before = heap_now();
    CALLGRIND_START_INSTRUMENTATION;
    CALLGRIND_ZERO_STATS;
    work();
    CALLGRIND_DUMP_STATS_AT(name.c_str());
    CALLGRIND_STOP_INSTRUMENTATION;
    const std::chrono::duration<double, std::milli> taken =
        std::chrono::steady_clock::now() - start;
    if (RUNNING_ON_VALGRIND != 0) continue;
    std::printf("%s %.3f %lld\n", name.c_str(), taken.count(),
                static_cast<long long>(heap_peak() - before));
  }
}

int main_of(int count, char** words) {
  const TempDir dir;
  // Alone, sizes may be larger than what callgrind has time for.
  const std::int64_t more = RUNNING_ON_VALGRIND != 0 ? 1 : 8;
  const std::vector<Subject> subjects = {
      {"diff-cells",
       {more << 17, more << 18, more << 19, more << 20},
       [&](std::int64_t n) { return diff_of(dir, 1, n); }},
      {"diff-points",
       {more << 8, more << 9, more << 10, more << 11},
       [&](std::int64_t n) { return diff_of(dir, n, 16); }},
      {"join-ranks", {2, 4, 8, 16}, [&](std::int64_t n) { return join_of(dir, n); }},
      {"masks-segments",
       {more << 5, more << 6, more << 7, more << 8},
       [](std::int64_t n) { return masks_of(n); }},
      {"check-layers", {2, 4, 8, 16}, [&](std::int64_t n) { return check_of(dir, n); }},
      {"diagnose-layers", {2, 4, 8, 16}, [&](std::int64_t n) { return diagnose_of(dir, n); }},
  };
  for (const Subject& subject : subjects) {
    if (count < 2 || subject.name.starts_with(words[1])) run(subject);
  }
  return 0;
}

}  // namespace
}  // namespace ps

int main(int count, char** words) { return ps::main_of(count, words); }
