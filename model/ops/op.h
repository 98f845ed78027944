// An op: one file here, one line in ops.def. Its file holds the body (a trivially copyable struct
// of Global arrays and scalars), how it is launched, the cases it is tested on and a plain oracle
// in double. The file is compiled twice, by g++ into ps::cpu and by nvcc into ps::cuda.
//
// The schema names every operand's type and axes, in order, then the scalars:
//   "x:S[row,col] weight:S[col] out>S[row,col] | eps"
// ':' reads, '>' writes every cell. S is f32, bf16 or f16, one for the whole call; W likewise, on
// its own (weights as the checkpoint has them); f32, i64 and bool are themselves. An axis name
// stands for one size in the whole call. Every call is held to its schema.
#pragma once

#include <array>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/rng.h"
#include "model/array.h"
#include "model/block/collective.h"
#include "model/block/launch.h"
#include "model/block/math.h"

#ifdef __CUDACC__
#define PS_BACKEND cuda
#else
#define PS_BACKEND cpu
#endif

namespace ps {

struct OpCall;

// Arrays of a case, widened to double, for the oracle. Outputs come in the size of their schema.
class OracleCall {
 public:
  std::vector<std::vector<double>> arrays;
  std::vector<Shape> shapes;
  std::vector<double> scalars;

  std::int64_t size(std::size_t array, std::size_t axis) const { return shapes[array][axis]; }
  template <class... Index>
  double& at(std::size_t array, Index... index) {
    const std::int64_t is[] = {static_cast<std::int64_t>(index)...};
    std::int64_t offset = 0;
    for (std::size_t axis = 0; axis < sizeof...(Index); ++axis)
      offset = offset * shapes[array][axis] + is[axis];
    return arrays[array][static_cast<std::size_t>(offset)];
  }
};

struct OpCase {
  std::vector<std::pair<std::string_view, std::int64_t>> axes;  // {"row", 3}, {"col", 33}
  std::vector<double> scalars;
  // Value of cell i of an operand; where it is null, and for operands it leaves at NaN: normal
  // numbers.
  std::function<double(std::string_view operand, std::int64_t i, const Rng& rng)> fill;
};

struct OpEntry {
  std::string_view name;
  std::string_view schema;
  void (*run)(const OpCall& call, Launch& launch);
  std::vector<OpCase> (*cases)();
  void (*oracle)(OracleCall& call);
  // |result - oracle| <= scale * (storage_roundings * u(S) + float_roundings * 2^-24), where scale
  // is the largest |oracle| of the output.
  double storage_roundings = 1;
  double float_roundings = 16;
};

#define PS_OP(op)      \
  namespace cpu {      \
  const OpEntry& op(); \
  }                    \
  namespace cuda {     \
  const OpEntry& op(); \
  }
#include "model/ops/ops.def"
#undef PS_OP

enum class Op : std::uint8_t {
#define PS_OP(op) op,
#include "model/ops/ops.def"
#undef PS_OP
  kCount
};
inline constexpr auto kOps = static_cast<std::size_t>(Op::kCount);

struct Operand {
  std::string name;
  char type = 'S';  // S, W, f (f32), i (i64), b (bool)
  bool output = false;
  std::vector<std::string> axes;
};
struct Schema {
  std::vector<Operand> operands;
  std::vector<std::string> scalars;
};
Schema parse_schema(std::string_view text);

struct OpCall {
  const OpEntry* op = nullptr;
  std::vector<Array> arrays;
  std::vector<double> scalars;

  // Holds the call to the schema; a PS_CHECK names operand, expected, found.
  void check(const Schema& schema) const;
  std::string describe() const;
  DType storage(const Schema& schema, char type) const;

  std::int64_t integer(std::size_t i) const { return static_cast<std::int64_t>(scalars[i]); }
  float number(std::size_t i) const { return static_cast<float>(scalars[i]); }
  std::int64_t size(std::size_t array, int axis) const { return arrays[array].size(axis); }

  template <class T, int N>
  Global<const T, N> in(std::size_t i) const {
    return global<const T, N>(arrays[i]);
  }
  template <class T, int N>
  Global<T, N> out(std::size_t i) const {
    return global<T, N>(arrays[i]);
  }

 private:
  template <class T, int N>
  static Global<T, N> global(const Array& array) {
    PS_CHECK(array.ndim() == N && array.dtype() == kDTypeOf<std::remove_const_t<T>>,
             "an op reads " + array.describe() + " as something else");
    std::int64_t sizes[N], strides[N];
    for (int axis = 0; axis < N; ++axis) {
      sizes[axis] = array.size(axis);
      strides[axis] = array.stride(axis);
    }
    return {static_cast<T*>(array.data()), sizes, strides};
  }
};

#ifndef __CUDACC__
// Every cell of every output must have been written by the launch.
void note_unwritten(const OpCall& call, const LaunchShadow& shadow, CheckLog& log);
#endif

// Runs a body for a call: on the device, or with the runner that `launch` names.
namespace PS_BACKEND {
template <class Body>
void run_grid(const Body& body, std::int64_t grid, const OpCall& call, Launch& launch) {
#ifdef __CUDACC__
  (void)call;
  launch_body(body, grid, launch);
#else
  LaunchShadow shadow{.cells = {}, .body = std::string(call.op->name)};
  launch_body(body, grid, launch, &shadow);
  if (launch.runner == Launch::Runner::kChecked) note_unwritten(call, shadow, *launch.log);
#endif
}
}  // namespace PS_BACKEND

// f(S{}) with S the C++ type of a storage dtype.
template <class F>
void with_storage(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kF32:
      return f(float{});
    case DType::kBF16:
      return f(Bf16{});
    case DType::kF16:
      return f(F16{});
    default:
      PS_CHECK(false, "no kernel stores " + std::string(short_name(dtype)));
  }
}

}  // namespace ps
