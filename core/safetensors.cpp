#include "core/safetensors.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <optional>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "core/packed.h"
#include "core/safetensors_header.h"
#include "core/temp_file.h"

namespace ps {

namespace {

constexpr std::int64_t kLengthBytes = 8;
constexpr std::uint64_t kLongestHeader = 100'000'000;  // the official reader's limit

// What the views of a file point into: the mapping, of the file or of what was unpacked, and copies
// of tensors that lie unaligned in it.
struct Storage {
  void* mapping = nullptr;
  std::size_t mapped_bytes = 0;
  std::optional<UnpackedFile> unpacked;
  std::vector<std::uint64_t> copies;

  Storage() = default;
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  ~Storage() {
    if (mapping != nullptr) ::munmap(mapping, mapped_bytes);
  }
};

// A tensor without cells still gets a pointer that may be aligned, compared and passed to memcpy.
alignas(16) constexpr std::byte kNothing[16] = {};

bool is_aligned(const std::byte* p, std::int64_t size) {
  return reinterpret_cast<std::uintptr_t>(p) % static_cast<std::uintptr_t>(size) == 0;
}

Result<std::int64_t> header_length(std::span<const std::byte> bytes, const std::string& where) {
  if (bytes.size() < static_cast<std::size_t>(kLengthBytes)) {
    return bad_input(where, "is no safetensors file", "at least 8 bytes",
                     std::to_string(bytes.size()));
  }
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < 8; ++i) {
    length |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);  // little-endian
  }
  if (length > kLongestHeader) {
    return bad_input(where, "is no safetensors file: its header would be too long",
                     "at most " + std::to_string(kLongestHeader) + " bytes",
                     std::to_string(length));
  }
  const std::uint64_t rest = bytes.size() - static_cast<std::uint64_t>(kLengthBytes);
  if (length > rest) {
    return bad_input(where, "is cut off inside its header", std::to_string(length) + " bytes",
                     std::to_string(rest));
  }
  if (length == 0 || bytes[8] != std::byte{'{'}) {
    return bad_input(where, "is no safetensors file: its header must begin with '{'");
  }
  return static_cast<std::int64_t>(length);
}

// Views of the tensors; those that lie unaligned are copied once, so that as<T>() is defined.
std::vector<SafetensorsFile::Entry> make_views(std::vector<TensorHeader> tensors,
                                               std::span<const std::byte> data, Storage& storage) {
  std::size_t words = 0;
  for (const TensorHeader& t : tensors) {
    if (!is_aligned(data.data() + t.begin, size_of(t.dtype))) {
      words += static_cast<std::size_t>((t.end - t.begin + 7) / 8);
    }
  }
  storage.copies.resize(words);
  std::vector<SafetensorsFile::Entry> entries;
  entries.reserve(tensors.size());
  std::size_t word = 0;
  for (TensorHeader& t : tensors) {
    const auto size = static_cast<std::size_t>(t.end - t.begin);
    std::span<const std::byte> bytes = data.subspan(static_cast<std::size_t>(t.begin), size);
    if (size == 0) {
      bytes = {kNothing, 0};
    } else if (!is_aligned(bytes.data(), size_of(t.dtype))) {
      std::memcpy(&storage.copies[word], bytes.data(), size);
      bytes = std::as_bytes(std::span(storage.copies)).subspan(word * 8, size);
      word += (size + 7) / 8;
    }
    entries.push_back({std::move(t.name), {t.dtype, std::move(t.shape), bytes}});
  }
  return entries;
}

}  // namespace

bool is_safetensors_name(const std::filesystem::path& path) {
  constexpr std::string_view kEnding = ".safetensors";
  if (path.extension() == kEnding) return true;
  return path.extension() == kPackedEnding && path.stem().extension() == kEnding;
}

Result<SafetensorsFile> SafetensorsFile::open(const std::filesystem::path& path) {
  const std::string where = path.string();
  // Not blocking: a named pipe would otherwise wait for a writer that may never come.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return bad_input(where, "cannot be opened", "", errno_text(errno));
  struct stat status{};
  const bool known = ::fstat(fd, &status) == 0;
  if (!known || !S_ISREG(status.st_mode) || status.st_size == 0) {
    ::close(fd);
    return bad_input(where, "is no safetensors file", "a file that is not empty",
                     known && S_ISDIR(status.st_mode) ? "a directory" : "");
  }
  auto storage = std::make_shared<Storage>();
  const auto size = static_cast<std::size_t>(status.st_size);
  void* mapping = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  const int error = errno;
  ::close(fd);
  if (mapping == MAP_FAILED) return machine_error(where, "cannot be mapped", "", errno_text(error));
  storage->mapping = mapping;
  storage->mapped_bytes = size;
  std::span<const std::byte> bytes(static_cast<const std::byte*>(mapping), size);
  if (PackedFile::is_one(bytes)) {
    PS_TRY(UnpackedFile unpacked, UnpackedFile::of(bytes, where));
    storage = std::make_shared<Storage>();  // the packed file is no longer needed
    storage->unpacked.emplace(std::move(unpacked));
    bytes = storage->unpacked->bytes();
  }
  PS_TRY(SafetensorsFile file, parse(bytes, where));
  // The copies made while parsing and the mapping live together from here on.
  auto both = std::make_shared<std::pair<std::shared_ptr<const void>, std::shared_ptr<Storage>>>(
      std::move(file.mapping_), std::move(storage));
  file.mapping_ = std::move(both);
  return file;
}

Result<SafetensorsFile> SafetensorsFile::parse(std::span<const std::byte> bytes,
                                               const std::string& where) {
  PS_TRY(const std::int64_t length, header_length(bytes, where));
  const std::span<const std::byte> rest = bytes.subspan(static_cast<std::size_t>(kLengthBytes));
  const std::string_view json(reinterpret_cast<const char*>(rest.data()),
                              static_cast<std::size_t>(length));
  const std::span<const std::byte> data = rest.subspan(static_cast<std::size_t>(length));
  PS_TRY(SafetensorsHeader header,
         parse_safetensors_header(json, static_cast<std::int64_t>(data.size()), where));

  SafetensorsFile file;
  file.where_ = where;
  file.metadata_ = std::move(header.metadata);
  auto storage = std::make_shared<Storage>();
  file.entries_ = make_views(std::move(header.tensors), data, *storage);
  file.mapping_ = std::move(storage);
  for (std::size_t i = 0; i < file.entries_.size(); ++i) {
    file.index_.emplace(file.entries_[i].name, i);
  }
  return file;
}

const TensorView* SafetensorsFile::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &entries_[found->second].view;
}

}  // namespace ps
