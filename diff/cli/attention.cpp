#include "diff/cli/attention.h"

#include "core/sparse_attention.h"

namespace ps::cli {

Result<Model> with_attention_asked_for(const Arguments& arguments, Model model) {
  if (!arguments.has("--attention")) return model;
  PS_TRY(const std::string json,
         with_attention(model.config.json, arguments.get("--attention"), *model.checkpoint));
  model.config.json = json;
  const Result<std::optional<SparseAttention>> sparse = read_sparse_attention(model.config);
  if (!sparse.ok()) {
    return bad_input("--attention " + arguments.get("--attention"), sparse.error().line());
  }
  return model;
}

}  // namespace ps::cli
