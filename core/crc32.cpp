#include "core/crc32.h"

#include <array>
#include <charconv>
#include <cstdio>
#include <cstring>

namespace ps {

namespace {

constexpr std::size_t kStride = 8;
using Table = std::array<std::uint32_t, 256>;

// Eight bytes at a time: table k is table 0 carried on over k more zero bytes.
constexpr std::array<Table, kStride> make_tables() {
  std::array<Table, kStride> out{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t c = i;
    for (int bit = 0; bit < 8; ++bit) c = (c & 1u) != 0 ? 0xedb88320u ^ (c >> 1) : c >> 1;
    out[0][i] = c;
  }
  for (std::size_t k = 1; k < kStride; ++k) {
    for (std::size_t i = 0; i < 256; ++i) {
      out[k][i] = out[0][out[k - 1][i] & 0xffu] ^ (out[k - 1][i] >> 8);
    }
  }
  return out;
}

constexpr std::array<Table, kStride> kTables = make_tables();

// What four bytes, followed by `after` more, leave.
constexpr std::uint32_t fold(std::uint32_t x, std::size_t after) {
  return kTables[after + 3][x & 0xffu] ^ kTables[after + 2][(x >> 8) & 0xffu] ^
         kTables[after + 1][(x >> 16) & 0xffu] ^ kTables[after][x >> 24];
}

}  // namespace

void Crc32::word(std::uint32_t little_endian) { state_ = fold(state_ ^ little_endian, 0); }

void Crc32::bytes(std::span<const std::byte> bytes) {
  const std::byte* at = bytes.data();
  std::size_t left = bytes.size();
  for (; left >= kStride; left -= kStride, at += kStride) {
    std::uint32_t low = 0, high = 0;
    std::memcpy(&low, at, 4);
    std::memcpy(&high, at + 4, 4);
    state_ = fold(state_ ^ low, 4) ^ fold(high, 0);
  }
  for (; left > 0; --left, ++at) {
    const auto index = (state_ ^ std::to_integer<std::uint32_t>(*at)) & 0xffu;
    state_ = kTables[0][index] ^ (state_ >> 8);
  }
}

std::uint32_t crc32_of(std::span<const std::byte> bytes) {
  Crc32 crc;
  crc.bytes(bytes);
  return crc.value();
}

std::string crc32_text(std::uint32_t crc) {
  std::array<char, 9> text{};
  std::snprintf(text.data(), text.size(), "%08x", crc);
  return text.data();
}

Result<std::uint32_t> parse_crc(std::string_view text, const std::string& where) {
  std::uint32_t crc = 0;
  const char* end = text.data() + text.size();
  const auto read = std::from_chars(text.data(), end, crc, 16);
  if (text.size() != 8 || read.ec != std::errc() || read.ptr != end) {
    return bad_input(where, "is no CRC-32", "eight hexadecimal digits", std::string(text));
  }
  return crc;
}

}  // namespace ps
