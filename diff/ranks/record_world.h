// A trace of real ranks: each writes its own part, rank 0 makes a trace of them once all are done.
#pragma once

#include "diff/ranks/world.h"
#include "diff/run/record.h"

namespace ps {

// Runs `own`, this rank's engine, through the plan. Counts are those of all ranks, at rank 0.
Result<Recorded> record_world(World& world, Engine& own, const ModelConfig& whole_model,
                              const RunPlan& plan, const std::filesystem::path& dir,
                              const TraceManifest& manifest, const RecordOptions& options);

}  // namespace ps
