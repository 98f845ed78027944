// Shards of FSDP2 (rows of dim 0) against the checkpoint (tensor-parallel.md section 8).
#pragma once

#include "core/checkpoint.h"
#include "diff/report/report.h"
#include "diff/shard/shard_set.h"

namespace ps {

// FS001 whole where a shard should be, FS003 empty shards, FS005 padding kept as data, FS007
// another type than the checkpoint's, TP003 and TP007 for other bytes.
Result<Report> check_fsdp_shards(const Model& model, std::int64_t world, const ShardSet& shards);

}  // namespace ps
