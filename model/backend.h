// Where a model runs: memory, ops, products, taps, on a host or on one GPU. The engine is written
// against this and does not know which. Calls are queued; an error stays, later calls do nothing,
// and the engine looks at error() once a step.
#pragma once

#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/engine.h"
#include "model/array.h"
#include "model/gemm/gemm_plan.h"
#include "model/ops/op.h"

namespace ps {

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string describe()
      const = 0;  // "host, 2 threads, OpenBLAS 0.3.21", "cuda:0 NVIDIA H200"

  // Null when there is none left; the error says how much was asked for, and for what.
  virtual void* allocate(std::int64_t bytes, std::string_view what) = 0;
  virtual void release(void* memory) = 0;

  // A weight as the ops can read it, for as long as the backend lives. as_stored: a host may hand
  // out the mapped checkpoint in its own dtype (products and the embedding round when they read).
  virtual Array weight(const TensorView& tensor, DType dtype, bool as_stored) = 0;

  virtual void upload(const void* from, const Array& to) = 0;  // contiguous; `from` may go at once
  virtual void download(const Array& from, void* to) = 0;      // contiguous; waits
  virtual void run(Op op, std::initializer_list<Array> arrays,
                   std::initializer_list<double> scalars) = 0;
  virtual void gemm(const GemmPlan& plan, const Array& a, const Array& b, const Array& bias,
                    const Array& c) = 0;

  // Hands a contiguous array to the tap: at once, or once it has been copied. finish() waits for
  // all.
  virtual void tap(const std::string& point, const Array& value, Tap& tap) = 0;
  virtual void finish() = 0;

  const std::optional<Error>& error() const { return error_; }
  void fail(Error error) {
    if (!error_) error_ = std::move(error);
  }

 protected:
  std::optional<Error> error_;
};

// For tests: `launch` names the runner (its pool is filled in).
std::unique_ptr<Backend> open_host_backend(int threads, const Launch& launch);

// Error where this build has no CUDA, or the machine no usable device. cuda_devices: 0 for either.
int cuda_devices();
Result<std::unique_ptr<Backend>> open_cuda_backend();
// What a candidate's options ask for.
struct CandidateOptions;
Result<std::unique_ptr<Backend>> open_backend(const CandidateOptions& options);

const Schema& schema_of(Op op);

}  // namespace ps
