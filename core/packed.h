// Packed files: a safetensors file whose tensors are compressed in blocks (docs/traces.md has the
// form). Unpacked, it is the very file that it was made of. The reader is total: any bytes give a
// file or an Error, and it holds no more than a few blocks whatever they say.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/packing.h"
#include "core/result.h"
#include "core/safetensors_header.h"
#include "core/temp_file.h"
#include "core/tensor.h"

namespace ps {

inline constexpr std::int64_t kPackedBlock = 1 << 20;  // bytes of a tensor in one block

class PackedFile {
 public:
  static bool is_one(std::span<const std::byte> bytes);  // by how it begins
  // `bytes` stay alive as long as this is used.
  static Result<PackedFile> parse(std::span<const std::byte> bytes, const std::string& where);

  const std::vector<TensorHeader>& tensors() const { return header_.tensors; }
  std::int64_t plain_size() const;  // of the whole file, unpacked

  // One tensor; no other is looked at. `out` is as long as the tensor.
  Result<void> read(std::size_t tensor, std::span<std::byte> out) const;
  // The plain file.
  Result<void> unpack(const TempFile& to) const;

 private:
  Result<void> read_front();
  Result<std::size_t> find_table();
  Result<void> find_blocks(std::size_t table);
  std::size_t tensor_of(std::int64_t block) const;
  std::size_t raw_size(std::int64_t block, std::size_t tensor) const;
  std::string block_text(std::int64_t block) const;
  Result<void> read_block(std::int64_t block, std::span<std::byte> out) const;

  std::string where_;
  std::span<const std::byte> bytes_;
  std::span<const std::byte> front_;  // of the plain file: all before its data
  SafetensorsHeader header_;
  std::vector<std::int64_t> first_block_;  // of each tensor, and how many there are
  std::vector<std::int64_t> begins_;       // of each block in the file, and of the table
};

// A mapped plain file that nobody else sees; unmapped with this object.
class UnpackedFile {
 public:
  // In the folder for temporary files, without a name there.
  static Result<UnpackedFile> of(std::span<const std::byte> packed, const std::string& where);
  UnpackedFile(UnpackedFile&& other) noexcept;
  UnpackedFile& operator=(UnpackedFile&&) = delete;
  ~UnpackedFile();
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  explicit UnpackedFile(std::span<const std::byte> bytes) : bytes_(bytes) {}
  std::span<const std::byte> bytes_;
};

// What a block is in the table.
struct PackedBlock {
  std::uint32_t bytes = 0;
  std::uint32_t crc = 0;
};

// Appends a tensor's blocks to `to`.
Result<std::vector<PackedBlock>> append_packed(const TensorView& value, Packing packing,
                                               TempFile& to);
// What stands before and behind the blocks. `json`: the plain file's header, whose tensors have
// `data_size` bytes.
std::string packed_front(std::string_view json, std::int64_t data_size);
std::string packed_back(std::string_view front, std::span<const PackedBlock> blocks);

}  // namespace ps
