// The "config" of a sparse case, field by field.
#pragma once

#include <string>

#include "core/json.h"
#include "core/result.h"
#include "core/sparse.h"

namespace ps {

Result<SparseConfig> sparse_config(const Json& case_json, const std::string& where);

}  // namespace ps
