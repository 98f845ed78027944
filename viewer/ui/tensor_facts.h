// Beside the Tensor panel's matrix: what its colours mean, the selected cell in every detail, and
// what the whole tensor is like.
#pragma once

#include <string>

#include "viewer/data/tensor_model.h"
#include "viewer/ui/ui.h"

namespace ps::viewer {

std::string value_text(double x, int digits = 6);  // also NaN and infinities
// Where the selection stands on an axis of the cut; 0 where it has none.
std::int64_t selected(const App& app, const Cut& cut, std::ptrdiff_t axis);
// What the matrix shows: errors, else one side's values.
bool shows_errors(const App& app, const TensorModel& model);
const Pyramid& values_of(const App& app, const TensorModel& model);

void tensor_facts(App& app, Ui& ui, const TensorModel& model);

}  // namespace ps::viewer
