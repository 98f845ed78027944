// The order in which an RMSNorm rounds, read off the candidate's own values. A bound must allow
// every legitimate order; where the values obey one of them to the last bit, that order's own limit
// holds, which is a thousand times tighter. Why this raises no false alarm: rounding_law.cpp.
#pragma once

#include <optional>
#include <string>

#include "core/checkpoint.h"
#include "core/engine.h"
#include "reference/net.h"

namespace ps::reference {

struct BrokenLaw {
  at::Tensor value, bound;  // what the law gives, in the shape of the captured value
  std::string words;        // the law, and what breaks it
};

// Nothing where the values obey their law, or no law that is known here, or where the trace lacks
// what it takes: a run in 16 bits, the op's input and output as the candidate stored them.
std::optional<BrokenLaw> broken_law(const Op& op, const Net& net, const PointLookup& lookup,
                                    const Rounding& rounding, const Checkpoint& checkpoint,
                                    const at::Tensor& exact, const at::Tensor& bound);

}  // namespace ps::reference
