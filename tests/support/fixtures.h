// Where the stored data lie.
#pragma once

#include <algorithm>
#include <filesystem>
#include <vector>

#include "tests/support/paths.h"

namespace ps {

inline std::filesystem::path fixtures_dir() {
  return std::filesystem::path(source_dir()) / "fixtures";
}

// The folders of golden/parscale and models/, sorted: each holds a config.json and weights.
inline std::vector<std::filesystem::path> model_dirs() {
  std::vector<std::filesystem::path> dirs;
  for (const char* folder : {"golden/parscale", "models"}) {
    const auto root = fixtures_dir() / folder;
    if (!std::filesystem::is_directory(root)) continue;
    for (const auto& entry : std::filesystem::directory_iterator(root)) {
      if (std::filesystem::exists(entry.path() / "config.json")) dirs.push_back(entry.path());
    }
  }
  std::sort(dirs.begin(), dirs.end());
  return dirs;
}

}  // namespace ps
