// How an engine padded its vocabulary, told from the rows that its ranks hold.
#pragma once

#include "diff/shard/plan.h"
#include "diff/shard/shard_set.h"

namespace ps {

// Sets `replicate_vocab` or `vocab_multiple`; leaves both where the rows are as planned, or tell
// nothing.
void vocabulary_from(const ShardSet& shards, const ModelConfig& config, std::int64_t tp,
                     PlanOptions& options);

}  // namespace ps
