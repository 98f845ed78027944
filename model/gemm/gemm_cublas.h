// Runs a GemmPlan by cuBLASLt. The library is opened on first use, so a program with a CUDA half
// starts in milliseconds and on machines without one. Deterministic: no split-K reductions (which
// also keeps one rounding a result), no TF32, the heuristic's first choice, kept for the next call.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "core/result.h"
#include "model/gemm/gemm_plan.h"

namespace ps {

class CublasGemm {
 public:
  static Result<std::unique_ptr<CublasGemm>> open(const std::string& device);
  ~CublasGemm();
  CublasGemm(const CublasGemm&) = delete;
  CublasGemm& operator=(const CublasGemm&) = delete;

  // Queues the product on a cudaStream_t; an Error names the call, the plan, the device.
  Result<void> run(const GemmPlan& plan, const void* a, const void* b, const void* bias, void* c,
                   void* stream);

 private:
  struct Library;
  struct Choice;
  CublasGemm(std::unique_ptr<Library> library, std::string device);
  Result<void> reserve_workspace(std::size_t bytes);

  std::unique_ptr<Library> library_;
  std::string device_;
  void* handle_ = nullptr;
  void* workspace_ = nullptr;
  std::size_t workspace_bytes_ = 0;
  std::map<std::string, Choice> choices_;
};

}  // namespace ps
