#include "diff/foreign/values.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/temp_file.h"

namespace ps {

NamedTensor owned_tensor(std::string name, Tensor tensor) {
  auto kept = std::make_shared<Tensor>(std::move(tensor));
  NamedTensor out{std::move(name), kept->view(), nullptr};
  out.keep = std::move(kept);
  return out;
}

Result<FileBytes> map_file(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return bad_input(path.string(), "cannot be read", "", errno_text(errno));
  struct stat info{};
  const bool known = ::fstat(fd, &info) == 0;
  if (!known || !S_ISREG(info.st_mode)) {
    ::close(fd);
    return bad_input(path.string(), "is no regular file");
  }
  const auto size = static_cast<std::size_t>(info.st_size);
  if (size == 0) {
    ::close(fd);
    return FileBytes{};
  }
  void* mapping = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  const int error = errno;
  ::close(fd);
  if (mapping == MAP_FAILED) {
    return machine_error(path.string(), "cannot be mapped", "", errno_text(error));
  }
  FileBytes out;
  out.bytes = {static_cast<const std::byte*>(mapping), size};
  out.keep = std::shared_ptr<const void>(
      mapping, [size](const void* p) { ::munmap(const_cast<void*>(p), size); });
  return out;
}

Result<std::int64_t> checked_count(const Shape& shape, DType dtype, std::uint64_t room,
                                   const std::string& where) {
  constexpr std::size_t kMostAxes = 32;
  if (shape.size() > kMostAxes) {
    return bad_input(where, "has too many axes", "at most 32", std::to_string(shape.size()));
  }
  bool empty = false;
  for (const std::int64_t n : shape) {
    if (n < 0) return bad_input(where, "has a negative size", "", to_string(shape));
    empty = empty || n == 0;
  }
  std::int64_t bytes = size_of(dtype);
  for (const std::int64_t n : shape) {  // strides of an empty tensor must not overflow either
    if (__builtin_mul_overflow(bytes, std::max<std::int64_t>(n, 1), &bytes)) {
      return bad_input(where, "has a shape whose size overflows", "", to_string(shape));
    }
  }
  if (empty) return std::int64_t{0};
  const auto element = static_cast<std::uint64_t>(size_of(dtype));
  const std::uint64_t most = room / element;
  std::uint64_t count = 1;
  for (const std::int64_t n : shape) {
    if (count > most / static_cast<std::uint64_t>(n)) {
      return bad_input(where, "is cut off: its shape asks for more bytes than there are",
                       to_string(shape), std::to_string(room) + " bytes");
    }
    count *= static_cast<std::uint64_t>(n);
  }
  return static_cast<std::int64_t>(count);
}

NamedTensor tensor_in(std::string name, DType dtype, Shape shape, std::span<const std::byte> bytes,
                      const std::shared_ptr<const void>& keep) {
  const auto address = reinterpret_cast<std::uintptr_t>(bytes.data());
  if (!bytes.empty() && address % static_cast<std::uintptr_t>(size_of(dtype)) == 0) {
    return {std::move(name), {dtype, std::move(shape), bytes}, keep};
  }
  Tensor copy(dtype, std::move(shape));
  std::copy(bytes.begin(), bytes.end(), copy.bytes().begin());
  return owned_tensor(std::move(name), std::move(copy));
}

}  // namespace ps
