// The collectives that ranks issued, in a trace: an extension of trace.json that its other readers
// pass over.
//   "collectives": [{"step": 0, "rank": 1, "issued": [["all_reduce", [2,7,128], "float32", tag]]}]
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "core/collective.h"
#include "core/result.h"

namespace ps {

struct StepLedger {
  std::int64_t step = 0, rank = 0;
  Ledger issued;  // in order
};

// Of a trace's folder, or of one of its files; empty where it keeps none.
Result<std::vector<StepLedger>> read_ledgers(const std::filesystem::path& trace);
Result<std::vector<StepLedger>> parse_ledgers(std::string_view json, const std::string& where);
// A manifest with the ledgers in it.
std::string with_ledgers(const std::string& manifest, const std::vector<StepLedger>& ledgers);

}  // namespace ps
