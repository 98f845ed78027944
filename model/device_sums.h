// A backend that adds up the values of ranks in other processes from device to device. Others go
// over the host.
#pragma once

#include "core/ranks.h"
#include "model/array.h"

namespace ps {

class DeviceSums {
 public:
  virtual ~DeviceSums() = default;
  // Every rank calls it, once. Where nothing joins the devices they stay apart, on all ranks.
  virtual Result<void> join_ranks(ProcessCollectives& collectives) = 0;
  virtual bool joined() const = 0;
  virtual void all_reduce(const Array& value) = 0;  // queued, in place; errors stay in the backend
};

}  // namespace ps
