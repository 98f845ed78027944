// Masks of a million rows: built from a program, compared, checked, drawn, written out row by row.
// The mask is ParScale's kind: replica prefix, left padding, causal, segments of uneven length.
#include <string>

#include <benchmark/benchmark.h>

#include "diff/mask/check.h"
#include "diff/mask/forms.h"
#include "diff/mask/picture.h"
#include "diff/mask/text.h"

namespace ps::mask {
namespace {

Program structured(std::int64_t n, std::int64_t padding) {
  std::string segments;
  for (std::int64_t at = 0, i = 0; at < n; ++i) {
    const std::int64_t end = std::min(n, at + 900 + 577 * (i % 5));
    segments += (segments.empty() ? "" : ",") + std::to_string(at) + "-" + std::to_string(end);
    at = end;
  }
  const std::string size = std::to_string(n);
  return parse_text("Q=" + size + " KV=" + size +
                        "\nkv_range(0, 48) #prefix | causal #future & kv_range(" +
                        std::to_string(padding) + ") #padding & (generated(" +
                        std::to_string(n - 1000) + ") | segments(" + segments + ")) #segment",
                    "bench")
      .value();
}

void build(benchmark::State& state) {
  const Program p = structured(state.range(0), 1000);
  std::size_t bytes = 0;
  for (auto _ : state) {
    const Mask m = evaluate(p).value();
    bytes = m.bytes();
    benchmark::DoNotOptimize(bytes);
  }
  state.counters["bytes"] = static_cast<double>(bytes);
}

// The two differ in their padding: a strip of pairs in every row.
void diff(benchmark::State& state) {
  const Mask a = evaluate(structured(state.range(0), 1000)).value();
  const Mask b = evaluate(structured(state.range(0), 1007)).value();
  for (auto _ : state) {
    const Difference d = difference(a, b);
    benchmark::DoNotOptimize(d.only_a);
  }
}

void check_all(benchmark::State& state) {
  const Expected e = Expected::of(structured(state.range(0), 1000)).value();
  const Mask b = evaluate(structured(state.range(0), 1007)).value();
  for (auto _ : state) benchmark::DoNotOptimize(check(e, b).value().size());
}

void picture(benchmark::State& state) {
  const Mask a = evaluate(structured(state.range(0), 1000)).value();
  const Mask b = evaluate(structured(state.range(0), 1007)).value();
  for (auto _ : state) benchmark::DoNotOptimize(draw_mask({&b, &a, nullptr, 0, 0}).width());
}

// Explicit intervals of every row (R7), and back.
void row_runs(benchmark::State& state) {
  const Mask m = evaluate(structured(state.range(0), 1000)).value();
  double bytes = 0;
  for (auto _ : state) {
    const RowRuns rows = to_row_runs(m);
    bytes = static_cast<double>(rows.runs.size() * sizeof(rows.runs[0]) +
                                rows.begin.size() * sizeof(rows.begin[0]));
    benchmark::DoNotOptimize(rows.runs.data());
  }
  state.counters["bytes"] = bytes;
}

void from_rows(benchmark::State& state) {
  const RowRuns rows = to_row_runs(evaluate(structured(state.range(0), 1000)).value());
  for (auto _ : state) benchmark::DoNotOptimize(from_row_runs(rows).value().bytes());
}

void blocks(benchmark::State& state) {
  const Mask m = evaluate(structured(state.range(0), 1000)).value();
  for (auto _ : state) benchmark::DoNotOptimize(summarize(m, 128, 128).torch.data());
}

// 8,192: where dense masks of other tools still take no minutes.
#define PS_SIZES Arg(8192)->Arg(65536)->Arg(1048576)->Unit(benchmark::kMillisecond)
BENCHMARK(build)->PS_SIZES;
BENCHMARK(diff)->PS_SIZES;
BENCHMARK(check_all)->PS_SIZES;
BENCHMARK(picture)->PS_SIZES;
BENCHMARK(row_runs)->PS_SIZES;
BENCHMARK(from_rows)->PS_SIZES;
BENCHMARK(blocks)->Arg(65536)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace ps::mask
