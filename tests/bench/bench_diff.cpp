// What compare() costs over reading the same bytes: two tensors of 1 GiB each in mapped files, a
// fused read of both (one sum over all words), and the comparison. PARSCOPE_BENCH_MIB sets the
// size; PARSCOPE_BENCH_PYTHON names a Python with numpy and polygraphy, to compare with those.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <spawn.h>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include <benchmark/benchmark.h>

#include "core/float_bits.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "core/safetensors.h"
#include "diff/compare/compare.h"
#include "tests/support/paths.h"

namespace ps {
namespace {

namespace fs = std::filesystem;

std::int64_t mib() {
  const char* text = std::getenv("PARSCOPE_BENCH_MIB");
  return text != nullptr ? std::max(1, std::atoi(text)) : 1024;
}

// expected.safetensors and candidate.safetensors: 64 tensors each, normal numbers, and the same
// with the errors of a long sum.
class Files {
 public:
  explicit Files(DType dtype)
      : dir_(fs::temp_directory_path() / ("bench_diff." + std::to_string(getpid()))) {
    fs::create_directories(dir_);
    constexpr std::int64_t kTensors = 64;
    const std::int64_t cells = (mib() << 20) / kTensors / size_of(dtype);
    std::vector<float> expected(static_cast<std::size_t>(cells)), candidate(expected.size());
    auto e = SafetensorsWriter::create(path("expected")).value();
    auto c = SafetensorsWriter::create(path("candidate")).value();
    const Rng rng(7, 0), noise(7, 1);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const auto x = static_cast<float>(rng.normal(i));
      expected[i] = x;
      candidate[i] = x + 2e-7f * static_cast<float>(noise.normal(i));
    }
    for (std::int64_t t = 0; t < kTensors; ++t) {
      (void)e.add(name(t), typed(expected, dtype).view());
      (void)c.add(name(t), typed(candidate, dtype).view());
    }
    (void)e.close();
    (void)c.close();
  }
  ~Files() {
    std::error_code ignored;
    fs::remove_all(dir_, ignored);
  }
  fs::path path(const std::string& side) const { return dir_ / (side + ".safetensors"); }

 private:
  static std::string name(std::int64_t t) {
    return "model.layers." + std::to_string(t) + ".input_layernorm";
  }
  static Tensor typed(const std::vector<float>& values, DType dtype) {
    Tensor out(dtype, {static_cast<std::int64_t>(values.size())});
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (dtype == DType::kF32) out.as<float>()[i] = values[i];
      if (dtype == DType::kBF16) out.as<std::uint16_t>()[i] = float_to_bf16(values[i]);
      if (dtype == DType::kF16) out.as<std::uint16_t>()[i] = float_to_f16(values[i]);
    }
    return out;
  }
  fs::path dir_;
};

const Files& files(DType dtype) {
  static std::map<DType, std::unique_ptr<Files>> made;
  auto& f = made[dtype];
  if (f == nullptr) f = std::make_unique<Files>(dtype);
  return *f;
}

// Opens both files anew, so that every run pays for its pages, as a process does.
template <class Work>
void both(benchmark::State& state, DType dtype, const Work& work) {
  const Files& f = files(dtype);
  for (auto _ : state) {
    const auto a = SafetensorsFile::open(f.path("candidate"));
    const auto b = SafetensorsFile::open(f.path("expected"));
    for (std::size_t i = 0; i < a->entries().size(); ++i) {
      work(a->entries()[i].view, b->entries()[i].view);
    }
  }
  state.SetBytesProcessed(state.iterations() * (mib() << 20));  // of one side
}

void read_both(const TensorView& a, const TensorView& b) {
  constexpr std::size_t kPiece = 1 << 20;
  const std::size_t size = a.bytes.size();
  std::atomic<std::uint64_t> total = 0;
  parallel_for(static_cast<std::int64_t>((size + kPiece - 1) / kPiece), 0, [&](std::int64_t p) {
    std::uint64_t sum = 0;
    const auto begin = static_cast<std::size_t>(p) * kPiece, end = std::min(begin + kPiece, size);
    for (std::size_t i = begin; i + 8 <= end; i += 8) {
      std::uint64_t x, y;
      std::memcpy(&x, a.bytes.data() + i, 8);
      std::memcpy(&y, b.bytes.data() + i, 8);
      sum += x ^ y;
    }
    total += sum;
  });
  benchmark::DoNotOptimize(total.load());
}

void BM_FusedRead(benchmark::State& state, DType dtype) { both(state, dtype, read_both); }

void BM_Compare(benchmark::State& state, DType dtype) {
  both(state, dtype, [&](const TensorView& a, const TensorView& b) {
    CompareOptions options;
    options.bound = default_bound(dtype, dtype, 0);
    benchmark::DoNotOptimize(compare(a, b, options).ratio);
  });
}

double seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void read_files(const Files& f) {
  const auto a = SafetensorsFile::open(f.path("candidate"));
  const auto b = SafetensorsFile::open(f.path("expected"));
  for (std::size_t i = 0; i < a->entries().size(); ++i) {
    read_both(a->entries()[i].view, b->entries()[i].view);
  }
}

void run_diff(const Files& f, benchmark::State& state) {
  std::string words[] = {binary_dir() + "/parscope", "diff", f.path("candidate").string(),
                         f.path("expected").string(), "--quiet"};
  char* argv[] = {words[0].data(), words[1].data(), words[2].data(),
                  words[3].data(), words[4].data(), nullptr};
  pid_t pid = 0;
  int status = 1;
  if (posix_spawn(&pid, argv[0], nullptr, nullptr, argv, environ) != 0 ||
      waitpid(pid, &status, 0) != pid || status != 0) {
    state.SkipWithError("parscope diff did not end with exit code 0");
  }
}

// `parscope diff` as a process, and a fused read of the same files, in turns; the best of each.
void BM_ProcessOverRead(benchmark::State& state) {
  const Files& f = files(DType::kF32);
  double read = 1e9, process = 1e9;
  for (auto _ : state) {
    read = std::min(read, seconds([&] { read_files(f); }));
    process = std::min(process, seconds([&] { run_diff(f, state); }));
  }
  state.counters["read_ms"] = read * 1e3;
  state.counters["process_ms"] = process * 1e3;
  state.counters["process_over_read"] = process / read;
}

// Another tool on the same files, by its own clock and without its start-up (other_ms) and as a
// whole process (other_process_ms), over `parscope diff` as a process: before and after it, the
// slower.
void BM_OtherTool(benchmark::State& state, const char* tool) {
  const char* python = std::getenv("PARSCOPE_BENCH_PYTHON");
  if (python == nullptr) {
    state.SkipWithError(
        "PARSCOPE_BENCH_PYTHON names no Python with numpy; ./dev bench --peers makes one");
    return;
  }
  const Files& f = files(DType::kF32);
  const std::string command =
      "'" + std::string(python) + "' -W ignore '" + source_dir() + "/tests/bench/other_tools.py' " +
      tool + " '" + f.path("candidate").string() + "' '" + f.path("expected").string() + "'";
  double process = 0, other = 0, whole = 0;
  for (auto _ : state) {
    process = seconds([&] { run_diff(f, state); });
    whole = seconds([&] {
      std::FILE* out = popen(command.c_str(), "r");
      const bool told = out != nullptr && std::fscanf(out, "%lf", &other) == 1;
      const bool ended = out != nullptr && pclose(out) == 0;
      if (!told || !ended) state.SkipWithError("not installed: ./dev bench --peers");
    });
    process = std::max(process, seconds([&] { run_diff(f, state); }));
  }
  state.counters["other_ms"] = other * 1e3;
  state.counters["process_ms"] = process * 1e3;
  state.counters["other_over_process"] = other / process;
  state.counters["other_process_ms"] = whole * 1e3;
  state.counters["other_process_over_process"] = whole / process;
}

BENCHMARK(BM_ProcessOverRead)->UseRealTime()->Unit(benchmark::kMillisecond)->Iterations(10);
BENCHMARK_CAPTURE(BM_OtherTool, numpy_allclose, "numpy.allclose")->UseRealTime()->Iterations(1);
BENCHMARK_CAPTURE(BM_OtherTool, numpy_load_allclose, "numpy.load+allclose")
    ->UseRealTime()
    ->Iterations(1);
BENCHMARK_CAPTURE(BM_OtherTool, torch_testing, "torch.testing")->UseRealTime()->Iterations(1);
BENCHMARK_CAPTURE(BM_OtherTool, polygraphy, "polygraphy")->UseRealTime()->Iterations(1);
BENCHMARK_CAPTURE(BM_OtherTool, msprobe, "msprobe")->UseRealTime()->Iterations(1);
BENCHMARK_CAPTURE(BM_FusedRead, f32, DType::kF32)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(BM_Compare, f32, DType::kF32)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(BM_Compare, bf16, DType::kBF16)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(BM_Compare, f16, DType::kF16)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace ps
