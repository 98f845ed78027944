// The memory that a step's activations come from, taken and given back like a stack. It grows by a
// chunk where a step needs more than any before, and the next step finds one chunk of that size.
#pragma once

#include <initializer_list>
#include <vector>

#include "model/backend.h"

namespace ps {

class Arena {
 public:
  explicit Arena(Backend& backend) : backend_(backend) {}
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Uninitialised. After an out-of-memory error the array has no memory; the backend then runs
  // nothing.
  Array take(DType dtype, std::initializer_list<std::int64_t> sizes);
  void reset();  // everything is free again
  std::int64_t peak_bytes() const { return peak_; }

  // What is taken while a Scope lives is given back at its end.
  class Scope {
   public:
    explicit Scope(Arena& arena) : arena_(arena), chunk_(arena.chunk_), used_(arena.used_) {}
    ~Scope() {
      arena_.chunk_ = chunk_;
      arena_.used_ = used_;
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Arena& arena_;
    std::size_t chunk_;
    std::int64_t used_;
  };

 private:
  struct Chunk {
    std::byte* memory;
    std::int64_t bytes;
  };
  Backend& backend_;
  std::vector<Chunk> chunks_;
  std::size_t chunk_ = 0;  // in use; those before it are full
  std::int64_t used_ = 0;  // of that chunk
  std::int64_t peak_ = 0;
};

}  // namespace ps
