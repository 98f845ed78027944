// Which weights a model has: parscale.md section 2 as a function of the config.
#include <string>
#include <utility>

#include "core/checkpoint.h"

namespace ps {

namespace {

class WeightList {
 public:
  void add(std::string name, Shape shape) { list_.push_back({std::move(name), std::move(shape)}); }
  // A linear layer, stored [out, in].
  void linear(const std::string& name, std::int64_t out, std::int64_t in, bool bias) {
    add(name + ".weight", {out, in});
    if (bias) add(name + ".bias", {out});
  }
  std::vector<WeightSpec> take() { return std::move(list_); }

 private:
  std::vector<WeightSpec> list_;
};

void add_cross_replica(WeightList& list, const std::string& layer, const ModelConfig& c) {
  const std::string attn = layer + "cross_replica_attn.";
  const std::int64_t head_dim = c.cross_head_dim();  // the config's own head_dim plays no part here
  list.add(layer + "cross_replica_layernorm.weight", {c.hidden_size});
  list.linear(attn + "q_proj", c.heads * head_dim, c.hidden_size, true);
  list.linear(attn + "k_proj", c.kv_heads * head_dim, c.hidden_size, true);
  list.linear(attn + "v_proj", c.kv_heads * head_dim, c.hidden_size, true);
  list.linear(attn + "o_proj", c.hidden_size, c.heads * head_dim, false);
}

// ParScale stores a prefix for n > 1, be it of length 0; parscale-xattn only where T > 0.
bool stores_prefix(const ModelConfig& c) {
  return c.architecture == Architecture::kParScale ? c.replicas > 1 : c.prefix_tokens > 0;
}

void add_self_attention(WeightList& list, const std::string& layer, const ModelConfig& c,
                        bool prefix) {
  const std::string attn = layer + "self_attn.";
  list.linear(attn + "q_proj", c.heads * c.head_dim, c.hidden_size, c.qkv_bias);
  list.linear(attn + "k_proj", c.kv_heads * c.head_dim, c.hidden_size, c.qkv_bias);
  list.linear(attn + "v_proj", c.kv_heads * c.head_dim, c.hidden_size, c.qkv_bias);
  if (c.qk_norm) {
    list.add(attn + "q_norm.weight", {c.head_dim});
    list.add(attn + "k_norm.weight", {c.head_dim});
  }
  if (prefix) {
    const Shape shape = {c.replicas, c.kv_heads, c.prefix_tokens, c.head_dim};
    list.add(attn + "prefix_k", shape);
    list.add(attn + "prefix_v", shape);
  }
  list.linear(attn + "o_proj", c.hidden_size, c.heads * c.head_dim, c.o_bias);
}

}  // namespace

std::vector<WeightSpec> expected_weights(const ModelConfig& config) {
  const ModelConfig& c = config;
  const auto layers = static_cast<std::size_t>(c.layers);
  PS_CHECK(c.cross_layer.size() == layers && c.cross_kv_layer.size() == layers,
           "a config that parse_config did not make");
  WeightList list;
  list.add("model.embed_tokens.weight", {c.vocab_size, c.hidden_size});
  for (std::int64_t i = 0; i < c.layers; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    if (c.cross_layer[at]) add_cross_replica(list, layer, c);
    list.add(layer + "input_layernorm.weight", {c.hidden_size});
    add_self_attention(list, layer, c, stores_prefix(c) && !c.cross_kv_layer[at]);
    list.add(layer + "post_attention_layernorm.weight", {c.hidden_size});
    list.linear(layer + "mlp.gate_proj", c.intermediate_size, c.hidden_size, c.mlp_bias);
    list.linear(layer + "mlp.up_proj", c.intermediate_size, c.hidden_size, c.mlp_bias);
    list.linear(layer + "mlp.down_proj", c.hidden_size, c.intermediate_size, c.mlp_bias);
  }
  list.add("model.norm.weight", {c.hidden_size});
  if (c.aggregates()) {
    list.linear("model.aggregate_layer.0", c.hidden_size, c.replicas * c.hidden_size, true);
    list.linear("model.aggregate_layer.2", c.replicas, c.hidden_size, true);
  }
  if (!c.tie_word_embeddings) list.add("lm_head.weight", {c.vocab_size, c.hidden_size});
  return list.take();
}

}  // namespace ps
