// Eight doubles, or 16 words of 4 bytes, computed on at once as vectors of W bytes. Sums always
// have eight lanes, however many registers hold them, so that they are the same to the last bit on
// every machine.
#pragma once

#include <cstdint>
#include <cstring>

// Helpers become part of the function that calls them, and so of its instruction set.
#define PS_INLINE [[gnu::always_inline]] inline

namespace ps::lanes {

template <int W>
struct Lanes {
  typedef double Doubles __attribute__((vector_size(W)));
  typedef std::int64_t Longs __attribute__((vector_size(W)));
  typedef std::uint64_t LongWords __attribute__((vector_size(W)));
  typedef float HalfFloats __attribute__((vector_size(W / 2)));  // as many as Doubles
  typedef float Floats __attribute__((vector_size(W)));
  typedef std::int32_t Ints __attribute__((vector_size(W)));
  typedef std::uint32_t Words __attribute__((vector_size(W)));
  typedef std::uint16_t Halves __attribute__((vector_size(W / 2)));  // as many as Words
  typedef std::uint8_t Bytes __attribute__((vector_size(W)));
  typedef std::int8_t SignedBytes __attribute__((vector_size(W)));
  static constexpr int kDoubles = W / 8, kWords = W / 4;
  static constexpr int kParts = 8 / kDoubles;  // vectors for the eight lanes of a sum
};

template <class V>
PS_INLINE V load(const void* from) {
  V v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
template <class V>
PS_INLINE void store(void* to, const V& v) {
  std::memcpy(to, &v, sizeof v);
}
template <class To, class From>
PS_INLINE To bits(const From& v) {
  static_assert(sizeof(To) == sizeof(From));
  To out;
  std::memcpy(&out, &v, sizeof out);
  return out;
}

// As many cells as a vector of doubles holds.
template <class L>
PS_INLINE typename L::Doubles load_cells(const double* from) {
  return load<typename L::Doubles>(from);
}
template <class L>
PS_INLINE typename L::Doubles load_cells(const float* from) {
#if defined(__x86_64__) && !defined(__clang__)
  if constexpr (sizeof(typename L::Doubles) >= 32) {  // GCC 12 makes four instructions of it
    typename L::Doubles out;
    asm("vcvtps2pd %1, %0" : "=v"(out) : "vm"(load<typename L::HalfFloats>(from)));
    return out;
  }
#endif
  return __builtin_convertvector(load<typename L::HalfFloats>(from), typename L::Doubles);
}
// sum + x * x. The square of a float is exact in double, so it does not matter whether it is
// rounded before it is added; that of a double is.
template <class L, class T>
PS_INLINE typename L::Doubles add_square(typename L::Doubles sum, const typename L::Doubles& x) {
#if defined(__x86_64__) && !defined(__clang__)
  if constexpr (sizeof(T) == 4 && L::kDoubles >= 4) {
    asm("vfmadd231pd %1, %1, %0" : "+v"(sum) : "v"(x));
    return sum;
  }
#endif
  return sum + x * x;
}
// sum - x * y, rounded once where the machine can: for sums whose last bits do not matter.
template <class L>
PS_INLINE typename L::Floats less_product(typename L::Floats sum, const typename L::Floats& x,
                                          const typename L::Floats& y) {
#if defined(__x86_64__) && !defined(__clang__)
  if constexpr (L::kWords >= 8) {
    asm("vfnmadd231ps %2, %1, %0" : "+v"(sum) : "v"(x), "v"(y));
    return sum;
  }
#endif
  return sum - x * y;
}
template <class L>
PS_INLINE typename L::Doubles absolute(const typename L::Doubles& v) {
  return bits<typename L::Doubles>(bits<typename L::Longs>(v) & 0x7fffffffffffffff);
}

}  // namespace ps::lanes
