// Any text is a trace manifest or an error; a manifest that was read can be written and read again,
// and its files stay in its directory.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string_view>
#include <tuple>

#include "core/points.h"
#include "core/trace.h"
#include "core/trace_manifest.h"
#include "tests/fuzz/require.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ps;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto point = find_point(text)) {  // total, too, and every name leads back to itself
    const std::string name = point_name(*point->spec, point->layer);
    require(canonical_point(text) == name + (point->partial ? ":partial" : ""));
  }
  const Result<Trace> trace = Trace::parse_manifest(text, "fuzz");
  if (!trace.ok()) {
    require_line(trace.error());
    return 0;
  }
  const TraceStep* before = nullptr;
  for (const TraceStep& step : trace->steps()) {
    require(step.step >= 0 && step.rank >= 0 && step.rank < trace->manifest().world_size);
    if (before != nullptr) {
      require(std::tie(before->step, before->rank) < std::tie(step.step, step.rank));
    }
    require(!std::filesystem::path(step.file).is_absolute());
    const auto inside = std::filesystem::path("/trace") / step.file;
    require(inside.lexically_normal().string().starts_with("/trace/"));
    before = &step;
  }
  const Result<std::string> written = manifest_text(trace->manifest(), trace->steps());
  require(written.ok());
  const Result<Trace> again = Trace::parse_manifest(*written, "again");
  require(again.ok());
  require(again->steps().size() == trace->steps().size());
  require(again->manifest().model_json == trace->manifest().model_json);
  require(again->manifest().dtype == trace->manifest().dtype);
  require(again->manifest().world_size == trace->manifest().world_size);
  for (std::size_t i = 0; i < again->steps().size(); ++i) {
    const TraceStep& a = trace->steps()[i];
    const TraceStep& b = again->steps()[i];
    require(a.file == b.file && a.op == b.op && a.beam_idx == b.beam_idx);
  }
  return 0;
}
