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

// Watches cells go by for classes. As whole numbers without sign, negative values go on above the
// positive ones: what is at least the lowest is at or below it. What is at least infinity when
// doubled (its sign shifted out) is no number; below twice the least normal it is subnormal, or 0,
// which one less puts at the far end.
template <class L, class T>
struct ClassWatch {
  using Words =
      std::conditional_t<std::is_same_v<T, float>, typename L::Words, typename L::LongWords>;
  using Word = std::conditional_t<std::is_same_v<T, float>, std::uint32_t, std::uint64_t>;
  Words most = {}, most_size = {}, least_size = ~Words{};

  PS_INLINE void see(const Words& word) {
    const Words size = word << 1;
    const Words less = size - 1;
    most = word > most ? word : most;
    most_size = size > most_size ? size : most_size;
    least_size = less < least_size ? less : least_size;
  }
  PS_INLINE void tell(const ClassLimits& limits, bool& special, bool& subnormal) const {
    const T lowest = static_cast<T>(limits.lowest), normal = static_cast<T>(limits.min_normal);
    Word lowest_word, normal_word;
    std::memcpy(&lowest_word, &lowest, sizeof lowest);
    std::memcpy(&normal_word, &normal, sizeof normal);
    constexpr Word kInfinity =
        std::is_same_v<T, float> ? Word{0xff000000u} : static_cast<Word>(0xffe0000000000000u);
    for (unsigned lane = 0; lane < sizeof(Words) / sizeof(Word); ++lane) {
      special |= most[lane] >= lowest_word || most_size[lane] >= kInfinity;
      subnormal |= normal_word != 0 && least_size[lane] < 2 * normal_word - 1;
    }
  }
};

template <class L, class T>
PS_INLINE bool special(const T* x, std::int64_t n, const ClassLimits& limits) {
  using Watch = ClassWatch<L, T>;
  Watch watch;
  constexpr auto kStep = static_cast<std::int64_t>(sizeof(typename Watch::Words) / sizeof(T));
  for (std::int64_t i = 0; i < n; i += kStep) watch.see(load<typename Watch::Words>(x + i));
  bool found = false, subnormal = false;
  watch.tell(limits, found, subnormal);
  return found;
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

// An error's bucket as a byte: the upper seven bits of its exponent, so a factor of 4. Bucket k
// begins at k + kBucketBias; below 2^-53 there are no buckets.
constexpr std::uint8_t kBucketBias = 36;

// What the bytes of a chunk's errors tell of it.
struct BucketRange {
  std::int64_t above_zero = 0;
  int low = kHistogramBuckets - 1, top = 0;  // those of the least and the largest error
};
template <class L>
PS_INLINE BucketRange range_of(const std::uint8_t* buckets, std::int64_t n) {
  using Bytes = typename L::Bytes;
  static_assert(kChunk / sizeof(Bytes) < 256);  // a byte counts the vectors
  Bytes count = {}, most = {}, least = ~Bytes{};
  for (std::int64_t i = 0; i < n; i += static_cast<std::int64_t>(sizeof(Bytes))) {
    const auto bucket = load<Bytes>(buckets + i);
    // One less than the bucket; bucket 0 goes to the far end.
    const Bytes above = bucket - static_cast<std::uint8_t>(kBucketBias + 1);
    most = bucket > most ? bucket : most;
    least = above < least ? above : least;
    count += bucket == Bytes{} ? Bytes{} : Bytes{} + 1;
  }
  BucketRange out;
  alignas(64) std::uint8_t counts[sizeof(Bytes)], tops[sizeof(Bytes)], lows[sizeof(Bytes)];
  store(counts, count);
  store(tops, most);
  store(lows, least);
  for (std::size_t lane = 0; lane < sizeof(Bytes); ++lane) {
    out.above_zero += counts[lane];
    out.top = std::max(out.top, tops[lane] - kBucketBias);
    out.low = std::min(out.low, lows[lane] + 1);
  }
  out.top = std::min(out.top, kHistogramBuckets - 1);
  return out;
}

// Adds the errors of a chunk to the histogram: one comparison and one addition for each vector of
// bytes, for the buckets from `low` to the largest error's, four buckets at a time.
template <class L>
PS_INLINE void add_buckets(const std::uint8_t* buckets, std::int64_t n, int low, int top,
                           Tally& tally) {
  using Bytes = typename L::Bytes;
  using SignedBytes = typename L::SignedBytes;
  constexpr int kBytes = sizeof(Bytes), kAtOnce = 4;
  // What is in `low` or above is above all buckets below it, too.
  low = std::max(low, 2);
  for (int first = low; first <= top; first += kAtOnce) {
    const auto below = static_cast<std::int8_t>(first - 1 + kBucketBias) - SignedBytes{};
    for (int part = 0; part < 64; part += kBytes) {
      Bytes counts[kAtOnce] = {};
      for (std::int64_t i = part; i < n; i += 64) {
        const auto bucket = load<SignedBytes>(buckets + i);
#pragma GCC unroll 4
        for (int k = 0; k < kAtOnce; ++k) {
          counts[k] += bucket > below + static_cast<std::int8_t>(k) ? Bytes{} + 1 : Bytes{};
        }
      }
      const auto add = [&](int bucket, const Bytes& count) {
        std::uint8_t* to = tally.at_least[bucket] + part;
        store(to, load<Bytes>(to) + count);
      };
      for (int j = 2; first == low && j < low; ++j) add(j, counts[0]);
#pragma GCC unroll 4
      for (int k = 0; k < kAtOnce; ++k) {
        if (first + k <= top) add(first + k, counts[k]);
      }
    }
  }
}

// Each error's byte. Their order is not kept: only counts of them are.
template <class L>
PS_INLINE void buckets_of(const float* errors, std::int64_t n, std::uint8_t* buckets) {
  using Words = typename L::Words;
  for (std::int64_t i = 0; i < n; i += 4 * L::kWords) {
    Words four = {};
#pragma GCC unroll 4
    for (int part = 0; part < 4; ++part) {
      four |= load<Words>(errors + i + part * L::kWords) >> 24 << 8 * part;
    }
    store(buckets + i, four);
  }
}

// What can be told from the errors as floats, which are a rounding away from what they are: `beats`
// and `more_ulps` may be said where it is not so, never the reverse. As whole numbers, floats
// without sign are in order, infinity and NaN last; one less puts 0 at the far end. Returns how
// many errors are not 0, or -1: those whose bytes are not. Only what is cheap is asked for each
// cell, and what it leaves open is looked at again:
// - An error is infinite or NaN wherever a cell is. A cell at or beyond the lowest has another as
//   large as half of it beside it, or an error as large.
// - An error below 2^-125 has no byte of its own; one other than 0 has a cell below 2^-101.
// - With e <= t |b|, t = s / (1 + s), min(|a|, |b|) >= |b| - e, and so e <= s min(|a|, |b|).
template <class L>
PS_INLINE std::int64_t judge_cells(const float* a, const float* b, std::int64_t n,
                                   const ChunkRules& rules, std::uint8_t* buckets,
                                   ChunkFacts& facts) {
  using Floats = typename L::Floats;
  using Ints = typename L::Ints;
  using Words = typename L::Words;
  constexpr double kLess = 1 - 0x1p-20;
  const auto cut = [](double x) { return static_cast<float>(x < 0x1p126 ? x : 0x1p126); };
  const float atol = cut(rules.best * rules.bound.atol * kLess);
  const Floats rtol = cut(rules.best * rules.bound.rtol * kLess) - Floats{};
  const Floats near = cut(rules.ulp_scale / (1 + rules.ulp_scale) * kLess) - Floats{};
  const Floats floor = cut(rules.bound.floor) - Floats{};
  Words least = ~Words{};
  Ints most = {};
  Floats widest = {}, beats = {}, ulps = {};
  for (std::int64_t i = 0; i < n; i += 4 * L::kWords) {
    Words four = {};  // one byte for each cell of four vectors, in an order of their own
#pragma GCC unroll 4
    for (int part = 0; part < 4; ++part) {
      const std::int64_t at = i + part * L::kWords;
      if (part * L::kWords % 16 == 0) {  // a line of 64 bytes of floats
        __builtin_prefetch(rules.ahead_a + at * rules.cell_bytes_a);
        __builtin_prefetch(rules.ahead_b + at * rules.cell_bytes_b);
      }
      const auto x = load<Floats>(a + at), y = load<Floats>(b + at);
      const Ints e = bits<Ints>(x - y) & 0x7fffffff;
      four |= bits<Words>(e) >> 24 << 8 * part;
      most = e > most ? e : most;
      const Words size_x = bits<Words>(x) & 0x7fffffffu, size_y = bits<Words>(y) & 0x7fffffffu;
      const Words less_x = size_x - 1, less_y = size_y - 1;
      least = less_x < least ? less_x : least;
      least = less_y < least ? less_y : least;
      const Floats wide = bits<Floats>(size_y) > floor ? bits<Floats>(size_y) : floor;
      widest = wide > widest ? wide : widest;
      const Floats beaten = less_product<L>(bits<Floats>(e), rtol, wide);
      beats = beaten > beats ? beaten : beats;
      const Floats further = less_product<L>(bits<Floats>(e), near, bits<Floats>(size_y));
      ulps = further > ulps ? further : ulps;
    }
    store(buckets + i, four);
  }
  // Where the types differ, what is special for one of them is looked at again for both.
  const auto word = [](double x) { return bits<std::uint32_t>(static_cast<float>(x)); };
  const std::uint32_t normal = std::max(word(rules.a.min_normal), word(rules.b.min_normal));
  const std::uint32_t subnormal = normal - (normal > 0 ? 1 : 0);
  const float lowest = static_cast<float>(-std::max(rules.a.lowest, rules.b.lowest) / 2);
  // One number for all lanes: what any of them found.
  constexpr int kTiny = 1, kSubnormal = 2, kSpecial = 4, kBeats = 8, kUlps = 16;
  const auto mark = [](const auto& found, int what) { return bits<Ints>(found) & what; };
  const Ints marks = mark(least < word(0x1p-101) - 1 - Words{}, kTiny) |
                     mark(least < subnormal - Words{}, kSubnormal) |
                     mark(widest >= lowest - Floats{}, kSpecial) |
                     mark(beats > atol - Floats{}, kBeats) | mark(ulps > Floats{}, kUlps);
  std::int32_t largest = 0, found = 0;
#pragma GCC unroll 16
  for (int lane = 0; lane < L::kWords; ++lane) {
    largest = std::max(largest, most[lane]);
    found |= marks[lane];
  }
  facts.max_abs = static_cast<double>(bits<float>(largest));
  facts.subnormal = (found & kSubnormal) != 0;
  facts.beats = (found & kBeats) != 0 || rules.bound.cells != nullptr;
  facts.more_ulps = (found & kUlps) != 0;
  facts.special = largest >= 0x7f800000;
  if (!facts.special && ((found & kSpecial) != 0 || facts.max_abs >= static_cast<double>(lowest))) {
    facts.special = special<L>(a, n, rules.a) || special<L>(b, n, rules.b);
  }
  if ((found & kTiny) == 0) return -1;
  std::int64_t unequal = 0;
  for (std::int64_t i = 0; i < n; ++i) unequal += a[i] != b[i] ? 1 : 0;
  return unequal;
}

template <class L>
PS_INLINE std::int64_t judge_cells(const double* a, const double* b, std::int64_t n,
                                   const ChunkRules& rules, std::uint8_t* buckets,
                                   ChunkFacts& facts) {
  using Doubles = typename L::Doubles;
  using Longs = typename L::Longs;
  using LongWords = typename L::LongWords;
  alignas(64) float errors[kChunk];
  ClassWatch<L, double> watch_a, watch_b;
  Doubles most = {};
  Longs unequal = {}, beats = {};
  for (std::int64_t i = 0; i < n; i += L::kDoubles) {
    const auto x = load<Doubles>(a + i), y = load<Doubles>(b + i);
    watch_a.see(bits<LongWords>(x));
    watch_b.see(bits<LongWords>(y));
    const Doubles e = absolute<L>(x - y);
    store(errors + i, __builtin_convertvector(e, typename L::HalfFloats));
    most = e > most ? e : most;
    unequal += e > 0.0 ? Longs{} + 1 : Longs{};
    beats |= e > rules.best * bound_of<L>(y, rules.bound, i) ? Longs{} + 1 : Longs{};
  }
  buckets_of<L>(errors, n, buckets);
  watch_a.tell(rules.a, facts.special, facts.subnormal);
  watch_b.tell(rules.b, facts.special, facts.subnormal);
  for (int lane = 0; lane < L::kDoubles; ++lane) {
    facts.max_abs = std::max(facts.max_abs, most[lane]);
  }
  facts.beats = total(beats, std::int64_t{0}) != 0;
  facts.more_ulps = true;
  return total(unequal, std::int64_t{0});
}

// The sums of a chunk are added to the tally only where every cell was a number.
template <class L, class T>
PS_INLINE void tally_chunk(const T* a, const T* b, std::int64_t n, const ChunkRules& rules,
                           Tally& tally, ChunkFacts& facts) {
  using Doubles = typename L::Doubles;
  alignas(64) double aa[8], bb[8], dd[8];
  // All eight lanes side by side: one vector's sums alone would wait for each other.
  Doubles sum_aa[L::kParts], sum_bb[L::kParts], sum_dd[L::kParts];
  for (int part = 0; part < L::kParts; ++part) {
    sum_aa[part] = load<Doubles>(tally.aa + part * L::kDoubles);
    sum_bb[part] = load<Doubles>(tally.bb + part * L::kDoubles);
    sum_dd[part] = load<Doubles>(tally.dd + part * L::kDoubles);
  }
#pragma GCC unroll 4
  for (std::int64_t i = 0; i < n; i += 8) {
#pragma GCC unroll 4
    for (int part = 0; part < L::kParts; ++part) {
      const std::int64_t at = i + part * L::kDoubles;
      const Doubles x = load_cells<L>(a + at), y = load_cells<L>(b + at);
      const Doubles d = x - y;
      sum_aa[part] = add_square<L, T>(sum_aa[part], x);
      sum_bb[part] = add_square<L, T>(sum_bb[part], y);
      sum_dd[part] += d * d;
    }
  }
  for (int part = 0; part < L::kParts; ++part) {
    store(aa + part * L::kDoubles, sum_aa[part]);
    store(bb + part * L::kDoubles, sum_bb[part]);
    store(dd + part * L::kDoubles, sum_dd[part]);
  }
  alignas(64) std::uint8_t buckets[kChunk];
  facts = {};
  const std::int64_t unequal = judge_cells<L>(a, b, n, rules, buckets, facts);
  facts.special = facts.special && !rules.numbers;
  if (facts.special) return;
  std::memcpy(tally.aa, aa, sizeof aa);
  std::memcpy(tally.bb, bb, sizeof bb);
  std::memcpy(tally.dd, dd, sizeof dd);
  const BucketRange range = range_of<L>(buckets, n);
  tally.unequal += unequal < 0 ? range.above_zero : unequal;
  if (facts.max_abs > 0) add_buckets<L>(buckets, n, range.low, range.top, tally);
  constexpr int kFull = 255 / (kChunk / 64);  // a byte counts to 255
  if (++tally.chunks == kFull) tally.empty_buckets();
}

template <class L, class T>
PS_INLINE void moments(const T* a, const T* b, std::int64_t n, Moments& moments) {
  using Doubles = typename L::Doubles;
  for (int lane = 0; lane < 8; lane += L::kDoubles) {
    auto ab = load<Doubles>(moments.ab + lane);
    auto sa = load<Doubles>(moments.a + lane), sb = load<Doubles>(moments.b + lane);
    for (std::int64_t i = lane; i < n; i += 8) {
      const Doubles x = load_cells<L>(a + i), y = load_cells<L>(b + i);
      ab += x * y;
      sa += x;
      sb += y;
    }
    store(moments.ab + lane, ab);
    store(moments.a + lane, sa);
    store(moments.b + lane, sb);
  }
}

template <class L, class T>
PS_INLINE void tally_equal(const T* b, std::int64_t n, const ChunkRules& rules, Tally& tally,
                           ChunkFacts& facts) {
  using Doubles = typename L::Doubles;
  using Watch = ClassWatch<L, T>;
  facts = {};
  Watch watch;
  constexpr auto kStep = static_cast<std::int64_t>(sizeof(typename Watch::Words) / sizeof(T));
  for (std::int64_t i = 0; i < n; i += kStep) watch.see(load<typename Watch::Words>(b + i));
  watch.tell(rules.b, facts.special, facts.subnormal);
  if (facts.special) return;
  for (int lane = 0; lane < 8; lane += L::kDoubles) {
    auto aa = load<Doubles>(tally.aa + lane), bb = load<Doubles>(tally.bb + lane);
    for (std::int64_t i = lane; i < n; i += 8) {
      const Doubles y = load_cells<L>(b + i);
      const Doubles yy = y * y;
      aa += yy;
      bb += yy;
    }
    store(tally.aa + lane, aa);
    store(tally.bb + lane, bb);
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

}  // namespace ps::lanes
