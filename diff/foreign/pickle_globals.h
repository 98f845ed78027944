// The names that a pickle may call, and what they make.
#pragma once

#include <optional>
#include <string_view>

#include "diff/foreign/pickle.h"

namespace ps {

// Why a name is not allowed, and what to do instead; empty: it is allowed.
std::string refused_global(std::string_view module, std::string_view name);
// torch.FloatStorage -> f32; torch.bfloat16 -> bf16.
std::optional<DType> storage_dtype(std::string_view global);
std::optional<DType> torch_dtype_global(std::string_view global);
// What calling `global` with `arguments` gives; the ids are of `pickle`.
Result<PickleValue> call_global(const Pickle& pickle, std::string_view global,
                                const std::vector<ValueId>& arguments, const std::string& where);
// ('storage', type, key, location, numel)
Result<PickleValue> persistent_storage(const Pickle& pickle, const PickleValue& id,
                                       const std::string& where);

}  // namespace ps
