// A plan for people (a table) and for programs (JSON).
#pragma once

#include <string>

#include "diff/shard/bytes.h"

namespace ps {

// {"tp", "replicas", ..., "records": [{"rank", "dest", "kind", "shape", "parts": [...], "crc32"}]}.
// CRCs are null where a source is missing.
std::string plan_json(const Plan& plan, const ModelConfig& config, const SourceLookup& sources);

// One line a tensor of the layer pattern: what rank 0 holds, and how the others differ.
std::string plan_table(const Plan& plan, const ModelConfig& config, bool every_rank);

std::string rejection_json(std::int64_t tp, const std::vector<Rejection>& rejected);

}  // namespace ps
