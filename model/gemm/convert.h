// Matrices between their storage type and float, column by column.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/dtype.h"

namespace ps {

// A column-major matrix of `from` as packed floats (ld = rows), in `scratch`. Values are first
// rounded to `round_to`: a float checkpoint that runs as bf16 is multiplied as bf16.
const float* pack_to_float(const std::byte* data, DType from, DType round_to, std::int64_t rows,
                           std::int64_t cols, std::int64_t ld, std::vector<float>& scratch);

// Packed floats, rounded once into a column-major matrix of `to`.
void store_rounded(const float* values, std::int64_t rows, std::int64_t cols, DType to,
                   std::int64_t ld, std::byte* out);

// `count` elements from one storage type to another (f32, bf16, f16, and f64 as a source).
void convert_elements(const std::byte* from, DType from_type, std::byte* to, DType to_type,
                      std::int64_t count);

}  // namespace ps
