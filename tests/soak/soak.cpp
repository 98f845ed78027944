// ./dev soak [COUNT] [SEED]: clean random configurations through the main job; not one may be
// called wrong. Prints what a repeat needs, keeps the model of every failure.
#include "tests/support/soak.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>

int main(int argc, char** argv) {
  const auto number = [&](int i, std::uint64_t otherwise) {
    return argc > i ? std::strtoull(argv[i], nullptr, 10) : otherwise;
  };
  const std::uint64_t count = number(1, 10000), seed = number(2, 1), first = number(3, 0);
  namespace fs = std::filesystem;
  const fs::path root = fs::temp_directory_path() / ("parscope-soak-" + std::to_string(seed));
  std::uint64_t failed = 0;
  std::map<std::string, double> worst;  // by type
  for (std::uint64_t i = first; i < first + count; ++i) {
    const fs::path dir = root / std::to_string(i);
    const ps::SoakResult r = ps::soak_one(seed, i, dir);
    double& w = worst[std::string(ps::short_name(r.dtype))];
    w = r.worst_ratio > w ? r.worst_ratio : w;
    if (r.equivalent) {
      fs::remove_all(dir);
    } else {
      ++failed;
      std::printf("configuration %llu: %s\n  %s\n  kept in %s\n",
                  static_cast<unsigned long long>(i), r.trouble.c_str(), r.what.c_str(),
                  dir.c_str());
    }
    if ((i + 1) % 500 == 0) {
      std::fprintf(stderr, "%llu configurations, %llu called wrong\n",
                   static_cast<unsigned long long>(i + 1 - first),
                   static_cast<unsigned long long>(failed));
    }
  }
  std::printf("seed %llu: %llu clean configurations, %llu called wrong; worst error over bound:",
              static_cast<unsigned long long>(seed), static_cast<unsigned long long>(count),
              static_cast<unsigned long long>(failed));
  for (const auto& [type, ratio] : worst) std::printf(" %s %.3f", type.c_str(), ratio);
  std::printf("\n");
  return failed == 0 ? 0 : 1;
}
