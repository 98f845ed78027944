// Runs a body and watches it. Every cell of shared and of global memory remembers who touched it:
//   race    two threads touch a cell in one phase (or two blocks in one launch), one of them
//   writing; bounds  an index outside the array; unset   a read of shared or output memory that
//   nobody has written.
// A race is found whatever the values are: also where the result happens to be right.
#pragma once

#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/result.h"
#include "model/block/block.h"

namespace ps {

struct CheckLog {
  std::int64_t races = 0;
  std::int64_t bounds = 0;
  std::int64_t unset = 0;
  std::int64_t unwritten = 0;  // cells of an output that a launch has left alone
  std::string first;           // the first fault, in words

  bool clean() const { return races + bounds + unset + unwritten == 0; }
  void note(std::int64_t& counter, std::string what) {
    if (clean()) first = std::move(what);
    ++counter;
  }
};

// Who touched a cell last.
struct CellShadow {
  std::int64_t write_block = -1, read_block = -1;
  int write_phase = -1, write_thread = -1;
  int read_phase = -1, read_thread = -1;
  bool many_readers = false;  // in read_phase of read_block
  bool many_blocks = false;   // blocks other than read_block have read it too
};

// Global memory of one launch.
struct LaunchShadow {
  std::unordered_map<const void*, CellShadow> cells;
  std::string body;
};

class CheckedBlock {
 public:
  template <class T>
  struct Registers {
    std::vector<T> cells;
    explicit Registers(CheckedBlock& block) : cells(static_cast<std::size_t>(block.threads_)) {}
    T& at(int t) { return cells[static_cast<std::size_t>(t)]; }
  };

  CheckedBlock(std::int64_t index, int threads, LaunchShadow& launch, CheckLog& log)
      : index_(index), threads_(threads), launch_(launch), log_(log) {}
  int threads() const { return threads_; }
  std::int64_t index() const { return index_; }

  template <class F>
  void phase(F&& f) {
    ++phase_;
    for (int t = 0; t < threads_; ++t) {
      self_ = t;
      f(Thread(t));
    }
    self_ = -1;
  }
  template <class F>
  void each(std::int64_t count, F&& f) {
    phase([&](Thread t) {
      for (std::int64_t i = t.id(); i < count; i += threads_) f(t, i);
    });
  }

  // A reference to a shared cell that reports what is done with it.
  template <class T>
  class Cell {
   public:
    Cell(T& value, CellShadow& shadow, CheckedBlock& block)
        : value_(value), shadow_(shadow), block_(block) {}
    operator T() const {  // NOLINT(google-explicit-constructor)
      if (shadow_.write_phase < 0)
        block_.log_.note(block_.log_.unset, block_.say("reads unset shared memory"));
      block_.on_read(shadow_, "shared memory");
      return value_;
    }
    Cell& operator=(const T& value) {
      block_.on_write(shadow_, "shared memory");
      value_ = value;
      return *this;
    }
    Cell& operator=(const Cell& from) { return *this = static_cast<T>(from); }

   private:
    T& value_;
    CellShadow& shadow_;
    CheckedBlock& block_;
  };
  template <class T>
  class Shared {
   public:
    Shared(std::vector<T>& cells, std::vector<CellShadow>& shadow, CheckedBlock& block)
        : cells_(&cells), shadow_(&shadow), block_(&block) {}
    Cell<T> operator[](int i) const {
      if (i < 0 || static_cast<std::size_t>(i) >= cells_->size()) {
        block_->log_.note(block_->log_.bounds,
                          block_->say("index " + std::to_string(i) + " outside shared memory"));
        i = 0;
      }
      const auto at = static_cast<std::size_t>(i);
      return {(*cells_)[at], (*shadow_)[at], *block_};
    }

   private:
    std::vector<T>* cells_;
    std::vector<CellShadow>* shadow_;
    CheckedBlock* block_;
  };
  template <class T>
  Shared<T> shared(int count) {
    const auto n = static_cast<std::size_t>(count);
    shared_used_ += (sizeof(T) * n + 15) / 16 * 16;
    PS_CHECK(shared_used_ <= kSharedBytes, "a body asks for more than kSharedBytes");
    auto cells = std::make_shared<std::vector<T>>(n);
    auto shadow = std::make_shared<std::vector<CellShadow>>(n);
    keep_.push_back(cells);
    keep_.push_back(shadow);
    return {*cells, *shadow, *this};
  }

  template <class T, class Op>
  void warp_reduce(PerThread<CheckedBlock, T>& part, Op op) {
    std::vector<T>& cells = part.cells_.cells;
    std::vector<T> next(cells.size());
    for (int d = kWarp / 2; d > 0; d /= 2) {
      for (std::size_t t = 0; t < cells.size(); ++t)
        next[t] = op(cells[t], cells[t ^ static_cast<std::size_t>(d)]);
      cells.swap(next);
    }
  }
  template <class T>
  T uniform(PerThread<CheckedBlock, T>& part) {
    for (const T& value : part.cells_.cells) {
      PS_CHECK(std::memcmp(&value, &part.cells_.cells[0], sizeof(T)) == 0,
               "threads disagree in uniform()");
    }
    return part.cells_.cells[0];
  }

  template <class T, int N, class... Index>
  auto load(const Global<T, N>& from, Index... index) {
    using Value = std::remove_const_t<T>;
    if (!inside(from, index...)) return widen(Value{});
    T* cell = GlobalAccess::cell(from, index...);
    CellShadow& shadow = launch_.cells[cell];
    if (!std::is_const_v<T> && shadow.write_phase < 0)
      log_.note(log_.unset, say("reads an output that it has not written"));
    on_read(shadow, "global memory");
    return widen(*cell);
  }
  template <class T, int N, class V, class... Index>
  void store(const Global<T, N>& to, V value, Index... index) {
    if (!inside(to, index...)) return;
    T* cell = GlobalAccess::cell(to, index...);
    on_write(launch_.cells[cell], "global memory");
    *cell = Narrow<T>::from(value);
  }

 private:
  template <class T, int N, class... Index>
  bool inside(const Global<T, N>& global, Index... index) {
    if (GlobalAccess::contains(global, index...)) return true;
    const std::int64_t at[] = {static_cast<std::int64_t>(index)...};
    log_.note(log_.bounds, say(describe_index(at)));
    return false;
  }
  std::string say(const std::string& what) const;
  static std::string describe_index(std::span<const std::int64_t> at);
  void on_read(CellShadow& s, const char* where) {
    const bool raced = s.write_phase >= 0 && (s.write_block != index_ ||
                                              (s.write_phase == phase_ && s.write_thread != self_));
    if (raced)
      log_.note(log_.races, say(std::string("race: reads what another wrote in ") + where));
    if (s.read_block >= 0 && s.read_block != index_) s.many_blocks = true;
    const bool same = s.read_block == index_ && s.read_phase == phase_;
    s.many_readers = same && (s.many_readers || s.read_thread != self_);
    s.read_block = index_;
    s.read_phase = phase_;
    s.read_thread = self_;
  }
  void on_write(CellShadow& s, const char* where) {
    const bool after_write =
        s.write_phase >= 0 &&
        (s.write_block != index_ || (s.write_phase == phase_ && s.write_thread != self_));
    const bool after_read =
        s.read_phase >= 0 &&
        (s.many_blocks || s.read_block != index_ ||
         (s.read_phase == phase_ && (s.many_readers || s.read_thread != self_)));
    if (after_write || after_read)
      log_.note(log_.races, say(std::string("race: writes what another touched in ") + where));
    s.write_block = index_;
    s.write_phase = phase_;
    s.write_thread = self_;
  }

  std::int64_t index_;
  int threads_;
  LaunchShadow& launch_;
  CheckLog& log_;
  int phase_ = -1;
  int self_ = -1;
  std::size_t shared_used_ = 0;
  std::vector<std::shared_ptr<void>> keep_;
};

}  // namespace ps
