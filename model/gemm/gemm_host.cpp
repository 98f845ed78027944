#include "model/gemm/gemm_host.h"

#include <algorithm>
#include <cblas.h>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <vector>

#include "model/block/storage.h"
#include "model/gemm/convert.h"

namespace ps {
namespace {

// Products with few columns are read from memory once: a piece of A that stays in a core's cache is
// multiplied with one column after the other.
constexpr std::int64_t kFewColumns = 8;
constexpr std::int64_t kCachedFloats = 48 * 1024;

struct Pieces {
  std::int64_t m, n;  // size of a piece
  std::int64_t along_m, along_n;
};

Pieces cut(const GemmPlan& p) {
  const auto parts = [](std::int64_t size, std::int64_t piece) {
    return (size + piece - 1) / piece;
  };
  Pieces cut{};
  if (p.n <= kFewColumns && p.op_a == Transpose::kYes) {
    cut.m = std::clamp<std::int64_t>(kCachedFloats / std::max<std::int64_t>(p.k, 1), 8, 256);
    cut.n = p.n;
  } else {
    // About 16 pieces a call, batches included, none thinner than BLAS likes.
    const std::int64_t wanted =
        std::max<std::int64_t>(1, 16 / std::max<std::int64_t>(1, p.batches()));
    cut.m = std::clamp<std::int64_t>((p.m / wanted + 63) / 64 * 64, 64, 2048);
    cut.n = std::min<std::int64_t>(std::max<std::int64_t>(p.n, 1), 512);
  }
  cut.along_m = parts(p.m, cut.m);
  cut.along_n = parts(p.n, cut.n);
  return cut;
}

CBLAS_TRANSPOSE cblas(Transpose t) { return t == Transpose::kYes ? CblasTrans : CblasNoTrans; }
blasint blas_int(std::int64_t x) {
  PS_CHECK(x <= INT32_MAX, "a BLAS size of " + std::to_string(x));
  return static_cast<blasint>(x);
}

// c = alpha op(a) op(b) + beta c, in float, on this thread.
void multiply(const GemmPlan& p, const float* a, const float* b, float beta, float* c) {
  if (p.n <= kFewColumns && p.op_a == Transpose::kYes && p.op_b == Transpose::kNo) {
    for (std::int64_t j = 0; j < p.n; ++j) {
      cblas_sgemv(CblasColMajor, CblasTrans, blas_int(p.k), blas_int(p.m), p.alpha, a,
                  blas_int(p.lda), b + j * p.ldb, 1, beta, c + j * p.ldc, 1);
    }
    return;
  }
  cblas_sgemm(CblasColMajor, cblas(p.op_a), cblas(p.op_b), blas_int(p.m), blas_int(p.n),
              blas_int(p.k), p.alpha, a, blas_int(p.lda), b, blas_int(p.ldb), beta, c,
              blas_int(p.ldc));
}

// Per thread: float copies of a piece's operands.
struct Scratch {
  std::vector<float> a, b, c, bias;
};

// One piece; pointers and sizes are the piece's own.
void run_piece(GemmPlan p, const std::byte* a, const std::byte* b, const std::byte* bias,
               std::byte* c) {
  thread_local Scratch scratch;
  const float* a_float = reinterpret_cast<const float*>(a);
  const float* b_float = reinterpret_cast<const float*>(b);
  auto* c_float = reinterpret_cast<float*>(c);
  const bool plain = p.type == DType::kF32;
  if (p.type_a != DType::kF32 || !plain) {
    const bool t = p.op_a == Transpose::kYes;
    a_float = pack_to_float(a, p.type_a, p.type, t ? p.k : p.m, t ? p.m : p.k, p.lda, scratch.a);
    p.lda = std::max<std::int64_t>(1, t ? p.k : p.m);
  }
  const std::int64_t result_ld = p.ldc;
  if (!plain) {
    const bool t = p.op_b == Transpose::kYes;
    b_float = pack_to_float(b, p.type, p.type, t ? p.n : p.k, t ? p.k : p.n, p.ldb, scratch.b);
    p.ldb = std::max<std::int64_t>(1, t ? p.n : p.k);
    p.ldc = p.m;
    scratch.c.resize(static_cast<std::size_t>(p.m * p.n));
    c_float = scratch.c.data();
  }
  if (p.bias) {
    const float* values = pack_to_float(bias, p.type, p.type, p.m, 1, p.m, scratch.bias);
    for (std::int64_t j = 0; j < p.n; ++j) std::copy_n(values, p.m, c_float + j * p.ldc);
  } else if (p.k == 0) {
    for (std::int64_t j = 0; j < p.n; ++j) std::fill_n(c_float + j * p.ldc, p.m, 0.f);
  }
  if (p.k > 0) multiply(p, a_float, b_float, p.bias ? 1.f : 0.f, c_float);
  if (!plain) store_rounded(c_float, p.m, p.n, p.type, result_ld, c);
}

// Before main() OpenBLAS starts a thread a core, which spin for some 20 ms: a sixth of the time of
// `parscope diff`. Ours is the only pool, so it is told first (it is built without a priority).
__attribute__((constructor(101))) void keep_blas_from_starting_threads() {
  ::setenv("OPENBLAS_NUM_THREADS", "1", /*overwrite=*/1);
}

void prepare_blas() {
  static std::once_flag once;
  std::call_once(
      once, [] { openblas_set_num_threads(1); });  // our pool is the only one that makes threads
}

}  // namespace

const char* host_blas() {
  prepare_blas();
  return openblas_get_config();
}

void run_gemm_host(const GemmPlan& plan, const void* a, const void* b, const void* bias, void* c,
                   ThreadPool& pool) {
  const std::optional<std::string> reason = refused(plan);
  PS_CHECK(!reason.has_value(), plan.describe() + ": " + reason.value_or(""));
  prepare_blas();
  const Pieces pieces = cut(plan);
  const std::int64_t size_a = size_of(plan.type_a), size = size_of(plan.type);
  const std::int64_t per_batch = pieces.along_m * pieces.along_n;
  pool.run(plan.batches() * per_batch, [&](std::int64_t item, int) {
    std::int64_t z = item / per_batch;
    const std::int64_t row = item % pieces.along_m * pieces.m;
    const std::int64_t col = item / pieces.along_m % pieces.along_n * pieces.n;
    std::int64_t at_a = row * (plan.op_a == Transpose::kYes ? plan.lda : 1);
    std::int64_t at_b = col * (plan.op_b == Transpose::kYes ? 1 : plan.ldb);
    std::int64_t at_c = row + col * plan.ldc;
    for (int level = 2; level >= 0; --level) {
      const BatchLevel& loop = plan.batch[static_cast<std::size_t>(level)];
      at_a += z % loop.count * loop.stride_a;
      at_b += z % loop.count * loop.stride_b;
      at_c += z % loop.count * loop.stride_c;
      z /= loop.count;
    }
    GemmPlan piece = plan;
    piece.m = std::min(pieces.m, plan.m - row);
    piece.n = std::min(pieces.n, plan.n - col);
    run_piece(piece, static_cast<const std::byte*>(a) + at_a * size_a,
              static_cast<const std::byte*>(b) + at_b * size,
              plan.bias ? static_cast<const std::byte*>(bias) + row * size : nullptr,
              static_cast<std::byte*>(c) + at_c * size);
  });
}

}  // namespace ps
