// Any text is a line of a progress file or an error; a line that was read is written as one that
// reads as the same.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "diff/isolate/check_progress.h"
#include "tests/fuzz/require.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ps;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const Result<JudgedRecord> record = read_record(text, "fuzz");
  if (!record.ok()) {
    require_line(record.error());
    return 0;
  }
  const std::string line = record_line(*record);
  require(line.find('\n') == std::string::npos);
  const Result<JudgedRecord> again = read_record(line, "fuzz");
  require(again.ok() && record_line(*again) == line);
  return 0;
}
