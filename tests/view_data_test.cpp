// What the panels for caches, attention, replicas and steps show, from traces that are right and
// from such with a planted fault.
#include <cmath>
#include <cstring>
#include <filesystem>

#include <gtest/gtest.h>

#include "core/json.h"
#include "core/trace.h"
#include "diff/report/report.h"
#include "diff/run/inputs.h"
#include "diff/run/record.h"
#include "diff/view/attention_map.h"
#include "diff/view/cache_map.h"
#include "diff/view/step_marks.h"
#include "model/candidate.h"
#include "tests/support/fixtures.h"
#include "tests/support/run.h"
#include "tests/support/temp_dir.h"

namespace ps::view {
namespace {

namespace fs = std::filesystem;

const std::string kKeys = "model.layers.1.self_attn:k_cache";

// A run of the tiny model with three samples of different lengths, every cache captured.
struct Recorded {
  TempDir dir;
  ModelConfig config;
  std::unique_ptr<Trace> trace;

  explicit Recorded(std::int64_t beams) {
    const Model model = value_or_die(open_model(fixtures_dir() / "models" / "parscale-bytes"));
    config = model.config;
    CandidateOptions options;
    options.device = Device::kHost;
    options.threads = 1;
    const auto engine = value_or_die(open_candidate(model, options));
    RunPlan plan;
    plan.prompt = random_inputs(3, 7, 5, config);
    plan.decode_steps = 3;
    plan.beams = beams;
    RecordOptions how;
    how.points = {"*_cache", "*:k_rope", "*.v_proj"};
    TraceManifest manifest;
    manifest.model_json = config.json;
    value_or_die(record(*engine, plan, dir.path() / "trace", manifest, how));
    trace = std::make_unique<Trace>(value_or_die(Trace::open(dir.path() / "trace")));
  }
};

// The trace with one value changed, written anew.
Trace changed(const Trace& from, const fs::path& dir, std::int64_t step, const std::string& point,
              const std::function<void(Tensor&)>& change) {
  TraceWriter writer = value_or_die(TraceWriter::create(dir, from.manifest()));
  for (const TraceStep& s : from.steps()) {
    TraceStep copy = s;
    copy.tensors = nullptr;
    ok_or_die(writer.begin_step(copy, nullptr));
    for (const auto& entry : s.tensors->entries()) {
      Tensor value = Tensor::copy_of(entry.view);
      if (s.step == step && entry.name == point) change(value);
      ok_or_die(writer.add(entry.name, value.view()));
    }
    ok_or_die(writer.end_step());
  }
  ok_or_die(writer.close());
  return value_or_die(Trace::open(dir));
}

TEST(CacheMap, OwnersAndStepsOfARunThatIsRight) {
  const Recorded run(1);
  const Trace& trace = *run.trace;
  const ModelConfig& config = run.config;
  const std::int64_t last = trace.steps().back().step;
  const CacheMap map = cache_map(trace, config, last, 0, 1, CacheSide::kBoth);
  EXPECT_EQ(map.layers, config.layers);
  EXPECT_EQ(map.wrong, 0);
  const std::int64_t prompt = trace.steps()[0].tensors->find("input_ids")->shape[1];
  EXPECT_EQ(map.slots, config.prefix_tokens + prompt + last);
  std::int64_t padding = 0, real = 0;
  for (std::int64_t layer = 0; layer < map.layers; ++layer) {
    for (std::int64_t s = 0; s < map.slots; ++s) {
      const CacheSlot& slot = map.at(layer, s);
      EXPECT_EQ(slot.owner, 1);
      if (s < config.prefix_tokens) {
        EXPECT_EQ(slot.state, SlotState::kPrefix);
      } else if (s < config.prefix_tokens + prompt) {
        EXPECT_EQ(slot.written, 0);
        (slot.state == SlotState::kPadding ? padding : real) += 1;
      } else {
        EXPECT_EQ(slot.written, s - config.prefix_tokens - prompt + 1);
        EXPECT_EQ(slot.state, SlotState::kWritten);
      }
    }
  }
}

TEST(CacheMap, StepsWithoutACacheAreNotFollowed) {
  const fs::path dir = fixtures_dir() / "golden" / "parscale" / "ps_n4_t2_decode_leftpad";
  const Trace trace = value_or_die(Trace::open(dir / "expected"));
  const ModelConfig config = value_or_die(load_config(dir));
  const CacheMap map = cache_map(trace, config, 3, 0, 1, CacheSide::kBoth);
  EXPECT_EQ(map.wrong, 0);
  EXPECT_EQ(map.at(1, config.prefix_tokens + 1).state, SlotState::kBefore);
  EXPECT_EQ(map.at(1, map.slots - 1).written, 3);
  EXPECT_EQ(cache_map(trace, config, 2, 0, 1, CacheSide::kBoth).slots, 0);
}

TEST(CacheMap, BeamsMoveOwners) {
  const Recorded run(3);
  const Trace& trace = *run.trace;
  const ModelConfig& config = run.config;
  bool reordered = false, moved = false;
  for (const TraceStep& step : trace.steps()) {
    if (step.op != StepOp::kReorderCache) continue;
    reordered = true;
    for (std::int64_t row = 0; row < config.replicas * std::ssize(step.beam_idx); ++row) {
      const CacheMap map = cache_map(trace, config, step.step, 0, row, CacheSide::kBoth);
      EXPECT_EQ(map.wrong, 0) << "row " << row;
      for (const CacheSlot& slot : map.cells) moved = moved || slot.owner != row;
    }
  }
  EXPECT_TRUE(reordered);
  EXPECT_TRUE(moved);
}

TEST(CacheMap, ADamagedSlotIsShownWhereItIs) {
  const Recorded run(1);
  const Trace& trace = *run.trace;
  const ModelConfig& config = run.config;
  const std::int64_t last = trace.steps().back().step;
  TempDir dir;
  const auto at = [](Tensor& t, std::int64_t row, std::int64_t slot) {
    const Shape s = t.shape();
    const auto size = static_cast<std::size_t>(size_of(t.dtype()));
    return t.bytes().subspan(static_cast<std::size_t>((row * s[1] * s[2] + slot) * s[3]) * size,
                             static_cast<std::size_t>(s[3]) * size);
  };
  const Trace bad = changed(trace, dir.path() / "old", last, kKeys, [&](Tensor& t) {
    std::memcpy(at(t, 2, 3).data(), at(t, 2, 4).data(), at(t, 2, 3).size());
  });
  const CacheMap map = cache_map(bad, config, last, 0, 2, CacheSide::kBoth);
  EXPECT_EQ(map.wrong, 1);
  EXPECT_EQ(map.at(1, 3).state, SlotState::kOverwritten);
  EXPECT_EQ(map.at(1, 3).changed, last);
  EXPECT_EQ(cache_map(bad, config, last, 0, 1, CacheSide::kBoth).wrong, 0);
  EXPECT_EQ(cache_map(bad, config, last, 0, 2, CacheSide::kValues).wrong, 0);
  EXPECT_EQ(cache_map(bad, config, last - 1, 0, 2, CacheSide::kBoth).wrong, 0);

  const Trace fresh = changed(trace, dir.path() / "new", last, kKeys, [&](Tensor& t) {
    const std::int64_t slot = t.shape()[2] - 1;
    std::memcpy(at(t, 0, slot).data(), at(t, 0, slot - 1).data(), at(t, 0, slot).size());
  });
  const CacheMap foreign = cache_map(fresh, config, last, 0, 0, CacheSide::kBoth);
  EXPECT_EQ(foreign.wrong, 1);
  EXPECT_EQ(foreign.at(1, foreign.slots - 1).state, SlotState::kForeign);

  const auto marks = step_marks(&bad, &config, nullptr, 0);
  ASSERT_EQ(std::ssize(marks), last + 1);
  EXPECT_FALSE(marks.back().ok());
  EXPECT_TRUE(marks.front().ok());
  EXPECT_EQ(marks[1].tokens, 1);
  EXPECT_EQ(marks[1].past, marks[0].tokens);
}

TEST(CacheMap, ErrorsPerSlotKeepNanApart) {
  const Shape shape = {2, 3, 5, 2};
  Tensor expected(DType::kF32, shape);
  for (float& x : expected.as<float>()) x = 2;
  Tensor actual = expected;
  const auto set = [&](std::int64_t row, std::int64_t head, std::int64_t slot, float x) {
    actual.as<float>()[static_cast<std::size_t>(((row * 3 + head) * 5 + slot) * 2 + 1)] = x;
  };
  set(1, 2, 3, 2.5F);
  set(1, 0, 1, NAN);
  set(1, 1, 1, 9);
  set(0, 0, 0, 100);
  const auto errors = slot_errors(actual.view(), expected.view(), 1);
  ASSERT_EQ(errors.size(), 5U);
  EXPECT_EQ(errors[0], 0);
  EXPECT_TRUE(std::isnan(errors[1]));
  EXPECT_DOUBLE_EQ(errors[3], 0.25);
  EXPECT_TRUE(slot_errors(actual.view(), Tensor(DType::kF32, {2, 3, 4, 2}).view(), 1).empty());
}

TEST(AttentionMap, ThumbnailsLoseNoCell) {
  const std::int64_t rows = 131, columns = 97;
  Tensor expected(DType::kF32, {2, 3, rows, columns});
  for (int round = 0; round < 40; ++round) {
    Tensor actual = expected;
    const std::int64_t plane = round % 6, r = (round * 37) % rows, c = (round * 53) % columns;
    const std::int64_t at = (plane * rows + r) * columns + c;
    actual.as<float>()[static_cast<std::size_t>(at)] = round % 4 == 0 ? NAN : 0.25F;
    for (int most : {7, 64, 200}) {
      const TensorView truth = expected.view();
      const Thumbnail t = thumbnail(actual.view(), &truth, plane, most);
      const auto pixel =
          static_cast<std::size_t>((r * t.height / rows) * t.width + c * t.width / columns);
      if (round % 4 == 0) {
        EXPECT_EQ(t.broken[pixel], 2);
        EXPECT_TRUE(t.any_broken);
      } else {
        EXPECT_EQ(t.error[pixel], 0.25F);
        EXPECT_EQ(t.worst, 0.25);
      }
      EXPECT_EQ(thumbnail(actual.view(), &truth, (plane + 1) % 6, most).worst, 0);
    }
  }
}

TEST(AttentionMap, EntropyIsThatOfTheRow) {
  Tensor probs(DType::kF64, {1, 1, 5, 4});
  const double rows[5][4] = {
      {1, 0, 0, 0}, {0.25, 0.25, 0.25, 0.25}, {0.5, 0.5, 0, 0}, {NAN, 1, 0, 0}, {0, 0, 0, 0}};
  std::memcpy(probs.bytes().data(), rows, sizeof rows);
  const auto e = entropies(probs.view());
  ASSERT_EQ(e.size(), 5U);
  EXPECT_EQ(e[0], 0);
  EXPECT_NEAR(e[1], 1, 1e-6);
  EXPECT_NEAR(e[2], 1, 1e-6);  // of the two keys that it sees
  EXPECT_TRUE(std::isnan(e[3]));
  EXPECT_EQ(e[4], 0);
  EXPECT_NEAR(sum_errors(probs.view())[2], 0, 1e-12);
}

}  // namespace
}  // namespace ps::view
