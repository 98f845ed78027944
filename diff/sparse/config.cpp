#include "diff/sparse/config.h"

#include "core/sparse_fields.h"

namespace ps {

Result<SparseConfig> sparse_config(const Json& case_json, const std::string& where) {
  const Json* config = case_json.find("config");
  if (config == nullptr || !config->is(Json::Kind::kObject)) {
    return bad_input(where, "has no config", "an object with B, H, Hk, N, D, bs, layers, ...");
  }
  const std::string here = where + "/config";
  SparseConfig out;
  PS_TRY_VOID(read_sparse_fields(*config, here, SparseFieldsUse::kCase, out));
  if (out.heads % out.kv_heads != 0) {
    return bad_input(here + "/H", "no multiple of Hk", "H % Hk == 0",
                     std::to_string(out.heads) + " and " + std::to_string(out.kv_heads));
  }
  return out;
}

}  // namespace ps
