// Runs an engine through a plan and writes what it does as a trace.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "core/engine.h"
#include "core/result.h"
#include "core/trace.h"
#include "diff/run/script.h"

namespace ps {

struct RecordOptions {
  std::vector<std::string> points;  // wildcards ('*'); empty = all
  Packing packing;
  std::function<void(std::int64_t step, std::int64_t total)> progress;
};

bool is_recorded(const RecordOptions& options, std::string_view point);

struct Recorded {
  std::int64_t steps = 0;
  std::int64_t points = 0;
  std::int64_t bytes = 0;
};

// The mask from outside as a trace has it: bool [batch, heads, S, T+past+S].
Tensor input_mask(const StepInputs& inputs, std::int64_t heads);

Result<Recorded> record(Engine& engine, const RunPlan& plan, const std::filesystem::path& dir,
                        TraceManifest manifest, const RecordOptions& options);

// '*' matches any run of characters, everything else itself.
bool matches(std::string_view pattern, std::string_view name);

}  // namespace ps
