// Whether a shard is, bit for bit, some slices of a checkpoint: what all naming of mistakes rests
// on.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "diff/shard/bytes.h"

namespace ps {

struct ShardQuestion {
  const Plan* plan = nullptr;
  const ModelConfig* config = nullptr;
  const SourceLookup* sources = nullptr;
  const PlanRecord* record = nullptr;  // what it should be
  TensorView actual;
};

using ElementChange = std::function<double(double)>;

// The parts, one behind the other, are the actual elements, whatever its shape, after they took the
// shard's type. `change` is applied to each of the parts' values first.
bool same_elements(const ShardQuestion& q, const std::vector<ShardPart>& parts,
                   const ElementChange& change = nullptr);

// The parts as a matrix, transposed, are the actual elements.
bool same_transposed(const ShardQuestion& q, const std::vector<ShardPart>& parts);

// Where on the part's dim its source would have to be cut for the actual elements, read on from the
// front behind its end; nothing where no place does, or all elements are one value.
std::optional<std::int64_t> start_in_source(const ShardQuestion& q, const ShardPart& part);

// Equal to the plan, shape included.
bool equals_plan(const ShardQuestion& question);

}  // namespace ps
