// The form of packed files, for those who read and write them (docs/traces.md has it in full):
//
//   "PSPACK/1"                     8 bytes
//   bytes of the plain file's data 8
//   the plain file's front         8 bytes with the length of its JSON, and its JSON
//   the tensors' blocks            in the order of their data, each block by itself
//   the table                      for each block its stored size and the CRC-32 of what is stored
//   CRC-32                         of all before the blocks, and the table
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace ps::packed {

// As the length that a safetensors file begins with, it is out of bounds.
inline constexpr std::string_view kMagic = "PSPACK/1";
inline constexpr std::size_t kFrontBytes = 24;  // up to the JSON
inline constexpr std::size_t kTableEntry = 8;
inline constexpr std::size_t kBackBytes = 4;
inline constexpr std::uint64_t kLongestHeader = 100'000'000;  // that of plain files

// A number as these files hold it, and plain ones the length of their header.
inline std::string little_endian(std::uint64_t x, std::size_t size) {
  std::string bytes(size, '\0');
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>((x >> (8 * i)) & 0xff);
  return bytes;
}

// The first bytes of all cells, then their second bytes, ...: signs and exponents come to lie
// together. `cell` is 1 (then nothing is done), 2, 4 or 8.
void split_planes(std::span<const std::byte> cells, std::int64_t cell, std::span<std::byte> planes);
void join_planes(std::span<const std::byte> planes, std::int64_t cell, std::span<std::byte> cells);

}  // namespace ps::packed
