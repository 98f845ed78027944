// A file that is written under a temporary name beside its target and takes the target's name only
// in commit(). Without commit() nothing is left behind.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include "core/result.h"

namespace ps {

class TempFile {
 public:
  static Result<TempFile> create(const std::filesystem::path& target);
  // A file without any name: gone when closed, even when the program is killed.
  static Result<TempFile> create_nameless(const std::filesystem::path& target);
  TempFile(TempFile&& other) noexcept;
  TempFile& operator=(TempFile&& other) noexcept;
  ~TempFile();

  Result<void> append(std::span<const std::byte> bytes);
  // Bytes of another file, copied inside the kernel where it can.
  Result<void> append_from(const TempFile& source, std::int64_t offset, std::int64_t length);
  // From several threads at once, where nobody appends.
  Result<void> write_at(std::int64_t offset, std::span<const std::byte> bytes) const;
  // What was written, mapped; the caller unmaps it.
  Result<std::span<const std::byte>> map(std::int64_t length) const;
  Result<void> commit();  // sync, rename, sync the directory

 private:
  TempFile() = default;
  void discard() noexcept;
  std::filesystem::path target_;
  std::filesystem::path name_;  // empty: nameless or already renamed
  int fd_ = -1;
};

// "No such file or directory", for errno after a failed system call.
std::string errno_text(int error);

}  // namespace ps
