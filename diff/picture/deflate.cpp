#include "diff/picture/deflate.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace ps {

namespace {

constexpr std::size_t kWindow = 32768;
constexpr std::size_t kShortest = 3;  // of a repeat
constexpr std::size_t kLongest = 258;
constexpr int kEndOfBlock = 256;

// Lengths and distances are sent as a code and extra bits (RFC 1951, 3.2.5).
struct Code {
  int symbol;
  int extra_bits;
  int extra;
};

// Codes come in groups of `group` that have the same number of extra bits; each value range is
// twice as long as that of the group before.
Code code_of(int value, int group) {
  int low = 0, bits = 0, symbol = 0;
  for (int plain = 2 * group; symbol < plain; ++symbol, ++low) {
    if (value == low) return {symbol, 0, 0};
  }
  for (;;) {
    ++bits;
    for (int i = 0; i < group; ++i, ++symbol) {
      const int size = 1 << bits;
      if (value < low + size) return {symbol, bits, value - low};
      low += size;
    }
  }
}

class BitWriter {
 public:
  explicit BitWriter(std::vector<std::uint8_t>& out) : out_(out) {}
  void bits(std::uint32_t value, int count) {  // least significant first
    for (int i = 0; i < count; ++i) bit(value >> i & 1U);
  }
  void huffman(std::uint32_t code, int count) {  // most significant first
    for (int i = count - 1; i >= 0; --i) bit(code >> i & 1U);
  }
  void flush() {
    while (used_ != 0) bit(0);
  }

 private:
  void bit(std::uint32_t one) {
    current_ |= one << used_;
    if (++used_ < 8) return;
    out_.push_back(static_cast<std::uint8_t>(current_));
    current_ = 0;
    used_ = 0;
  }
  std::vector<std::uint8_t>& out_;
  std::uint32_t current_ = 0;
  int used_ = 0;
};

// The fixed code of RFC 1951, 3.2.6.
void put_symbol(BitWriter& out, int symbol) {
  const auto s = static_cast<std::uint32_t>(symbol);
  if (symbol < 144) return out.huffman(0x30 + s, 8);
  if (symbol < 256) return out.huffman(0x190 + s - 144, 9);
  if (symbol < 280) return out.huffman(s - 256, 7);
  out.huffman(0xc0 + s - 280, 8);
}

void put_repeat(BitWriter& out, std::size_t length, std::size_t distance) {
  // The longest length has a code of its own.
  const Code l = length == kLongest ? Code{28, 0, 0} : code_of(static_cast<int>(length) - 3, 4);
  put_symbol(out, 257 + l.symbol);
  out.bits(static_cast<std::uint32_t>(l.extra), l.extra_bits);
  const Code d = code_of(static_cast<int>(distance) - 1, 2);
  out.huffman(static_cast<std::uint32_t>(d.symbol), 5);
  out.bits(static_cast<std::uint32_t>(d.extra), d.extra_bits);
}

void deflate(std::span<const std::uint8_t> bytes, BitWriter& out) {
  constexpr std::size_t kSlots = 1 << 15;
  constexpr std::size_t kNever = ~std::size_t{0};
  std::vector<std::size_t> last(kSlots, kNever);  // where three bytes with this hash stood last
  const auto slot = [&](std::size_t i) {
    const std::uint32_t three = bytes[i] | bytes[i + 1] << 8U | bytes[i + 2] << 16U;
    return (three * 2654435761U) >> 17U;
  };
  out.bits(1, 1);  // the last block
  out.bits(1, 2);  // with the fixed code
  for (std::size_t i = 0; i < bytes.size();) {
    std::size_t length = 0, from = kNever;
    if (i + kShortest <= bytes.size()) {
      std::size_t& seen = last[slot(i)];
      from = seen;
      seen = i;
      const std::size_t most = std::min(kLongest, bytes.size() - i);
      if (from != kNever && i - from <= kWindow) {
        while (length < most && bytes[from + length] == bytes[i + length]) ++length;
      }
    }
    if (length < kShortest) {
      put_symbol(out, bytes[i++]);
      continue;
    }
    put_repeat(out, length, i - from);
    const std::size_t end = i + length;
    for (++i; i < end; ++i) {
      if (i + kShortest <= bytes.size()) last[slot(i)] = i;
    }
  }
  put_symbol(out, kEndOfBlock);
  out.flush();
}

}  // namespace

std::vector<std::uint8_t> zlib_compress(std::span<const std::uint8_t> bytes) {
  std::vector<std::uint8_t> out = {0x78, 0x01};
  BitWriter writer(out);
  deflate(bytes, writer);
  std::uint32_t a = 1, b = 0;  // Adler-32
  for (const std::uint8_t byte : bytes) {
    a = (a + byte) % 65521;
    b = (b + a) % 65521;
  }
  for (const std::uint32_t half : {b, a}) {
    out.push_back(static_cast<std::uint8_t>(half >> 8U));
    out.push_back(static_cast<std::uint8_t>(half));
  }
  return out;
}

}  // namespace ps
