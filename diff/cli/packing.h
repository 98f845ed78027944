// --compress, of the commands that write traces.
#pragma once

#include "core/packing.h"
#include "core/result.h"
#include "core/zstd.h"
#include "diff/cli/arguments.h"

namespace ps::cli {

inline constexpr Option kCompress{
    "--compress", "[=LEVEL]",
    "write packed files, which every command reads; zstd's level, 1 to 19,\n"
    "1 where none is given (docs/traces.md has sizes and speeds)"};

inline Result<Packing> packing_of(const Arguments& arguments) {
  if (!arguments.has("--compress")) return Packing{};
  if (!has_zstd()) return no_zstd("--compress");
  Packing packing{1};
  if (const std::string level = arguments.get("--compress"); !level.empty()) {
    PS_TRY(const std::int64_t number, parse_integer(level, "--compress", 1, Packing::kMost));
    packing.level = static_cast<int>(number);
  }
  return packing;
}

}  // namespace ps::cli
