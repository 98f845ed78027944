// Shards against the checkpoint they came from: every tensor of every rank, bit for bit, and a name
// for what is wrong.
#pragma once

#include "diff/report/report.h"
#include "diff/shard/shard_model.h"
#include "diff/shard/shard_set.h"

namespace ps {

struct ShardCheckOptions {
  PlanOptions plan;
  bool vocab_given = false;  // else the shards' own rows say how the vocabulary is padded
};

// An Error where the shards cannot be the ones of `tp` ranks at all.
Result<Report> check_shards(const ShardModel& model, std::int64_t tp, const ShardSet& shards,
                            ShardCheckOptions options);

}  // namespace ps
