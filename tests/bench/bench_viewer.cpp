// The viewer: first picture, opening 2 GB, a frame of a 65,536 x 65,536 mask, a frame of a tensor.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <fstream>
#include <memory>
#include <string>
#include <time.h>
#include <unistd.h>

#include <benchmark/benchmark.h>
#include <imgui.h>

#include "tests/support/display.h"
#include "tests/support/program.h"
#include "viewer/app/commands.h"
#include "viewer/present/stage.h"
#include "viewer/present/window.h"

namespace ps::viewer {
namespace {

double cpu_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}
double wall_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void must(App& app, const std::string& line) {
  const Result<void> done = app.execute(line);
  if (done.ok()) return;
  std::fprintf(stderr, "%s\n", done.error().line().c_str());
  std::exit(1);
}

// From exec to a PNG on disk, as a user waits for it.
void first_picture(benchmark::State& state) {
  const TempDir dir;
  const std::string mask = (fixtures_dir() / "golden" / "masks" / "causal").string();
  for (auto _ : state) {
    const double begin = wall_seconds();
    const Ran ran =
        run_program({binary_dir() + "/parscope-viewer", mask, "--screenshot", dir / "x.png"});
    state.SetIterationTime(wall_seconds() - begin);
    if (ran.code != 0) state.SkipWithError(ran.err.c_str());
  }
}
BENCHMARK(first_picture)->UseManualTime()->Unit(benchmark::kMillisecond)->Iterations(10);

// A trace of 2 GB in 64 tensors; the file has holes, which reading would have to fill.
void open_2_gb(benchmark::State& state) {
  const TempDir dir;
  constexpr std::int64_t kTensors = 64, kBytes = std::int64_t{1} << 25;
  std::string header = "{";
  for (std::int64_t i = 0; i < kTensors; ++i) {
    header += (i == 0 ? "" : ",") + std::string("\"model.layers.") + std::to_string(i) +
              "\":{\"dtype\":\"F32\",\"shape\":[4,2048,1024],\"data_offsets\":[" +
              std::to_string(i * kBytes) + "," + std::to_string((i + 1) * kBytes) + "]}";
  }
  header += "}";
  while (header.size() % 8 != 0) header += ' ';
  const auto length = static_cast<std::uint64_t>(header.size());
  {
    std::ofstream file(dir / "big.safetensors", std::ios::binary);
    file.write(reinterpret_cast<const char*>(&length), sizeof length);
    file << header;
  }
  std::filesystem::resize_file(dir / "big.safetensors",
                               8 + header.size() + static_cast<std::size_t>(kTensors * kBytes));
  for (auto _ : state) {
    App app;
    must(app, "open " + as_word((dir / "big.safetensors").string()));
  }
}
BENCHMARK(open_2_gb)->Unit(benchmark::kMillisecond);

void move_view(App& app, const std::string& panel, std::int64_t side, std::int64_t i) {
  const double zoom = 1 + static_cast<double>(i % 40) * 0.5;
  must(app, "view " + panel + " " + std::to_string(side / 3 + i * 7 % (side / 3)) + " " +
                std::to_string(side / 2) + " " + text_of(zoom));
}

// Frames while the view moves, so that every one is drawn anew. `drawn_too`: with the rasteriser.
void frames(benchmark::State& state, App& app, const std::string& panel, std::int64_t side,
            bool drawn_too) {
  constexpr int kWidth = 1600, kHeight = 1000;
  Stage stage(app);
  must(app, "layout solo");
  must(app, "panel " + panel);
  stage.settle(kWidth, kHeight);
  std::int64_t i = 0;
  Frame frame;
  frame.resize(kWidth, kHeight);
  for (auto _ : state) {
    move_view(app, panel, side, i++);
    const double begin = cpu_seconds();
    stage.frame_without_window(kWidth, kHeight);
    if (drawn_too) rasterise(*ImGui::GetDrawData(), frame, kBackground);
    state.SetIterationTime(cpu_seconds() - begin);
  }
}

// Causal, segments of uneven length, a common prefix; the actual one lets one key too many in.
void open_masks_65536(App& app, const TempDir& dir) {
  std::string bounds;
  for (std::int64_t at = 0, i = 0; at < 65536; ++i) {
    const std::int64_t end = std::min<std::int64_t>(65536, at + 900 + i * 257 % 2100);
    bounds += (i == 0 ? "[" : ",[") + std::to_string(at) + "," + std::to_string(end) + "]";
    at = end;
  }
  for (const int shift : {0, 1}) {
    const std::string file = dir / (shift == 0 ? "expected.json" : "actual.json");
    put_file(
        file,
        R"({"schema":"parscope.mask/1","B":1,"H":1,"Q":65536,"KV":65536,"expr":{"op":"and","args":[{"op":"causal","shift":)" +
            std::to_string(shift) +
            R"(},{"op":"or","args":[{"op":"prefix","len":48},{"op":"same_segment","bounds":[)" +
            bounds + "]}]}]}}");
    must(app, "open " + as_word(file));
  }
}

void mask_65536(benchmark::State& state) {
  const TempDir dir;
  App app;
  open_masks_65536(app, dir);
  frames(state, app, "mask", 65536, state.range(0) == 1);
}
BENCHMARK(mask_65536)
    ->ArgName("rasterised")
    ->Arg(0)
    ->Arg(1)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

// The same in a window on Xvfb, OpenGL by llvmpipe; the CPU time of all threads, not the server's.
void mask_65536_window(benchmark::State& state) {
  const VirtualDisplay display;
  if (display.name().empty()) {
    state.SkipWithError("there is no Xvfb");
    return;
  }
  ::setenv("DISPLAY", display.name().c_str(), 1);
  ::setenv("LIBGL_ALWAYS_SOFTWARE", "1", 1);
  constexpr long kFirst = 20, kFrames = 200;
  const bool moves = state.range(0) == 1;
  const TempDir dir;
  for (auto _ : state) {
    App app;
    open_masks_65536(app, dir);
    Stage stage(app);
    must(app, "layout solo");
    must(app, "panel mask");
    stage.settle(1600, 1000);
    WindowOptions options;
    options.frames = kFirst + kFrames;
    double begin = 0;
    options.before_frame = [&](long shown) {
      if (shown == kFirst) begin = cpu_seconds();
      if (moves) move_view(app, "mask", 65536, shown);
    };
    const Result<void> done = run_window(app, stage, options);
    if (!done.ok()) state.SkipWithError(done.error().line().c_str());
    state.SetIterationTime((cpu_seconds() - begin) / kFrames);
  }
}
BENCHMARK(mask_65536_window)
    ->ArgName("moves")
    ->Arg(0)
    ->Arg(1)
    ->UseManualTime()
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

void tensor_4096(benchmark::State& state) {
  const TempDir dir;
  std::vector<float> values(std::size_t{4096} * 4096);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 9973) * 1e-3f;
  for (const char* name : {"a.safetensors", "b.safetensors"}) {
    Result<SafetensorsWriter> writer = SafetensorsWriter::create(dir / name);
    if (!writer.ok() ||
        !writer->add("model.norm", {DType::kF32, {1, 4096, 4096}, std::as_bytes(std::span(values))})
             .ok() ||
        !writer->close().ok())
      std::exit(1);
    values[values.size() / 3] += 1;
  }
  App app;
  must(app, "open " + as_word((dir / "a.safetensors").string()));
  must(app, "reference " + as_word((dir / "b.safetensors").string()));
  app.jobs.wait_all();
  must(app, "go model.norm");
  frames(state, app, "tensor", 4096, state.range(0) == 1);
}
BENCHMARK(tensor_4096)
    ->ArgName("rasterised")
    ->Arg(0)
    ->Arg(1)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace ps::viewer
