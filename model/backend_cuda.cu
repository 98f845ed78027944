// One GPU: weights uploaded once, everything queued on one stream. A tapped array is copied to
// pinned memory behind the kernel that wrote it, and handed over when the copy is done, in order.
#include <cstring>
#include <string>
#include <vector>

#include <cuda_runtime.h>

#include "model/backend.h"
#include "model/cuda_error.cuh"
#include "model/device_sums.h"
#include "model/gemm/convert.h"
#include "model/gemm/gemm_cublas.h"
#include "model/nccl.h"

namespace ps {
namespace {

constexpr std::int64_t kStageBytes = std::int64_t{64} << 20;
constexpr int kThreads = 128;

const OpEntry& cuda_entry(Op op) {
  static const OpEntry& (*const entries[])() = {
#define PS_OP(name) &cuda::name,
#include "model/ops/ops.def"
#undef PS_OP
  };
  return entries[static_cast<std::size_t>(op)]();
}

Array with_shape(void* data, DType dtype, const Shape& s) {
  if (s.size() == 1) return {data, dtype, {s[0]}};
  if (s.size() == 2) return {data, dtype, {s[0], s[1]}};
  PS_CHECK(s.size() == 4, "a weight of shape " + to_string(s));
  return {data, dtype, {s[0], s[1], s[2], s[3]}};
}

class CudaBackend final : public Backend, public DeviceSums {
 public:
  CudaBackend(std::string device, cudaStream_t stream, std::unique_ptr<CublasGemm> gemm)
      : device_(std::move(device)), stream_(stream), gemm_(std::move(gemm)) {}
  ~CudaBackend() override {
    cudaStreamSynchronize(stream_);
    nccl_.reset();
    for (void* memory : owned_) cudaFree(memory);
    if (stage_ != nullptr) cudaFreeHost(stage_);
    cudaStreamDestroy(stream_);
  }
  std::string describe() const override { return device_; }

  Result<void> join_ranks(ProcessCollectives& collectives) override {
    PS_TRY(nccl_, NcclRanks::join(collectives, device_));
    return {};
  }
  bool joined() const override { return nccl_ != nullptr; }
  void all_reduce(const Array& value) override {
    if (error_) return;
    const Result<void> queued = nccl_->all_reduce(value, stream_);
    if (!queued.ok()) fail(queued.error());
  }

  void* allocate(std::int64_t bytes, std::string_view what) override {
    if (error_) return nullptr;
    void* memory = nullptr;
    const cudaError_t status = cudaMalloc(&memory, static_cast<std::size_t>(bytes > 0 ? bytes : 1));
    if (status == cudaSuccess) return memory;
    cudaGetLastError();  // it would come back from the next launch
    std::size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    if (status == cudaErrorMemoryAllocation) {
      fail(machine_error(device_, "out of memory for " + std::string(what),
                         std::to_string(bytes) + " bytes",
                         std::to_string(free) + " of " + std::to_string(total) + " free"));
    } else {
      fail(cuda_error(device_,
                      "cudaMalloc of " + std::to_string(bytes) + " bytes for " + std::string(what),
                      status));
    }
    return nullptr;
  }
  void release(void* memory) override {
    if (memory != nullptr) cudaFree(memory);
  }
  Array weight(const TensorView& tensor, DType dtype, bool) override {
    void* memory =
        allocate(tensor.count() * size_of(dtype), "a weight of shape " + to_string(tensor.shape));
    if (memory == nullptr) return {};
    owned_.push_back(memory);
    const Array out = with_shape(memory, dtype, tensor.shape);
    if (tensor.dtype == dtype) {
      upload(tensor.bytes.data(), out);
    } else {
      std::vector<std::byte> converted(static_cast<std::size_t>(out.bytes()));
      convert_elements(tensor.bytes.data(), tensor.dtype, converted.data(), dtype, tensor.count());
      upload(converted.data(), out);
    }
    return out;
  }
  // From pageable memory: the call returns when the source has been read.
  void upload(const void* from, const Array& to) override {
    if (error_) return;
    check("cudaMemcpyAsync to " + to.describe(),
          cudaMemcpyAsync(to.data(), from, static_cast<std::size_t>(to.bytes()),
                          cudaMemcpyHostToDevice, stream_));
  }
  void download(const Array& from, void* to) override {
    if (error_) return;
    check("cudaMemcpyAsync from " + from.describe(),
          cudaMemcpyAsync(to, from.data(), static_cast<std::size_t>(from.bytes()),
                          cudaMemcpyDeviceToHost, stream_));
    synchronize();
  }
  void run(Op op, std::initializer_list<Array> arrays,
           std::initializer_list<double> scalars) override {
    if (error_) return;
    const OpCall call{.op = &cuda_entry(op), .arrays = arrays, .scalars = scalars};
    call.check(schema_of(op));
    Launch launch;
    launch.threads = kThreads;
    launch.stream = stream_;
    call.op->run(call, launch);
    last_ = call.op->name;
    if (launch.error != 0)
      fail(cuda_error(device_, "launch of " + call.describe(),
                      static_cast<cudaError_t>(launch.error)));
  }
  void gemm(const GemmPlan& plan, const Array& a, const Array& b, const Array& bias,
            const Array& c) override {
    if (error_) return;
    const GemmExtents need = extents(plan);
    PS_CHECK(need.a <= a.extent() && need.b <= b.extent() && need.c <= c.extent() &&
                 (!plan.bias || bias.count() >= plan.m),
             plan.describe() + " on " + a.describe() + ", " + b.describe() + ", " + c.describe());
    const Result<void> ran = gemm_->run(plan, a.data(), b.data(), bias.data(), c.data(), stream_);
    last_ = "gemm";
    if (!ran) fail(ran.error());
  }
  void tap(const std::string& point, const Array& value, Tap& tap) override {
    if (error_) return;
    const std::int64_t bytes = value.bytes();
    if (staged_ + bytes > stage_bytes_) {
      finish();  // the stage is empty now
      if (bytes > stage_bytes_ && !grow_stage(bytes)) return;
    }
    check("cudaMemcpyAsync of " + point,
          cudaMemcpyAsync(stage_ + staged_, value.data(), static_cast<std::size_t>(bytes),
                          cudaMemcpyDeviceToHost, stream_));
    pending_.push_back(
        {point,
         {value.dtype(), value.shape(), {stage_ + staged_, static_cast<std::size_t>(bytes)}},
         &tap});
    staged_ += (bytes + 63) / 64 * 64;
  }
  void finish() override {
    synchronize();
    if (!error_) {
      for (const Pending& value : pending_) value.tap->take(value.point, value.view);
    }
    pending_.clear();
    staged_ = 0;
  }

 private:
  struct Pending {
    std::string point;
    TensorView view;
    Tap* tap;
  };
  void check(const std::string& call, cudaError_t status) {
    if (status != cudaSuccess) fail(cuda_error(device_, call, status));
  }
  void synchronize() {
    check("cudaStreamSynchronize after " + std::string(last_), cudaStreamSynchronize(stream_));
  }
  bool grow_stage(std::int64_t bytes) {
    if (stage_ != nullptr) cudaFreeHost(stage_);
    stage_ = nullptr;
    stage_bytes_ = std::max(bytes, kStageBytes);
    void* memory = nullptr;
    check("cudaHostAlloc of " + std::to_string(stage_bytes_) + " bytes for taps",
          cudaHostAlloc(&memory, static_cast<std::size_t>(stage_bytes_), cudaHostAllocDefault));
    if (memory == nullptr) stage_bytes_ = 0;
    stage_ = static_cast<std::byte*>(memory);
    return memory != nullptr;
  }

  std::string device_;
  cudaStream_t stream_;
  std::unique_ptr<CublasGemm> gemm_;
  std::unique_ptr<NcclRanks> nccl_;  // where ranks on other GPUs were met
  std::vector<void*> owned_;
  std::byte* stage_ = nullptr;
  std::int64_t stage_bytes_ = 0, staged_ = 0;
  std::vector<Pending> pending_;
  std::string_view last_ = "nothing";
};

}  // namespace

int cuda_devices() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  return count;
}

Result<std::unique_ptr<Backend>> open_cuda_backend() {
  int count = 0;
  const cudaError_t counted = cudaGetDeviceCount(&count);
  if (counted != cudaSuccess || count == 0)
    return cuda_error("cuda", "no usable device: cudaGetDeviceCount", counted);
  cudaDeviceProp properties{};
  const cudaError_t asked = cudaGetDeviceProperties(&properties, 0);
  if (asked != cudaSuccess) return cuda_error("cuda:0", "cudaGetDeviceProperties", asked);
  const std::string device = "cuda:0 " + std::string(properties.name);
  cudaStream_t stream = nullptr;
  const cudaError_t made = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  if (made != cudaSuccess) return cuda_error(device, "cudaStreamCreateWithFlags", made);
  PS_TRY(std::unique_ptr<CublasGemm> gemm, CublasGemm::open(device));
  return std::unique_ptr<Backend>(std::make_unique<CudaBackend>(device, stream, std::move(gemm)));
}

}  // namespace ps
