// The candidate's kernels for block-sparse attention, asked everything that the verifier knows to
// ask; on every runner, in every type.
#include <cmath>
#include <filesystem>

#include <gtest/gtest.h>

#include "diff/sparse/probe.h"
#include "model/block/checked_block.h"
#include "model/block/launch.h"
#include "model/block/logarithm.h"
#include "model/candidate.h"
#include "tests/support/paths.h"
#include "tests/support/plain_sparse.h"

namespace ps {
namespace {

const std::string kReference = binary_dir() + "/libparscope_reference.so";

SparseConfig usual() {
  SparseConfig c;
  c.heads = 4;
  c.kv_heads = 2;
  c.length = 45;
  c.head_dim = 16;
  c.block = 8;
  c.sketch = 16;
  c.tau = 3;
  c.layers = 3;
  c.skip = 1;
  return c;
}

Result<Report> probed(const SparseCase& base, const CandidateOptions& options) {
  PS_TRY(const auto reference, open_sparse_reference(base.config, base.weights));
  const MakeSparseEngine make = [&](const SparseConfig& config) {
    return open_sparse_candidate(config, base.weights, options);
  };
  return probe_sparse_engine(base, make, *reference, {});
}

std::string errors_of(const Report& report) {
  std::string out;
  for (const Finding& f : report.findings) {
    if (f.severity == Severity::kError) {
      out += f.id + " " + f.point + " " + f.where + ": " + f.message + "\n";
    }
  }
  return out;
}

CandidateOptions on_host() {
  CandidateOptions options;
  options.device = Device::kHost;
  options.threads = 1;
  return options;
}

TEST(SparseCandidate, StandsTheProbe) {
  if (!std::filesystem::exists(kReference)) GTEST_SKIP() << "built without LibTorch";
  for (const std::uint64_t seed : {3u, 11u, 12u}) {
    SparseConfig config = usual();
    config.depth = seed == 12 ? 2 : 0;
    config.exponent = seed == 11 ? 3 : 8;
    const auto report = probed(random_sparse_case(config, 5, seed, 2), on_host());
    ASSERT_TRUE(report.ok()) << report.error().line();
    EXPECT_EQ(errors_of(*report), "") << seed;
  }
}

TEST(SparseCandidate, StandsTheProbeWhateverTheShape) {
  if (!std::filesystem::exists(kReference)) GTEST_SKIP() << "built without LibTorch";
  for (const auto& [length, block, tau] :
       {std::tuple{1, 8, 3}, std::tuple{5, 8, 2}, std::tuple{33, 16, 9}, std::tuple{64, 8, 1}}) {
    SparseConfig config = usual();
    config.length = length, config.block = block, config.tau = tau, config.skip = 0;
    const auto report = probed(random_sparse_case(config, 2, 9, 1), on_host());
    ASSERT_TRUE(report.ok()) << report.error().line();
    EXPECT_EQ(errors_of(*report), "") << length;
  }
}

SparseConfig gated(GateRule rule, const std::string& pool) {
  SparseConfig c = usual();
  c.selector = SparseSelector::kGate;
  c.gate = rule, c.pool = pool;
  c.threshold = 0.2, c.nz_ratio = 0.6, c.token_budget = 24;
  return c;
}

TEST(SparseCandidate, GatesStandTheProbe) {
  if (!std::filesystem::exists(kReference)) GTEST_SKIP() << "built without LibTorch";
  std::uint64_t seed = 30;
  for (const auto& [rule, pool] :
       {std::pair{GateRule::kThreshold, "avg"}, std::pair{GateRule::kNzRatio, "max+min"},
        std::pair{GateRule::kTokenBudget, "avg+max+min"}}) {
    SparseConfig config = gated(rule, pool);
    config.last_block_dense = rule == GateRule::kNzRatio;
    const auto report = probed(random_sparse_case(config, 3, ++seed, 2), on_host());
    ASSERT_TRUE(report.ok()) << report.error().line();
    EXPECT_EQ(errors_of(*report), "") << pool;
  }
}

// Without forced blocks a threshold may leave a row nothing: zeros, as the reference has it.
TEST(SparseCandidate, AGateMayLoseARow) {
  if (!std::filesystem::exists(kReference)) GTEST_SKIP() << "built without LibTorch";
  SparseConfig config = gated(GateRule::kThreshold, "avg");
  config.threshold = 0.45, config.sinks = 0, config.locals = 0, config.skip = 0;
  const SparseCase base = random_sparse_case(config, 0, 5, 1);
  const auto reference = open_sparse_reference(base.config, base.weights);
  const auto candidate = open_sparse_candidate(base.config, base.weights, on_host());
  ASSERT_TRUE(reference.ok() && candidate.ok());
  const auto q = base.tokens("q", 0, 0, config.length), k = base.tokens("k", 0, 0, config.length),
             v = base.tokens("v", 0, 0, config.length);
  const SparseInputs in{q->view(), k->view(), v->view(), std::nullopt};
  const auto right = (*reference)->prefill(0, in), mine = (*candidate)->prefill(0, in);
  ASSERT_TRUE(right.ok() && mine.ok());
  EXPECT_EQ(mine->lists.lists, right->lists.lists);
  EXPECT_TRUE(std::any_of(mine->lists.lists.begin(), mine->lists.lists.end(),
                          [](const auto& list) { return list.empty(); }));
  for (std::int64_t i = 0; i < mine->out.view().count(); ++i) {
    ASSERT_NEAR(value_at(mine->out.view(), i), value_at(right->out.view(), i), 1e-5) << i;
  }
}

TEST(SparseCandidate, DampedWalksStandTheProbe) {
  if (!std::filesystem::exists(kReference)) GTEST_SKIP() << "built without LibTorch";
  for (const std::int64_t depth : {0, 2}) {
    SparseConfig config = usual();
    config.damping = 0.25, config.depth = depth, config.layers = 4;
    const auto report = probed(random_sparse_case(config, 3, 13, 2), on_host());
    ASSERT_TRUE(report.ok()) << report.error().line();
    EXPECT_EQ(errors_of(*report), "") << depth;
  }
}

// The same bits in every order of threads and blocks, and no race that the checked runner sees.
TEST(SparseCandidate, DependsOnNoOrder) {
  for (const SparseConfig& config : {usual(), gated(GateRule::kTokenBudget, "avg+min")}) {
    const SparseCase base = random_sparse_case(config, 3, 21, 2);
    const auto played = [&](const Launch* launch) -> SparseCase {
      CandidateOptions options = on_host();
      options.host_launch = launch;
      auto engine = open_sparse_candidate(base.config, base.weights, options);
      PS_CHECK(engine.ok(), "no candidate");
      auto ran = run_sparse_case(base, **engine);
      PS_CHECK(ran.ok(), ran.ok() ? "" : ran.error().line());
      return std::move(ran).value();
    };
    const SparseCase in_order = played(nullptr);
    Launch permuted;
    permuted.runner = Launch::Runner::kPermuted;
    CheckLog log;
    Launch watched;
    watched.runner = Launch::Runner::kChecked;
    watched.log = &log;
    for (const Launch* launch : {&permuted, &watched}) {
      const SparseCase other = played(launch);
      for (const auto& [name, value] : in_order.tensors) {
        const TensorView* again = other.find(name);
        ASSERT_NE(again, nullptr) << name;
        EXPECT_TRUE(
            std::equal(value.view.bytes.begin(), value.view.bytes.end(), again->bytes.begin()))
            << name;
      }
    }
    EXPECT_TRUE(log.clean()) << log.first;
  }
}

TEST(Logarithm, StaysCloseToTheTruth) {
  for (std::int64_t i = -120; i < 120; ++i) {
    for (const double m : {1.0, 1.0001, 1.2, 1.41421, 1.41422, 1.7, 1.99999}) {
      const auto x = static_cast<float>(std::ldexp(m, static_cast<int>(i)));
      const double want = std::log(static_cast<double>(x));
      EXPECT_NEAR(logarithm(x), want, 2e-7 * std::max(1.0, std::fabs(want))) << x;
    }
  }
}

}  // namespace
}  // namespace ps
