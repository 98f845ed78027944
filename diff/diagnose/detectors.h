// What can be seen without a comparison, beside a diagnosis: lint's detectors on the trace and on
// the checkpoint, the kernels that ran, the weights that the run held.
#pragma once

#include "core/checkpoint.h"
#include "core/trace.h"
#include "diff/report/report.h"

namespace ps {

// Adds them to a diagnosis of the trace. Where the first divergence has no name yet and a detector
// names a known fault at the very point, that is the name; what the diagnosis has already is not
// said twice; the rest stands at the end. Of a large checkpoint the numbers are not read.
void add_detectors(const Trace& trace, const Model& model, int threads, Report& report);

}  // namespace ps
