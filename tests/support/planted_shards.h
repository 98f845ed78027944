// A small model with weights drawn at random, and shards of it in which a loader's mistake stands.
#pragma once

#include <functional>
#include <random>
#include <set>
#include <string>

#include "diff/shard/check_shards.h"
#include "tests/support/run.h"
#include "tests/support/temp_dir.h"

namespace ps {

// 8 query heads of 6 in a model of 2 layers; `more` begins with a comma.
inline std::string small_config(const std::string& type, std::int64_t kv_heads,
                                const std::string& more = "") {
  return R"({"model_type": ")" + type + R"(", "num_key_value_heads": )" + std::to_string(kv_heads) +
         R"(, "num_attention_heads": 8, "head_dim": 6, "hidden_size": 20, "vocab_size": 61,
             "intermediate_size": 40, "num_hidden_layers": 2, "hidden_act": "silu",
             "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 10000.0)" +
         more + "}";
}
inline const std::string kBiases = R"(, "attention_bias": true, "mlp_bias": true)";
inline const std::string kPrefixes =
    R"(, "parscale_n": 4, "parscale_n_tokens": 3, "parscale_attn_smooth": 0.01)";

// Weights of the config, normally distributed, in `dir`/model.safetensors.
inline void write_random_weights(const ModelConfig& config, const std::filesystem::path& dir) {
  std::mt19937 random(17);
  std::normal_distribution<float> normal(0, 0.05F);
  auto writer = value_or_die(SafetensorsWriter::create(dir / "model.safetensors"));
  for (const WeightSpec& spec : expected_weights(config)) {
    Tensor t(DType::kF32, spec.shape);
    for (float& x : t.as<float>()) x = normal(random);
    ok_or_die(writer.add(spec.name, t.view()));
  }
  ok_or_die(writer.close());
}

class PlantedShards {
 public:
  // False: the rank's file has no such tensor.
  using Edit = std::function<bool(std::int64_t rank, const std::string& dest, Tensor& tensor)>;

  PlantedShards(const std::string& config, std::int64_t tp, bool fused = true) : tp_(tp) {
    put_file(dir_ / "config.json", config);
    write_random_weights(value_or_die(open_shard_model(dir_.path(), tp)).config, dir_.path());
    model_ = value_or_die(open_shard_model(dir_.path(), tp));
    PlanOptions options = model_.options();
    options.fused = fused;
    plan_ = value_or_die(make_plan(model_.config, tp, options));
  }

  Tensor shard(std::int64_t rank, const std::string& dest) const {
    return value_or_die(build_shard(*plan_.find(rank, dest), model_.sources()));
  }
  const RankShare& share() const { return plan_.share; }
  const ModelConfig& config() const { return model_.config; }

  Report check(const Edit& edit) const {
    const TempDir out;
    for (std::int64_t r = 0; r < tp_; ++r) {
      auto writer = value_or_die(
          SafetensorsWriter::create(out / ("rank" + std::to_string(r) + ".safetensors")));
      for (const PlanRecord& record : plan_.records) {
        if (record.rank != r) continue;
        Tensor t = value_or_die(build_shard(record, model_.sources()));
        if (edit(r, record.dest, t)) ok_or_die(writer.add(record.dest, t.view()));
      }
      ok_or_die(writer.close());
    }
    const ShardSet shards = value_or_die(open_shards(out.path()));
    return value_or_die(check_shards(model_, tp_, shards, {}));
  }

  // "CODE dest" of each error.
  std::set<std::string> errors(const Edit& edit) const {
    std::set<std::string> out;
    for (const Finding& f : check(edit).findings) {
      if (f.severity == Severity::kError) out.insert(f.id + " " + f.point);
    }
    return out;
  }

 private:
  std::int64_t tp_;
  TempDir dir_;
  ShardModel model_;
  Plan plan_;
};

// Rows [to, to + count) of a matrix or a vector become those of another from row `from`.
inline void copy_rows(Tensor& out, std::int64_t to, const TensorView& in, std::int64_t from,
                      std::int64_t count) {
  const std::size_t row = in.bytes.size() / static_cast<std::size_t>(in.shape[0]);
  const auto bytes =
      in.bytes.subspan(static_cast<std::size_t>(from) * row, static_cast<std::size_t>(count) * row);
  std::copy(bytes.begin(), bytes.end(),
            out.bytes().begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(to) * row));
}

}  // namespace ps
