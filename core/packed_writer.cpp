#include <algorithm>
#include <cstring>

#include "core/crc32.h"
#include "core/packed.h"
#include "core/packed_form.h"
#include "core/parallel.h"
#include "core/zstd.h"

namespace ps {

namespace {

// As it is stored: a zstd frame, or the cells themselves where that would not be shorter.
std::vector<std::byte> packed_block(std::span<const std::byte> raw, std::int64_t cell, int level) {
  std::vector<std::byte> planes;
  std::span<const std::byte> in = raw;
  if (cell > 1) {
    planes.resize(raw.size());
    packed::split_planes(raw, cell, planes);
    in = planes;
  }
  constexpr std::size_t kSlack = 512;  // zstd is faster where the worst case would fit
  std::vector<std::byte> out(raw.size() + raw.size() / 128 + kSlack);
  const std::size_t size = zstd_pack(in, level, out);
  if (size == 0 || size >= raw.size()) return {raw.begin(), raw.end()};
  out.resize(size);
  return out;
}

}  // namespace

Result<std::vector<PackedBlock>> append_packed(const TensorView& value, Packing packing,
                                               TempFile& to) {
  const std::int64_t cell = size_of(value.dtype);
  const auto size = static_cast<std::int64_t>(value.bytes.size());
  const std::int64_t count = (size + kPackedBlock - 1) / kPackedBlock;
  const std::int64_t at_once = std::int64_t{4} * thread_count(0);  // bounds what is held
  std::vector<PackedBlock> blocks;
  for (std::int64_t first = 0; first < count; first += at_once) {
    std::vector<std::vector<std::byte>> stored(
        static_cast<std::size_t>(std::min(at_once, count - first)));
    parallel_for(static_cast<std::int64_t>(stored.size()), 0, [&](std::int64_t i) {
      const std::int64_t begin = (first + i) * kPackedBlock;
      const auto raw =
          value.bytes.subspan(static_cast<std::size_t>(begin),
                              static_cast<std::size_t>(std::min(kPackedBlock, size - begin)));
      stored[static_cast<std::size_t>(i)] = packed_block(raw, cell, packing.level);
    });
    for (const std::vector<std::byte>& block : stored) {
      PS_TRY_VOID(to.append(block));
      blocks.push_back({static_cast<std::uint32_t>(block.size()), crc32_of(block)});
    }
  }
  return blocks;
}

std::string packed_front(std::string_view json, std::int64_t data_size) {
  return std::string(packed::kMagic) +
         packed::little_endian(static_cast<std::uint64_t>(data_size), 8) +
         packed::little_endian(json.size(), 8) + std::string(json);
}

std::string packed_back(std::string_view front, std::span<const PackedBlock> blocks) {
  std::string table;
  for (const PackedBlock& block : blocks)
    table += packed::little_endian(block.bytes, 4) + packed::little_endian(block.crc, 4);
  Crc32 crc;
  crc.bytes(std::as_bytes(std::span(front)));
  crc.bytes(std::as_bytes(std::span(table)));
  return table + packed::little_endian(crc.value(), packed::kBackBytes);
}

}  // namespace ps
