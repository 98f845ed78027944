// trace.json as text: what Trace reads and TraceWriter writes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "core/result.h"
#include "core/trace.h"

namespace ps {

struct ManifestText {
  TraceManifest manifest;
  std::vector<TraceStep> steps;  // by step, then rank; without their tensors
};

enum class StepsField : std::uint8_t {
  kRequired,
  kOptional,  // in a file's metadata: the file itself is the step
};

Result<ManifestText> parse_manifest_text(std::string_view json, const std::string& where,
                                         StepsField steps_field);
Result<std::string> manifest_text(const TraceManifest& manifest,
                                  const std::vector<TraceStep>& steps);
// The fields `backends` (a list of calls, each with `requested` and `executed`) and `weights`
// ({NAME: {"dtype", "shape", "crc32"}}); `where` names the list in messages.
Result<std::vector<BackendEvent>> read_backends(const Json& list, const std::string& where);
Result<std::vector<WeightSum>> read_weight_sums(const Json& object, const std::string& where);
std::string backends_text(const std::vector<BackendEvent>& backends);
std::string weight_sums_text(const std::vector<WeightSum>& weights);

// A step's own tensors: input_ids and what stands beside it.
Result<void> write_step_inputs(SafetensorsWriter& writer, const StepInputs& inputs);
std::string step_file_name(std::int64_t step, std::int64_t rank);

}  // namespace ps
