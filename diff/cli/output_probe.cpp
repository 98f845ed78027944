#include "diff/cli/output_probe.h"

#include <unistd.h>

#include "core/file.h"
#include "core/temp_file.h"

namespace ps::cli {

Result<void> probe_output(const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  std::error_code ec;
  const std::string who = "uid " + std::to_string(::getuid());
  if (path.empty()) return bad_input("output", "the path is empty");
  if (fs::is_directory(path, ec)) return bad_input(path.string(), "is a folder", "a file to write");
  fs::path missing;
  for (fs::path p = fs::absolute(path, ec).lexically_normal().parent_path();
       p.has_relative_path() && !fs::exists(p, ec); p = p.parent_path()) {
    missing = p;
  }
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
  fs::path first;  // what is not there yet
  for (fs::path p = fs::absolute(dir, ec).lexically_normal();
       p.has_relative_path() && !fs::exists(p, ec); p = p.parent_path()) {
    first = p;
  }
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
  for (fs::path p = fs::absolute(dir, ec).lexically_normal(); !first.empty(); p = p.parent_path()) {
    if (p.has_filename()) ::rmdir(p.c_str());
    if (p == first) break;
  }
  return made;
}

}  // namespace ps::cli
