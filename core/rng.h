// Random numbers that depend on (seed, stream, index) alone: the same on every machine and in any
// order of evaluation. Only integer arithmetic and exact sums of doubles, so no libm is involved.
#pragma once

#include <cstdint>

namespace ps {

class Rng {
 public:
  Rng(std::uint64_t seed, std::uint64_t stream)
      : key_(mix(seed ^ mix(stream ^ 0x9e3779b97f4a7c15ull))) {}

  std::uint64_t bits(std::uint64_t index) const {
    return mix(key_ ^ mix(index * 0x9e3779b97f4a7c15ull + 0x2545f4914f6cdd1dull));
  }
  double uniform(std::uint64_t index) const {  // [0, 1), a multiple of 2^-53
    return static_cast<double>(bits(index) >> 11) * 0x1p-53;
  }
  std::int64_t below(std::uint64_t index, std::int64_t n) const {  // 0 .. n-1
    __extension__ using Wide = unsigned __int128;
    return static_cast<std::int64_t>((Wide{bits(index)} * static_cast<std::uint64_t>(n)) >> 64);
  }
  // Mean 0, variance 1, within ±6: twelve 32-bit uniforms added up (Irwin-Hall), exact in double.
  double normal(std::uint64_t index) const {
    std::uint64_t sum = 0;
    for (std::uint64_t i = 0; i < 6; ++i) {
      const std::uint64_t b = mix(bits(index) + i * 0xd1342543de82ef95ull);
      sum += (b >> 32) + (b & 0xffffffffull);
    }
    return static_cast<double>(sum) * 0x1p-32 - 6.0;
  }

 private:
  static constexpr std::uint64_t mix(std::uint64_t x) {  // a bijection with good avalanche
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9ull;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebull;
    return x ^ (x >> 31);
  }
  std::uint64_t key_;
};

}  // namespace ps
