// What commands share in reading their words.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "diff/compare/axes.h"
#include "viewer/app/commands.h"
#include "viewer/app/selection.h"

namespace ps::viewer {

// "layer: wants N|+N|-N, found 3 words", from the table.
Result<void> expect(const Words& words, std::size_t least, std::size_t most,
                    const std::string& command);
// "7" is 7; "+2" and "-1" are from `now`, and stop at the ends.
Result<std::int64_t> changed(const std::string& word, const std::string& what, std::int64_t now,
                             std::int64_t low, std::int64_t high);

// The axes that lie down and across where a tensor is shown as a matrix: the user's choice
// (tensor.rows, tensor.columns), else the last two that are longer than one. -1: there is none.
std::pair<std::ptrdiff_t, std::ptrdiff_t> matrix_axes(const Display& display,
                                                      const std::vector<NamedAxis>& axes);

// Axes of the tensor that is looked at: the run's, else the reference's; none where neither has it.
std::vector<NamedAxis> shown_axes(const App& app);

}  // namespace ps::viewer
