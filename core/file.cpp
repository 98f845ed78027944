#include "core/file.h"

#include <cerrno>
#include <fcntl.h>
#include <span>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include "core/temp_file.h"

namespace ps {

namespace {
struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};
}  // namespace

Result<std::string> read_text(const std::filesystem::path& path, std::int64_t limit_bytes) {
  // Not blocking: a named pipe would otherwise wait for a writer that may never come.
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.fd < 0) return bad_input(path.string(), "cannot be read", "", errno_text(errno));
  struct stat status{};
  if (::fstat(file.fd, &status) != 0) {
    return bad_input(path.string(), "cannot be read", "", errno_text(errno));
  }
  if (S_ISDIR(status.st_mode)) return bad_input(path.string(), "is a directory", "a file");
  if (!S_ISREG(status.st_mode)) return bad_input(path.string(), "is no regular file", "a file");
  if (status.st_size > limit_bytes) {
    return bad_input(path.string(), "file is too large",
                     "at most " + std::to_string(limit_bytes) + " bytes",
                     std::to_string(status.st_size));
  }
  std::string text(static_cast<std::size_t>(status.st_size), '\0');
  std::size_t filled = 0;
  while (filled < text.size()) {
    const ssize_t got = ::read(file.fd, text.data() + filled, text.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return bad_input(path.string(), "cannot be read", "", errno_text(errno));
    if (got == 0) break;  // the file became shorter meanwhile
    filled += static_cast<std::size_t>(got);
  }
  text.resize(filled);
  return text;
}

Result<void> write_text(const std::filesystem::path& path, std::string_view text) {
  PS_TRY(TempFile file, TempFile::create(path));
  PS_TRY_VOID(file.append(std::as_bytes(std::span(text))));
  return file.commit();
}

Result<void> ensure_directory(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (!error && std::filesystem::is_directory(path, error)) return {};
  // Name the nearest thing that is there: it is what stands in the way, or may not be written.
  auto existing = std::filesystem::absolute(path, error).lexically_normal();
  std::filesystem::path missing;
  while (existing.has_relative_path() && !std::filesystem::exists(existing, error)) {
    missing = existing;
    existing = existing.parent_path();
  }
  if (!std::filesystem::is_directory(existing, error)) {
    return bad_input(path.string(), "cannot create this directory: " + existing.string() +
                                        " is in the way and is no directory");
  }
  return bad_input(path.string(), "cannot create this directory: no folder " + missing.string() +
                                      ", and uid " + std::to_string(::getuid()) +
                                      " has no permission to write in " + existing.string());
}

}  // namespace ps
