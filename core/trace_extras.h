// What a trace's manifest says beside its steps: which kernels ran, and which weights the run held
// (docs/traces.md). Both may be absent; whoever wants them reads them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/result.h"
#include "core/tensor.h"
#include "core/trace.h"

namespace ps {

// Which kernel ran where which was asked for; what an attention ledger holds too.
struct BackendEvent {
  std::string op = "attention";  // what the kernel does
  std::string requested, executed, reason;
  std::string device, mask_device, mask_dtype;  // empty: not said
  std::int64_t step = -1, layer = -1;           // -1: not said

  // "auto" asks for whatever there is.
  bool fell_back() const { return requested != executed && requested != "auto"; }
};

// A weight as the run held it. The CRC-32 is zlib's, over the bytes in row-major order.
struct WeightSum {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  std::uint32_t crc32 = 0;
};

struct TraceExtras {
  std::vector<BackendEvent> backends;
  std::vector<WeightSum> weights;  // by name; whole tensors, none where the ranks hold parts
  std::optional<DType> autocast;   // products ran in it, whatever the weights' type
  std::string ended;               // what ended the run too early; empty: nothing did
};

// The fields `backends` and `weights` of a manifest's text; `where` names it in messages.
Result<TraceExtras> parse_trace_extras(std::string_view json, const std::string& where);
// Those of an open trace; empty where it has no manifest.
Result<TraceExtras> trace_extras(const Trace& trace);
// Adds them to the trace.json of a trace that is written.
Result<void> write_trace_extras(const std::filesystem::path& dir, const TraceExtras& extras);
// Adds what the manifest of `from` says beyond TraceManifest (kernels, checksums, collectives,
// placements, fields of other programs) to the trace.json of a trace that is made of it.
Result<void> carry_manifest(const Trace& from, const std::filesystem::path& dir);

// A list of calls by itself: [{"requested": "flash", "executed": "math", ...}, ...].
Result<std::vector<BackendEvent>> read_backends(const Json& list, const std::string& where);

}  // namespace ps
