// Small runs for the viewer's tests, made anew in a temporary folder: a reference, a run that goes
// wrong in layer 1 and one that goes wrong later, the report of the first, two masks.
#pragma once

#include <filesystem>
#include <string>

#include "diff/report/report.h"

namespace ps::viewer {

struct Scene {
  std::filesystem::path reference, candidate, second, report, expected_mask, actual_mask;
};
// In `dir`, which must exist. The files are the same bytes in every run.
Scene make_scene(const std::filesystem::path& dir);

// Votes of three replicas about nine tokens.
void add_votes(Report& report);

// What is wrong in `candidate`: the point, and the cell of its first wrong value.
inline constexpr const char* kWrongPoint = "model.layers.1.self_attn:probs";

}  // namespace ps::viewer
