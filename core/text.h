// Small work on text that several parts do.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ps {

// The parts between separators; empty ones are kept.
inline std::vector<std::string> split_at(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (true) {
    const std::size_t at = text.find(separator);
    parts.emplace_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

}  // namespace ps
