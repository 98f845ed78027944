// How a writer of safetensors files packs them (core/packed.h).
#pragma once

#include <string_view>

namespace ps {

inline constexpr std::string_view kPackedEnding = ".packed";  // behind .safetensors

struct Packing {
  static constexpr int kMost = 19;
  int level = 0;  // zstd's; 0: plain files
  bool on() const { return level != 0; }
};

}  // namespace ps
