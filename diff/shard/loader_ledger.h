// A loader's ledger (tensor-parallel.md 2.3): what of the checkpoint a plan reads, and what it
// would need and cannot find.
#pragma once

#include <string>
#include <vector>

#include "core/finding.h"
#include "diff/shard/shard_model.h"

namespace ps {

struct LoaderLedger {
  std::vector<std::string> missing;  // the plan reads them, the checkpoint has no such tensor
  std::vector<std::string> unread;   // the other way round, and on no list of what may be
  std::int64_t read = 0;             // tensors that are read
};
LoaderLedger loader_ledger(const Plan& plan, const ShardModel& model);

// As findings; a head beside a tied embedding that is not the embedding (TP010) comes first.
std::vector<Finding> ledger_findings_of(const Plan& plan, const ShardModel& model);

}  // namespace ps
