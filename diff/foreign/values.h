// Tensors of other programs' files: a name, a view, and whatever keeps the bytes alive.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "core/tensor.h"

namespace ps {

struct NamedTensor {
  std::string name;
  TensorView view;
  std::shared_ptr<const void> keep{};
};

NamedTensor owned_tensor(std::string name, Tensor tensor);

// A whole file, mapped.
struct FileBytes {
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> keep;
};
Result<FileBytes> map_file(const std::filesystem::path& path);

// The number of elements of a shape that a file claims, or an Error where it is negative or its
// bytes would not fit `room`: total, so that no hostile shape overflows or allocates.
Result<std::int64_t> checked_count(const Shape& shape, DType dtype, std::uint64_t room,
                                   const std::string& where);

// A view into `bytes` where they are aligned for the type, else a copy.
NamedTensor tensor_in(std::string name, DType dtype, Shape shape, std::span<const std::byte> bytes,
                      const std::shared_ptr<const void>& keep);

}  // namespace ps
