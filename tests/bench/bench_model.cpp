// The host model beside the LibTorch reference, in one run: prefill and decode, P = 1 and 4, on a
// tiny and on the Qwen2-0.5B shape (random float weights, made once and kept in PARSCOPE_BENCH_DIR
// or /tmp). PARSCOPE_BENCH_SHAPES names what runs, of tiny, qwen2_0.5b and qwen2_1.5b (default:
// tiny; the others take 2 and 6 GB of disk for each P), PARSCOPE_BENCH_P one P alone. Each
// candidate row carries `vs_reference`: its time over the reference's, same inputs, same threads.
// The rows with taps carry `vs_no_taps`, against passes in turn with theirs. Where there is a GPU,
// the same rows run on it, under <shape>/<P>/cuda/.
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <map>

#include <benchmark/benchmark.h>

#include "core/engine.h"
#include "model/backend.h"
#include "model/candidate.h"
#include "tests/support/random_model.h"

namespace ps {
namespace {

namespace fs = std::filesystem;

struct BenchShape {
  const char* name;
  std::int64_t hidden, intermediate, layers, heads, kv_heads, vocab, tokens;
};
constexpr BenchShape kTiny{"tiny", 128, 344, 4, 4, 2, 256, 64};
constexpr BenchShape kHalf{"qwen2_0.5b", 896, 4864, 24, 14, 2, 151936, 256};
constexpr BenchShape kLarge{"qwen2_1.5b", 1536, 8960, 28, 12, 2, 151936, 256};

std::string config_json(const BenchShape& s, std::int64_t replicas) {
  const auto field = [](const char* name, std::int64_t value) {
    return ",\"" + std::string(name) + "\":" + std::to_string(value);
  };
  std::string text =
      replicas == 1
          ? R"({"model_type":"qwen2","architectures":["Qwen2ForCausalLM"])"
          : R"({"model_type":"qwen2_parscale","architectures":["Qwen2ParScaleForCausalLM"])";
  text += field("hidden_size", s.hidden) + field("intermediate_size", s.intermediate) +
          field("num_hidden_layers", s.layers) + field("num_attention_heads", s.heads) +
          field("num_key_value_heads", s.kv_heads) + field("vocab_size", s.vocab);
  if (replicas > 1) text += field("parscale_n", replicas) + field("parscale_n_tokens", 48);
  return text +
         R"(,"torch_dtype":"float32","tie_word_embeddings":true,"rope_theta":1000000.0,"max_position_embeddings":32768})";
}

const Model& model_of(const BenchShape& shape, std::int64_t replicas) {
  static std::map<std::string, Model> models;
  const std::string name =
      std::string("parscope-bench-") + shape.name + "-p" + std::to_string(replicas);
  const auto found = models.find(name);
  if (found != models.end()) return found->second;
  const char* chosen = std::getenv("PARSCOPE_BENCH_DIR");
  const fs::path dir = (chosen != nullptr ? fs::path(chosen) : fs::temp_directory_path()) / name;
  Result<Model> opened = open_model(dir);
  Model model =
      opened.ok() ? std::move(opened).value() : random_model(dir, config_json(shape, replicas), 1);
  return models.emplace(name, std::move(model)).first->second;
}

// A null sink that wants everything, everything but attention's inner points, or the logits.
class Sink final : public Tap {
 public:
  enum class Wants { kLogits, kOuter, kAll };
  explicit Sink(Wants wants) : wants_(wants) {}
  bool wants(std::string_view point) override {
    if (wants_ == Wants::kLogits) return point == "lm_head";
    const bool inner = point.ends_with(":scores") || point.ends_with(":probs");
    return wants_ == Wants::kAll || !inner;
  }
  void take(std::string_view, const TensorView& value) override {
    benchmark::DoNotOptimize(value.bytes.data());
  }

 private:
  Wants wants_;
};

StepInputs inputs(const BenchShape& shape, std::int64_t length) {
  StepInputs in{
      .batch = 1, .length = length, .input_ids = {}, .attention_mask = {}, .position_ids = {}};
  for (std::int64_t i = 0; i < length; ++i) in.input_ids.push_back(i * 7919 % shape.vocab);
  return in;
}

std::unique_ptr<Engine> candidate(const Model& model, Device device) {
  CandidateOptions options;
  options.device = device;
  auto opened = open_candidate(model, options);
  return opened.ok() ? std::move(opened).value() : nullptr;
}
std::unique_ptr<Engine> reference(const Model& model) {
  auto opened = open_reference(model, ReferenceOptions{});
  return opened.ok() ? std::move(opened).value() : nullptr;
}

double seconds_of(Engine& engine, const StepInputs& in, Tap& tap) {
  const auto start = std::chrono::steady_clock::now();
  const Result<void> ran = engine.forward(in, tap);
  benchmark::DoNotOptimize(ran.ok());
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The reference's best of three, for the ratio; 0 where there is no reference.
double reference_seconds(const Model& model, const StepInputs& prompt, const StepInputs* next) {
  const auto engine = reference(model);
  if (engine == nullptr) return 0;
  Sink sink(Sink::Wants::kLogits);
  double best = 1e30;
  for (int repeat = 0; repeat < 3; ++repeat) {
    engine->reset();
    const double prefill = seconds_of(*engine, prompt, sink);
    const double step = next != nullptr ? seconds_of(*engine, *next, sink) : prefill;
    best = std::min(best, step);
  }
  return best;
}

void report(benchmark::State& state, double best, double reference) {
  state.counters["best_s"] = best;
  if (reference > 0) {
    state.counters["reference_s"] = reference;
    state.counters["vs_reference"] = best / reference;
  }
}

void prefill(benchmark::State& state, const BenchShape& shape, std::int64_t replicas, Device device,
             Sink::Wants wants) {
  const Model& model = model_of(shape, replicas);
  const StepInputs prompt = inputs(shape, shape.tokens / replicas);
  const auto engine = candidate(model, device);
  if (engine == nullptr) return state.SkipWithError("the engine does not open");
  Sink sink(wants), none(Sink::Wants::kLogits);
  seconds_of(*engine, prompt, none);
  double best = 1e30, best_without = 1e30;
  for (auto _ : state) {
    engine->reset();
    best = std::min(best, seconds_of(*engine, prompt, sink));
    if (wants == Sink::Wants::kLogits) continue;
    state.PauseTiming();
    engine->reset();
    best_without = std::min(best_without, seconds_of(*engine, prompt, none));
    state.ResumeTiming();
  }
  if (wants == Sink::Wants::kLogits) {
    report(state, best, reference_seconds(model, prompt, nullptr));
  } else {
    report(state, best, 0);
    state.counters["vs_no_taps"] = best / best_without;
  }
}

void decode(benchmark::State& state, const BenchShape& shape, std::int64_t replicas,
            Device device) {
  const Model& model = model_of(shape, replicas);
  const StepInputs prompt = inputs(shape, shape.tokens / replicas), next = inputs(shape, 1);
  const auto engine = candidate(model, device);
  if (engine == nullptr) return state.SkipWithError("the engine does not open");
  Sink sink(Sink::Wants::kLogits);
  seconds_of(*engine, prompt, sink);
  double best = 1e30;
  for (auto _ : state) best = std::min(best, seconds_of(*engine, next, sink));
  report(state, best, reference_seconds(model, prompt, &next));
}

void register_rows(const BenchShape& shape, std::int64_t replicas, Device device) {
  const std::string name = std::string(shape.name) + "/P" + std::to_string(replicas) +
                           (device == Device::kCuda ? "/cuda" : "");
  const auto add = [&](const std::string& what, auto run) {
    benchmark::RegisterBenchmark((name + what).c_str(), run)
        ->Iterations(&shape == &kTiny ? 50 : 3)
        ->Unit(benchmark::kMillisecond);
  };
  const auto add_prefill = [&](const std::string& what, Sink::Wants wants) {
    add(what, [=, &shape](benchmark::State& s) { prefill(s, shape, replicas, device, wants); });
  };
  add_prefill("/prefill", Sink::Wants::kLogits);
  add_prefill("/prefill_outer_taps", Sink::Wants::kOuter);
  add_prefill("/prefill_all_taps", Sink::Wants::kAll);
  add("/decode", [=, &shape](benchmark::State& s) { decode(s, shape, replicas, device); });
}

int register_all() {
  const char* chosen = std::getenv("PARSCOPE_BENCH_SHAPES");
  const char* one = std::getenv("PARSCOPE_BENCH_P");
  const std::string shapes = "," + std::string(chosen != nullptr ? chosen : "tiny") + ",";
  for (const BenchShape* shape : {&kTiny, &kHalf, &kLarge}) {
    if (shapes.find("," + std::string(shape->name) + ",") == std::string::npos) continue;
    for (const std::int64_t replicas : {1, 4}) {
      if (one != nullptr && std::atoi(one) != replicas) continue;
      register_rows(*shape, replicas, Device::kHost);
      if (cuda_devices() > 0) register_rows(*shape, replicas, Device::kCuda);
    }
  }
  return 0;
}
[[maybe_unused]] const int kRegistered = register_all();

}  // namespace
}  // namespace ps
