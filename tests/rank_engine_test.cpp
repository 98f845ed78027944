// The candidate on simulated ranks: the same network, judged against the whole reference in every
// type, and a rank that fails ends the run for all of them.
#include "diff/shard/rank_engine.h"

#include <array>
#include <thread>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "diff/isolate/rank_tolerance.h"
#include "model/candidate.h"
#include "tests/support/program.h"
#include "tests/support/run.h"

namespace ps {
namespace {

TEST(RankEngine, CheckFindsNothingOnRightRanks) {
  PS_NEEDS_REFERENCE();
  for (const std::string model : {"parscale-bytes", "cross-attn-bytes"}) {
    for (const std::string tp : {"2", "4"}) {
      for (const std::string dtype : {"f32", "bf16"}) {
        const Ran ran =
            run_parscope({"check", fixtures_dir() / "models" / model, "--tp", tp, "--dtype", dtype,
                          "--random", "2x7", "--steps", "1", "--device", "host", "--json"});
        EXPECT_EQ(ran.code, 0) << model << " " << tp << " " << dtype << "\n" << ran.err;
        const auto json = nlohmann::json::parse(ran.out);
        EXPECT_EQ(json["verdict"], "equivalent") << model << " " << tp << " " << dtype;
        const std::string tolerance = json["environment"]["tolerance_over_ranks"];
        EXPECT_TRUE(tolerance.starts_with(tp + " ranks, " + dtype)) << tolerance;
      }
    }
  }
}

TEST(RankEngine, IllegalRanksHaveTheirCode) {
  expect_bad_input(run_parscope({"check", bytes_model(), "--tp", "3"}), "REJ_HEADS");
  expect_bad_input(run_parscope({"check", bytes_model(), "--tp", "2", "--engine", "reference"}),
                   "--tp");
}

TEST(RankTolerance, IsDerivedAndStated) {
  // Section 4's model, and what was measured there: 0.42, 0.63, 0.80, 1.04 for tp 1, 2, 4, 8.
  constexpr std::array<std::pair<std::int64_t, double>, 4> kMeasured = {
      {{1, 0.42}, {2, 0.63}, {4, 0.80}, {8, 1.04}}};
  for (const auto& [tp, rms] : kMeasured) EXPECT_NEAR(row_parallel_rms(tp), rms, 0.08) << tp;
  EXPECT_EQ(rank_tolerance(DType::kBF16, 1, 28), "");
  const std::string words = rank_tolerance(DType::kBF16, 8, 28);
  for (const char* part : {"8 ranks, bf16 (u = 2^-8)", "rms 0.97 u, one rank 0.42 u", "28 layers",
                           "3 u sqrt(layers + 1) = 0.063", "equal tokens"}) {
    EXPECT_NE(words.find(part), std::string::npos) << part << " in " << words;
  }
  EXPECT_EQ(rank_tolerance(DType::kF32, 2, 3).find("equal tokens"), std::string::npos);
}

// Engines that meet in collectives on their own, without a model.
class Talker final : public Engine {
 public:
  Talker(Collectives& collectives, std::string tag, bool fails)
      : collectives_(collectives), tag_(std::move(tag)), fails_(fails) {}
  Result<void> forward(const StepInputs&, Tap& tap) override {
    if (fails_) return bad_input("rank", "dies on purpose");
    Tensor value = Tensor::of<float>(DType::kF32, {2}, std::vector<float>{1.5F, 2});
    PS_TRY_VOID(collectives_.all_reduce(value, tag_));
    if (tap.wants("model.norm")) tap.take("model.norm", value.view());
    return {};
  }
  Result<void> reorder_cache(const std::vector<std::int64_t>&, Tap&) override { return {}; }
  void reset() override {}
  std::int64_t past() const override { return 0; }
  Result<Generated> generate(const StepInputs&, std::int64_t, std::int64_t) override {
    return Generated{};
  }

 private:
  Collectives& collectives_;
  std::string tag_;
  bool fails_;
};

Result<std::unique_ptr<RankEngine>> talkers(const std::string& odd_tag, bool last_fails) {
  const Model model = value_or_die(open_model(bytes_model()));
  return RankEngine::open(model, 4, [&](const Model&, Collectives& c) {
    const bool odd = c.rank() == 2;
    return Result<std::unique_ptr<Engine>>(
        std::make_unique<Talker>(c, odd ? odd_tag : "o_proj", last_fails && c.rank() == 3));
  });
}

TEST(RankEngine, SumsGoToEveryRank) {
  const auto engine = value_or_die(talkers("o_proj", false));
  KeepAll tap;
  ok_or_die(engine->forward({}, tap));
  EXPECT_EQ(value_at(tap.at("model.norm").view(), 0), 6.0);
  EXPECT_TRUE(engine->findings().empty());
}

TEST(RankEngine, ARankThatDiesOrDisagreesEndsTheRunForAll) {
  NoTap none;
  const auto dies = value_or_die(talkers("o_proj", true));
  const Result<void> died = dies->forward({}, none);
  ASSERT_FALSE(died.ok());
  EXPECT_NE(died.error().line().find("dies on purpose"), std::string::npos);
  const auto disagrees = value_or_die(talkers("down_proj", false));
  const Result<void> other = disagrees->forward({}, none);
  ASSERT_FALSE(other.ok());
  EXPECT_NE(other.error().line().find("rank 2: TP015"), std::string::npos) << other.error().line();
}

TEST(RankEngine, RowsOfARankAreViewsOfTheMappedCheckpoint) {
  const Model model = value_or_die(open_model(bytes_model()));
  const Model rank = value_or_die(rank_share_of(model, 2, 1));
  const std::string name = "model.layers.0.mlp.up_proj.weight";
  const auto whole = model.checkpoint->peek(name)->bytes, own = rank.checkpoint->peek(name)->bytes;
  EXPECT_EQ(own.data(), whole.data() + whole.size() / 2);
  EXPECT_EQ(rank.config.heads, 2);
}

}  // namespace
}  // namespace ps
