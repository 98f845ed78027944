#include "tests/support/soak.h"

#include <nlohmann/json.hpp>

#include "core/rng.h"
#include "diff/isolate/lockstep.h"
#include "diff/run/inputs.h"
#include "model/candidate.h"
#include "tests/support/random_model.h"
#include "tests/support/run.h"

namespace ps {

namespace {

using Json = nlohmann::ordered_json;

// Draws one after the other from a stream.
class Draw {
 public:
  Draw(std::uint64_t seed, std::uint64_t stream) : rng_(seed, stream) {}
  std::int64_t from(std::int64_t low, std::int64_t high) {  // both included
    return low + rng_.below(next_++, high - low + 1);
  }
  bool chance(int percent) { return from(0, 99) < percent; }
  template <class T>
  T one_of(std::initializer_list<T> list) {
    return *(list.begin() + from(0, static_cast<std::int64_t>(list.size()) - 1));
  }

 private:
  Rng rng_;
  std::uint64_t next_ = 0;
};

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

Json random_config(Draw& draw) {
  const std::string type =
      draw.one_of<const char*>({"qwen2", "llama", "qwen3", "qwen2_parscale", "qwen2_parscale",
                                "parscale_base", "parscale_cross_attn", "parscale_cross_kv"});
  const bool cross = type.starts_with("parscale_cross");
  const std::int64_t kv = draw.from(1, 3), group = draw.from(1, 3), heads = kv * group;
  const std::int64_t layers = draw.from(1, 3);
  Json c;
  c["model_type"] = type == "parscale_cross_kv" ? "parscale_cross_attn" : type;
  c["vocab_size"] = draw.from(11, 97);
  // Cross-replica attention takes hidden / heads as its head size, which must be even.
  c["hidden_size"] = heads * 2 * draw.from(1, 5);
  c["intermediate_size"] = draw.from(5, 53);
  c["num_hidden_layers"] = layers;
  c["num_attention_heads"] = heads;
  c["num_key_value_heads"] = kv;
  c["head_dim"] = 2 * draw.from(1, 9);
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
    c["parscale_n"] = cross ? draw.from(2, 4) : draw.from(1, 5);
    c["parscale_n_tokens"] = c["parscale_n"] == 1 && type == "qwen2_parscale" ? 0 : draw.from(0, 5);
    c["parscale_attn_smooth"] = draw.one_of({0.0, 0.01, 0.3});
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

}  // namespace

SoakResult soak_one(std::uint64_t seed, std::uint64_t index, const std::filesystem::path& dir) {
  Draw draw(seed, index);
  const Json config = random_config(draw);
  SoakResult out;
  out.dtype = draw.one_of({DType::kF32, DType::kF32, DType::kBF16, DType::kF16});
  const Model model = random_model(dir, config.dump(), seed * 1000003 + index);

  RunPlan plan;
  const std::int64_t batch = draw.from(1, 3), length = draw.from(1, 11);
  plan.prompt = random_inputs(batch, length, seed + index, model.config);
  plan.decode_steps = draw.from(0, 3);
  plan.chunk = draw.chance(40) ? draw.from(1, length) : 0;
  // xattn without a prefix cannot reorder its caches upstream; parscope can, so it is drawn too.
  plan.beams = draw.chance(20) ? draw.from(2, 3) : 1;
  out.what = "type " + std::string(short_name(out.dtype)) + " batch " + std::to_string(batch) +
             " length " + std::to_string(length) + " steps " + std::to_string(plan.decode_steps) +
             " chunk " + std::to_string(plan.chunk) + " beams " + std::to_string(plan.beams) + " " +
             config.dump();

  CandidateOptions options;
  options.dtype = out.dtype;
  options.device = Device::kHost;
  options.threads = 1;  // tensors of this size are not worth a second one
  const auto candidate = value_or_die(open_candidate(model, options));
  ReferenceOptions truth;
  truth.dtype = DType::kF64;
  truth.weights_through = out.dtype;
  truth.threads = 1;
  const auto reference = value_or_die(open_reference(model, truth));
  LockstepOptions how;
  how.run = out.dtype;
  const Result<Report> report = lockstep(*candidate, *reference, model.config, plan, how);
  if (!report.ok()) {
    out.trouble = report.error().line();
    return out;
  }
  for (const PointRow& row : report->points) {
    if (row.ratio <= out.worst_ratio) continue;
    out.worst_ratio = row.ratio;
    out.worst_point = row.point;
  }
  out.equivalent = report->verdict == Verdict::kEquivalent;
  if (report->first_divergence) {
    out.trouble = "step " + std::to_string(report->first_divergence->step) + " " +
                  report->first_divergence->point + " " + report->first_divergence->where +
                  ", worst ratio " + std::to_string(out.worst_ratio) + " at " + out.worst_point;
  }
  return out;
}

}  // namespace ps
