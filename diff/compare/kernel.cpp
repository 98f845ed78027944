#include "diff/compare/kernel.h"

#include <vector>

// Vectors stay inside the functions below; none is handed over between instruction sets.
#pragma GCC diagnostic ignored "-Wpsabi"
#include "diff/compare/convert_loops.h"
#include "diff/compare/loops.h"

namespace ps {

void Tally::empty_buckets() {
  for (int k = 2; k < kHistogramBuckets; ++k) {
    std::int64_t sum = 0;
    for (std::uint8_t& count : at_least[k]) {
      sum += count;
      count = 0;
    }
    histogram[k] += sum;
  }
  chunks = 0;
}

namespace {

// The same functions for one instruction set.
#define PS_KERNELS(set, W, target)                                                                \
  namespace set {                                                                                 \
  using L = lanes::Lanes<W>;                                                                      \
  template <class T>                                                                              \
  target void tally(const T* a, const T* b, std::int64_t n, const ChunkRules& rules, Tally& sums, \
                    ChunkFacts& facts) {                                                          \
    lanes::tally_chunk<L, T>(a, b, n, rules, sums, facts);                                        \
  }                                                                                               \
  template <class T>                                                                              \
  target void tally_equal(const T* b, std::int64_t n, const ChunkRules& rules, Tally& sums,       \
                          ChunkFacts& facts) {                                                    \
    lanes::tally_equal<L, T>(b, n, rules, sums, facts);                                           \
  }                                                                                               \
  template <class T>                                                                              \
  target void over(const T* a, const T* b, std::int64_t n, const ChunkBound& bound,               \
                   OverFacts& facts) {                                                            \
    lanes::over_chunk<L, T>(a, b, n, bound, facts);                                               \
  }                                                                                               \
  template <class T>                                                                              \
  target void moments(const T* a, const T* b, std::int64_t n, Moments& sums) {                    \
    lanes::moments<L, T>(a, b, n, sums);                                                          \
  }                                                                                               \
  template <class T>                                                                              \
  target bool special(const T* x, std::int64_t n, const ClassLimits& limits) {                    \
    return lanes::special<L, T>(x, n, limits);                                                    \
  }                                                                                               \
  template <class T>                                                                              \
  target std::int64_t subnormals(const T* x, std::int64_t n, double min_normal) {                 \
    return lanes::subnormals<L, T>(x, n, min_normal);                                             \
  }                                                                                               \
  target std::int64_t ulp_f32(const float* a, const float* b, std::int64_t n,                     \
                              const UlpFormat& format) {                                          \
    return lanes::ulp_f32<L>(a, b, n, format);                                                    \
  }                                                                                               \
  target std::int64_t ulp_f64(const double* a, const double* b, std::int64_t n) {                 \
    return lanes::ulp_f64<L>(a, b, n);                                                            \
  }                                                                                               \
  target void widen_bf16(const void* from, std::int64_t n, float* out) {                          \
    lanes::widen_bf16<L>(from, n, out);                                                           \
  }                                                                                               \
  target void widen_f16(const void* from, std::int64_t n, float* out) {                           \
    lanes::widen_f16<L>(from, n, out);                                                            \
  }                                                                                               \
  target void widen_f32(const float* from, std::int64_t n, double* out) {                         \
    lanes::widen_f32<L>(from, n, out);                                                            \
  }                                                                                               \
  target void narrow_f64(const double* from, std::int64_t n, float* out) {                        \
    lanes::narrow_f64<L>(from, n, out);                                                           \
  }                                                                                               \
  template <class T>                                                                              \
  constexpr Loops<T> kLoops{tally<T>,   tally_equal<T>, over<T>,                                  \
                            moments<T>, special<T>,     subnormals<T>};                           \
  constexpr Kernels kKernels{#set,       kLoops<float>, kLoops<double>, ulp_f32,   ulp_f64,       \
                             widen_bf16, widen_f16,     widen_f32,      narrow_f64};              \
  }

PS_KERNELS(plain, 16, )
#if defined(__x86_64__)
PS_KERNELS(avx2, 32, [[gnu::target("avx2,fma")]])
PS_KERNELS(avx512, 64, [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl")]])
#endif
#undef PS_KERNELS

std::vector<const Kernels*> detect() {
  std::vector<const Kernels*> found;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    found.push_back(&avx512::kKernels);
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    found.push_back(&avx2::kKernels);
#endif
  found.push_back(&plain::kKernels);
  return found;
}

const std::vector<const Kernels*>& detected() {
  static const std::vector<const Kernels*> kFound = detect();
  return kFound;
}

}  // namespace

const Kernels& best_kernels() { return *detected().front(); }
int kernel_count() { return static_cast<int>(detected().size()); }
const Kernels& kernels_at(int index) { return *detected()[static_cast<std::size_t>(index)]; }

}  // namespace ps
