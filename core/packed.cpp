#include "core/packed.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <limits>
#include <mutex>
#include <optional>
#include <sys/mman.h>
#include <utility>

#include "core/crc32.h"
#include "core/json.h"
#include "core/packed_form.h"
#include "core/parallel.h"
#include "core/zstd.h"

namespace ps {

namespace {

using packed::kBackBytes;
using packed::kFrontBytes;
using packed::kTableEntry;

constexpr std::uint64_t kMostData = std::uint64_t{1} << 60;

std::uint64_t number_at(std::span<const std::byte> bytes, std::size_t at, std::size_t size) {
  std::uint64_t x = 0;
  for (std::size_t i = 0; i < size; ++i) {
    x |= std::to_integer<std::uint64_t>(bytes[at + i]) << (8 * i);  // little-endian
  }
  return x;
}

std::int64_t blocks_of(const TensorHeader& t) {
  return (t.end - t.begin) / kPackedBlock + ((t.end - t.begin) % kPackedBlock != 0 ? 1 : 0);
}

// The first error by its place, of work that runs in any order.
class FirstError {
 public:
  bool before(std::int64_t place) const { return place_.load() < place; }
  void add(std::int64_t place, const Error& error) {
    const std::lock_guard lock(mutex_);
    if (place >= place_.load()) return;
    place_ = place;
    error_ = error;
  }
  Result<void> result() const { return error_ ? Result<void>(*error_) : Result<void>(); }

 private:
  std::atomic<std::int64_t> place_ = std::numeric_limits<std::int64_t>::max();
  std::mutex mutex_;
  std::optional<Error> error_;
};

}  // namespace

bool PackedFile::is_one(std::span<const std::byte> bytes) {
  return bytes.size() >= packed::kMagic.size() &&
         std::memcmp(bytes.data(), packed::kMagic.data(), packed::kMagic.size()) == 0;
}

Result<PackedFile> PackedFile::parse(std::span<const std::byte> bytes, const std::string& where) {
  if (!is_one(bytes)) return bad_input(where, "is no packed safetensors file");
  if (!has_zstd()) return no_zstd(where);
  PackedFile file;
  file.where_ = where;
  file.bytes_ = bytes;
  PS_TRY_VOID(file.read_front());
  PS_TRY(const std::size_t table, file.find_table());
  PS_TRY_VOID(file.find_blocks(table));
  return file;
}

Result<void> PackedFile::read_front() {
  if (bytes_.size() < kFrontBytes + kBackBytes) {
    return bad_input(where_, "is cut off", "at least " + std::to_string(kFrontBytes + kBackBytes),
                     std::to_string(bytes_.size()) + " bytes");
  }
  const std::uint64_t data_size = number_at(bytes_, 8, 8), length = number_at(bytes_, 16, 8);
  const std::uint64_t most =
      std::min<std::uint64_t>(bytes_.size() - kFrontBytes - kBackBytes, packed::kLongestHeader);
  if (length > most) {
    return bad_input(where_, "its header does not fit into the file",
                     "at most " + std::to_string(most) + " bytes", std::to_string(length));
  }
  if (data_size > kMostData) {
    return bad_input(where_, "says that its tensors are larger than any file",
                     "at most " + std::to_string(kMostData) + " bytes", std::to_string(data_size));
  }
  front_ = bytes_.subspan(kFrontBytes - 8, 8 + static_cast<std::size_t>(length));
  const std::string_view json(reinterpret_cast<const char*>(front_.data()) + 8, front_.size() - 8);
  PS_TRY(header_, parse_safetensors_header(json, static_cast<std::int64_t>(data_size), where_));
  return {};
}

// Each block has an entry in the table and at least one byte: no more blocks are believed, and no
// more memory is taken, than the file itself has room for.
Result<std::size_t> PackedFile::find_table() {
  const std::size_t front = kFrontBytes - 8 + front_.size();
  const std::size_t rest = bytes_.size() - kBackBytes - front;
  std::uint64_t count = 0;
  first_block_.reserve(tensors().size() + 1);
  for (const TensorHeader& t : tensors()) {
    first_block_.push_back(static_cast<std::int64_t>(count));
    count += static_cast<std::uint64_t>(blocks_of(t));
  }
  first_block_.push_back(static_cast<std::int64_t>(count));
  if (count > rest / (kTableEntry + 1)) {
    return bad_input(
        where_, "is too short for its tensors",
        std::to_string(count) + " blocks of at least " + std::to_string(kTableEntry + 1) + " bytes",
        std::to_string(rest) + " bytes");
  }
  const std::size_t back = bytes_.size() - kBackBytes;
  const std::size_t table = back - static_cast<std::size_t>(count) * kTableEntry;
  Crc32 crc;
  crc.bytes(bytes_.first(front));
  crc.bytes(bytes_.subspan(table, back - table));
  const auto said = static_cast<std::uint32_t>(number_at(bytes_, back, kBackBytes));
  if (crc.value() == said) return table;
  return bad_input(where_, "its header or its table of blocks is damaged, or it is cut off",
                   "CRC-32 " + crc32_text(said), crc32_text(crc.value()));
}

Result<void> PackedFile::find_blocks(std::size_t table) {
  const std::int64_t count = first_block_.back();
  std::size_t at = kFrontBytes - 8 + front_.size();
  begins_.reserve(static_cast<std::size_t>(count) + 1);
  for (std::int64_t b = 0; b < count; ++b) {
    const std::uint64_t size =
        number_at(bytes_, table + static_cast<std::size_t>(b) * kTableEntry, 4);
    const std::size_t raw = raw_size(b, tensor_of(b));
    if (size == 0 || size > raw) {
      return bad_input(block_text(b), "has an impossible size",
                       "1 to " + std::to_string(raw) + " bytes", std::to_string(size));
    }
    begins_.push_back(static_cast<std::int64_t>(at));
    at += static_cast<std::size_t>(size);
  }
  begins_.push_back(static_cast<std::int64_t>(at));
  if (at == table) return {};
  return bad_input(where_, "its blocks do not end where its table begins", std::to_string(table),
                   "byte " + std::to_string(at));
}

std::int64_t PackedFile::plain_size() const {
  const std::int64_t data = header_.tensors.empty() ? 0 : header_.tensors.back().end;
  return static_cast<std::int64_t>(front_.size()) + data;
}

std::size_t PackedFile::tensor_of(std::int64_t block) const {
  // The last that begins at or before it: those without cells have no blocks.
  const auto next = std::upper_bound(first_block_.begin(), first_block_.end(), block);
  return static_cast<std::size_t>(next - first_block_.begin()) - 1;
}

std::size_t PackedFile::raw_size(std::int64_t block, std::size_t tensor) const {
  const TensorHeader& t = tensors()[tensor];
  const std::int64_t before = (block - first_block_[tensor]) * kPackedBlock;
  return static_cast<std::size_t>(std::min(kPackedBlock, t.end - t.begin - before));
}

std::string PackedFile::block_text(std::int64_t block) const {
  const std::size_t tensor = tensor_of(block);
  return where_ + ": tensor " + json_quoted(tensors()[tensor].name) + ", block " +
         std::to_string(block - first_block_[tensor]) + " of " +
         std::to_string(blocks_of(tensors()[tensor]));
}

Result<void> PackedFile::read_block(std::int64_t block, std::span<std::byte> out) const {
  const auto b = static_cast<std::size_t>(block);
  const auto begin = static_cast<std::size_t>(begins_[b]);
  const auto stored = bytes_.subspan(begin, static_cast<std::size_t>(begins_[b + 1]) - begin);
  const auto entry = static_cast<std::size_t>(begins_.back()) + b * kTableEntry;
  const auto said = static_cast<std::uint32_t>(number_at(bytes_, entry + 4, 4));
  if (const std::uint32_t crc = crc32_of(stored); crc != said) {
    return bad_input(block_text(block), "is damaged", "CRC-32 " + crc32_text(said),
                     crc32_text(crc));
  }
  if (stored.size() == out.size()) {  // it would not become shorter
    std::memcpy(out.data(), stored.data(), out.size());
    return {};
  }
  const std::int64_t cell = size_of(tensors()[tensor_of(block)].dtype);
  std::vector<std::byte> planes(cell == 1 ? 0 : out.size());
  const std::string wrong = zstd_unpack(stored, cell == 1 ? out : std::span(planes));
  if (!wrong.empty()) {
    return bad_input(block_text(block), "cannot be unpacked",
                     std::to_string(out.size()) + " bytes in a zstd frame", wrong);
  }
  packed::join_planes(planes, cell, out);
  return {};
}

Result<void> PackedFile::read(std::size_t tensor, std::span<std::byte> out) const {
  const TensorHeader& t = tensors()[tensor];
  PS_CHECK(static_cast<std::int64_t>(out.size()) == t.end - t.begin, "no place for " + t.name);
  const std::int64_t first = first_block_[tensor];
  FirstError error;
  parallel_for(blocks_of(t), 0, [&](std::int64_t i) {
    if (error.before(i)) return;
    const auto at = static_cast<std::size_t>(i * kPackedBlock);
    const Result<void> got = read_block(first + i, out.subspan(at, raw_size(first + i, tensor)));
    if (!got.ok()) error.add(i, got.error());
  });
  return error.result();
}

Result<void> PackedFile::unpack(const TempFile& to) const {
  PS_TRY_VOID(to.write_at(0, front_));
  FirstError error;
  parallel_for(first_block_.back(), 0, [&](std::int64_t b) {
    if (error.before(b)) return;
    const std::size_t tensor = tensor_of(b);
    std::vector<std::byte> raw(raw_size(b, tensor));
    Result<void> done = read_block(b, raw);
    const std::int64_t at = static_cast<std::int64_t>(front_.size()) + tensors()[tensor].begin +
                            (b - first_block_[tensor]) * kPackedBlock;
    if (done.ok()) done = to.write_at(at, raw);
    if (!done.ok()) error.add(b, done.error());
  });
  return error.result();
}

Result<UnpackedFile> UnpackedFile::of(std::span<const std::byte> packed, const std::string& where) {
  PS_TRY(const PackedFile file, PackedFile::parse(packed, where));
  std::error_code ec;
  const std::filesystem::path folder = std::filesystem::temp_directory_path(ec);
  if (ec) return machine_error(where, "there is no folder for temporary files", "TMPDIR");
  const auto space = std::filesystem::space(folder, ec);
  if (!ec && space.available < static_cast<std::uintmax_t>(file.plain_size())) {
    return machine_error(
        where, "does not fit unpacked into " + folder.string() + "; TMPDIR may name another folder",
        std::to_string(file.plain_size()) + " bytes free", std::to_string(space.available));
  }
  PS_TRY(const TempFile plain, TempFile::create_nameless(folder / "parscope-unpacked"));
  PS_TRY_VOID(file.unpack(plain));
  PS_TRY(const std::span<const std::byte> bytes, plain.map(file.plain_size()));
  return UnpackedFile(bytes);
}

UnpackedFile::UnpackedFile(UnpackedFile&& other) noexcept
    : bytes_(std::exchange(other.bytes_, {})) {}

UnpackedFile::~UnpackedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace ps
