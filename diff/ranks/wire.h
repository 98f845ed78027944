// What moves values between ranks: a library's collectives, behind one interface. Gloo serves CPUs
// (diff/ranks/gloo); none of them is written here.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "core/result.h"
#include "core/tensor.h"

namespace ps {

// Values that ranks find each other by.
class KeyValue {
 public:
  virtual ~KeyValue() = default;
  virtual Result<void> set(const std::string& key, const std::string& value) = 0;
  virtual Result<std::string> get(const std::string& key) = 0;  // waits for it
};

struct WireOptions {
  std::int64_t rank = 0, size = 1;
  std::string address;                       // of this rank, for the others
  std::chrono::milliseconds timeout{30000};  // of one collective
  KeyValue* values = nullptr;
};

// Every rank calls the same in the same order, with the same sizes. Errors are final.
class Wire {
 public:
  virtual ~Wire() = default;
  virtual Result<void> all_reduce(Tensor& value) = 0;  // the sum, the same bits on all
  virtual Result<void> all_gather(std::span<const std::byte> own, std::span<std::byte> all) = 0;
  virtual Result<void> gather(std::span<const std::byte> own, std::span<std::byte> all) = 0;
  virtual Result<void> broadcast(std::span<std::byte> bytes) = 0;  // rank 0's
};

// Opens libparscope_gloo.so on first use, beside the program or at PARSCOPE_GLOO.
Result<std::unique_ptr<Wire>> open_gloo(const WireOptions& options);

}  // namespace ps
