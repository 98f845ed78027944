// Every op of ops.def, on every runner, in every storage type, on the cases that its own file
// gives:
//   in order      agrees with the op's plain oracle in double, within the op's own bound;
//   permuted      threads and blocks in shuffled orders: the same bits;
//   checked       no race, no index out of bounds, no read of what nobody wrote, every output
//   written; block sizes   32, 64, 96, 128, 256 threads: within the bound (the order of a sum may
//   differ).
// A new op needs no edit here. Outputs stand between guards, in memory that starts as NaN.
#include <cmath>

#include <gtest/gtest.h>

#include "model/backend.h"
#include "model/ops/op.h"
#include "tests/mutants/op_trial.h"

namespace ps {
namespace {

const OpEntry& entry_of(std::size_t i) {
  static const OpEntry& (*const entries[])() = {
#define PS_OP(name) &cpu::name,
#include "model/ops/ops.def"
#undef PS_OP
  };
  return entries[i]();
}

class Ops : public testing::TestWithParam<std::size_t> {
 protected:
  const OpEntry& op() const { return entry_of(GetParam()); }
};

TEST_P(Ops, AgreesWithItsOracleForEveryBlockSize) {
  EXPECT_EQ(first_fault(op(), [](OpTrial& trial) { return trial.oracle_fault(); }), "");
}

TEST_P(Ops, GivesTheSameBitsInEveryOrderOfThreadsAndBlocks) {
  EXPECT_EQ(first_fault(op(), [](OpTrial& trial) { return trial.order_fault(); }), "");
}

TEST_P(Ops, IsCleanUnderTheCheckedRunner) {
  EXPECT_EQ(first_fault(op(), [](OpTrial& trial) { return trial.checked_fault(); }), "");
}

TEST_P(Ops, HasCasesWithEveryAxisOfItsSchema) {
  for (const OpCase& the_case : op().cases()) {
    for (const Operand& operand : parse_schema(op().schema).operands) {
      for (const std::string& axis : operand.axes) {
        const auto has = [&](const auto& named) { return named.first == axis; };
        EXPECT_TRUE(std::any_of(the_case.axes.begin(), the_case.axes.end(), has)) << axis;
      }
    }
  }
}

// No two sizes of an op are equal in every one of its cases: a swap of axes would not show.
TEST_P(Ops, HasACaseThatTellsAnyTwoAxesApart) {
  const auto cases = op().cases();
  ASSERT_FALSE(cases.empty());
  for (std::size_t a = 0; a < cases[0].axes.size(); ++a) {
    for (std::size_t b = 0; b < a; ++b) {
      const auto told_apart = [&](const OpCase& c) { return c.axes[a].second != c.axes[b].second; };
      const std::string pair =
          std::string(cases[0].axes[a].first) + "," + std::string(cases[0].axes[b].first);
      if (pair == "other,replica") continue;  // the same P
      EXPECT_TRUE(std::any_of(cases.begin(), cases.end(), told_apart)) << pair;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, Ops, testing::Range<std::size_t>(0, kOps),
                         [](const auto& op) { return std::string(entry_of(op.param).name); });

TEST(Schema, NamesOperandsTypesAxesAndScalars) {
  const Schema schema = parse_schema("x:S[row,col] ids:i64[row] out>f32[col] | eps past");
  ASSERT_EQ(schema.operands.size(), 3u);
  EXPECT_EQ(schema.operands[1].type, 'i');
  EXPECT_FALSE(schema.operands[1].output);
  EXPECT_TRUE(schema.operands[2].output);
  EXPECT_EQ(schema.operands[0].axes, (std::vector<std::string>{"row", "col"}));
  EXPECT_EQ(schema.scalars, (std::vector<std::string>{"eps", "past"}));
}

TEST(SchemaDeathTest, ACallThatDoesNotFitStops) {
  float cells[12] = {};
  const Array x(cells, DType::kF32, {3, 4}), short_weight(cells, DType::kF32, {3}),
      half(cells, DType::kF16, {4});
  const auto call = [&](const Array& weight) {
    const OpCall made{.op = &cpu::rms_norm(), .arrays = {x, weight, x}, .scalars = {1e-6}};
    made.check(parse_schema(made.op->schema));
  };
  EXPECT_DEATH(call(short_weight), "axis col should be 4");
  EXPECT_DEATH(call(half), "differs in type");
}

TEST(Exponential, StaysWithinTwoUlpEverywhere) {
  double worst = 0;
  for (std::int64_t i = -104000; i <= 88700; ++i) {
    const float x = static_cast<float>(i) * 1e-3f + 1e-4f;
    const double want = std::exp(static_cast<double>(x));
    const float have = exponential(x);
    const double ulp = std::max(std::ldexp(1.0, std::ilogb(want) - 23), std::ldexp(1.0, -149));
    worst = std::max(worst, std::fabs(have - want) / ulp);
  }
  EXPECT_LE(worst, 2.0);
  EXPECT_EQ(exponential(-INFINITY), 0.f);
  EXPECT_EQ(exponential(INFINITY), INFINITY);
  EXPECT_EQ(exponential(0.f), 1.f);
  EXPECT_EQ(exponential(-200.f), 0.f);
  EXPECT_TRUE(std::isnan(exponential(NAN)));
}

TEST(SineCosine, StaysWithinABillionthForLongPositions) {
  for (std::int64_t i = 0; i < 200000; ++i) {
    const double angle = static_cast<double>(i * i % 536870909) * (1 - 1e-7) - 1000;
    const SineCosine have = sine_cosine(angle);
    ASSERT_NEAR(have.sine, std::sin(angle), 1e-9) << angle;
    ASSERT_NEAR(have.cosine, std::cos(angle), 1e-9) << angle;
  }
}

}  // namespace
}  // namespace ps
