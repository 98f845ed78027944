// Cache faults planted in a lone trace, and in a cache tensor file alone: each is found without any
// reference, under its name, and a clean run says nothing.
#include <set>

#include <gtest/gtest.h>

#include "diff/lint/cache.h"
#include "diff/lint/lint.h"
#include "tests/support/program.h"
#include "tests/support/run.h"

namespace ps {
namespace {

namespace fs = std::filesystem;
using Found = std::set<std::string>;

constexpr const char* kKeys = "model.layers.1.self_attn:k_cache";
constexpr const char* kValues = "model.layers.1.self_attn:v_cache";

Found found(const Result<Report>& report) {
  Found out;
  if (!report.ok()) return {report.error().line()};
  for (const Finding& f : report->findings) {
    if (f.severity != Severity::kInfo) out.insert(f.id + " " + f.point);
  }
  return out;
}

// Cell [row, head, slot, channel] of a float32 cache.
float& cell(Tensor& t, std::int64_t row, std::int64_t head, std::int64_t slot, std::int64_t d) {
  const Shape& s = t.shape();
  return t.as<float>()[static_cast<std::size_t>(((row * s[1] + head) * s[2] + slot) * s[3] + d)];
}

class LoneTrace : public ::testing::Test {
 protected:
  // 4 replicas x 3 beams, 8 prefix slots; steps: prefill 5, reorder, decode 1, ...
  void SetUp() override {
    PS_NEEDS_REFERENCE();
    const Ran ran =
        run_parscope({"trace", bytes_model(), "-o", dir_ / "t", "--random", "1x5", "--steps", "2",
                      "--beams", "3", "--dtype", "f32", "--engine", "reference"});
    ASSERT_EQ(ran.code, 0) << ran.err;
  }
  Found lint(int step, const EditTensor& edit) {
    const fs::path path = dir_ / ("t/step-0000" + std::to_string(step) + ".rank-00000.safetensors");
    const fs::path old = dir_ / "old.safetensors";
    fs::rename(path, old);
    edit_tensors(old, path, edit);
    const Found out = found(lint_trace(dir_ / "t", std::nullopt));
    fs::remove(path);
    fs::rename(old, path);
    return out;
  }
  Found lint_one(int step, const std::string& point, const std::function<void(Tensor&)>& edit) {
    return lint(step, [&](const std::string& name, Tensor& t) {
      if (name == point) edit(t);
      return true;
    });
  }
  TempDir dir_;
};

TEST_F(LoneTrace, CleanSaysNothing) {
  EXPECT_EQ(found(lint_trace(dir_ / "t", std::nullopt)), Found{});
}

TEST_F(LoneTrace, ThePastStaysAsItWas) {
  // Step 4 is the second decode step: slots 0..13 are past.
  EXPECT_EQ(lint_one(4, kKeys, [](Tensor& t) { cell(t, 7, 1, 9, 3) += 1e-3F; }),
            Found{std::string("TP041 ") + kKeys});
  EXPECT_EQ(lint_one(4, kValues, [](Tensor& t) { cell(t, 0, 0, 0, 0) = 0; }),
            Found{std::string("TP041 ") + kValues});
}

TEST_F(LoneTrace, NewSlotsAreTheStepsOwn) {
  // Only the prefill's keys; the steps after it would repeat the finding.
  Tensor projected;
  const auto unrotated = [&](const std::string& name, Tensor& t) {
    if (name == "model.layers.1.self_attn.k_proj") projected = t;
    return true;
  };
  lint(4, unrotated);
  const Found keys = lint_one(4, kKeys, [&](Tensor& t) {
    const std::int64_t last = t.shape()[2] - 1;
    for (std::int64_t row = 0; row < t.shape()[0]; ++row) {
      for (std::int64_t h = 0; h < 2; ++h) {
        for (std::int64_t d = 0; d < 32; ++d) {
          cell(t, row, h, last, d) =
              projected.as<float>()[static_cast<std::size_t>(row * 64 + h * 32 + d)];
        }
      }
    }
  });
  EXPECT_EQ(keys, Found{std::string("TP043 ") + kKeys});
  const Found hole = lint_one(4, kKeys, [](Tensor& t) {
    for (std::int64_t d = 0; d < 32; ++d) cell(t, 2, 0, t.shape()[2] - 1, d) = 0;
  });
  EXPECT_EQ(hole, Found{std::string("cache-hole-or-slot-off-by-one ") + kKeys});
  const Found swapped = lint_one(4, kValues, [](Tensor& t) {
    const std::int64_t last = t.shape()[2] - 1;
    for (std::int64_t d = 0; d < 32; ++d) std::swap(cell(t, 2, 0, last, d), cell(t, 2, 1, last, d));
  });
  EXPECT_EQ(swapped, Found{std::string("TP041 ") + kValues});
}

TEST_F(LoneTrace, AReorderMovesTheRowsOfEveryReplica) {
  const Found moved = lint_one(3, kKeys, [](Tensor& t) { cell(t, 11, 0, 10, 0) += 1; });
  EXPECT_TRUE(moved.contains(std::string("TP044 ") + kKeys));
}

TEST_F(LoneTrace, ThePrefixIsThere) {
  const Found zeros = lint_one(0, kValues, [](Tensor& t) {
    for (std::int64_t row = 0; row < t.shape()[0]; ++row) {
      for (std::int64_t h = 0; h < 2; ++h) {
        for (std::int64_t s = 0; s < 8; ++s) {
          for (std::int64_t d = 0; d < 32; ++d) cell(t, row, h, s, d) = 0;
        }
      }
    }
  });
  EXPECT_TRUE(zeros.contains(std::string("cache-prefix-zero-placeholder ") + kValues));
  const Found other = lint_one(0, kValues, [](Tensor& t) { cell(t, 1, 0, 2, 5) += 1; });
  EXPECT_TRUE(other.contains(std::string("unnamed ") + kValues));
  const Found tiled = lint_one(0, kValues, [](Tensor& t) {
    const Tensor right = Tensor::copy_of(t.view());
    for (std::int64_t row = 0; row < 12; ++row) {
      for (std::int64_t h = 0; h < 2; ++h) {
        for (std::int64_t s = 0; s < 8; ++s) {
          for (std::int64_t d = 0; d < 32; ++d) {
            cell(t, row, h, s, d) = cell(const_cast<Tensor&>(right), row % 4 * 3, h, s, d);
          }
        }
      }
    }
  });
  EXPECT_TRUE(tiled.contains(std::string("replica-prefix-order ") + kValues));
}

// A cache tensor file alone.
class LoneCache : public ::testing::Test {
 protected:
  Report lint(const std::map<std::string, Shape>& shapes) {
    auto writer = value_or_die(SafetensorsWriter::create(dir_ / "cache.safetensors"));
    int seed = 0;
    for (const auto& [name, shape] : shapes) {
      Tensor t(DType::kF32, shape);
      ++seed;  // all rows alike: the samples of a replica start with the same prefix
      const std::int64_t row = shape[1] * shape[2] * shape[3];
      for (std::int64_t i = 0; i < count_of(shape); ++i) {
        t.as<float>()[static_cast<std::size_t>(i)] = static_cast<float>(seed + i % row);
      }
      ok_or_die(writer.add(name, t.view()));
    }
    ok_or_die(writer.close());
    return value_or_die(lint_trace(dir_ / "cache.safetensors", bytes_model()));
  }
  TempDir dir_;
};

TEST_F(LoneCache, ARightOneIsClean) {
  EXPECT_EQ(found(lint({{"past_key_values.0.key", {8, 2, 13, 32}},
                        {"past_key_values.0.value", {8, 2, 13, 32}},
                        {"past_key_values.3.key", {8, 2, 13, 32}}})),
            Found{});
}

TEST_F(LoneCache, AxesAreExplainedInWords) {
  const Report report = lint({{"model.layers.0.self_attn:k_cache", {8, 0, 13, 32}}});
  ASSERT_EQ(report.findings.size(), 1U);
  EXPECT_EQ(report.findings[0].id, "TP042");
  EXPECT_EQ(report.findings[0].message,
            "axis 1 is heads: 2 expected from num_key_value_heads, 0 found");
  EXPECT_EQ(found(lint({{"key_cache.2", {8, 4, 13, 32}}})), Found{"TP042 key_cache.2"});
  EXPECT_EQ(found(lint({{"key_cache.2", {8, 2, 8, 32}}})), Found{"TP040 key_cache.2"});
  EXPECT_EQ(found(lint({{"key_cache.2", {7, 2, 13, 16}}})), Found{"cache-shape key_cache.2"});
  EXPECT_EQ(found(lint({{"key_cache.9", {8, 2, 13, 32}}})), Found{"cache-shape key_cache.9"});
  EXPECT_EQ(found(lint({{"key_cache.0", {8, 2, 13, 32}}, {"value_cache.0", {8, 2, 12, 32}}})),
            Found{"TP040 value_cache.0"});
}

TEST_F(LoneCache, WhatIsWrongInManyLayersIsSaidOnce) {
  const Report report = lint({{"key_cache.0", {8, 2, 13, 32}},
                              {"key_cache.1", {8, 4, 13, 32}},
                              {"value_cache.1", {8, 4, 13, 32}},
                              {"key_cache.2", {8, 4, 13, 32}},
                              {"key_cache.3", {8, 0, 13, 32}}});
  std::vector<std::string> said;
  for (const Finding& f : report.findings) {
    if (f.id == "TP042") said.push_back(f.point + ": " + f.message);
  }
  const std::string heads = "axis 1 is heads: 2 expected from num_key_value_heads, ";
  const std::string four =
      heads + "4 found: the key/value heads were repeated for the query heads before caching";
  EXPECT_EQ(said, (std::vector<std::string>{"key_cache.1: " + four + "; so in layers 1, 2",
                                            "key_cache.3: " + heads + "0 found",
                                            "value_cache.1: " + four}));
}

TEST_F(LoneCache, HeadsAndSlotsInEachOthersPlace) {
  EXPECT_EQ(found(lint({{"key_cache.1", {8, 13, 2, 32}}})),
            Found{"cache-layout-transposed key_cache.1"});
}

TEST_F(LoneCache, AnEmptyOneIsWrongWithoutAModelToo) {
  lint({{"key_cache.1", {8, 2, 0, 32}}, {"value_cache.1", {8, 2, 0, 32}}});
  const Report report = value_or_die(lint_trace(dir_ / "cache.safetensors", std::nullopt));
  EXPECT_EQ(found(report), (Found{"TP040 key_cache.1", "TP040 value_cache.1"}));
  EXPECT_EQ(report.findings[0].message,
            "axis 2 is slots: at least 1 expected, 0 found: nothing was cached");
  lint({{"key_cache.1", {8, 0, 9, 32}}});
  EXPECT_EQ(found(lint_trace(dir_ / "cache.safetensors", std::nullopt)),
            Found{"TP042 key_cache.1"});
}

TEST(CacheName, OnlyCaches) {
  EXPECT_EQ(cache_name("layers.3.keys")->layer, 3);
  EXPECT_FALSE(cache_name("model.layers.3.self_attn.v_proj.weight"));
  EXPECT_FALSE(cache_name("model.layers.3.self_attn.v_proj"));
  EXPECT_FALSE(cache_name("model.layers.3.self_attn:k_rope"));
}

}  // namespace
}  // namespace ps
