// CRC-32 as zlib and Ethernet have it (polynomial 0xedb88320).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "core/result.h"

namespace ps {

class Crc32 {
 public:
  void bytes(std::span<const std::byte> bytes);
  void word(std::uint32_t little_endian);  // its four bytes, lowest first
  std::uint32_t value() const { return ~state_; }

 private:
  std::uint32_t state_ = 0xffffffffu;
};

std::uint32_t crc32_of(std::span<const std::byte> bytes);
std::string crc32_text(std::uint32_t crc);  // "0357c450"
Result<std::uint32_t> parse_crc(std::string_view text, const std::string& where);

}  // namespace ps
