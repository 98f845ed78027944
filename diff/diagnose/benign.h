// Differences that cancel: inner values differ in a way that is known to be harmless, and what the
// model gives is the same.
#pragma once

#include "core/config.h"
#include "diff/report/report.h"

namespace ps {

struct Outcome {
  bool captured = false;  // the logits, or where they are missing the last layers' outputs
  bool equal = false;     // to the reference's own run, in every step
  bool exact = false;     // in a type fine enough that a small effect would have shown
};

// Turns the verdict into equivalent and the findings into information where the differences are of
// such a kind and the outcome is the same; else leaves the report as it is.
void recognise_benign(Report& report, const ModelConfig& config, const Outcome& outcome);

}  // namespace ps
