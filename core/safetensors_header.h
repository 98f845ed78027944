// The JSON header of a safetensors file, read event by event: what each tensor says of itself, and
// where its bytes lie in the data section. Checks everything that the file alone can break.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "core/result.h"
#include "core/tensor.h"

namespace ps {

struct TensorHeader {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  std::int64_t begin = 0;  // in the data section
  std::int64_t end = 0;
};

struct SafetensorsHeader {
  std::vector<TensorHeader> tensors;  // in order of their data
  std::map<std::string, std::string> metadata;
};

// `data_size`: bytes behind the header; the tensors must fill them without hole or overlap.
Result<SafetensorsHeader> parse_safetensors_header(std::string_view json, std::int64_t data_size,
                                                   const std::string& where);

}  // namespace ps
