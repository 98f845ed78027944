// trace.json as text: what Trace reads and TraceWriter writes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

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
// A step's own tensors: input_ids and what stands beside it.
Result<void> write_step_inputs(SafetensorsWriter& writer, const StepInputs& inputs);
std::string step_file_name(std::int64_t step, std::int64_t rank, Packing packing = {});
// Of a step that was written: the file of an older trace that holds it in the other form, plain or
// packed. Without trace.json a reader could not tell which one counts.
void remove_other_form(const std::filesystem::path& dir, const TraceStep& step);

}  // namespace ps
