// The Mask panel's picture, without a window: expected, actual and their difference of a ParScale
// mask at 1600 x 1000, at the zooms that people use, with two wrong cells.
#include <benchmark/benchmark.h>

#include "diff/mask/mask.h"
#include "diff/mask/text.h"
#include "diff/view/mask_errors.h"
#include "diff/view/mask_planes.h"
#include "diff/view/mask_raster.h"

namespace ps::view {
namespace {

mask::Mask made(std::int64_t n, const std::string& more) {
  std::string segments;
  for (std::int64_t at = 0; at < n; at += 9000) {
    segments +=
        (at == 0 ? "" : ",") + std::to_string(at) + "-" + std::to_string(std::min(n, at + 9000));
  }
  const std::string size = std::to_string(n);
  const std::string text = "Q=" + size + " KV=" + size +
                           "\n(kv_range(0,48) | causal & kv_range(560) & segments(" + segments +
                           "))" + more;
  return mask::evaluate(mask::parse_text(text, "bench").value()).value();
}

struct Scene {
  mask::Mask expected, actual;
  PlanePair pair;
  explicit Scene(std::int64_t n)
      : expected(made(n, "")),
        actual(made(n,
                    " ^ (q_range(30000,30001) & kv_range(31234,31235)) ^ (q_range(40000,40001) & "
                    "kv_range(39000,39001))")),
        pair(pair_of(&expected, &actual, 0, 0)) {}
};

// One cell is state.range(1) / 1000 pixels; 0: all of it.
void draw(benchmark::State& state) {
  const Scene scene(state.range(0));
  Viewport v = fitted(state.range(0), state.range(0), 1600, 1000);
  if (state.range(1) > 0) {
    v.zoom_x = v.zoom_y = static_cast<double>(state.range(1)) / 1000;
    v.x0 = v.y0 = 29800;
  }
  const MaskColors colors = mask_colors(true);
  const MaskLayers layers{scene.pair.actual.get(), &scene.pair.leak, &scene.pair.hidden,
                          state.range(0)};
  std::vector<std::uint32_t> out;
  double moved = 0;
  for (auto _ : state) {
    v.x0 += 0.37;  // never the same picture twice
    raster_mask(layers, v, colors, out);
    benchmark::DoNotOptimize(row_margin(scene.pair.errors, state.range(0), v));
    benchmark::DoNotOptimize(column_margin(scene.pair.errors, v));
    moved += out[out.size() / 2];
  }
  benchmark::DoNotOptimize(moved);
}
BENCHMARK(draw)
    ->Name("mask picture 1600x1000")
    ->Args({65536, 0})
    ->Args({65536, 137})
    ->Args({65536, 1000})
    ->Args({65536, 3700})
    ->Args({65536, 40000})
    ->Args({1 << 20, 0})
    ->Unit(benchmark::kMillisecond);

void compare(benchmark::State& state) {
  const Scene scene(state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(pair_of(&scene.expected, &scene.actual, 0, 0));
}
BENCHMARK(compare)->Name("mask pair")->Arg(65536)->Arg(1 << 20)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace ps::view
