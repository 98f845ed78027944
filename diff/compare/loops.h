// The bodies of the loops in kernel.h, for vectors of L. Included by kernel.cpp alone. A comparison
// stands inside a ?: so that it becomes one instruction, with or without mask registers.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "diff/compare/kernel.h"
#include "diff/compare/lanes.h"

namespace ps::lanes {

template <class V, class Lane>
PS_INLINE Lane total(const V& v, Lane sum) {
  for (unsigned lane = 0; lane < sizeof(V) / sizeof(Lane); ++lane) sum += v[lane];
  return sum;
}

// As whole numbers without sign, negative values go on above the positive ones: what is at least
// the lowest is at or below it, and what is at least infinity when doubled (its sign shifted out)
// is no number.
template <class L, class T>
PS_INLINE bool special(const T* x, std::int64_t n, const ClassLimits& limits) {
  using Words =
      std::conditional_t<std::is_same_v<T, float>, typename L::Words, typename L::LongWords>;
  using Word = std::conditional_t<std::is_same_v<T, float>, std::uint32_t, std::uint64_t>;
  constexpr Word kInfinity =
      std::is_same_v<T, float> ? Word{0xff000000u} : static_cast<Word>(0xffe0000000000000u);
  const T least = static_cast<T>(limits.lowest);
  Word lowest;
  std::memcpy(&lowest, &least, sizeof lowest);
  const Words below_lowest = (lowest - 1) - Words{}, below_infinity = (kInfinity - 1) - Words{};
  Words found = {};
  for (std::int64_t i = 0; i < n; i += static_cast<std::int64_t>(sizeof(Words) / sizeof(Word))) {
    const auto word = load<Words>(x + i);
    found |= word > below_lowest ? Words{} + 1 : Words{};
    found |= (word << 1) > below_infinity ? Words{} + 1 : Words{};
  }
  return total(found, Word{0}) != 0;
}

template <class L, class T>
PS_INLINE std::int64_t subnormals(const T* x, std::int64_t n, double min_normal) {
  // size - 1 puts 0 at the far end of the unsigned numbers.
  if constexpr (std::is_same_v<T, float>) {
    using Words = typename L::Words;
    const float limit = static_cast<float>(min_normal);
    std::uint32_t end;
    std::memcpy(&end, &limit, sizeof end);
    const Words last = (end - 1) - Words{};
    Words count = {};
    for (std::int64_t i = 0; i < n; i += L::kWords) {
      const Words size = (load<Words>(x + i) & 0x7fffffffu) - 1;
      count += size < last ? Words{} + 1 : Words{};
    }
    return total(count, std::uint32_t{0});
  } else {
    using Longs = typename L::Longs;
    std::int64_t end;
    std::memcpy(&end, &min_normal, sizeof end);
    Longs count = {};
    for (std::int64_t i = 0; i < n; i += L::kDoubles) {
      const Longs size = load<Longs>(x + i) & 0x7fffffffffffffff;
      const Longs small = size < end ? Longs{} + 1 : Longs{};
      count += size > 0 ? small : Longs{};
    }
    return total(count, std::int64_t{0});
  }
}

template <class L>
PS_INLINE typename L::Doubles bound_of(const typename L::Doubles& b, const ChunkBound& bound,
                                       std::int64_t i) {
  using Doubles = typename L::Doubles;
  if (bound.cells != nullptr) return load<Doubles>(bound.cells + i);
  const Doubles size = absolute<L>(b);
  const Doubles floor = bound.floor - Doubles{};
  return bound.atol + bound.rtol * (size > floor ? size : floor);
}

// Adds the errors of a chunk to the histogram: bytes that say the bucket, then one comparison and
// one subtraction a bucket for each vector of them.
template <class L>
PS_INLINE void add_buckets(const float* errors, std::int64_t n, Tally& tally) {
  using Ints = typename L::Ints;
  using Bytes = typename L::Bytes;
  alignas(64) std::uint8_t buckets[kChunk];
  const Ints last = (kHistogramBuckets - 1) - Ints{};
  Ints most = {};
  for (std::int64_t i = 0; i < n; i += L::kWords) {
    // Half the exponent, so a factor of 4; 36 is below 2^-53.
    Ints half = (load<Ints>(errors + i) >> 24) - 36;
    half = half > 0 ? half : Ints{};
    half = half < last ? half : last;
    most = half > most ? half : most;
    store(buckets + i, __builtin_convertvector(half, typename L::Quarters));
  }
  std::int32_t top = 0;
  for (int lane = 0; lane < L::kWords; ++lane) top = std::max(top, most[lane]);
  constexpr int kBytes = sizeof(Bytes);
  for (std::int32_t k = 2; k <= top; ++k) {
    const Bytes below = static_cast<std::uint8_t>(k - 1) - Bytes{};
    for (int part = 0; part < 64; part += kBytes) {
      auto count = load<Bytes>(tally.at_least[k] + part);
      for (std::int64_t i = part; i < n; i += 64) {
        count += load<Bytes>(buckets + i) > below ? Bytes{} + 1 : Bytes{};
      }
      store(tally.at_least[k] + part, count);
    }
  }
}

// What can be told from the errors as floats, which are a rounding away from what they are: `beats`
// may be said where it is not so, never the reverse. Fetches what the next chunk will read.
template <class L>
PS_INLINE void judge_errors(const float* a, const float* b, std::int64_t n, const ChunkBound& bound,
                            double best, float* errors, Tally& tally, ChunkFacts& facts) {
  using Floats = typename L::Floats;
  using Ints = typename L::Ints;
  constexpr double kLess = 1 - 0x1p-20;
  const auto cut = [](double x) { return static_cast<float>(x < 0x1p126 ? x : 0x1p126); };
  const float atol = cut(best * bound.atol * kLess), rtol = cut(best * bound.rtol * kLess);
  const Floats floor = cut(bound.floor) - Floats{};
  Floats most = {};
  Ints unequal = {}, beats = {};
  for (std::int64_t i = 0; i < n; i += L::kWords) {
    __builtin_prefetch(tally.ahead_a + i * tally.cell_bytes_a);
    __builtin_prefetch(tally.ahead_b + i * tally.cell_bytes_b);
    const auto y = load<Floats>(b + i);
    const Floats e = bits<Floats>(bits<Ints>(load<Floats>(a + i) - y) & 0x7fffffff);
    store(errors + i, e);
    most = e > most ? e : most;
    unequal += bits<Ints>(e) > 0 ? Ints{} + 1 : Ints{};
    Floats size = bits<Floats>(bits<Ints>(y) & 0x7fffffff);
    size = size > floor ? size : floor;
    const Floats limit = atol + rtol * size;
    beats |= bits<Ints>(e) > bits<Ints>(limit) ? Ints{} + 1 : Ints{};
  }
  facts.max_abs = 0;
  for (int lane = 0; lane < L::kWords; ++lane) {
    facts.max_abs = std::max(facts.max_abs, static_cast<double>(most[lane]));
  }
  facts.beats = bound.cells != nullptr ? facts.max_abs > 0 : total(beats, std::int32_t{0}) != 0;
  tally.unequal += total(unequal, std::int32_t{0});
}

template <class L>
PS_INLINE void judge_errors(const double* a, const double* b, std::int64_t n,
                            const ChunkBound& bound, double best, float* errors, Tally& tally,
                            ChunkFacts& facts) {
  using Doubles = typename L::Doubles;
  using Longs = typename L::Longs;
  Doubles most = {};
  Longs unequal = {}, beats = {};
  for (std::int64_t i = 0; i < n; i += L::kDoubles) {
    const auto y = load<Doubles>(b + i);
    const Doubles e = absolute<L>(load<Doubles>(a + i) - y);
    store(errors + i, __builtin_convertvector(e, typename L::HalfFloats));
    most = e > most ? e : most;
    unequal += e > 0.0 ? Longs{} + 1 : Longs{};
    beats |= e > best * bound_of<L>(y, bound, i) ? Longs{} + 1 : Longs{};
  }
  facts.max_abs = 0;
  for (int lane = 0; lane < L::kDoubles; ++lane)
    facts.max_abs = std::max(facts.max_abs, most[lane]);
  facts.beats = total(beats, std::int64_t{0}) != 0;
  tally.unequal += total(unequal, std::int64_t{0});
}

template <class L, class T>
PS_INLINE void tally_chunk(const T* a, const T* b, std::int64_t n, const ChunkBound& bound,
                           double best, Tally& tally, ChunkFacts& facts) {
  using Doubles = typename L::Doubles;
  // Part by part of the eight lanes, each through the whole chunk.
  for (int lane = 0; lane < 8; lane += L::kDoubles) {
    auto aa = load<Doubles>(tally.aa + lane), bb = load<Doubles>(tally.bb + lane);
    auto ab = load<Doubles>(tally.ab + lane), dd = load<Doubles>(tally.dd + lane);
    auto sa = load<Doubles>(tally.a + lane), sb = load<Doubles>(tally.b + lane);
    for (std::int64_t i = lane; i < n; i += 8) {
      const Doubles x = load_cells<L>(a + i), y = load_cells<L>(b + i);
      const Doubles d = x - y;
      aa += x * x;
      bb += y * y;
      ab += x * y;
      dd += d * d;
      sa += x;
      sb += y;
    }
    store(tally.aa + lane, aa);
    store(tally.bb + lane, bb);
    store(tally.ab + lane, ab);
    store(tally.dd + lane, dd);
    store(tally.a + lane, sa);
    store(tally.b + lane, sb);
  }
  alignas(64) float errors[kChunk];
  judge_errors<L>(a, b, n, bound, best, errors, tally, facts);
  if (facts.max_abs > 0) add_buckets<L>(errors, n, tally);
  constexpr int kFull = 255 / (kChunk / 64);  // a byte counts to 255
  if (++tally.chunks == kFull) tally.empty_buckets();
}

template <class L, class T>
PS_INLINE void tally_equal(const T* b, std::int64_t n, Tally& tally) {
  using Doubles = typename L::Doubles;
  for (int lane = 0; lane < 8; lane += L::kDoubles) {
    auto aa = load<Doubles>(tally.aa + lane), bb = load<Doubles>(tally.bb + lane);
    auto ab = load<Doubles>(tally.ab + lane);
    auto sa = load<Doubles>(tally.a + lane), sb = load<Doubles>(tally.b + lane);
    for (std::int64_t i = lane; i < n; i += 8) {
      const Doubles y = load_cells<L>(b + i);
      const Doubles yy = y * y;
      aa += yy;
      bb += yy;
      ab += yy;
      sa += y;
      sb += y;
    }
    store(tally.aa + lane, aa);
    store(tally.bb + lane, bb);
    store(tally.ab + lane, ab);
    store(tally.a + lane, sa);
    store(tally.b + lane, sb);
  }
}

template <class L, class T>
PS_INLINE void over_chunk(const T* a, const T* b, std::int64_t n, const ChunkBound& bound,
                          OverFacts& facts) {
  using Doubles = typename L::Doubles;
  using Longs = typename L::Longs;
  Longs over = {};
  Doubles worst = {};
  for (std::int64_t i = 0; i < n; i += L::kDoubles) {
    const Doubles y = load_cells<L>(b + i);
    const Doubles e = absolute<L>(load_cells<L>(a + i) - y);
    const Doubles limit = bound_of<L>(y, bound, i);
    over += e > limit ? Longs{} + 1 : Longs{};
    const Doubles quotient = e / limit;  // 0/0 is not taken
    const Doubles ratio = e > 0.0 ? quotient : Doubles{};
    worst = ratio > worst ? ratio : worst;
  }
  facts = {};
  facts.over = total(over, std::int64_t{0});
  for (int lane = 0; lane < L::kDoubles; ++lane) {
    facts.worst_ratio = std::max(facts.worst_ratio, worst[lane]);
  }
}

// The place of x on the number line of a shorter type, after rounding to nearest even.
template <class L>
PS_INLINE typename L::Ints ordinals(const typename L::Floats& x, const UlpFormat& format) {
  using Ints = typename L::Ints;
  using Floats = typename L::Floats;
  const Ints all = bits<Ints>(x);
  const Ints sign = all >> 31;
  const Ints size = all & 0x7fffffff;
  const int cut = 23 - format.mantissa_bits;
  Ints place = size;
  if (cut > 0) {
    const int bias = format.min_exponent + 126;  // 0: its subnormals are those of f32
    place = ((size + ((1 << (cut - 1)) - 1) + ((size >> cut) & 1)) >> cut) -
            (bias << format.mantissa_bits);
    if (bias > 0) {
      // Subnormals count in steps of 2^(min_exponent - mantissa_bits); adding 1.5 * 2^23 rounds.
      const std::int32_t power = (127 + format.mantissa_bits - format.min_exponent) << 23;
      float steps;
      std::memcpy(&steps, &power, sizeof steps);
      const Floats small = bits<Floats>(size) * steps + 12582912.0f;
      const Ints first_normal = ((bias + 1) << 23) - Ints{};
      place = size < first_normal ? bits<Ints>(small) - 0x4b400000 : place;
    }
  }
  return (place ^ sign) - sign;
}

template <class L>
PS_INLINE std::int64_t ulp_f32(const float* a, const float* b, std::int64_t n,
                               const UlpFormat& format) {
  using Ints = typename L::Ints;
  using Words = typename L::Words;
  Words most = {};
  for (std::int64_t i = 0; i < n; i += L::kWords) {
    const Ints x = ordinals<L>(load<typename L::Floats>(a + i), format);
    const Ints y = ordinals<L>(load<typename L::Floats>(b + i), format);
    const Ints high = x > y ? x : y, low = x > y ? y : x;
    const Words apart = bits<Words>(high) - bits<Words>(low);
    most = apart > most ? apart : most;
  }
  std::uint32_t max = 0;
  for (int lane = 0; lane < L::kWords; ++lane) max = std::max(max, most[lane]);
  return max;
}

template <class L>
PS_INLINE typename L::Longs ordinals64(const double* x) {
  using Longs = typename L::Longs;
  const Longs all = load<Longs>(x);
  const Longs size = all & 0x7fffffffffffffff;
  return all < 0 ? -size : size;
}

template <class L>
PS_INLINE std::int64_t ulp_f64(const double* a, const double* b, std::int64_t n) {
  using Longs = typename L::Longs;
  const Longs far = 0x7fffffffffffffff - Longs{};
  Longs most = {};
  for (std::int64_t i = 0; i < n; i += L::kDoubles) {
    const Longs x = ordinals64<L>(a + i), y = ordinals64<L>(b + i);
    const Longs high = x > y ? x : y, low = x > y ? y : x;
    const Longs halves = (high >> 1) - (low >> 1);  // fits, also for opposite signs
    const Longs apart = halves < 0x3fffffffffffffff ? (halves << 1) + (high & 1) - (low & 1) : far;
    most = apart > most ? apart : most;
  }
  std::int64_t max = 0;
  for (int lane = 0; lane < L::kDoubles; ++lane) max = std::max(max, most[lane]);
  return max;
}

template <class L>
PS_INLINE void widen_bf16(const void* from, std::int64_t n, float* out) {
  const auto* p = static_cast<const std::uint8_t*>(from);
  for (std::int64_t i = 0; i < n; i += L::kWords) {
    const auto half = load<typename L::Halves>(p + 2 * i);
    store(out + i, __builtin_convertvector(half, typename L::Words) << 16);
  }
}

template <class L>
PS_INLINE void widen_f16(const void* from, std::int64_t n, float* out) {
  using Words = typename L::Words;
  using Floats = typename L::Floats;
  const auto* p = static_cast<const std::uint8_t*>(from);
  const Words last = 0x0f7fffffu - Words{};
  for (std::int64_t i = 0; i < n; i += L::kWords) {
    const Words half = __builtin_convertvector(load<typename L::Halves>(p + 2 * i), Words);
    const Words sign = (half & 0x8000u) << 16;
    const Words size = (half & 0x7fffu) << 13;
    // 2^112 moves the exponent to where f32 has it and turns subnormals into numbers, exactly.
    const Words moved = bits<Words>(bits<Floats>(size) * 0x1p112f);
    const Words word = size > last ? size | 0x7f800000u : moved;
    store(out + i, word | sign);
  }
}

template <class L>
PS_INLINE void widen_f32(const float* from, std::int64_t n, double* out) {
  for (std::int64_t i = 0; i < n; i += L::kDoubles) store(out + i, load_cells<L>(from + i));
}

template <class L>
PS_INLINE void narrow_f64(const double* from, std::int64_t n, float* out) {
  for (std::int64_t i = 0; i < n; i += L::kDoubles) {
    store(out + i, __builtin_convertvector(load_cells<L>(from + i), typename L::HalfFloats));
  }
}

}  // namespace ps::lanes
