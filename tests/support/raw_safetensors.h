// Safetensors files written by hand, right or wrong on purpose: the writer under test has no part
// in them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace ps {

inline std::string raw_safetensors(std::string_view header, std::string_view data,
                                   std::uint64_t announced_length) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>((announced_length >> (8 * i)) & 0xff);
  bytes += header;
  bytes += data;
  return bytes;
}

inline std::string raw_safetensors(std::string_view header, std::string_view data) {
  return raw_safetensors(header, data, header.size());
}

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

}  // namespace ps
