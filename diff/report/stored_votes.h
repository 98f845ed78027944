// "replicas" of a report.json, read back.
#pragma once

#include <string>

#include "core/json.h"
#include "core/result.h"
#include "diff/report/replicas.h"

namespace ps {

// Error where a token has not a value for every replica.
Result<ReplicaVotes> read_votes(const Json& json, const std::string& where);

}  // namespace ps
