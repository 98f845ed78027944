#include "diff/cli/output_probe.h"

#include <unistd.h>

#include "core/file.h"
#include "core/temp_file.h"

namespace ps::cli {

namespace {

// The uppermost folder on the way to `path` that is not there; empty: all are.
std::filesystem::path first_missing(std::filesystem::path path) {
  std::error_code ec;
  std::filesystem::path out;
  for (; path.has_relative_path() && !std::filesystem::exists(path, ec); path = path.parent_path())
    out = path;
  return out;
}

}  // namespace

Result<void> probe_output(const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  std::error_code ec;
  const std::string who = "uid " + std::to_string(::getuid());
  if (path.empty()) return bad_input("output", "the path is empty");
  if (fs::is_directory(path, ec)) return bad_input(path.string(), "is a folder", "a file to write");
  const fs::path missing = first_missing(fs::absolute(path, ec).lexically_normal().parent_path());
  if (!missing.empty()) {
    return bad_input(path.string(),
                     "cannot be written by " + who + ": no folder " + missing.string(),
                     "a folder that exists");
  }
  const auto file = TempFile::create(path);
  if (file.ok()) return {};
  return bad_input(path.string(), "cannot be written by " + who + ": " + file.error().what,
                   "a writable file");
}

Result<void> probe_output_dir(const std::filesystem::path& dir) {
  namespace fs = std::filesystem;
  std::error_code ec;
  if (dir.empty()) return bad_input("output", "the path is empty");
  const fs::path whole = fs::absolute(dir, ec).lexically_normal(), first = first_missing(whole);
  Result<void> made = ensure_directory(dir);
  if (made.ok()) {
    const auto file = TempFile::create(dir / "probe");
    if (!file.ok()) {
      made = bad_input(
          dir.string(),
          "cannot be written by uid " + std::to_string(::getuid()) + ": " + file.error().what,
          "a writable folder");
    }
  }
  // Only folders, and only empty ones.
  for (fs::path p = whole; !first.empty(); p = p.parent_path()) {
    if (p.has_filename()) ::rmdir(p.c_str());
    if (p == first) break;
  }
  return made;
}

}  // namespace ps::cli
