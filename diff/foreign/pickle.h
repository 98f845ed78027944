// Python pickles, but only what data need: dicts, lists, tuples, numbers, strings, and calls that
// rebuild a torch tensor. Nothing is ever executed or imported; every other name is refused, and
// the message says which. Total: any bytes give values or an Error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "core/tensor.h"

namespace ps {

using ValueId = std::uint32_t;  // in Pickle::values

struct PickleValue {
  enum class Kind : std::uint8_t {
    kNone,
    kBool,
    kInteger,
    kNumber,
    kString,
    kTuple,
    kList,
    kDict,     // items: key, value, key, value, ...
    kGlobal,   // text: "torch._utils _rebuild_tensor_v2"
    kStorage,  // text: the key of its data; dtype, integer: how many elements
    kTensor,   // items[0]: the storage; shape, strides, integer: the offset, in elements
  };
  Kind kind = Kind::kNone;
  bool boolean = false;
  std::int64_t integer = 0;
  double number = 0;
  std::string text;
  std::vector<ValueId> items;
  DType dtype = DType::kF32;
  Shape shape, strides;
};

struct Pickle {
  std::vector<PickleValue> values;  // containers name their parts by number: no cycle is owned
  ValueId root = 0;
  const PickleValue& operator[](ValueId id) const { return values[id]; }
};

Result<Pickle> parse_pickle(std::span<const std::byte> bytes, const std::string& where);

}  // namespace ps
