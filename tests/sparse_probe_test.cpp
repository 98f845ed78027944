// The deviations of the published implementation (spec sparse.md section 7), each planted in the
// candidate and in an implementation that shares nothing with it, each caught with its code.
#include <filesystem>

#include <gtest/gtest.h>

#include "diff/sparse/probe.h"
#include "tests/support/deviant_sparse.h"
#include "tests/support/paths.h"
#include "tests/support/plain_sparse.h"

namespace ps {
namespace {

const std::string kReference = binary_dir() + "/libparscope_reference.so";

SparseConfig usual() {
  SparseConfig c;
  c.heads = 4;
  c.kv_heads = 2;
  c.length = 45;  // the last of six blocks is partial
  c.head_dim = 16;
  c.block = 8;
  c.sketch = 16;
  c.tau = 3;
  c.layers = 3;
  c.skip = 1;
  return c;
}

std::string all_of(const Report& report) {
  std::string out;
  for (const Finding& f : report.findings) {
    out += f.id + " " + f.point + " " + f.where + ": " + f.message + "\n";
  }
  return out;
}

bool has(const Report& report, const std::string& code) {
  for (const Finding& f : report.findings) {
    if (f.id == code) return true;
  }
  return false;
}

Result<Report> probed(const SparseCase& base, const std::set<std::string>& deviations) {
  PS_TRY(const auto reference, open_sparse_reference(base.config, base.weights));
  const MakeSparseEngine make =
      [&](const SparseConfig& config) -> Result<std::unique_ptr<SparseEngine>> {
    return std::unique_ptr<SparseEngine>(
        std::make_unique<PlainSparse>(config, base.weights, deviations));
  };
  return probe_sparse_engine(base, make, *reference, {});
}

Result<Report> probed_candidate(const SparseCase& base, const std::string& deviation) {
  PS_TRY(const auto reference, open_sparse_reference(base.config, base.weights));
  const MakeSparseEngine make = [&](const SparseConfig& config) {
    return open_deviant_candidate(config, base.weights, deviation);
  };
  return probe_sparse_engine(base, make, *reference, {});
}

TEST(SparseProbe, FindsNothingInTheCandidateThatDeviatesInNothing) {
  if (!std::filesystem::exists(kReference)) GTEST_SKIP() << "built without LibTorch";
  const auto report = probed_candidate(random_sparse_case(usual(), 5, 3, 2), "");
  ASSERT_TRUE(report.ok()) << report.error().line();
  EXPECT_EQ(report->verdict, Verdict::kEquivalent) << all_of(*report);
}

TEST(SparseProbe, FindsNothingInARightImplementation) {
  if (!std::filesystem::exists(kReference)) GTEST_SKIP() << "built without LibTorch";
  for (const std::uint64_t seed : {3u, 4u}) {
    const auto report = probed(random_sparse_case(usual(), 5, seed, 2), {});
    ASSERT_TRUE(report.ok()) << report.error().line();
    EXPECT_EQ(report->verdict, Verdict::kEquivalent) << all_of(*report);
  }
}

TEST(SparseProbe, FindsNothingInTheReference) {
  if (!std::filesystem::exists(kReference)) GTEST_SKIP() << "built without LibTorch";
  const SparseCase base = random_sparse_case(usual(), 5, 5, 2);
  const auto reference = open_sparse_reference(base.config, base.weights);
  ASSERT_TRUE(reference.ok()) << reference.error().line();
  const MakeSparseEngine make =
      [&](const SparseConfig& config) -> Result<std::unique_ptr<SparseEngine>> {
    PS_TRY(auto engine, open_sparse_reference(config, base.weights));
    return std::unique_ptr<SparseEngine>(std::move(engine));
  };
  const auto report = probe_sparse_engine(base, make, **reference, {});
  ASSERT_TRUE(report.ok()) << report.error().line();
  EXPECT_EQ(report->verdict, Verdict::kEquivalent) << all_of(*report);
}

struct Deviation {
  const char* number;  // in section 7
  const char* name;
  std::vector<const char*> codes;
};
std::ostream& operator<<(std::ostream& out, const Deviation& d) { return out << d.name; }

class Planted : public testing::TestWithParam<Deviation> {};

TEST_P(Planted, IsCaughtInTheCandidate) {
  if (!std::filesystem::exists(kReference)) GTEST_SKIP() << "built without LibTorch";
  const Deviation& d = GetParam();
  if (std::string(d.number) == "-") GTEST_SKIP() << "no deviation of the published implementation";
  SparseConfig config = usual();
  double scale = 2;
  if (std::string(d.name) == "float_state") config.layers = 9, scale = 0.3;
  const auto report = probed_candidate(random_sparse_case(config, 5, 3, scale), d.name);
  ASSERT_TRUE(report.ok()) << report.error().line();
  EXPECT_EQ(report->verdict, Verdict::kDiverged);
  for (const char* code : d.codes) {
    EXPECT_TRUE(has(*report, code)) << code << " of " << d.name << " among\n" << all_of(*report);
  }
}

TEST_P(Planted, IsCaughtWithItsCode) {
  if (!std::filesystem::exists(kReference)) GTEST_SKIP() << "built without LibTorch";
  const Deviation& d = GetParam();
  SparseConfig config = usual();
  double scale = 2;
  if (std::string(d.name) == "float_state") config.layers = 9, scale = 0.3;
  const auto report = probed(random_sparse_case(config, 5, 3, scale), {d.name});
  ASSERT_TRUE(report.ok()) << report.error().line();
  for (const char* code : d.codes) {
    EXPECT_TRUE(has(*report, code)) << code << " of " << d.name << " among\n" << all_of(*report);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Section7, Planted,
    testing::Values(
        Deviation{"1", "no_token_mask", {"SP008"}}, Deviation{"2", "future_fill", {"SP002"}},
        Deviation{"3", "prepend_block0", {"SP004"}}, Deviation{"4", "no_diagonal", {"SP003"}},
        Deviation{"5", "padded_mean", {"SP018"}}, Deviation{"6", "late_mask", {"SP013"}},
        Deviation{"7", "float_state", {"SP020"}}, Deviation{"8", "stale_state", {"SP016"}},
        Deviation{"9 selection", "ignore_mask", {"SP023"}},
        Deviation{"9 dense", "dense_no_causal", {"SP024"}},
        Deviation{"9 additive", "add_bool", {"SP023"}},
        Deviation{"10 layers", "nq_error", {"SP016"}},
        Deviation{"10 alignment", "top_left", {"SP011"}},
        Deviation{"11 lists", "decode_duplicates", {"SP004"}},
        Deviation{"11 columns", "decode_padded", {"SP015"}}, Deviation{"12", "no_gqa", {"unnamed"}},
        // Not in section 7: codes that no deviation there has.
        Deviation{"-", "unnormalised", {"SP010"}}, Deviation{"-", "tau_ranks", {"SP012"}},
        Deviation{"-", "batch_leak", {"SP014"}}, Deviation{"-", "one_query", {"SP017"}}),
    [](const auto& p) { return std::string(p.param.name); });

}  // namespace
}  // namespace ps
