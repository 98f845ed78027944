#include <algorithm>
#include <cstdint>
#include <dlfcn.h>

#include <cublasLt.h>

#include "model/cuda_error.cuh"
#include "model/gemm/gemm_cublas.h"

namespace ps {

// The functions that we use, by their own types.
struct CublasGemm::Library {
  void* file = nullptr;
  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtDestroy) destroy = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
  decltype(&cublasLtMatmulDescCreate) desc_create = nullptr;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) layout_create = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy = nullptr;
  decltype(&cublasLtMatrixLayoutSetAttribute) layout_set = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic = nullptr;
};

struct CublasGemm::Choice {
  cublasLtMatmulAlgo_t algo;
  std::size_t workspace;
};

namespace {

constexpr std::size_t kMostWorkspace = std::size_t{64} << 20;

template <class F>
bool find(void* file, const char* name, F& function) {
  function = reinterpret_cast<F>(dlsym(file, name));
  return function != nullptr;
}

// A handle of the library with its destroy function.
template <class Handle, class Destroy>
struct Owned {
  Handle handle = nullptr;
  Destroy destroy;
  explicit Owned(Destroy d) : destroy(d) {}
  ~Owned() {
    if (handle != nullptr) destroy(handle);
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
};

cudaDataType_t data_type(DType type) {
  switch (type) {
    case DType::kBF16:
      return CUDA_R_16BF;
    case DType::kF16:
      return CUDA_R_16F;
    default:
      return CUDA_R_32F;
  }
}

// The largest power of two, at most 256, that divides an address and all its steps.
std::uint32_t alignment(const void* pointer, std::initializer_list<std::int64_t> steps,
                        std::int64_t size) {
  auto bits = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(pointer)) | 256u;
  for (const std::int64_t step : steps) bits |= static_cast<std::uint64_t>(step * size);
  return static_cast<std::uint32_t>(bits & (~bits + 1));
}

}  // namespace

CublasGemm::CublasGemm(std::unique_ptr<Library> library, std::string device)
    : library_(std::move(library)), device_(std::move(device)) {}

CublasGemm::~CublasGemm() {
  if (workspace_ != nullptr) cudaFree(workspace_);
  if (handle_ != nullptr) library_->destroy(static_cast<cublasLtHandle_t>(handle_));
}

Result<std::unique_ptr<CublasGemm>> CublasGemm::open(const std::string& device) {
  auto library = std::make_unique<Library>();
  const std::string name = "libcublasLt.so." + std::to_string(CUBLAS_VER_MAJOR);
  for (const std::string& path : {name, "/usr/local/cuda/lib64/" + name}) {
    if (library->file == nullptr) library->file = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  }
  if (library->file == nullptr)
    return machine_error(device, "cannot open " + name, "CUDA's library in the loader's path",
                         dlerror());
  Library& l = *library;
  void* f = l.file;
  const bool complete =
      find(f, "cublasLtCreate", l.create) && find(f, "cublasLtDestroy", l.destroy) &&
      find(f, "cublasLtMatmul", l.matmul) && find(f, "cublasLtMatmulDescCreate", l.desc_create) &&
      find(f, "cublasLtMatmulDescDestroy", l.desc_destroy) &&
      find(f, "cublasLtMatmulDescSetAttribute", l.desc_set) &&
      find(f, "cublasLtMatrixLayoutCreate", l.layout_create) &&
      find(f, "cublasLtMatrixLayoutDestroy", l.layout_destroy) &&
      find(f, "cublasLtMatrixLayoutSetAttribute", l.layout_set) &&
      find(f, "cublasLtMatmulPreferenceCreate", l.preference_create) &&
      find(f, "cublasLtMatmulPreferenceDestroy", l.preference_destroy) &&
      find(f, "cublasLtMatmulPreferenceSetAttribute", l.preference_set) &&
      find(f, "cublasLtMatmulAlgoGetHeuristic", l.heuristic);
  if (!complete)
    return machine_error(device, name + " lacks a function",
                         "cuBLASLt of the CUDA that this was built with");
  auto gemm = std::unique_ptr<CublasGemm>(new CublasGemm(std::move(library), device));
  cublasLtHandle_t handle = nullptr;
  const cublasStatus_t status = gemm->library_->create(&handle);
  if (status != CUBLAS_STATUS_SUCCESS)
    return machine_error(device, "cublasLtCreate", "success", "status " + std::to_string(status));
  gemm->handle_ = handle;
  return Result<std::unique_ptr<CublasGemm>>(std::move(gemm));
}

Result<void> CublasGemm::reserve_workspace(std::size_t bytes) {
  if (bytes <= workspace_bytes_) return {};
  if (workspace_ != nullptr) cudaFree(workspace_);  // waits for the products that use it
  workspace_bytes_ = 0;
  const cudaError_t status = cudaMalloc(&workspace_, bytes);
  if (status != cudaSuccess)
    return cuda_error(device_, "cudaMalloc of " + std::to_string(bytes) + " bytes of workspace",
                      status);
  workspace_bytes_ = bytes;
  return {};
}

Result<void> CublasGemm::run(const GemmPlan& plan, const void* a, const void* b, const void* bias,
                             void* c, void* stream) {
  const std::optional<std::string> reason = refused(plan);
  PS_CHECK(!reason && plan.type_a == plan.type && plan.k > 0,
           plan.describe() + ": " + reason.value_or("not a plan for the GPU"));
  if (plan.m == 0 || plan.n == 0 || plan.batches() == 0) return {};
  const Library& l = *library_;
  const auto say = [&](const char* call, cublasStatus_t status) {
    return machine_error(device_, std::string(call) + " for " + plan.describe(), "success",
                         "status " + std::to_string(status));
  };
#define PS_TRY_CUBLAS(call, ...)                                                \
  do {                                                                          \
    const cublasStatus_t status = call(__VA_ARGS__);                            \
    if (status != CUBLAS_STATUS_SUCCESS) return say("cuBLASLt " #call, status); \
  } while (false)

  // The level with the most products is the library's strided batch, the others are loops here.
  std::size_t strided = 0;
  for (std::size_t i = 1; i < plan.batch.size(); ++i) {
    if (plan.batch[i].count > plan.batch[strided].count) strided = i;
  }
  const BatchLevel inner = plan.batch[strided];
  const std::int64_t size = size_of(plan.type);
  const cudaDataType_t type = data_type(plan.type);

  Owned<cublasLtMatmulDesc_t, decltype(l.desc_destroy)> desc(l.desc_destroy);
  PS_TRY_CUBLAS(l.desc_create, &desc.handle, CUBLAS_COMPUTE_32F, CUDA_R_32F);
  const cublasOperation_t op_a = plan.op_a == Transpose::kYes ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cublasOperation_t op_b = plan.op_b == Transpose::kYes ? CUBLAS_OP_T : CUBLAS_OP_N;
  PS_TRY_CUBLAS(l.desc_set, desc.handle, CUBLASLT_MATMUL_DESC_TRANSA, &op_a, sizeof op_a);
  PS_TRY_CUBLAS(l.desc_set, desc.handle, CUBLASLT_MATMUL_DESC_TRANSB, &op_b, sizeof op_b);
  if (plan.bias) {
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    PS_TRY_CUBLAS(l.desc_set, desc.handle, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                  sizeof epilogue);
    PS_TRY_CUBLAS(l.desc_set, desc.handle, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
  }

  using Layout = Owned<cublasLtMatrixLayout_t, decltype(l.layout_destroy)>;
  Layout layout_a(l.layout_destroy), layout_b(l.layout_destroy), layout_c(l.layout_destroy);
  const auto describe = [&](Layout& layout, std::int64_t rows, std::int64_t cols, std::int64_t ld,
                            std::int64_t stride) {
    cublasStatus_t status = l.layout_create(&layout.handle, type, static_cast<std::uint64_t>(rows),
                                            static_cast<std::uint64_t>(cols), ld);
    const auto count = static_cast<std::int32_t>(inner.count);
    if (status == CUBLAS_STATUS_SUCCESS)
      status =
          l.layout_set(layout.handle, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count);
    if (status == CUBLAS_STATUS_SUCCESS)
      status = l.layout_set(layout.handle, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride,
                            sizeof stride);
    return status;
  };
  const bool ta = plan.op_a == Transpose::kYes, tb = plan.op_b == Transpose::kYes;
  PS_TRY_CUBLAS(describe, layout_a, ta ? plan.k : plan.m, ta ? plan.m : plan.k, plan.lda,
                inner.stride_a);
  PS_TRY_CUBLAS(describe, layout_b, tb ? plan.n : plan.k, tb ? plan.k : plan.n, plan.ldb,
                inner.stride_b);
  PS_TRY_CUBLAS(describe, layout_c, plan.m, plan.n, plan.ldc, inner.stride_c);

  // The choice depends on the shape and on how operands are aligned, in every product of the call.
  const auto steps_of = [&](const void* pointer, std::int64_t BatchLevel::* stride,
                            std::int64_t ld) {
    return alignment(
        pointer, {plan.batch[0].*stride, plan.batch[1].*stride, plan.batch[2].*stride, ld}, size);
  };
  const std::uint32_t align[] = {steps_of(a, &BatchLevel::stride_a, plan.lda),
                                 steps_of(b, &BatchLevel::stride_b, plan.ldb),
                                 steps_of(c, &BatchLevel::stride_c, plan.ldc)};
  std::string key = plan.describe() + " x" + std::to_string(inner.count);
  for (const std::int64_t n : {inner.stride_a, inner.stride_b, inner.stride_c})
    key += "," + std::to_string(n);
  for (const std::uint32_t n : align) key += "," + std::to_string(n);
  auto choice = choices_.find(key);
  if (choice == choices_.end()) {
    Owned<cublasLtMatmulPreference_t, decltype(l.preference_destroy)> preference(
        l.preference_destroy);
    PS_TRY_CUBLAS(l.preference_create, &preference.handle);
    const std::uint32_t no_reduction = CUBLASLT_REDUCTION_SCHEME_NONE;
    PS_TRY_CUBLAS(l.preference_set, preference.handle, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                  &no_reduction, sizeof no_reduction);
    PS_TRY_CUBLAS(l.preference_set, preference.handle, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                  &kMostWorkspace, sizeof kMostWorkspace);
    PS_TRY_CUBLAS(l.preference_set, preference.handle, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
                  &align[0], sizeof align[0]);
    PS_TRY_CUBLAS(l.preference_set, preference.handle, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                  &align[1], sizeof align[1]);
    PS_TRY_CUBLAS(l.preference_set, preference.handle, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
                  &align[2], sizeof align[2]);
    PS_TRY_CUBLAS(l.preference_set, preference.handle, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
                  &align[2], sizeof align[2]);
    cublasLtMatmulHeuristicResult_t found{};
    int count = 0;
    PS_TRY_CUBLAS(l.heuristic, static_cast<cublasLtHandle_t>(handle_), desc.handle, layout_a.handle,
                  layout_b.handle, layout_c.handle, layout_c.handle, preference.handle, 1, &found,
                  &count);
    if (count == 0 || found.state != CUBLAS_STATUS_SUCCESS)
      return say("cublasLtMatmulAlgoGetHeuristic finds no algorithm", found.state);
    choice = choices_.emplace(key, Choice{found.algo, found.workspaceSize}).first;
  }
  PS_TRY_VOID(reserve_workspace(choice->second.workspace));

  const float beta = 0.f;
  const auto loops = [&](std::size_t i) {
    return i == strided ? std::int64_t{1} : plan.batch[i].count;
  };
  const auto at = [&](const void* base, std::int64_t elements) {
    return static_cast<const std::byte*>(base) + elements * size;
  };
  for (std::int64_t i = 0; i < loops(0); ++i) {
    for (std::int64_t j = 0; j < loops(1); ++j) {
      for (std::int64_t k = 0; k < loops(2); ++k) {
        const auto offset = [&](std::int64_t BatchLevel::* stride) {
          return i * (plan.batch[0].*stride) + j * (plan.batch[1].*stride) +
                 k * (plan.batch[2].*stride);
        };
        void* result = static_cast<std::byte*>(c) + offset(&BatchLevel::stride_c) * size;
        PS_TRY_CUBLAS(l.matmul, static_cast<cublasLtHandle_t>(handle_), desc.handle, &plan.alpha,
                      at(a, offset(&BatchLevel::stride_a)), layout_a.handle,
                      at(b, offset(&BatchLevel::stride_b)), layout_b.handle, &beta, result,
                      layout_c.handle, result, layout_c.handle, &choice->second.algo, workspace_,
                      choice->second.workspace, static_cast<cudaStream_t>(stream));
      }
    }
  }
#undef PS_TRY_CUBLAS
  return {};
}

}  // namespace ps
