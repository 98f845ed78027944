#include "diff/run/random_model.h"

#include <cmath>

#include <nlohmann/json.hpp>

#include "core/file.h"
#include "core/float_bits.h"

namespace ps {

namespace {

using Json = nlohmann::ordered_json;

Json rope_scaling(Draw& draw) {
  switch (draw.from(0, 5)) {
    case 0:
      return {{"rope_type", "linear"}, {"factor", 2.5}};
    case 1:
      return {{"rope_type", "llama3"},
              {"factor", 8.0},
              {"low_freq_factor", 1.0},
              {"high_freq_factor", 4.0},
              {"original_max_position_embeddings", 16}};
    case 2:
      return {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 64}};
    default:
      return nullptr;
  }
}

Json any_config(Draw& draw, const ModelDraw& how) {
  const std::string any =
      draw.one_of<const char*>({"qwen2", "llama", "qwen3", "qwen2_parscale", "qwen2_parscale",
                                "parscale_base", "parscale_cross_attn", "parscale_cross_kv"});
  const std::string type = how.family.empty() ? any : how.family;
  const std::int64_t least = how.revealing ? 2 : 1;
  const bool cross = type.starts_with("parscale_cross");
  const std::int64_t kv = draw.from(least, 3), group = draw.from(least, 3), heads = kv * group;
  const std::int64_t layers = draw.from(least, 3);
  Json c;
  c["model_type"] = type == "parscale_cross_kv" ? "parscale_cross_attn" : type;
  c["vocab_size"] = draw.from(11, 97);
  // Cross-replica attention takes hidden / heads as its head size, which must be even.
  c["hidden_size"] = heads * 2 * draw.from(1, 5);
  c["intermediate_size"] = draw.from(5, 53);
  c["num_hidden_layers"] = layers;
  c["num_attention_heads"] = heads;
  c["num_key_value_heads"] = kv;
  c["head_dim"] = 2 * draw.from(2 * least - 1, 9);
  c["max_position_embeddings"] = 256;
  c["hidden_act"] =
      draw.one_of<const char*>({"silu", "silu", "silu", "gelu", "gelu_pytorch_tanh", "relu"});
  c["rms_norm_eps"] = draw.one_of({1e-6, 1e-5, 1e-2});
  c["rope_theta"] = draw.one_of({10000.0, 500000.0, 1e6});
  c["rope_scaling"] = rope_scaling(draw);
  c["tie_word_embeddings"] = draw.chance(40);
  c["torch_dtype"] = draw.one_of<const char*>({"float32", "float32", "bfloat16", "float16"});
  if (type == "llama") {
    c["attention_bias"] = draw.chance(40);
    c["mlp_bias"] = draw.chance(30);
  }
  if ((type == "qwen2" || type == "qwen3") && draw.chance(40)) {
    c["use_sliding_window"] = true;
    c["sliding_window"] = draw.from(1, 6);
    c["max_window_layers"] = draw.from(0, layers);
  }
  if (type.find("parscale") != std::string::npos) {
    c["parscale_n"] = cross ? draw.from(2, 4) : draw.from(least, 5);
    c["parscale_n_tokens"] =
        c["parscale_n"] == 1 && type == "qwen2_parscale" ? 0 : draw.from(how.revealing ? 2 : 0, 5);
    c["parscale_attn_smooth"] = draw.one_of({how.revealing ? 0.05 : 0.0, 0.01, 0.3});
  }
  if (cross) {
    c["enable_cross_attn"] = true;
    c["enable_replica_rope"] = draw.chance(60);
    if (draw.chance(50)) c["parscale_cross_attn_layers"] = {draw.from(0, layers - 1)};
  }
  if (type == "parscale_cross_kv") {
    c["architectures"] = {"ParScaleCrossKVForCausalLM"};
    c["xkv_causal"] = true;
  }
  return c;
}

Tensor random_weight(const WeightSpec& spec, DType dtype, const Rng& rng) {
  Tensor out(dtype, spec.shape);
  const bool norm = spec.name.find("norm") != std::string::npos;
  // Rows of a projection have norm of about one, so that activations keep their size.
  const double fan_in = spec.shape.size() == 2 ? static_cast<double>(spec.shape[1]) : 16.0;
  const double scale = norm ? 0.1 : 1.0 / std::sqrt(fan_in);
  const std::int64_t n = count_of(spec.shape);
  for (std::int64_t i = 0; i < n; ++i) {
    const double x = (norm ? 1.0 : 0.0) + scale * rng.normal(static_cast<std::uint64_t>(i));
    const auto at = static_cast<std::size_t>(i);
    switch (dtype) {
      case DType::kF64:
        out.as<double>()[at] = x;
        break;
      case DType::kF32:
        out.as<float>()[at] = static_cast<float>(x);
        break;
      case DType::kBF16:
        out.as<std::uint16_t>()[at] = float_to_bf16(static_cast<float>(x));
        break;
      case DType::kF16:
        out.as<std::uint16_t>()[at] = float_to_f16(static_cast<float>(x));
        break;
      default:
        PS_CHECK(false, "random weights of type " + std::string(short_name(dtype)));
    }
  }
  return out;
}

}  // namespace

std::string random_config(Draw& draw, const ModelDraw& how) { return any_config(draw, how).dump(); }

Result<Model> write_random_model(const std::filesystem::path& dir, std::string_view config_json,
                                 std::uint64_t seed) {
  std::error_code ec;
  std::filesystem::create_directories(dir, ec);
  if (ec) return machine_error(dir.string(), "cannot make this folder", {}, ec.message());
  PS_TRY_VOID(write_text(dir / "config.json", config_json));
  PS_TRY(const ModelConfig config, load_config(dir));
  PS_TRY(SafetensorsWriter writer, SafetensorsWriter::create(dir / "model.safetensors"));
  std::uint64_t stream = 0;
  for (const WeightSpec& spec : expected_weights(config)) {
    const Tensor w = random_weight(spec, config.dtype, Rng(seed, stream++));
    PS_TRY_VOID(writer.add(spec.name, w.view()));
  }
  PS_TRY_VOID(writer.close());
  return open_model(dir);
}

}  // namespace ps
