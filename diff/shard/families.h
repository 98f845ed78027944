// How model families that fuse or transpose their projections name and store what a plan calls by
// Llama's names (tensor-parallel.md 2.2). Data: a family is one entry in families.cpp.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "core/config.h"
#include "core/json.h"
#include "core/result.h"
#include "diff/shard/plan.h"

namespace ps {

// A module's name in a plan ("layers.*.mlp.up_proj") or, with its ending, a tensor's; and in the
// file, behind the family's root. '*' is the layer. An empty one: the family has no such thing.
struct FamilyName {
  std::string_view plan, file;
};

// A tensor that every rank holds whole and that Llama does not have.
struct FamilyExtra {
  std::string_view file;
  bool positions = false;  // [positions, hidden]; else [hidden]
};

struct Family {
  std::string_view name;             // "gpt_neox"
  std::string_view model_type = {};  // of config.json; empty: told by `sign` alone
  std::string_view sign = {};        // a tensor that only this family has; empty: none
  CheckpointLayout layout = CheckpointLayout::kConcat;
  MlpLayout mlp = MlpLayout::kPlain;
  bool norm_bias = true;
  bool conv1d = false;         // matrices of attention and MLP stand as [in, out]
  bool tied = false;           // where config.json does not say
  std::string_view root = {};  // of all names but the head's; some files leave it out
  std::span<const FamilyName> names = {};
  std::span<const FamilyName> but = {};  // where it differs from the family whose names it has
  std::span<const FamilyExtra> extras = {};
  std::span<const std::string_view> buffers = {};  // endings of names that are no weights
};

// What the file holds; null for models that store q, k and v apart under Llama's names.
const Family* family_of(const Json& config,
                        const std::function<bool(std::string_view)>& has_tensor);

// config.json in Llama's words: sizes, biases, tied embeddings. How positions turn and what a norm
// is do not matter to a plan.
Result<ParsedConfig> family_config(const Json& config, const Family& family,
                                   const std::string& where);

// The plan's names as the file's. `root`: as the file has it, the family's own or nothing. A name
// that stays Llama's is returned as it is; one that the family lacks, as "".
std::string family_tensor(const Family& family, std::string_view root, const std::string& name);
bool is_transposed(const Family& family, std::string_view plan_name);

}  // namespace ps
