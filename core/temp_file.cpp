#include "core/temp_file.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <fcntl.h>
#include <string>
#include <sys/mman.h>
#include <system_error>
#include <unistd.h>
#include <utility>
#include <vector>

namespace ps {

namespace {
constexpr mode_t kMode = 0666;  // less the user's umask

std::filesystem::path directory_of(const std::filesystem::path& target) {
  const auto parent = target.parent_path();
  return parent.empty() ? std::filesystem::path(".") : parent;
}

// Full disks and quotas are the machine's; a path that cannot be written is the user's word.
Error write_error(const std::filesystem::path& target, const char* what, int error) {
  const bool machine = error == ENOSPC || error == EDQUOT || error == EIO || error == EFBIG;
  auto make = machine ? machine_error : bad_input;
  return make(target.string(), what, "", errno_text(error));
}
}  // namespace

std::string errno_text(int error) { return std::generic_category().message(error); }

Result<TempFile> TempFile::create(const std::filesystem::path& target) {
  static std::atomic<unsigned> counter{0};
  constexpr int kAttempts = 100;
  int error = EEXIST;
  for (int attempt = 0; attempt < kAttempts && error == EEXIST; ++attempt) {
    TempFile file;
    file.target_ = target;
    const auto name = directory_of(target) /
                      ("." + target.filename().string().substr(0, 200) + "." +
                       std::to_string(::getpid()) + "." + std::to_string(counter++) + ".tmp");
    file.fd_ = ::open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, kMode);
    if (file.fd_ >= 0) {
      file.name_ = name;
      return file;
    }
    error = errno;
  }
  return write_error(target, "cannot create a file here", error);
}

Result<TempFile> TempFile::create_nameless(const std::filesystem::path& target) {
  PS_TRY(TempFile file, create(target));
  ::unlink(file.name_.c_str());
  file.name_.clear();
  return file;
}

TempFile::TempFile(TempFile&& other) noexcept
    : target_(std::move(other.target_)), name_(std::move(other.name_)), fd_(other.fd_) {
  other.name_.clear();
  other.fd_ = -1;
}

TempFile& TempFile::operator=(TempFile&& other) noexcept {
  if (this != &other) {
    discard();
    target_ = std::move(other.target_);
    name_ = std::move(other.name_);
    fd_ = other.fd_;
    other.name_.clear();
    other.fd_ = -1;
  }
  return *this;
}

TempFile::~TempFile() { discard(); }

void TempFile::discard() noexcept {
  if (fd_ >= 0) ::close(fd_);
  if (!name_.empty()) ::unlink(name_.c_str());
  fd_ = -1;
  name_.clear();
}

Result<void> TempFile::append(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return write_error(target_, "cannot write", errno);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return {};
}

Result<void> TempFile::append_from(const TempFile& source, std::int64_t offset,
                                   std::int64_t length) {
  off_t from = offset;
  bool in_kernel = true;
  std::vector<std::byte> buffer;
  while (length > 0) {
    if (in_kernel) {
      const ssize_t copied =
          ::copy_file_range(source.fd_, &from, fd_, nullptr, static_cast<std::size_t>(length), 0);
      if (copied > 0) {
        length -= copied;
        continue;
      }
      if (copied < 0 && errno == EINTR) continue;
      in_kernel = false;  // not on this file system; what went over so far stays
    }
    constexpr std::int64_t kChunk = 1 << 20;
    buffer.resize(static_cast<std::size_t>(kChunk));
    const auto wanted = static_cast<std::size_t>(std::min(length, kChunk));
    const ssize_t got = ::pread(source.fd_, buffer.data(), wanted, from);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return write_error(target_, "cannot read back what was written", errno);
    PS_TRY_VOID(append({buffer.data(), static_cast<std::size_t>(got)}));
    from += got;
    length -= got;
  }
  return {};
}

Result<void> TempFile::write_at(std::int64_t offset, std::span<const std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(fd_, bytes.data(), bytes.size(), offset);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return write_error(target_, "cannot write", errno);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
    offset += written;
  }
  return {};
}

Result<std::span<const std::byte>> TempFile::map(std::int64_t length) const {
  const auto size = static_cast<std::size_t>(length);
  void* at = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd_, 0);
  if (at == MAP_FAILED) {
    return machine_error(target_.string(), "cannot be mapped", "", errno_text(errno));
  }
  return std::span<const std::byte>(static_cast<const std::byte*>(at), size);
}

Result<void> TempFile::commit() {
  if (::fsync(fd_) != 0) return write_error(target_, "cannot sync", errno);
  if (::close(std::exchange(fd_, -1)) != 0) return write_error(target_, "cannot close", errno);
  if (::rename(name_.c_str(), target_.c_str()) != 0) {
    return write_error(target_, "cannot take this name", errno);
  }
  name_.clear();
  // Best effort: not every file system lets a directory be synced, and the data are safe already.
  const int directory = ::open(directory_of(target_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory >= 0) {
    ::fsync(directory);
    ::close(directory);
  }
  return {};
}

}  // namespace ps
