// DEFLATE, plainly: canonical Huffman codes, decoded a bit at a time by length.
#include <array>
#include <cstdint>

#include "diff/foreign/zip.h"

namespace ps {

namespace {

constexpr int kMostBits = 15;

class Bits {
 public:
  explicit Bits(std::span<const std::byte> bytes) : bytes_(bytes) {}
  unsigned take(int count) {
    while (have_ < count) {
      if (at_ == bytes_.size()) {
        ended_ = true;
        return 0;
      }
      hold_ |= std::to_integer<std::uint32_t>(bytes_[at_++]) << have_;
      have_ += 8;
    }
    const std::uint32_t value = hold_ & ((1U << count) - 1U);
    hold_ >>= count;
    have_ -= count;
    return value;
  }
  void to_byte() { hold_ = 0, have_ = 0; }  // at most 7 bits are held after a header
  bool ended() const { return ended_; }

 private:
  std::span<const std::byte> bytes_;
  std::size_t at_ = 0;
  std::uint32_t hold_ = 0;
  int have_ = 0;
  bool ended_ = false;
};

struct Code {
  std::array<std::uint16_t, kMostBits + 1> count{};
  std::array<std::uint16_t, 288> symbol{};

  // False where the lengths ask for more codes than there are.
  bool set(std::span<const std::uint8_t> lengths) {
    count.fill(0);
    for (const std::uint8_t length : lengths) ++count[length];
    int left = 1;
    for (std::size_t bits = 1; bits <= kMostBits; ++bits) {
      left = left * 2 - count[bits];
      if (left < 0) return false;
    }
    std::array<std::uint16_t, kMostBits + 2> offset{};
    for (std::size_t bits = 1; bits <= kMostBits; ++bits) {
      offset[bits + 1] = static_cast<std::uint16_t>(offset[bits] + count[bits]);
    }
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      if (lengths[i] != 0) symbol[offset[lengths[i]]++] = static_cast<std::uint16_t>(i);
    }
    return true;
  }
  // -1: no such code.
  int next(Bits& bits) const {
    int code = 0, first = 0, index = 0;
    for (std::size_t length = 1; length <= kMostBits; ++length) {
      code |= static_cast<int>(bits.take(1));
      if (bits.ended()) return -1;
      const int n = count[length];
      if (code - first < n) return symbol[static_cast<std::size_t>(index + code - first)];
      index += n;
      first = (first + n) << 1;
      code <<= 1;
    }
    return -1;
  }
};

struct Codes {
  Code length, distance;
};

Codes fixed_codes() {
  std::array<std::uint8_t, 288> lengths{};
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    lengths[i] = static_cast<std::uint8_t>(i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8);
  }
  std::array<std::uint8_t, 30> distances{};
  distances.fill(5);
  Codes out;
  out.length.set(lengths);
  out.distance.set(distances);
  return out;
}

bool read_codes(Bits& bits, Codes& out) {
  static constexpr std::array<std::uint8_t, 19> kOrder = {16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
                                                          11, 4,  12, 3, 13, 2, 14, 1, 15};
  const std::size_t literals = bits.take(5) + 257, distances = bits.take(5) + 1;
  const std::size_t given = bits.take(4) + 4;
  if (bits.ended() || literals > 286 || distances > 30) return false;
  std::array<std::uint8_t, 320> lengths{};
  for (std::size_t i = 0; i < given; ++i)
    lengths[kOrder[i]] = static_cast<std::uint8_t>(bits.take(3));
  Code meta;
  if (bits.ended() || !meta.set(std::span(lengths).first(19))) return false;
  lengths.fill(0);
  for (std::size_t i = 0; i < literals + distances;) {
    const int symbol = meta.next(bits);
    if (symbol < 0) return false;
    std::size_t repeat = 1;
    auto value = static_cast<std::uint8_t>(symbol);
    if (symbol == 16) {
      if (i == 0) return false;
      value = lengths[i - 1];
      repeat = 3 + bits.take(2);
    } else if (symbol > 16) {
      value = 0;
      repeat = symbol == 17 ? 3 + bits.take(3) : 11 + bits.take(7);
    }
    if (bits.ended() || i + repeat > literals + distances) return false;
    while (repeat-- > 0) lengths[i++] = value;
  }
  const std::span<const std::uint8_t> all(lengths);
  return out.length.set(all.first(literals)) && out.distance.set(all.subspan(literals, distances));
}

using Out = std::vector<std::byte>;

bool inflate_block(Bits& bits, const Codes& codes, std::uint64_t size, Out& out) {
  static constexpr std::array<std::uint16_t, 29> kLength = {
      3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
      31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
  static constexpr std::array<std::uint16_t, 30> kDistance = {
      1,   2,   3,   4,   5,   7,    9,    13,   17,   25,   33,   49,   65,    97,    129,
      193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
  while (true) {
    const int symbol = codes.length.next(bits);
    if (symbol < 0) return false;
    if (symbol == 256) return true;
    if (symbol < 256) {
      if (out.size() == size) return false;
      out.push_back(static_cast<std::byte>(symbol));
      continue;
    }
    const auto at = static_cast<std::size_t>(symbol - 257);
    if (at >= kLength.size()) return false;
    const int more = at < 8 || at == 28 ? 0 : static_cast<int>(at / 4) - 1;
    const std::size_t length = kLength[at] + bits.take(more);
    const int far = codes.distance.next(bits);
    if (far < 0 || static_cast<std::size_t>(far) >= kDistance.size()) return false;
    const std::size_t distance =
        kDistance[static_cast<std::size_t>(far)] + bits.take(far < 4 ? 0 : far / 2 - 1);
    if (bits.ended() || distance > out.size() || length > size - out.size()) return false;
    for (std::size_t i = 0; i < length; ++i) out.push_back(out[out.size() - distance]);
  }
}

bool stored_block(Bits& bits, std::uint64_t size, Out& out) {
  bits.to_byte();
  const unsigned length = bits.take(16), check = bits.take(16);
  if (bits.ended() || (length ^ 0xffffU) != check || length > size - out.size()) return false;
  for (unsigned i = 0; i < length; ++i) out.push_back(static_cast<std::byte>(bits.take(8)));
  return !bits.ended();
}

}  // namespace

Result<std::vector<std::byte>> inflate(std::span<const std::byte> packed, std::uint64_t size,
                                       const std::string& where) {
  // A byte of DEFLATE gives at most 1032: what claims more is made to exhaust the memory.
  constexpr std::uint64_t kMostGain = 1032;
  const auto broken = [&] {
    return bad_input(where, "is damaged: its packed data do not unpack to their size",
                     std::to_string(size) + " bytes");
  };
  if (size / kMostGain > packed.size()) return broken();
  static const Codes kFixed = fixed_codes();
  Out out;
  out.reserve(static_cast<std::size_t>(size));
  Bits bits(packed);
  for (bool last = false; !last;) {
    last = bits.take(1) != 0;
    const unsigned kind = bits.take(2);
    if (bits.ended() || kind == 3) return broken();
    bool good = false;
    if (kind == 0) {
      good = stored_block(bits, size, out);
    } else if (kind == 1) {
      good = inflate_block(bits, kFixed, size, out);
    } else {
      Codes codes;
      good = read_codes(bits, codes) && inflate_block(bits, codes, size, out);
    }
    if (!good) return broken();
  }
  if (out.size() != size) return broken();
  return out;
}

}  // namespace ps
