// Packed files written by hand, right or wrong on purpose: of the writer under test only CRC-32 has
// a part in them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/crc32.h"
#include "tests/support/raw_safetensors.h"

namespace ps {

inline std::string little_endian(std::uint64_t x, int size) {
  std::string bytes;
  for (int i = 0; i < size; ++i) bytes += static_cast<char>((x >> (8 * i)) & 0xff);
  return bytes;
}

// `sizes`: what the table says instead of the blocks' own.
inline std::string raw_packed(std::string_view header, std::uint64_t data_size,
                              const std::vector<std::string>& blocks,
                              const std::vector<std::uint32_t>& sizes = {}) {
  const std::string front = "PSPACK/1" + little_endian(data_size, 8) +
                            little_endian(header.size(), 8) + std::string(header);
  std::string all, table;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    all += blocks[i];
    table += little_endian(i < sizes.size() ? sizes[i] : blocks[i].size(), 4);
    table += little_endian(crc32_of(bytes_of(blocks[i])), 4);
  }
  return front + all + table + little_endian(crc32_of(bytes_of(front + table)), 4);
}

}  // namespace ps
