#include "diff/lint/weight_shapes.h"

#include <optional>
#include <string>
#include <string_view>

#include "core/same_bytes.h"
#include "diff/report/report.h"

namespace ps {

namespace {

// Rows of every layer's `module` weight, where they all agree.
std::optional<std::int64_t> common_rows(const Checkpoint& checkpoint, const ModelConfig& config,
                                        std::string_view module) {
  std::optional<std::int64_t> rows;
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const std::string name =
        "model.layers." + std::to_string(i) + "." + std::string(module) + ".weight";
    const TensorView* view = checkpoint.peek(name);
    if (view == nullptr) continue;
    if (view->shape.size() != 2 || (rows && *rows != view->shape[0])) return std::nullopt;
    rows = view->shape[0];
  }
  return rows;
}

Finding config_says(std::string id, const std::string& field, std::int64_t says,
                    std::int64_t really, std::string message) {
  Finding f;
  f.id = std::move(id);
  f.fault_class = "weights";
  f.point = "config.json";
  f.where = field;
  f.message = std::move(message);
  f.evidence = {{"config", std::to_string(says)}, {"checkpoint", std::to_string(really)}};
  f.fix = "set " + field + " to " + std::to_string(really);
  return f;
}

}  // namespace

std::string prefix_fields(const std::string& name, const Shape& found, const ModelConfig& c) {
  if (!name.ends_with(".prefix_k") && !name.ends_with(".prefix_v")) return "";
  if (found.size() != 4)
    return "a prefix is [parscale_n, key/value heads, prefix tokens, head size]";
  const struct {
    const char* field;
    std::int64_t size;
  } axes[] = {{"parscale_n", c.replicas},
              {"num_key_value_heads", c.kv_heads},
              {"parscale_n_tokens", c.prefix_tokens},
              {"head_dim", c.head_dim}};
  std::string out;
  for (std::size_t i = 0; i < 4; ++i) {
    if (found[i] == axes[i].size) continue;
    out += (out.empty() ? "" : ", ") + std::string(axes[i].field) + " is " +
           std::to_string(axes[i].size) + " in the config, " + std::to_string(found[i]) + " here";
  }
  return out;
}

std::vector<Finding> weight_shape_findings(const Checkpoint& checkpoint, const ModelConfig& c) {
  std::vector<Finding> out;
  const auto q = common_rows(checkpoint, c, "self_attn.q_proj");
  const auto k = common_rows(checkpoint, c, "self_attn.k_proj");
  const auto v = common_rows(checkpoint, c, "self_attn.v_proj");
  if (q && k && v && *k == *v) {
    // The same factor in q, k and v is the head size; in k and v alone it is the number of heads.
    const std::int64_t dim = *q / c.heads;
    if (dim != c.head_dim && *q % c.heads == 0 && *k == dim * c.kv_heads) {
      out.push_back(config_says("weights-head-dim-derived", "head_dim", c.head_dim, dim,
                                "the config's head size fits no projection; all of q, k and v "
                                "agree on another"));
    }
    const std::int64_t kv = *k / c.head_dim;
    if (*q == c.heads * c.head_dim && *k % c.head_dim == 0 && kv > 0 && kv != c.kv_heads) {
      out.push_back(config_says("weights-kv-heads-default", "num_key_value_heads", c.kv_heads, kv,
                                "the config's number of key/value heads fits no projection; all "
                                "of k and v agree on another"));
    }
  }
  const auto cross = common_rows(checkpoint, c, "cross_replica_attn.k_proj");
  if (cross && *cross == c.heads * c.cross_head_dim() && c.kv_heads != c.heads) {
    Finding f = config_says("replica-kv-heads-ignored", "num_key_value_heads", c.kv_heads, c.heads,
                            "cross-replica attention was built with a key/value head for each "
                            "query head, unlike self attention");
    f.fix = "build cross_replica_attn.k_proj and v_proj with num_key_value_heads";
    out.push_back(std::move(f));
  }
  // Weights of their own that are no others: allowed, and rarely meant.
  const TensorView* head = checkpoint.peek("lm_head.weight");
  const TensorView* embedding = checkpoint.peek("model.embed_tokens.weight");
  const bool both = head != nullptr && embedding != nullptr && !c.tie_word_embeddings;
  if (both && same_bytes(*head, *embedding)) {
    Finding f;
    f.id = "weights-lm-head-wrongly-tied";
    f.fault_class = "weights";
    f.severity = Severity::kWarning;
    f.point = "lm_head.weight";
    f.message = "tie_word_embeddings is false, yet lm_head is the embedding to the bit";
    f.fix = "save the model's own head, or set tie_word_embeddings to true";
    f.confidence = Confidence::kConsistent;
    out.push_back(std::move(f));
  }
  return out;
}

}  // namespace ps
