#include "core/file_reader.h"

#include <fcntl.h>
#include <functional>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace ps {

FileReader::FileReader(const std::string& path, std::span<const std::byte> mapped,
                       std::uint64_t device, std::uint64_t inode)
    : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)), mapped_(mapped) {
  struct stat status{};
  const bool same =
      fd_ >= 0 && ::fstat(fd_, &status) == 0 && status.st_dev == device && status.st_ino == inode;
  if (!same) mapped_ = {};
}

FileReader::FileReader(FileReader&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), mapped_(std::exchange(other.mapped_, {})) {}

FileReader::~FileReader() {
  if (fd_ >= 0) ::close(fd_);
}

bool FileReader::read(std::span<const std::byte> from, std::byte* out) const {
  const std::byte* begin = mapped_.data();
  const std::less<const std::byte*> before;
  if (mapped_.empty() || before(from.data(), begin) ||
      before(begin + mapped_.size(), from.data() + from.size())) {
    return false;
  }
  const std::int64_t offset = from.data() - begin;
  std::size_t filled = 0;
  while (filled < from.size()) {
    const ssize_t got = ::pread(fd_, out + filled, from.size() - filled,
                                static_cast<off_t>(offset + static_cast<std::int64_t>(filled)));
    if (got <= 0) return false;
    filled += static_cast<std::size_t>(got);
  }
  return true;
}

}  // namespace ps
