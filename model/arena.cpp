#include "model/arena.h"

#include <algorithm>

namespace ps {
namespace {
constexpr std::int64_t kAlign = 256;
constexpr std::int64_t kSmallestChunk = std::int64_t{1} << 20;
}  // namespace

Arena::~Arena() {
  for (const Chunk& chunk : chunks_) backend_.release(chunk.memory);
}

Array Arena::take(DType dtype, std::initializer_list<std::int64_t> sizes) {
  std::int64_t bytes = size_of(dtype);
  for (const std::int64_t size : sizes) bytes *= size;
  bytes = (bytes + kAlign - 1) / kAlign * kAlign;
  while (chunk_ < chunks_.size() && used_ + bytes > chunks_[chunk_].bytes) {
    ++chunk_;
    used_ = 0;
  }
  if (chunk_ == chunks_.size()) {
    std::int64_t total = 0;
    for (const Chunk& chunk : chunks_) total += chunk.bytes;
    const std::int64_t size = std::max({bytes, kSmallestChunk, total / 2});
    const std::string what =
        "activations (" + std::to_string(total + size) + " bytes with those before)";
    void* memory = backend_.allocate(size, what);
    if (memory == nullptr) return {nullptr, dtype, sizes};
    chunks_.push_back({static_cast<std::byte*>(memory), size});
    used_ = 0;
  }
  std::byte* memory = chunks_[chunk_].memory + used_;
  used_ += bytes;
  std::int64_t before = 0;
  for (std::size_t i = 0; i < chunk_; ++i) before += chunks_[i].bytes;
  peak_ = std::max(peak_, before + used_);
  return {memory, dtype, sizes};
}

void Arena::reset() {
  chunk_ = 0;
  used_ = 0;
  if (chunks_.size() <= 1) return;
  for (const Chunk& chunk : chunks_) backend_.release(chunk.memory);
  chunks_.clear();
  void* memory = backend_.allocate(peak_, "activations");
  if (memory != nullptr) chunks_.push_back({static_cast<std::byte*>(memory), peak_});
}

}  // namespace ps
