#include <cstring>
#include <dlfcn.h>

#include <cuda_runtime.h>

#include "model/nccl.h"

#if __has_include(<nccl.h>)
#include <nccl.h>
#define PS_HAS_NCCL 1
#endif

namespace ps {

#ifdef PS_HAS_NCCL

namespace {

template <class Function>
bool find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

ncclDataType_t nccl_type(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return ncclBfloat16;
    case DType::kF16:
      return ncclFloat16;
    default:
      return ncclFloat32;
  }
}

}  // namespace

struct NcclRanks::Library {
  void* file = nullptr;
  decltype(&ncclGetUniqueId) unique_id = nullptr;
  decltype(&ncclCommInitRank) init = nullptr;
  decltype(&ncclCommAbort) abort = nullptr;
  decltype(&ncclAllReduce) all_reduce = nullptr;
  decltype(&ncclGetErrorString) error_string = nullptr;

  Error error(const std::string& device, const std::string& what, ncclResult_t status) const {
    return machine_error(device, what, "success", error_string(status));
  }
};

namespace {

bool open(void*& file) {
  for (const char* name : {"libnccl.so.2", "/usr/local/cuda/lib64/libnccl.so.2"}) {
    if (file == nullptr) file = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  }
  return file != nullptr;
}

}  // namespace

Result<std::unique_ptr<NcclRanks>> NcclRanks::join(ProcessCollectives& collectives,
                                                   const std::string& device) {
  auto library = std::make_unique<Library>();
  Library& l = *library;
  const bool here = open(l.file) && find(l.file, "ncclGetUniqueId", l.unique_id) &&
                    find(l.file, "ncclCommInitRank", l.init) &&
                    find(l.file, "ncclCommAbort", l.abort) &&
                    find(l.file, "ncclAllReduce", l.all_reduce) &&
                    find(l.file, "ncclGetErrorString", l.error_string);
  // A rank that would go over the host while the others use NCCL is named here.
  PS_TRY_VOID(collectives.announce({"join", {here ? 1 : 0}, DType::kU8, "nccl"}));
  if (!here) return std::unique_ptr<NcclRanks>();
  std::string bytes(sizeof(ncclUniqueId), '\0');
  ncclUniqueId id{};
  if (collectives.rank() == 0) {
    const ncclResult_t made = l.unique_id(&id);
    if (made != ncclSuccess) return l.error(device, "ncclGetUniqueId", made);
    std::memcpy(bytes.data(), &id, sizeof id);
  }
  PS_TRY_VOID(collectives.share(bytes));
  if (bytes.size() != sizeof id) {
    return machine_error(device, "rank 0's NCCL is another one", std::to_string(sizeof id),
                         std::to_string(bytes.size()) + " bytes of ncclUniqueId");
  }
  std::memcpy(&id, bytes.data(), sizeof id);
  std::unique_ptr<NcclRanks> out(new NcclRanks(std::move(library), device));
  ncclComm_t communicator = nullptr;
  const ncclResult_t joined =
      out->library_->init(&communicator, static_cast<int>(collectives.size()), id,
                          static_cast<int>(collectives.rank()));
  if (joined != ncclSuccess) return out->library_->error(device, "ncclCommInitRank", joined);
  out->communicator_ = communicator;
  return Result<std::unique_ptr<NcclRanks>>(std::move(out));
}

NcclRanks::NcclRanks(std::unique_ptr<Library> library, std::string device)
    : library_(std::move(library)), device_(std::move(device)) {}

NcclRanks::~NcclRanks() {
  if (communicator_ != nullptr) library_->abort(static_cast<ncclComm_t>(communicator_));
}

Result<void> NcclRanks::all_reduce(const Array& value, void* stream) {
  const ncclResult_t status = library_->all_reduce(
      value.data(), value.data(), static_cast<std::size_t>(value.count()), nccl_type(value.dtype()),
      ncclSum, static_cast<ncclComm_t>(communicator_), static_cast<cudaStream_t>(stream));
  if (status == ncclSuccess) return {};
  return library_->error(device_, "ncclAllReduce of " + value.describe(), status);
}

#else

struct NcclRanks::Library {};

Result<std::unique_ptr<NcclRanks>> NcclRanks::join(ProcessCollectives& collectives,
                                                   const std::string&) {
  PS_TRY_VOID(collectives.announce({"join", {0}, DType::kU8, "nccl"}));
  return std::unique_ptr<NcclRanks>();
}

NcclRanks::NcclRanks(std::unique_ptr<Library> library, std::string device)
    : library_(std::move(library)), device_(std::move(device)) {}
NcclRanks::~NcclRanks() = default;
Result<void> NcclRanks::all_reduce(const Array&, void*) {
  return machine_error(device_, "this build has no NCCL");
}

#endif

}  // namespace ps
