// Block-sparse attention of the candidate against its own dense attention, [1, 8, 4096, 128], 25%
// of the causal pairs; and the verifier on the same tensors.
#include <benchmark/benchmark.h>

#include "diff/sparse/probe.h"
#include "model/candidate.h"
#include "tests/support/plain_sparse.h"

namespace ps {
namespace {

SparseConfig large(bool dense) {
  SparseConfig c;
  c.heads = c.kv_heads = 8;
  c.length = 4096;
  c.head_dim = 128;
  c.block = 64;
  c.sketch = 64;
  c.tau = 9;  // 9 of 64 blocks a row: 26% of the causal blocks
  c.layers = 1;
  c.skip = dense ? 1 : 0;
  return c;
}

void attention(benchmark::State& state, bool dense) {
  const SparseCase base = random_sparse_case(large(dense), 0, 5, 1);
  auto engine = open_sparse_candidate(base.config, base.weights, {});
  if (!engine.ok()) return state.SkipWithError(engine.error().line().c_str());
  const Tensor q = base.tokens("q", 0, 0, 4096).value(), k = base.tokens("k", 0, 0, 4096).value(),
               v = base.tokens("v", 0, 0, 4096).value();
  for (auto _ : state) {
    auto layer = (*engine)->prefill(0, {q.view(), k.view(), v.view(), std::nullopt});
    if (!layer.ok()) return state.SkipWithError(layer.error().line().c_str());
    benchmark::DoNotOptimize(layer->out);
  }
}
void dense_prefill(benchmark::State& state) { attention(state, true); }
void sparse_prefill(benchmark::State& state) { attention(state, false); }
BENCHMARK(dense_prefill)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(sparse_prefill)->Unit(benchmark::kMillisecond)->UseRealTime();

void verify(benchmark::State& state) {
  const SparseCase base = random_sparse_case(large(false), 0, 5, 1);
  auto engine = open_sparse_candidate(base.config, base.weights, {});
  auto reference = open_sparse_reference(base.config, base.weights);
  if (!engine.ok() || !reference.ok()) return state.SkipWithError("no engine");
  const auto ran = run_sparse_case(base, **engine);
  for (auto _ : state) {
    auto report = check_sparse_case(*ran, **reference, {});
    if (!report.ok()) return state.SkipWithError(report.error().line().c_str());
    if (report->verdict != Verdict::kEquivalent) {
      return state.SkipWithError(report->findings.front().message.c_str());
    }
  }
}
BENCHMARK(verify)->Unit(benchmark::kMillisecond)->UseRealTime()->Iterations(1);

}  // namespace
}  // namespace ps
