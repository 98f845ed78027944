// Runs ranks through a plan and writes a trace with a file a step and rank.
#pragma once

#include <filesystem>

#include "core/ranks.h"
#include "diff/run/record.h"

namespace ps {

// The manifest's "shards": which points are cut on which axis.
std::vector<ShardSpec> point_shards();

Result<Recorded> record_ranks(Ranks& ranks, std::int64_t tp, const RunPlan& plan,
                              const std::filesystem::path& dir, TraceManifest manifest,
                              const RecordOptions& options);

}  // namespace ps
