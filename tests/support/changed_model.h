// A copy of a model directory with tensors and config fields changed: a candidate that is wrong in
// a known way.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "core/checkpoint.h"

namespace ps {

using EditTensor = std::function<void(const std::string& name, Tensor& value)>;

// `config_edits`: fields to set, as JSON text ("" removes one).
Model changed_model(const std::filesystem::path& source, const std::filesystem::path& target,
                    const std::vector<std::pair<std::string, std::string>>& config_edits,
                    const EditTensor& edit);

}  // namespace ps
