// GEMM plans: built by pure functions, interpreted cell by cell with bounds, and run by the host's
// BLAS. Sizes are awkward: no two axes equal, so that no swapped argument can hide.
#include "model/gemm/gemm_plan.h"

#include <cmath>
#include <cstring>

#include <gtest/gtest.h>

#include "core/rng.h"
#include "model/block/storage.h"
#include "model/gemm/gemm_host.h"

namespace ps {
namespace {

// A plan as its definition says, one cell at a time, in double; every index is checked.
std::optional<std::string> interpret(const GemmPlan& p, const std::vector<double>& a,
                                     const std::vector<double>& b, const std::vector<double>& bias,
                                     std::vector<double>& c) {
  if (const auto reason = refused(p)) return reason;
  const auto reads = [](const std::vector<double>& x, std::int64_t i, double& value) {
    if (i < 0 || i >= static_cast<std::int64_t>(x.size())) return false;
    value = x[static_cast<std::size_t>(i)];
    return true;
  };
  for (std::int64_t z = 0; z < p.batches(); ++z) {
    const std::int64_t z2 = z % p.batch[2].count, z1 = z / p.batch[2].count % p.batch[1].count,
                       z0 = z / p.batch[2].count / p.batch[1].count;
    const auto base = [&](std::int64_t BatchLevel::* stride) {
      return z0 * (p.batch[0].*stride) + z1 * (p.batch[1].*stride) + z2 * (p.batch[2].*stride);
    };
    for (std::int64_t i = 0; i < p.m; ++i) {
      for (std::int64_t j = 0; j < p.n; ++j) {
        double sum = 0, x = 0, y = 0, extra = 0;
        for (std::int64_t l = 0; l < p.k; ++l) {
          const std::int64_t at_a = base(&BatchLevel::stride_a) +
                                    (p.op_a == Transpose::kYes ? l + i * p.lda : i + l * p.lda);
          const std::int64_t at_b = base(&BatchLevel::stride_b) +
                                    (p.op_b == Transpose::kYes ? j + l * p.ldb : l + j * p.ldb);
          if (!reads(a, at_a, x) || !reads(b, at_b, y)) return "reads past an operand";
          sum += x * y;
        }
        if (p.bias && !reads(bias, i, extra)) return "reads past the bias";
        const std::int64_t at_c = base(&BatchLevel::stride_c) + i + j * p.ldc;
        if (at_c < 0 || at_c >= static_cast<std::int64_t>(c.size()))
          return "writes past the result";
        c[static_cast<std::size_t>(at_c)] = static_cast<double>(p.alpha) * sum + extra;
      }
    }
  }
  return std::nullopt;
}

struct Buffer {
  Buffer(std::int64_t count, DType type, std::uint64_t stream)
      : dtype(type), bytes(static_cast<std::size_t>(count * size_of(type))) {
    const Rng rng(5, stream);
    for (std::int64_t i = 0; i < count; ++i) {
      const auto x = static_cast<float>(rng.normal(static_cast<std::uint64_t>(i)));
      const std::uint16_t half = type == DType::kBF16 ? float_to_bf16(x) : float_to_f16(x);
      std::memcpy(bytes.data() + i * size_of(type),
                  type == DType::kF32 ? static_cast<const void*>(&x) : &half,
                  static_cast<std::size_t>(size_of(type)));
    }
  }
  std::vector<double> wide() const {
    const std::int64_t count = static_cast<std::int64_t>(bytes.size()) / size_of(dtype);
    std::vector<double> out(static_cast<std::size_t>(count));
    to_doubles({dtype, {count}, bytes}, out);
    return out;
  }
  template <class... Sizes>
  Array array(Sizes... sizes) {
    return {bytes.data(), dtype, {sizes...}};
  }
  DType dtype;
  std::vector<std::byte> bytes;
};

// Runs a plan both ways and compares. The bound: one rounding of the result, and a float sum of k.
void expect_host_agrees(const GemmPlan& plan, const Buffer& a, const Buffer& b, const Buffer& bias,
                        Buffer& c) {
  std::vector<double> want = c.wide();
  ASSERT_EQ(interpret(plan, a.wide(), b.wide(), bias.wide(), want), std::nullopt)
      << plan.describe();
  ThreadPool pool(2);
  std::vector<std::byte> once;
  for (int repeat = 0; repeat < 2; ++repeat) {
    run_gemm_host(plan, a.bytes.data(), b.bytes.data(), bias.bytes.data(), c.bytes.data(), pool);
    if (repeat == 0) once = c.bytes;
    ASSERT_EQ(once, c.bytes) << "the same product twice";
  }
  ThreadPool alone(1);
  run_gemm_host(plan, a.bytes.data(), b.bytes.data(), bias.bytes.data(), c.bytes.data(), alone);
  ASSERT_EQ(once, c.bytes) << "one thread or two";
  const std::vector<double> have = c.wide();
  double scale = 0;
  for (const double x : want) scale = std::max(scale, std::fabs(x));
  const double bound = scale * unit_roundoff(plan.type) +
                       4 * 0x1p-24 * std::sqrt(static_cast<double>(plan.k) + 1) * (scale + 4);
  for (std::size_t i = 0; i < want.size(); ++i)
    ASSERT_NEAR(want[i], have[i], bound) << plan.describe() << " cell " << i;
}

struct LinearSizes {
  std::int64_t rows, in, out;
};
constexpr LinearSizes kLinears[] = {{5, 7, 3},     {1, 67, 129}, {2, 300, 257},  {9, 33, 65},
                                    {11, 130, 71}, {13, 1, 2},   {600, 17, 300}, {1, 1, 1}};

TEST(LinearPlan, IsRowMajorProductWithTheTransposedWeight) {
  for (const LinearSizes& s : kLinears) {
    for (const DType type : {DType::kF32, DType::kBF16, DType::kF16}) {
      for (const bool with_bias : {false, true}) {
        Buffer x(s.rows * s.in, type, 1), w(s.out * s.in, type, 2), bias(s.out, type, 3),
            y(s.rows * s.out, type, 4);
        const GemmPlan plan = plan_linear(x.array(s.rows, s.in), w.array(s.out, s.in), with_bias,
                                          y.array(s.rows, s.out));
        std::vector<double> c = y.wide();
        const auto xs = x.wide(), ws = w.wide(), bs = bias.wide();
        ASSERT_EQ(interpret(plan, ws, xs, bs, c), std::nullopt);
        for (std::int64_t r = 0; r < s.rows; ++r) {
          for (std::int64_t o = 0; o < s.out; ++o) {
            double sum = with_bias ? bs[static_cast<std::size_t>(o)] : 0;
            for (std::int64_t i = 0; i < s.in; ++i)
              sum += xs[static_cast<std::size_t>(r * s.in + i)] *
                     ws[static_cast<std::size_t>(o * s.in + i)];
            ASSERT_NEAR(sum, c[static_cast<std::size_t>(r * s.out + o)], 1e-9) << r << "," << o;
          }
        }
        ASSERT_NO_FATAL_FAILURE(expect_host_agrees(plan, w, x, bias, y));
      }
    }
  }
}

// A checkpoint may be stored in another type than the run: its weights are rounded to the run's
// first.
TEST(LinearPlan, RoundsWeightsOfAnotherTypeToTheRunsOwn) {
  for (const DType stored : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (const DType run : {DType::kF32, DType::kBF16, DType::kF16}) {
      for (const std::int64_t rows : {2, 19}) {
        Buffer x(rows * 67, run, 1), w(31 * 67, stored, 2), bias(31, run, 3), y(rows * 31, run, 4),
            same(31 * 67, run, 2), expected(rows * 31, run, 4);
        const GemmPlan mixed =
            plan_linear(x.array(rows, 67L), w.array(31L, 67L), true, y.array(rows, 31L));
        const auto wide = w.wide();  // the weight, converted beforehand
        for (std::size_t i = 0; i < wide.size(); ++i) {
          const auto value = static_cast<float>(wide[i]);
          const std::uint16_t half =
              run == DType::kBF16 ? float_to_bf16(value) : float_to_f16(value);
          std::memcpy(same.bytes.data() + i * static_cast<std::size_t>(size_of(run)),
                      run == DType::kF32 ? static_cast<const void*>(&value) : &half,
                      static_cast<std::size_t>(size_of(run)));
        }
        const GemmPlan plain =
            plan_linear(x.array(rows, 67L), same.array(31L, 67L), true, expected.array(rows, 31L));
        ThreadPool pool(2);
        run_gemm_host(mixed, w.bytes.data(), x.bytes.data(), bias.bytes.data(), y.bytes.data(),
                      pool);
        run_gemm_host(plain, same.bytes.data(), x.bytes.data(), bias.bytes.data(),
                      expected.bytes.data(), pool);
        EXPECT_EQ(y.bytes, expected.bytes) << short_name(stored) << " as " << short_name(run);
      }
    }
  }
}

struct AttentionSizes {
  std::int64_t rows, heads, kv_heads, queries, cols, capacity, dim;
};
constexpr AttentionSizes kAttention[] = {{3, 6, 2, 5, 7, 11, 4},
                                         {2, 4, 4, 1, 9, 13, 6},
                                         {2, 6, 3, 1, 17, 17, 5},
                                         {1, 5, 1, 13, 21, 30, 8},
                                         {2, 3, 1, 8, 1, 2, 7}};

TEST(AttentionPlan, GroupsHeadsByDivisionAndStaysInsideTheCache) {
  for (const AttentionSizes& s : kAttention) {
    for (const DType type : {DType::kF32, DType::kBF16}) {
      Buffer q(s.rows * s.heads * s.queries * s.dim, type, 1),
          k(s.rows * s.kv_heads * s.capacity * s.dim, type, 2);
      Buffer scores(s.rows * s.heads * s.queries * s.cols, type, 3), none(1, type, 9);
      const Array keys = k.array(s.rows, s.kv_heads, s.capacity, s.dim).narrowed(2, 0, s.cols);
      const GemmPlan plan = plan_scores(q.array(s.rows, s.heads, s.queries, s.dim), keys, 0.25f,
                                        scores.array(s.rows, s.heads, s.queries, s.cols));
      for (const GemmPlan& p : {plan, folded(plan)}) {
        std::vector<double> c = scores.wide();
        const auto qs = q.wide(), ks = k.wide();
        ASSERT_EQ(interpret(p, ks, qs, {}, c), std::nullopt) << p.describe();
        std::size_t cell = 0;
        for (std::int64_t r = 0; r < s.rows; ++r) {
          for (std::int64_t h = 0; h < s.heads; ++h) {
            const std::int64_t kv = h / (s.heads / s.kv_heads);
            for (std::int64_t i = 0; i < s.queries; ++i) {
              for (std::int64_t j = 0; j < s.cols; ++j, ++cell) {
                double sum = 0;
                for (std::int64_t d = 0; d < s.dim; ++d) {
                  sum += qs[static_cast<std::size_t>(((r * s.heads + h) * s.queries + i) * s.dim +
                                                     d)] *
                         ks[static_cast<std::size_t>(
                             ((r * s.kv_heads + kv) * s.capacity + j) * s.dim + d)];
                }
                ASSERT_NEAR(0.25 * sum, c[cell], 1e-9) << p.describe() << " cell " << cell;
              }
            }
          }
        }
        ASSERT_NO_FATAL_FAILURE(expect_host_agrees(p, k, q, none, scores));
      }
    }
  }
}

TEST(ContextPlan, WritesHeadsSideBySide) {
  for (const AttentionSizes& s : kAttention) {
    for (const DType type : {DType::kF32, DType::kF16}) {
      Buffer probs(s.rows * s.heads * s.queries * s.cols, type, 1),
          v(s.rows * s.kv_heads * s.capacity * s.dim, type, 2);
      Buffer context(s.rows * s.queries * s.heads * s.dim, type, 3), none(1, type, 9);
      const Array values = v.array(s.rows, s.kv_heads, s.capacity, s.dim).narrowed(2, 0, s.cols);
      const Array by_head =
          context.array(s.rows, s.queries, s.heads * s.dim).split(2, s.dim).transposed(1, 2);
      const GemmPlan plan =
          plan_context(probs.array(s.rows, s.heads, s.queries, s.cols), values, by_head);
      for (const GemmPlan& p : {plan, folded(plan)}) {
        std::vector<double> c = context.wide();
        const auto ps = probs.wide(), vs = v.wide();
        ASSERT_EQ(interpret(p, vs, ps, {}, c), std::nullopt) << p.describe();
        for (std::int64_t r = 0; r < s.rows; ++r) {
          for (std::int64_t i = 0; i < s.queries; ++i) {
            for (std::int64_t h = 0; h < s.heads; ++h) {
              const std::int64_t kv = h / (s.heads / s.kv_heads);
              for (std::int64_t d = 0; d < s.dim; ++d) {
                double sum = 0;
                for (std::int64_t j = 0; j < s.cols; ++j) {
                  sum += ps[static_cast<std::size_t>(((r * s.heads + h) * s.queries + i) * s.cols +
                                                     j)] *
                         vs[static_cast<std::size_t>(
                             ((r * s.kv_heads + kv) * s.capacity + j) * s.dim + d)];
                }
                ASSERT_NEAR(
                    sum,
                    c[static_cast<std::size_t>(((r * s.queries + i) * s.heads + h) * s.dim + d)],
                    1e-9)
                    << p.describe();
              }
            }
          }
        }
        ASSERT_NO_FATAL_FAILURE(expect_host_agrees(p, v, probs, none, context));
      }
    }
  }
}

TEST(AttentionPlan, ABlockOfQueriesIsASliceOfTheWhole) {
  Buffer q(2 * 3 * 11 * 4, DType::kF32, 1), k(2 * 1 * 13 * 4, DType::kF32, 2),
      whole(2 * 3 * 11 * 13, DType::kF32, 3), part(2 * 3 * 5 * 13, DType::kF32, 4);
  ThreadPool pool(2);
  const Array qs = q.array(2L, 3L, 11L, 4L), ks = k.array(2L, 1L, 13L, 4L);
  run_gemm_host(plan_scores(qs, ks, 1, whole.array(2L, 3L, 11L, 13L)), k.bytes.data(),
                q.bytes.data(), nullptr, whole.bytes.data(), pool);
  const Array slice = qs.narrowed(2, 6, 5);
  run_gemm_host(plan_scores(slice, ks, 1, part.array(2L, 3L, 5L, 13L)), k.bytes.data(),
                slice.data(), nullptr, part.bytes.data(), pool);
  const auto all = whole.wide(), some = part.wide();
  for (std::size_t h = 0; h < 6; ++h) {
    for (std::size_t cell = 0; cell < 5 * 13; ++cell)
      ASSERT_NEAR(all[(h * 11 + 6) * 13 + cell], some[h * 5 * 13 + cell], 1e-5);
  }
}

TEST(FoldedPlan, KeepsEveryProductAndUsesFewerLevels) {
  Buffer q(4 * 6 * 5 * 4, DType::kF32, 1), k(4 * 3 * 7 * 4, DType::kF32, 2),
      scores(4 * 6 * 5 * 7, DType::kF32, 3);
  const GemmPlan plan = plan_scores(q.array(4L, 6L, 5L, 4L), k.array(4L, 3L, 7L, 4L), 1,
                                    scores.array(4L, 6L, 5L, 7L));
  const GemmPlan fewer = folded(plan);
  EXPECT_EQ(fewer.batches(), plan.batches());
  EXPECT_EQ(fewer.batch[0].count, 1);
  EXPECT_EQ(fewer.batch[1].count, 12);  // rows and key/value heads in one stride
  EXPECT_EQ(fewer.batch[2].count, 2);
}

// Six wrong plans: each is refused, reads past an operand, or gives a wrong cell.
TEST(WrongPlan, IsAlwaysNoticed) {
  Buffer x(5 * 7, DType::kF32, 1), w(3 * 7, DType::kF32, 2), y(5 * 3, DType::kF32, 3);
  const GemmPlan right = plan_linear(x.array(5L, 7L), w.array(3L, 7L), false, y.array(5L, 3L));
  std::vector<double> want = y.wide();
  ASSERT_EQ(interpret(right, w.wide(), x.wide(), {}, want), std::nullopt);
  const auto noticed = [&](const char* what, void (*change)(GemmPlan&)) {
    GemmPlan wrong = right;
    change(wrong);
    std::vector<double> have(want.size(), NAN);
    const auto reason = interpret(wrong, w.wide(), x.wide(), {}, have);
    EXPECT_TRUE(reason.has_value() || have != want) << what;
  };
  noticed("m and n swapped", [](GemmPlan& p) { std::swap(p.m, p.n); });
  noticed("A not transposed", [](GemmPlan& p) { p.op_a = Transpose::kNo; });
  noticed("B transposed", [](GemmPlan& p) { p.op_b = Transpose::kYes; });
  noticed("lda = out", [](GemmPlan& p) { p.lda = p.m; });
  noticed("ldc = rows", [](GemmPlan& p) { p.ldc = p.n; });
  noticed("k = out", [](GemmPlan& p) { p.k = p.m; });
}

TEST(EmptyProduct, IsZeroOrTheBias) {
  Buffer bias(3, DType::kF32, 1), y(2 * 3, DType::kF32, 2), none(1, DType::kF32, 3);
  GemmPlan plan{.op_a = Transpose::kYes, .m = 3, .n = 2, .k = 0, .ldc = 3};
  ThreadPool pool(1);
  run_gemm_host(plan, none.bytes.data(), none.bytes.data(), nullptr, y.bytes.data(), pool);
  for (const double cell : y.wide()) EXPECT_EQ(cell, 0);
  plan.bias = true;
  run_gemm_host(plan, none.bytes.data(), none.bytes.data(), bias.bytes.data(), y.bytes.data(),
                pool);
  for (std::size_t i = 0; i < 6; ++i) EXPECT_EQ(y.wide()[i], bias.wide()[i % 3]);
}

}  // namespace
}  // namespace ps
