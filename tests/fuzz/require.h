// A property that must hold for every input; a fuzzer reports the trap.
#pragma once

#include <string>

#include "core/result.h"

namespace ps {

inline void require(bool condition) {
  if (!condition) __builtin_trap();
}

// Errors are one line that can be printed as it is.
inline void require_line(const Error& error) {
  const std::string line = error.line();
  require(!line.empty() && !error.what.empty());
  for (const char c : line) require(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f);
}

}  // namespace ps
