// The error text of a program that ran an op on a DTensor shard, explained: which ranks hold rows,
// which hold none, and what was captured before it was gathered (tensor-parallel.md section 8).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/config.h"
#include "core/tensor.h"
#include "diff/report/report.h"

namespace ps {

// What such a text says, as far as it says it.
struct DTensorTrace {
  Shape local;                // of the DTensor on the rank that failed
  std::int64_t world = 0;     // ranks of its mesh
  std::int64_t rank = 0;      // that printed the text
  std::int64_t dim = 0;       // Shard(dim)
  std::string op, pattern;    // "repeat", "n_parscale ... -> (n_parscale b) ..."
  std::int64_t factor = 0;    // the pattern's other length; 0 where the text has none
  Shape wanted;               // the local shape that could not be made; may be empty
  std::int64_t elements = 0;  // of the input that was there
  bool in_cache = false;      // a cache's update is on the stack
};
// Nothing where the text speaks of no sharded DTensor.
std::optional<DTensorTrace> read_dtensor_trace(std::string_view text);

// Lengths of dim 0 that fit local rows and wanted rows, most likely first.
std::vector<std::int64_t> possible_rows(const DTensorTrace& trace);

// `config`: of the model, where it is known (its parscale_n decides between possible lengths).
Report explain_dtensor_trace(const DTensorTrace& trace, const ModelConfig* config);

}  // namespace ps
