// Errors of CUDA as values: the call, what it was for, the device. Only *.cu files include this.
#pragma once

#include <string>

#include <cuda_runtime.h>

#include "core/result.h"

namespace ps {

inline Error cuda_error(const std::string& device, const std::string& call, cudaError_t status) {
  return machine_error(
      device, call, "cudaSuccess",
      std::string(cudaGetErrorName(status)) + " (" + cudaGetErrorString(status) + ")");
}

}  // namespace ps
