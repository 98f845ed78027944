// The fields of a SparseConfig as JSON: "config" of a case, "sparse_attention" of a model's config.
#pragma once

#include <string>
#include <vector>

#include "core/json.h"
#include "core/result.h"
#include "core/sparse.h"

namespace ps {

enum class SparseFieldsUse : std::uint8_t {
  kCase,   // the shapes must be there too
  kModel,  // the shapes are the model's
};
Result<void> read_sparse_fields(const Json& object, const std::string& here, SparseFieldsUse use,
                                SparseConfig& out);
// Those that a model may set.
std::vector<std::string> sparse_option_names();

}  // namespace ps
