// One case of one op, in memory of its own, next to what its oracle says. Used by ops_test on every
// op, and by the mutation test on a single op that was broken on purpose. No gtest here: it
// compiles in a second.
#pragma once

#include <cmath>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "model/block/checked_block.h"
#include "model/ops/op.h"

namespace ps {

class OpTrial {
 public:
  OpTrial(const OpEntry& op, const OpCase& the_case, DType storage, DType weights)
      : op_(op), schema_(parse_schema(op.schema)), storage_(storage) {
    const std::map<std::string_view, std::int64_t> sizes(the_case.axes.begin(),
                                                         the_case.axes.end());
    call_.op = &op;
    call_.scalars = the_case.scalars;
    oracle_.scalars = the_case.scalars;
    for (std::size_t i = 0; i < schema_.operands.size(); ++i) {
      const Operand& operand = schema_.operands[i];
      const DType dtype = dtype_for(operand.type, storage, weights);
      Shape shape;
      for (const std::string& axis : operand.axes) shape.push_back(sizes.at(axis));
      memory_.emplace_back(static_cast<std::size_t>(count_of(shape) * size_of(dtype)) + 2 * kGuard,
                           std::byte{0xff});
      oracle_.shapes.push_back(shape);
      oracle_.arrays.push_back(filled(i, dtype, count_of(shape), the_case));
      call_.arrays.push_back(contiguous(memory_[i].data() + kGuard, dtype, shape));
    }
    op.oracle(oracle_);
  }

  // Runs on memory that is NaN; the outputs' bytes. `fault` gets what the guards say.
  std::vector<std::vector<std::byte>> run(Launch launch, std::string& fault) {
    for (std::size_t i = 0; i < memory_.size(); ++i) {
      if (schema_.operands[i].output)
        std::fill(memory_[i].begin(), memory_[i].end(), std::byte{0xff});
    }
    call_.check(schema_);
    op_.run(call_, launch);
    std::vector<std::vector<std::byte>> outputs;
    for (std::size_t i = 0; i < memory_.size(); ++i) {
      if (!schema_.operands[i].output) continue;
      const std::vector<std::byte>& cells = memory_[i];
      for (std::size_t b = 0; b < kGuard; ++b) {
        if (cells[b] != std::byte{0xff} || cells[cells.size() - 1 - b] != std::byte{0xff}) {
          fault = call_.describe() + ": wrote outside " + schema_.operands[i].name;
        }
      }
      outputs.emplace_back(cells.begin() + kGuard, cells.end() - kGuard);
    }
    return outputs;
  }

  // For a machine with memory of its own: arrays of the call lie in host memory.
  const OpCall& call() const { return call_; }
  const Schema& schema() const { return schema_; }

  // Empty, or the first cell beyond the op's bound.
  std::string against_oracle() const {
    for (std::size_t i = 0; i < memory_.size(); ++i) {
      if (!schema_.operands[i].output) continue;
      const Array& array = call_.arrays[i];
      const TensorView view{
          array.dtype(),
          array.shape(),
          {static_cast<const std::byte*>(array.data()), static_cast<std::size_t>(array.bytes())}};
      double scale = 0;
      for (const double want : oracle_.arrays[i]) scale = std::max(scale, std::fabs(want));
      const double bound = is_floating(array.dtype())
                               ? scale * (op_.storage_roundings * unit_roundoff(storage_) +
                                          op_.float_roundings * 0x1p-24)
                               : 0;
      for (std::int64_t cell = 0; cell < array.count(); ++cell) {
        const double want = oracle_.arrays[i][static_cast<std::size_t>(cell)],
                     have = value_at(view, cell);
        if (std::fabs(want - have) <= bound || (std::isnan(want) && std::isnan(have))) continue;
        return call_.describe() + " " + schema_.operands[i].name + " cell " + std::to_string(cell) +
               ": oracle " + std::to_string(want) + ", kernel " + std::to_string(have) +
               ", bound " + std::to_string(bound);
      }
    }
    return {};
  }

  // The three ways to look at a case. Each returns what is wrong, or nothing.
  std::string oracle_fault() {
    std::string fault;
    for (const int threads : {64, 32, 96, 128, 256}) {
      Launch launch;
      launch.threads = threads;
      run(launch, fault);
      if (fault.empty()) fault = against_oracle();
      if (!fault.empty()) return std::to_string(threads) + " threads: " + fault;
    }
    return {};
  }
  std::string order_fault() {
    std::string fault;
    ThreadPool pool(2);
    for (const int threads : {32, 96}) {
      Launch launch;
      launch.threads = threads;
      const auto in_order = run(launch, fault);
      launch.pool = &pool;
      if (in_order != run(launch, fault))
        return call_.describe() + ": two host threads give other bits";
      launch.runner = Launch::Runner::kPermuted;
      for (launch.seed = 1; launch.seed <= 3; ++launch.seed) {
        if (in_order != run(launch, fault))
          return call_.describe() + ": another order of threads gives other bits";
      }
    }
    return fault;
  }
  std::string checked_fault() {
    for (const int threads : {32, 64}) {
      std::string fault;
      CheckLog log;
      Launch launch;
      launch.threads = threads;
      launch.runner = Launch::Runner::kChecked;
      launch.log = &log;
      run(launch, fault);
      if (!log.clean()) {
        return log.first + "; races " + std::to_string(log.races) + ", bounds " +
               std::to_string(log.bounds) + ", unset " + std::to_string(log.unset) +
               ", unwritten " + std::to_string(log.unwritten);
      }
    }
    return {};
  }

 private:
  static constexpr std::size_t kGuard = 64;  // bytes before and after every array

  static DType dtype_for(char type, DType storage, DType weights) {
    switch (type) {
      case 'S':
        return storage;
      case 'W':
        return weights;
      case 'i':
        return DType::kI64;
      case 'b':
        return DType::kBool;
      default:
        return DType::kF32;
    }
  }
  // Writes an input and returns it as the kernel will read it; NaN for an output.
  std::vector<double> filled(std::size_t operand, DType dtype, std::int64_t count,
                             const OpCase& the_case) {
    std::vector<double> values(static_cast<std::size_t>(count), NAN);
    if (schema_.operands[operand].output) return values;
    const Rng rng(41, operand);
    for (std::int64_t cell = 0; cell < count; ++cell) {
      double value =
          the_case.fill != nullptr ? the_case.fill(schema_.operands[operand].name, cell, rng) : NAN;
      if (std::isnan(value)) value = rng.normal(static_cast<std::uint64_t>(cell));
      values[static_cast<std::size_t>(cell)] =
          put(memory_[operand].data() + kGuard + cell * size_of(dtype), dtype, value);
    }
    return values;
  }
  static double put(std::byte* at, DType dtype, double value) {
    const auto write = [&](auto x, double back) {
      std::memcpy(at, &x, sizeof x);
      return back;
    };
    const auto x = static_cast<float>(value);
    switch (dtype) {
      case DType::kBF16:
        return write(float_to_bf16(x), bf16_to_float(float_to_bf16(x)));
      case DType::kF16:
        return write(float_to_f16(x), f16_to_float(float_to_f16(x)));
      case DType::kI64:
        return write(static_cast<std::int64_t>(value), value);
      case DType::kBool:
        return write(static_cast<std::uint8_t>(value), value);
      default:
        return write(x, x);
    }
  }
  static Array contiguous(void* data, DType dtype, const Shape& s) {
    switch (s.size()) {
      case 1:
        return {data, dtype, {s[0]}};
      case 2:
        return {data, dtype, {s[0], s[1]}};
      case 3:
        return {data, dtype, {s[0], s[1], s[2]}};
      case 4:
        return {data, dtype, {s[0], s[1], s[2], s[3]}};
      default:
        return {data, dtype, {s[0], s[1], s[2], s[3], s[4]}};
    }
  }

  const OpEntry& op_;
  Schema schema_;
  DType storage_;
  std::vector<std::vector<std::byte>> memory_;
  OpCall call_;
  OracleCall oracle_;
};

// f(trial) for every case of an op in every storage type, and every pair of types where the schema
// has weights of their own; stops at, and returns, the first fault.
template <class F>
std::string first_fault(const OpEntry& op, F&& f) {
  constexpr DType kStorages[] = {DType::kF32, DType::kBF16, DType::kF16};
  const bool two_types = op.schema.find(":W[") != std::string_view::npos;
  for (const OpCase& the_case : op.cases()) {
    for (const DType storage : kStorages) {
      for (const DType weights : kStorages) {
        if (!two_types && weights != storage) continue;
        OpTrial trial(op, the_case, storage, weights);
        std::string fault = f(trial);
        if (!fault.empty()) return fault;
      }
    }
  }
  return {};
}

}  // namespace ps
