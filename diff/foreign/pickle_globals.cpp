#include "diff/foreign/pickle_globals.h"

#include <algorithm>
#include <array>

namespace ps {

namespace {

using Kind = PickleValue::Kind;

struct StorageName {
  std::string_view global;
  DType dtype;
};
constexpr std::array kStorages = {StorageName{"torch DoubleStorage", DType::kF64},
                                  StorageName{"torch FloatStorage", DType::kF32},
                                  StorageName{"torch HalfStorage", DType::kF16},
                                  StorageName{"torch BFloat16Storage", DType::kBF16},
                                  StorageName{"torch LongStorage", DType::kI64},
                                  StorageName{"torch IntStorage", DType::kI32},
                                  StorageName{"torch ShortStorage", DType::kI16},
                                  StorageName{"torch CharStorage", DType::kI8},
                                  StorageName{"torch ByteStorage", DType::kU8},
                                  StorageName{"torch BoolStorage", DType::kBool},
                                  StorageName{"torch.storage UntypedStorage", DType::kU8}};

constexpr std::string_view kRebuild2 = "torch._utils _rebuild_tensor_v2";
constexpr std::string_view kRebuild3 = "torch._utils _rebuild_tensor_v3";
constexpr std::string_view kParameter = "torch._utils _rebuild_parameter";
constexpr std::string_view kOrderedDict = "collections OrderedDict";
constexpr std::string_view kSize = "torch Size";
constexpr std::string_view kDevice = "torch device";
constexpr std::array kFunctions = {kRebuild2, kRebuild3, kParameter, kOrderedDict, kSize, kDevice};

Error wrong_call(const std::string& where, std::string_view global) {
  std::string name(global);
  std::replace(name.begin(), name.end(), ' ', '.');
  return bad_input(where, "calls " + name + " in a way that torch does not");
}

std::optional<Shape> integers(const Pickle& pickle, ValueId id) {
  const PickleValue& tuple = pickle[id];
  if (tuple.kind != Kind::kTuple && tuple.kind != Kind::kList) return std::nullopt;
  Shape out;
  for (const ValueId item : tuple.items) {
    if (pickle[item].kind != Kind::kInteger) return std::nullopt;
    out.push_back(pickle[item].integer);
  }
  return out;
}

// (storage, offset, size, stride, requires_grad, hooks[, dtype])
Result<PickleValue> tensor(const Pickle& pickle, std::string_view global,
                           const std::vector<ValueId>& arguments, const std::string& where) {
  const bool with_dtype = global == kRebuild3;
  if (arguments.size() < (with_dtype ? 7U : 4U) || pickle[arguments[0]].kind != Kind::kStorage ||
      pickle[arguments[1]].kind != Kind::kInteger) {
    return wrong_call(where, global);
  }
  const std::optional<Shape> shape = integers(pickle, arguments[2]);
  const std::optional<Shape> strides = integers(pickle, arguments[3]);
  if (!shape || !strides || shape->size() != strides->size()) return wrong_call(where, global);
  PickleValue out;
  out.kind = Kind::kTensor;
  out.items = {arguments[0]};
  out.integer = pickle[arguments[1]].integer;
  out.shape = *shape;
  out.strides = *strides;
  out.dtype = pickle[arguments[0]].dtype;
  if (with_dtype) {
    const PickleValue& type = pickle[arguments[6]];
    const auto dtype = type.kind == Kind::kGlobal ? torch_dtype_global(type.text) : std::nullopt;
    if (!dtype) return bad_input(where, "holds a type that parscope does not read", "", type.text);
    out.dtype = *dtype;
  }
  return out;
}

}  // namespace

std::optional<DType> storage_dtype(std::string_view global) {
  for (const StorageName& s : kStorages) {
    if (s.global == global) return s.dtype;
  }
  return std::nullopt;
}

std::optional<DType> torch_dtype_global(std::string_view global) {
  constexpr std::string_view kModule = "torch ";
  if (!global.starts_with(kModule)) return std::nullopt;
  return dtype_from_torch(global.substr(kModule.size()));
}

std::string refused_global(std::string_view module, std::string_view name) {
  const std::string global = std::string(module) + " " + std::string(name);
  const bool known = std::find(kFunctions.begin(), kFunctions.end(), global) != kFunctions.end();
  if (known || storage_dtype(global) || torch_dtype_global(global)) return "";
  if (module == "transformers.cache_utils") {
    return "save a cache as [(layer.keys, layer.values) for layer in cache.layers], or leave it "
           "out";
  }
  if (module.starts_with("transformers.")) return "save dict(output) instead of the output itself";
  if (module.starts_with("numpy")) return "save arrays with numpy.savez, or torch.from_numpy(x)";
  if (module.starts_with("torch.nn") || name == "Module") {
    return "save tensors or a state_dict, not the module";
  }
  if (module.starts_with("torch.distributed")) return "save x.full_tensor() or x.to_local()";
  if (module == "torch._utils") return "save x.to_dense() or x.dequantize(), a plain tensor";
  return "a file that is only read must not run code";
}

Result<PickleValue> call_global(const Pickle& pickle, std::string_view global,
                                const std::vector<ValueId>& arguments, const std::string& where) {
  if (global == kRebuild2 || global == kRebuild3) return tensor(pickle, global, arguments, where);
  if (global == kParameter) {  // (data, requires_grad, hooks)
    if (arguments.empty() || pickle[arguments[0]].kind != Kind::kTensor) {
      return wrong_call(where, global);
    }
    return pickle[arguments[0]];
  }
  PickleValue out;
  if (global == kOrderedDict) {
    if (!arguments.empty()) {  // protocol 2 fills it afterwards
      if (pickle[arguments[0]].kind != Kind::kList) return wrong_call(where, global);
      for (const ValueId pair : pickle[arguments[0]].items) {
        if (pickle[pair].items.size() != 2) return wrong_call(where, global);
        out.items.insert(out.items.end(), pickle[pair].items.begin(), pickle[pair].items.end());
      }
    }
    out.kind = Kind::kDict;
    return out;
  }
  if (global == kSize && arguments.size() == 1) return pickle[arguments[0]];
  if (global == kDevice && !arguments.empty()) return pickle[arguments[0]];
  return wrong_call(where, global);
}

Result<PickleValue> persistent_storage(const Pickle& pickle, const PickleValue& id,
                                       const std::string& where) {
  const auto item = [&](std::size_t i) -> const PickleValue& { return pickle[id.items[i]]; };
  if (id.kind != Kind::kTuple || id.items.size() < 5 || item(0).kind != Kind::kString ||
      item(0).text != "storage" || item(1).kind != Kind::kGlobal || item(2).kind != Kind::kString ||
      item(4).kind != Kind::kInteger) {
    return bad_input(where, "refers to data in a way that torch does not");
  }
  const std::optional<DType> dtype = storage_dtype(item(1).text);
  if (!dtype) {
    return bad_input(where, "holds a type that parscope does not read", "", item(1).text);
  }
  PickleValue out;
  out.kind = Kind::kStorage;
  out.text = item(2).text;
  out.dtype = *dtype;
  out.integer = item(4).integer;
  return out;
}

}  // namespace ps
