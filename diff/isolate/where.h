// The place of a cell in words: "replica=1 batch=0 head=3 query=7".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/tensor.h"

namespace ps {

// `batch` splits replica-major rows into replica and batch. Points that the table does not have
// are told by plain indices.
std::string where_text(std::string_view point, const Shape& shape, std::int64_t flat_index,
                       std::int64_t batch);

}  // namespace ps
