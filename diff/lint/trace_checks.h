// What a trace gives away without a reference: its inputs against each other, its mask against its
// inputs, its gradients against the model's parameters. Each finding has the id of the fault that
// makes exactly this.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/config.h"
#include "core/finding.h"
#include "core/trace.h"

namespace ps {

// position_ids of a step against its attention mask and what came before; nothing where the step
// has none.
std::optional<Finding> position_finding(const StepInputs& inputs, const ModelConfig& config,
                                        std::int64_t past);

// A boolean model:mask against causality, padding, prefix and window; nothing where it is right, or
// of a shape that the table does not allow. Rows of padding do not count.
std::optional<Finding> mask_finding(const TensorView& mask, const StepInputs& inputs,
                                    const ModelConfig& config, std::int64_t past);

// Parameters that no gradient reached, and those whose gradient is zero throughout, where the trace
// has gradients.
std::vector<Finding> gradient_findings(const Trace& trace, const ModelConfig& config);

}  // namespace ps
