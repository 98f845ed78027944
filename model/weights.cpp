#include "model/weights.h"

#include <map>

#include "model/plant.h"

namespace ps {
namespace {

// Finds tensors by name, held to the shapes that the config asks for. The first failure stays.
class Loader {
 public:
  Loader(const Model& model, DType dtype, Backend& backend, const Plant* plant)
      : model_(model), dtype_(dtype), backend_(backend), plant_(plant) {
    for (WeightSpec& spec : expected_weights(model.config))
      shapes_.emplace(spec.name, std::move(spec.shape));
  }
  // as_stored: for matrices of products and the embedding. Optional: what the config does not ask
  // for is absent.
  Array find(const std::string& name, bool as_stored) {
    const auto wanted = shapes_.find(name);
    if (error_ || wanted == shapes_.end() || count_of(wanted->second) == 0) return {};
    const TensorView* tensor = model_.checkpoint->find(name);
    if (tensor == nullptr) {
      error_ = bad_input(name, "the checkpoint has no such tensor", to_string(wanted->second));
      return {};
    }
    if (tensor->shape != wanted->second) {
      error_ = bad_input(name, "wrong shape", to_string(wanted->second), to_string(tensor->shape));
      return {};
    }
    if (!is_floating(tensor->dtype) || size_of(tensor->dtype) == 1) {
      error_ = bad_input(name, "a dtype that the model cannot run", "F32, F16, BF16 or F64",
                         std::string(safetensors_name(tensor->dtype)));
      return {};
    }
    if (plant_ != nullptr && plant_->weight) return edited(name, *tensor, as_stored);
    return backend_.weight(*tensor, dtype_, as_stored);
  }
  Linear linear(const std::string& name) {
    return {find(name + ".weight", true), find(name + ".bias", false)};
  }
  AttentionWeights attention(const std::string& name) {
    return {.q = linear(name + ".q_proj"),
            .k = linear(name + ".k_proj"),
            .v = linear(name + ".v_proj"),
            .o = linear(name + ".o_proj"),
            .q_norm = find(name + ".q_norm.weight", false),
            .k_norm = find(name + ".k_norm.weight", false),
            .prefix_k = find(name + ".prefix_k", false),
            .prefix_v = find(name + ".prefix_v", false)};
  }
  const std::optional<Error>& error() const { return error_ ? error_ : backend_.error(); }

  std::vector<Tensor> planted;

 private:
  Array edited(const std::string& name, const TensorView& tensor, bool as_stored) {
    Tensor copy(DType::kF32, tensor.shape);
    for (std::int64_t i = 0; i < tensor.count(); ++i)
      copy.as<float>()[static_cast<std::size_t>(i)] = static_cast<float>(value_at(tensor, i));
    plant_->weight(name, copy);
    planted.push_back(std::move(copy));
    return backend_.weight(planted.back().view(), dtype_, as_stored);
  }

  const Model& model_;
  DType dtype_;
  Backend& backend_;
  const Plant* plant_;
  std::map<std::string, Shape> shapes_;
  std::optional<Error> error_;
};

}  // namespace

Result<Weights> load_weights(const Model& model, DType dtype, Backend& backend,
                             const Plant* plant) {
  Loader loader(model, dtype, backend, plant);
  Weights weights;
  weights.embedding = loader.find("model.embed_tokens.weight", true);
  for (std::int64_t i = 0; i < model.config.layers; ++i) {
    const std::string name = "model.layers." + std::to_string(i);
    weights.layers.push_back(
        {.cross_norm = loader.find(name + ".cross_replica_layernorm.weight", false),
         .cross = loader.attention(name + ".cross_replica_attn"),
         .input_norm = loader.find(name + ".input_layernorm.weight", false),
         .post_norm = loader.find(name + ".post_attention_layernorm.weight", false),
         .self = loader.attention(name + ".self_attn"),
         .gate = loader.linear(name + ".mlp.gate_proj"),
         .up = loader.linear(name + ".mlp.up_proj"),
         .down = loader.linear(name + ".mlp.down_proj")});
  }
  weights.norm = loader.find("model.norm.weight", false);
  weights.aggregate_0 = loader.linear("model.aggregate_layer.0");
  weights.aggregate_2 = loader.linear("model.aggregate_layer.2");
  weights.head = loader.linear("lm_head");
  if (model.config.tie_word_embeddings) weights.head.weight = weights.embedding;
  if (loader.error()) return *loader.error();
  weights.planted = std::move(loader.planted);
  return weights;
}

}  // namespace ps
