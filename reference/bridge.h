// Between parscope's views and LibTorch's tensors: the only converter.
#pragma once

#include "core/dtype.h"
#include "core/result.h"
#include "core/tensor.h"
#include "reference/torch.h"

namespace ps::reference {

at::ScalarType scalar_type(DType dtype);
DType dtype_of(at::ScalarType type);
// Borrows the bytes: the view must outlive the tensor, and nobody may write to it.
at::Tensor borrow(const TensorView& view);
// Borrows the tensor's storage: `t` must be contiguous and outlive the view.
TensorView view_of(const at::Tensor& t);
at::Tensor from_int64(const std::vector<std::int64_t>& values, at::IntArrayRef shape);

// The message of a LibTorch exception without its stack trace.
Error torch_error(const std::string& where, const std::exception& e);

}  // namespace ps::reference
