// Sums over the GPUs of all ranks, by NCCL. The library is opened when ranks on GPUs meet; where
// there is none, their values go over the host.
#pragma once

#include <memory>

#include "core/ranks.h"
#include "model/array.h"

namespace ps {

class NcclRanks {
 public:
  // Null where this build or this machine has no NCCL, and then on all ranks. Every rank calls it.
  static Result<std::unique_ptr<NcclRanks>> join(ProcessCollectives& collectives,
                                                 const std::string& device);
  ~NcclRanks();
  // Queued on the stream (a cudaStream_t); in place.
  Result<void> all_reduce(const Array& value, void* stream);

 private:
  struct Library;
  NcclRanks(std::unique_ptr<Library> library, std::string device);
  std::unique_ptr<Library> library_;
  std::string device_;
  void* communicator_ = nullptr;  // an ncclComm_t
};

}  // namespace ps
