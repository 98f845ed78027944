// The reference-free checks hold for every model that is right, and each of them can break.
#include "diff/isolate/invariants.h"

#include <functional>

#include <gtest/gtest.h>

#include "diff/run/inputs.h"
#include "model/candidate.h"
#include "tests/support/engine_around.h"
#include "tests/support/fixtures.h"
#include "tests/support/run.h"

namespace ps {
namespace {

std::unique_ptr<Engine> host_model(const Model& model, DType dtype) {
  CandidateOptions options;
  options.dtype = dtype;
  options.device = Device::kHost;
  options.threads = 1;
  return value_or_die(open_candidate(model, options));
}

TEST(Invariants, HoldForEveryRightModel) {
  for (const auto& dir : model_dirs()) {
    const Model model = value_or_die(open_model(dir));
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      const auto engine = host_model(model, dtype);
      const auto results = value_or_die(
          check_invariants(*engine, model.config, random_inputs(3, 11, 2, model.config), {dtype}));
      for (const InvariantResult& r : results) {
        EXPECT_TRUE(r.holds) << dir << " " << short_name(dtype) << " " << r.name << " " << r.worst;
      }
      EXPECT_TRUE(invariant_findings(results).empty());
    }
  }
}

// An engine whose inputs or logits are spoilt on the way.
class Spoilt final : public EngineAround {
 public:
  using Edit = std::function<void(StepInputs&, std::int64_t call)>;
  Spoilt(std::unique_ptr<Engine> inner, Edit edit)
      : EngineAround(std::move(inner)), edit_(std::move(edit)) {}
  Result<void> forward(const StepInputs& inputs, Tap& tap) override {
    StepInputs changed = inputs;
    edit_(changed, call_++);
    return inner_->forward(changed, tap);
  }
  void reset() override {
    call_ = forgets ? call_ : 0;
    inner_->reset();
  }
  bool forgets = false;  // reset() does not reset the count of calls

 private:
  Edit edit_;
  std::int64_t call_ = 0;
};

std::vector<std::string> broken_by(Spoilt::Edit edit, bool forgets = false) {
  const Model model = value_or_die(open_model(fixtures_dir() / "models" / "parscale-bytes"));
  Spoilt engine(host_model(model, DType::kF32), std::move(edit));
  engine.forgets = forgets;
  std::vector<std::string> names;
  for (const InvariantResult& r : value_or_die(check_invariants(
           engine, model.config, random_inputs(3, 11, 2, model.config), {DType::kF32}))) {
    if (!r.holds) names.push_back(r.name);
  }
  return names;
}

TEST(Invariants, PositionsThatRestartBreakChunksAndDecode) {
  const auto broken = broken_by([](StepInputs& in, std::int64_t call) {
    if (call == 0) return;
    in.position_ids.emplace();
    for (std::int64_t b = 0; b < in.batch; ++b) {
      for (std::int64_t t = 0; t < in.length; ++t) in.position_ids->push_back(t);
    }
  });
  EXPECT_EQ(broken, (std::vector<std::string>{"chunks", "decode"}));
}

TEST(Invariants, IgnoredPaddingBreaksLeftPadding) {
  const auto broken = broken_by([](StepInputs& in, std::int64_t) { in.attention_mask.reset(); });
  EXPECT_EQ(broken, (std::vector<std::string>{"left padding"}));
}

TEST(Invariants, AnAnswerThatDependsOnHistoryBreaksDeterminism) {
  const auto broken =
      broken_by([](StepInputs& in, std::int64_t call) { in.input_ids[0] = call % 200; }, true);
  ASSERT_FALSE(broken.empty());
  EXPECT_EQ(broken[0], "determinism");
}

TEST(Invariants, ALookAheadBreaksCausality) {
  const auto broken = broken_by([](StepInputs& in, std::int64_t) {
    // Token 0 is chosen by the tokens after it.
    std::int64_t sum = 0;
    for (std::int64_t t = 1; t < in.length; ++t) sum += in.input_ids[static_cast<std::size_t>(t)];
    if (in.length > 1) in.input_ids[0] = sum % 256;
  });
  EXPECT_NE(std::find(broken.begin(), broken.end(), "causality"), broken.end());
}

TEST(Invariants, ARowThatDependsOnItsPlaceBreaksBatchOrder) {
  const auto broken = broken_by([](StepInputs& in, std::int64_t) {
    in.input_ids[0] = (in.input_ids[0] + 1) % 256;  // row 0 only
  });
  EXPECT_NE(std::find(broken.begin(), broken.end(), "batch order"), broken.end());
}

}  // namespace
}  // namespace ps
