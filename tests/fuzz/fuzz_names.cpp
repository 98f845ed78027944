// Any text is a file of name rules or an error that says the line; axes in letters likewise.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "diff/foreign/axes.h"
#include "diff/foreign/names.h"
#include "tests/fuzz/require.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ps;
  constexpr size_t kLongest = 4096;  // std::regex is slow on purpose-made patterns
  if (size > kLongest) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const Result<NameRules> rules = parse_names(text, "fuzz");
  if (!rules.ok()) {
    require_line(rules.error());
  } else {
    for (const NameRule& rule : rules->rules) {
      if (rule.axes.empty()) continue;
      const Result<Layout> layout = parse_layout(rule.axes, "fuzz");
      require(layout.ok());
      require(layout->parts() == (rule.points.empty() ? 1 : rule.points.size()));
    }
  }
  const Result<Layout> layout = parse_layout(text, "fuzz");
  if (!layout.ok()) require_line(layout.error());
  return 0;
}
