// Caches followed from step to step, in traces built here by definition: reorders whose files hold
// nothing, ranks that each have their own heads, keys of models that normalise them. Planted and
// seen red: reorders taken for a gap, only rank 0 looked at, k_proj for k_norm.
#include <cmath>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "diff/lint/lint.h"
#include "tests/support/run.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

using Json = nlohmann::json;
using Tensors = std::map<std::string, Tensor>;
using Ids = std::vector<std::string>;
using Beams = std::vector<std::int64_t>;

constexpr std::int64_t kP = 3, kT = 3, kB = 2, kK = 2, kD = 6;  // rows: 6
constexpr const char* kKeys = "model.layers.1.self_attn:k_cache";
constexpr const char* kValues = "model.layers.1.self_attn:v_cache";

Json model_of(const std::string& type) {
  Json out = {{"model_type", type},         {"vocab_size", 11},
              {"hidden_size", 20},          {"intermediate_size", 14},
              {"num_hidden_layers", 2},     {"num_attention_heads", 4},
              {"num_key_value_heads", kK},  {"head_dim", kD},
              {"rms_norm_eps", 1e-6},       {"rope_theta", 10000.0},
              {"tie_word_embeddings", true}};
  if (type == "qwen2_parscale") {
    out["parscale_n"] = kP;
    out["parscale_n_tokens"] = kT;
  }
  return out;
}

float& cell(Tensor& t, std::int64_t row, std::int64_t head, std::int64_t slot, std::int64_t d) {
  const Shape& s = t.shape();
  return t.as<float>()[static_cast<std::size_t>(((row * s[1] + head) * s[2] + slot) * s[3] + d)];
}

Tensor ids(std::int64_t batch, std::int64_t length) {
  const std::vector<std::int64_t> tokens(static_cast<std::size_t>(batch * length), 5);
  return Tensor::of<std::int64_t>(DType::kI64, {batch, length}, tokens);
}

// Axis 2 of `a`, then that of `b`.
Tensor joined(const Tensor& a, const Tensor& b) {
  Shape shape = a.shape();
  shape[2] += b.shape()[2];
  Tensor out(DType::kF32, shape);
  for (std::int64_t r = 0; r < shape[0]; ++r) {
    for (std::int64_t h = 0; h < shape[1]; ++h) {
      for (std::int64_t s = 0; s < shape[2]; ++s) {
        const bool first = s < a.shape()[2];
        for (std::int64_t d = 0; d < shape[3]; ++d) {
          cell(out, r, h, s, d) = first ? cell(const_cast<Tensor&>(a), r, h, s, d)
                                        : cell(const_cast<Tensor&>(b), r, h, s - a.shape()[2], d);
        }
      }
    }
  }
  return out;
}
Tensor rows_moved(const Tensor& from, const Beams& rows) {
  Tensor out(DType::kF32, from.shape());
  const std::size_t size = from.view().bytes.size() / static_cast<std::size_t>(from.shape()[0]);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    std::copy_n(from.view().bytes.data() + static_cast<std::size_t>(rows[r]) * size, size,
                out.bytes().data() + r * size);
  }
  return out;
}
// [R,K,S,D] as a projection has it: [R,S,K*D].
Tensor flat(const Tensor& t) {
  const Shape& s = t.shape();
  Tensor out(DType::kF32, {s[0], s[2], s[1] * s[3]});
  for (std::int64_t r = 0; r < s[0]; ++r) {
    for (std::int64_t h = 0; h < s[1]; ++h) {
      for (std::int64_t i = 0; i < s[2]; ++i) {
        for (std::int64_t d = 0; d < s[3]; ++d) {
          out.as<float>()[static_cast<std::size_t>(((r * s[2] + i) * s[1] + h) * s[3] + d)] =
              cell(const_cast<Tensor&>(t), r, h, i, d);
        }
      }
    }
  }
  return out;
}

struct Step {
  Tensors tensors;
  std::optional<Beams> beam_idx;  // a reorder
  std::int64_t rank = 0;
};
Step forward(Tensors tensors, std::int64_t rank = 0) {
  return {std::move(tensors), std::nullopt, rank};
}
Step cached(const char* name, const Tensor& cache, std::int64_t rank = 0) {
  return forward({{name, cache}}, rank);
}
Step reordered(Beams beam_idx) { return {{}, std::move(beam_idx), 0}; }

class LintCacheSteps : public ::testing::Test {
 protected:
  Tensor random(const Shape& shape) {
    Tensor out(DType::kF32, shape);
    for (float& x : out.as<float>()) x = std::normal_distribution<float>()(engine_);
    return out;
  }
  // What every sample's prefix is, then `slots` of its own.
  Tensor first_cache(std::int64_t slots, std::int64_t heads = kK) {
    Beams repeated;
    for (std::int64_t p = 0; p < kP; ++p) repeated.insert(repeated.end(), kB, p * kB);
    const Tensor prefix = rows_moved(random({kP * kB, heads, kT, kD}), repeated);
    return joined(prefix, random({kP * kB, heads, slots, kD}));
  }
  Tensor appended(const Tensor& cache, std::int64_t slots = 1) {
    Shape shape = cache.shape();
    shape[2] = slots;
    return joined(cache, random(shape));
  }
  // "id point rank step" of every finding.
  Ids lint(const std::vector<Step>& steps, const Json& model = model_of("qwen2_parscale"),
           std::int64_t tp = 1) {
    Json manifest = {{"format", "parscope-trace/1"},
                     {"model", model},
                     {"dtype", "float32"},
                     {"world_size", tp},
                     {"tensor_parallel", tp}};
    std::map<std::int64_t, int> of_rank;
    for (const Step& step : steps) {
      const int n = of_rank[step.rank]++;
      const std::string file = "step-0000" + std::to_string(n) + ".rank-0000" +
                               std::to_string(step.rank) + ".safetensors";
      auto writer = value_or_die(SafetensorsWriter::create(dir_ / file));
      for (const auto& [name, tensor] : step.tensors) ok_or_die(writer.add(name, tensor.view()));
      ok_or_die(writer.close());
      Json entry = {{"step", n}, {"rank", step.rank}, {"file", file}};
      if (step.beam_idx) {
        entry["op"] = "reorder_cache";
        entry["beam_idx"] = *step.beam_idx;
      }
      manifest["steps"].push_back(entry);
    }
    put_file(dir_ / "trace.json", manifest.dump());
    report_ = value_or_die(lint_trace(dir_.path(), std::nullopt));
    Ids out;
    for (const Finding& f : report_.findings) {
      out.push_back(f.id + " " + f.point + " " + std::to_string(f.rank) + " " +
                    std::to_string(f.step));
    }
    return out;
  }
  bool says(const std::string& words) const {
    return report_.findings.at(0).message.find(words) != std::string::npos;
  }
  std::mt19937 engine_{7};
  TempDir dir_;
  Report report_;
};

Ids one(const std::string& id, const std::string& point, int rank, int step) {
  return {id + " " + point + " " + std::to_string(rank) + " " + std::to_string(step)};
}

TEST_F(LintCacheSteps, AReorderMovesRowsThoughItsFileIsEmpty) {
  const Tensor before = first_cache(5);
  const Step reorder = reordered({1, 0});
  const auto after = [&](const Beams& rows) {
    return lint(
        {cached(kKeys, before), reorder, cached(kKeys, appended(rows_moved(before, rows)))});
  };
  EXPECT_EQ(after({1, 0, 3, 2, 5, 4}), Ids{});
  EXPECT_EQ(after({0, 1, 2, 3, 4, 5}), one("TP044", kKeys, 0, 2));
  EXPECT_TRUE(says("row 0 should hold what row 1 held")) << report_.findings[0].message;
  EXPECT_TRUE(says("the reorder was skipped")) << report_.findings[0].message;
  EXPECT_EQ(after({1, 0, 2, 3, 4, 5}), one("TP044", kKeys, 0, 2));
  EXPECT_TRUE(says("row 2 should hold")) << report_.findings[0].message;
  EXPECT_TRUE(says("not in replica 0")) << report_.findings[0].message;
  EXPECT_EQ(after({1, 0, 1, 0, 1, 0}), one("TP044", kKeys, 0, 2));
  EXPECT_TRUE(says("row 2 should hold what row 3 held")) << report_.findings[0].message;
  EXPECT_TRUE(says("another replica's")) << report_.findings[0].message;
}

TEST_F(LintCacheSteps, AStaleSlotIsSeenAcrossAReorder) {
  const Tensor before = first_cache(5);
  Tensor now = appended(rows_moved(before, {1, 1, 3, 3, 5, 5}));
  const Step first = cached(kValues, before), reorder = reordered({1, 1});
  EXPECT_EQ(lint({first, reorder, cached(kValues, now)}), Ids{});
  for (std::int64_t d = 0; d < kD; ++d) cell(now, 4, 1, 6, d) = 0;
  EXPECT_EQ(lint({first, reorder, cached(kValues, now)}), one("TP041", kValues, 0, 2));
  EXPECT_TRUE(says("slot 6 of row 5")) << report_.findings[0].message;
  EXPECT_TRUE(says("(to zeros)")) << report_.findings[0].message;
  EXPECT_EQ(report_.findings[0].where, "replica=2 batch=0 kv_head=1 slot=6");
}

TEST_F(LintCacheSteps, ReordersOneAfterTheOtherCompose) {
  // Three beams of one replica's model would do; the order of the two matters.
  Json model = model_of("qwen2_parscale");
  model["parscale_n"] = 2;
  const Tensor before = first_cache(4);
  const Step first = cached(kKeys, before), one_then = reordered({1, 2, 0}),
             two = reordered({0, 0, 2});
  // After {1,2,0}: rows 1 2 0; then {0,0,2}: rows 1 1 0, and so in the second replica.
  const auto moved = [&](const Beams& rows) {
    return lint({first, one_then, two, cached(kKeys, appended(rows_moved(before, rows)))}, model);
  };
  Ids samples;  // the prefixes of three samples of a replica differ here: not what is asked
  for (const std::string& id : moved({1, 1, 0, 4, 4, 3})) {
    if (id.find("TP04") != id.npos) samples.push_back(id);
  }
  EXPECT_EQ(samples, Ids{});
  Ids wrong;
  for (const std::string& id : moved({1, 1, 2, 4, 4, 5})) {
    if (id.find("TP04") != id.npos) wrong.push_back(id);
  }
  EXPECT_EQ(wrong, one("TP044", kKeys, 0, 3));
}

TEST_F(LintCacheSteps, WhatStandsBetweenAndDoesNotSayIsAGap) {
  const Tensor before = first_cache(5), other = first_cache(6);
  const Step first = cached(kKeys, before), last = cached(kKeys, other);
  EXPECT_EQ(lint({first, reordered({1, 0}), forward({{"input_ids", ids(kB, 1)}}), last}), Ids{});
  for (const Beams& beams : {Beams{2, 0}, Beams{0, 1, 0}, Beams{}}) {  // fits no batch
    EXPECT_EQ(lint({first, reordered(beams), last}), Ids{});
  }
  EXPECT_EQ(lint({first, last}), one("TP041", kKeys, 0, 1));
}

TEST_F(LintCacheSteps, EveryRanksOwnCachesAreFollowed) {
  const Tensor a = first_cache(5, 1), b = first_cache(5, 1);
  Tensor a2 = appended(a), b2 = appended(b);
  const auto run = [&] {
    return lint(
        {cached(kKeys, a, 0), cached(kKeys, b, 1), cached(kKeys, a2, 0), cached(kKeys, b2, 1)},
        model_of("qwen2_parscale"), 2);
  };
  EXPECT_EQ(run(), Ids{});
  cell(b2, 3, 0, 4, 1) += 1;
  EXPECT_EQ(run(), one("TP041", kKeys, 1, 1));
}

TEST_F(LintCacheSteps, ARanksNewSlotsAreItsOwnKeys) {
  const Tensor cache = first_cache(4, 1), old = first_cache(4, 1);
  const Tensor rotated = random({kP * kB, 1, 2, kD}), projected = random({kP * kB, 1, 2, kD});
  const auto run = [&](const Tensor& fresh) {
    const Tensors own = {{kKeys, joined(cache, fresh)},
                         {"model.layers.1.self_attn:k_rope", rotated},
                         {"model.layers.1.self_attn.k_proj", flat(projected)}};
    return lint({cached(kKeys, old, 0), cached(kKeys, cache, 1), forward(own, 1)},
                model_of("qwen2_parscale"), 2);
  };
  EXPECT_EQ(run(rotated), Ids{});
  EXPECT_EQ(run(projected), one("TP043", kKeys, 1, 1));
}

// k_norm, [R,S,K,D], is what Qwen3 rotates.
TEST_F(LintCacheSteps, UnrotatedKeysOfAModelThatNormalisesThem) {
  const Tensor normed = random({kB, kK, 3, kD}), projected = random({kB, kK, 3, kD});
  Tensor cos(DType::kF32, {1, 3, kD}), sin(DType::kF32, {1, 3, kD});
  Tensor rotated(DType::kF32, normed.shape());
  for (std::int64_t s = 0; s < 3; ++s) {
    for (std::int64_t d = 0; d < kD; ++d) {
      const double angle = static_cast<double>(s) * std::pow(100.0, -static_cast<double>(d % 3));
      cos.as<float>()[static_cast<std::size_t>(s * kD + d)] = static_cast<float>(std::cos(angle));
      sin.as<float>()[static_cast<std::size_t>(s * kD + d)] = static_cast<float>(std::sin(angle));
      for (std::int64_t row = 0; row < kB * kK; ++row) {
        Tensor& x = const_cast<Tensor&>(normed);
        const double other = cell(x, row / kK, row % kK, s, (d + 3) % kD) * (d < 3 ? -1 : 1);
        cell(rotated, row / kK, row % kK, s, d) = static_cast<float>(
            cell(x, row / kK, row % kK, s, d) * std::cos(angle) + other * std::sin(angle));
      }
    }
  }
  Tensors step = {{"model.layers.1.self_attn:k_rope", rotated},
                  {"model.layers.1.self_attn.k_proj", flat(projected)}};
  const Tensor as_projection = flat(normed);
  step["model.layers.1.self_attn.k_norm"] =
      Tensor::of(DType::kF32, {kB, 3, kK, kD}, as_projection.view().bytes);
  const auto run = [&](const Tensor& cache) {
    step[kKeys] = cache;
    return lint({forward(step)}, model_of("qwen3"));
  };
  EXPECT_EQ(run(rotated), Ids{});
  EXPECT_EQ(run(normed), one("TP043", kKeys, 0, 0));
  EXPECT_TRUE(says("k_norm's output")) << report_.findings[0].message;
  EXPECT_EQ(run(projected), one("TP043", kKeys, 0, 0));
  EXPECT_TRUE(says("neither normalised nor rotated")) << report_.findings[0].message;
  EXPECT_EQ(run(random({kB, kK, 3, kD})), one("TP041", kKeys, 0, 0));
  step.erase("model.layers.1.self_attn.k_norm");
  EXPECT_EQ(run(normed), one("TP041", kKeys, 0, 0)) << "without tables nothing turns";
  step["model.rotary_emb:cos"] = cos;
  step["model.rotary_emb:sin"] = sin;
  EXPECT_EQ(run(normed), one("TP043", kKeys, 0, 0));
  EXPECT_TRUE(says("rotated, are k_rope")) << report_.findings[0].message;
}

}  // namespace
}  // namespace ps
