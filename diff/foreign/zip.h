// Zip archives, as .npz and .pt are: stored and deflated members, zip64, no encryption, no parts.
// Total: any bytes give members or an Error; nothing is written anywhere.
#pragma once

#include <vector>

#include "diff/foreign/values.h"

namespace ps {

struct ZipMember {
  std::string name;
  std::span<const std::byte> packed;  // into the archive
  std::uint64_t size = 0;             // unpacked
  std::uint32_t crc = 0;
  bool deflated = false;
};

bool looks_like_zip(std::span<const std::byte> bytes);
Result<std::vector<ZipMember>> zip_members(std::span<const std::byte> bytes,
                                           const std::string& where);

enum class Crc : std::uint8_t { kChecked, kIgnored };  // torch may write archives without sums
// The member's own bytes: a part of the archive where it is stored, else unpacked.
Result<FileBytes> zip_data(const ZipMember& member, const std::shared_ptr<const void>& keep,
                           const std::string& where, Crc crc);

// DEFLATE (RFC 1951) of a known size.
Result<std::vector<std::byte>> inflate(std::span<const std::byte> packed, std::uint64_t size,
                                       const std::string& where);

}  // namespace ps
