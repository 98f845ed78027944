// Mistakes in one part of a fused tensor, or that several ranks show together, are named by their
// codes (tensor-parallel.md 7, 7.1).
#include <cmath>

#include <gtest/gtest.h>

#include "tests/support/planted_shards.h"

namespace ps {
namespace {

using Errors = std::set<std::string>;
using Edit = PlantedShards::Edit;

const std::string kQkv = "layers.1.self_attn.qkv_proj.";

// An edit of one tensor on all ranks.
Edit of(const std::string& dest, const std::function<void(std::int64_t rank, Tensor&)>& edit) {
  return [=](std::int64_t rank, const std::string& name, Tensor& tensor) {
    if (name == dest) edit(rank, tensor);
    return true;
  };
}

std::string words_of(const Report& report) {
  std::string out;
  for (const Finding& f : report.findings) out += f.message + "\n";
  return out;
}

class ShardParts : public ::testing::Test {
 protected:
  const PlantedShards planted_{small_config("llama", 4, kBiases), 2};
  const std::int64_t q_ = planted_.share().heads * 6, kv_ = planted_.share().kv_heads * 6;

  // Rows of a tensor become rank `r`'s; the others stay.
  void from_rank(Tensor& t, std::int64_t r, const std::string& dest, std::int64_t row,
                 std::int64_t count) const {
    copy_rows(t, row, planted_.shard(r, dest).view(), row, count);
  }
};

TEST_F(ShardParts, OnePartOfAnotherRank) {
  const Edit q = of(kQkv + "weight", [&](std::int64_t r, Tensor& t) {
    from_rank(t, 1 - r, kQkv + "weight", 0, q_);
  });
  EXPECT_EQ(planted_.errors(q), Errors{"TP003 " + kQkv + "weight"});
  const std::string words = words_of(planted_.check(q));
  EXPECT_NE(words.find("q part: rank 0 holds rank 1's slice"), std::string::npos) << words;
  const std::string gate_up = "layers.0.mlp.gate_up_proj.weight";
  EXPECT_EQ(planted_.errors(of(
                gate_up, [&](std::int64_t r, Tensor& t) { from_rank(t, 1 - r, gate_up, 20, 20); })),
            Errors{"TP003 " + gate_up});
}

TEST_F(ShardParts, PartsThatAreZero) {
  const auto zero_kv = [&](std::int64_t, Tensor& t) {
    const Tensor zeros(t.dtype(), t.shape());
    copy_rows(t, q_, zeros.view(), q_, 2 * kv_);
  };
  EXPECT_EQ(planted_.errors(of(kQkv + "bias", zero_kv)), Errors{"TP008 " + kQkv + "bias"});
  EXPECT_EQ(planted_.errors(of(kQkv + "weight", zero_kv)), Errors{"TP007 " + kQkv + "weight"});
  const std::string words = words_of(planted_.check(of(kQkv + "weight", zero_kv)));
  EXPECT_NE(words.find("k, v part: was never loaded: all zeros"), std::string::npos) << words;
}

TEST_F(ShardParts, AnotherPartInItsPlace) {
  const std::string gate_up = "layers.0.mlp.gate_up_proj.weight";
  EXPECT_EQ(planted_.errors(of(gate_up,
                               [&](std::int64_t, Tensor& t) {
                                 copy_rows(t, 20, Tensor::copy_of(t.view()).view(), 0, 20);
                               })),
            Errors{"TP005 " + gate_up});
}

// Half of a fused tensor is right, the other nobody's: it says which, and no more.
TEST_F(ShardParts, APartThatIsNothing) {
  const Edit edit = of(kQkv + "weight", [&](std::int64_t, Tensor& t) {
    auto values = t.as<float>();
    for (std::size_t i = 0; i < 20; ++i) values[i] += 1;
  });
  EXPECT_EQ(planted_.errors(edit), Errors{"TP007 " + kQkv + "weight"});
  const std::string words = words_of(planted_.check(edit));
  EXPECT_NE(words.find("q part: matches nothing"), std::string::npos) << words;
  EXPECT_EQ(words.find("k part"), std::string::npos) << words;
}

// Two mistakes in two parts: each is said under its own code.
TEST_F(ShardParts, TwoPartsWithTwoMistakes) {
  const Edit edit = of(kQkv + "weight", [&](std::int64_t r, Tensor& t) {
    from_rank(t, 1 - r, kQkv + "weight", 0, q_);
    const Tensor zeros(t.dtype(), t.shape());
    copy_rows(t, q_, zeros.view(), q_, kv_);
  });
  EXPECT_EQ(planted_.errors(edit),
            (Errors{"TP003 " + kQkv + "weight", "TP007 " + kQkv + "weight"}));
  const std::string words = words_of(planted_.check(edit));
  EXPECT_NE(words.find("q part: rank 0 holds rank 1's slice"), std::string::npos) << words;
  EXPECT_NE(words.find("k part: was never loaded: all zeros"), std::string::npos) << words;
}

TEST_F(ShardParts, AnotherOffset) {
  const std::string o = "layers.1.self_attn.o_proj.weight", up = "layers.0.mlp.gate_up_proj.weight";
  const Tensor left = planted_.shard(0, o), right = planted_.shard(1, o);
  // Rank 1 begins one column early, rank 0 one late; the last one goes round.
  const auto column = [&](std::int64_t row, std::int64_t c) {
    const auto at = static_cast<std::size_t>(row * 24 + c % 24);
    return c % 48 < 24 ? left.view().as<float>()[at] : right.view().as<float>()[at];
  };
  const auto shifted = [&](std::int64_t by) {
    return of(o, [&, by](std::int64_t r, Tensor& t) {
      for (std::int64_t i = 0; i < t.view().count(); ++i) {
        t.as<float>()[static_cast<std::size_t>(i)] =
            column(i / 24, (r * 24 + i % 24 + by + 48) % 48);
      }
    });
  };
  for (const std::int64_t by : {-1, 1, 5}) {
    EXPECT_EQ(planted_.errors(shifted(by)), Errors{"TP003 " + o}) << by;
  }
  const std::string words = words_of(planted_.check(shifted(-1)));
  EXPECT_NE(words.find("rank 1 starts at 23 instead of 24 on dim 1"), std::string::npos) << words;
  // gate one row late on rank 0: the part is found, the other is right.
  const Tensor next = planted_.shard(1, up);
  EXPECT_EQ(planted_.errors(of(up,
                               [&](std::int64_t r, Tensor& t) {
                                 if (r != 0) return;
                                 copy_rows(t, 0, Tensor::copy_of(t.view()).view(), 1, 19);
                                 copy_rows(t, 19, next.view(), 0, 1);
                               })),
            Errors{"TP003 " + up});
}

// Four ranks, two key/value heads: 0 0 1 1 is right, 0 1 0 1 is r % heads.
class SharedHeads : public ::testing::Test {
 protected:
  static std::int64_t holder(std::int64_t r) { return r % 2 == 0 ? 0 : 3; }
};

TEST_F(SharedHeads, OnlyKByModulo) {
  const PlantedShards planted(small_config("llama", 2), 4);
  EXPECT_EQ(planted.errors(of(kQkv + "weight",
                              [&](std::int64_t r, Tensor& t) {
                                copy_rows(t, 12, planted.shard(holder(r), kQkv + "weight").view(),
                                          12, 6);
                              })),
            Errors{"TP006 " + kQkv + "weight"});
}

TEST_F(SharedHeads, UnfusedByModulo) {
  const PlantedShards planted(small_config("llama", 2), 4, false);
  const std::string k = "layers.0.self_attn.k_proj.weight";
  EXPECT_EQ(
      planted.errors(of(k, [&](std::int64_t r, Tensor& t) { t = planted.shard(holder(r), k); })),
      Errors{"TP006 " + k});
  // One rank alone may as well have taken its neighbour's.
  EXPECT_EQ(planted.errors(of(k,
                              [&](std::int64_t r, Tensor& t) {
                                if (r == 1) t = planted.shard(3, k);
                              })),
            Errors{"TP003 " + k});
}

// Ranks 1 and 2 have each other's files: their heads look like r % heads, and are not.
TEST_F(SharedHeads, RanksThatAreExchanged) {
  const PlantedShards planted(small_config("llama", 2), 4, false);
  const Edit exchanged = [&](std::int64_t r, const std::string& dest, Tensor& t) {
    if (r == 1 || r == 2) t = planted.shard(3 - r, dest);
    return true;
  };
  for (const std::string& error : planted.errors(exchanged)) {
    EXPECT_TRUE(error.starts_with("TP003 ")) << error;
  }
}

TEST_F(SharedHeads, PrefixesByModuloAndExchanged) {
  const PlantedShards planted(small_config("qwen2_parscale", 2, kPrefixes), 4);
  const std::string k = "layers.0.self_attn.prefix_k", v = "layers.0.self_attn.prefix_v";
  EXPECT_EQ(
      planted.errors(of(k, [&](std::int64_t r, Tensor& t) { t = planted.shard(holder(r), k); })),
      Errors{"TP006 " + k});
  const Edit exchanged = [&](std::int64_t r, const std::string& dest, Tensor& t) {
    if (dest == k) t = planted.shard(r, v);
    if (dest == v) t = planted.shard(r, k);
    return true;
  };
  EXPECT_EQ(planted.errors(exchanged), (Errors{"TP005 " + k, "TP005 " + v}));
}

// torch's initial values are uniform within 1/sqrt(fan-in); others that stay within it are not.
TEST_F(ShardParts, OnlyUniformValuesAreCalledInitial) {
  const std::string down = "layers.1.mlp.down_proj.weight";
  std::mt19937 random(5);
  const double edge = 1 / std::sqrt(20.0);
  std::uniform_real_distribution<float> uniform(static_cast<float>(-edge),
                                                static_cast<float>(edge));
  std::normal_distribution<float> normal(0, static_cast<float>(edge / 2.6));
  const auto drawn = [&](auto& distribution) {
    return words_of(planted_.check(of(down, [&](std::int64_t, Tensor& t) {
      for (float& x : t.as<float>()) {
        do x = distribution(random);
        while (std::fabs(x) > edge);
      }
      t.as<float>()[7] = static_cast<float>(0.99 * edge);
    })));
  };
  std::string words = drawn(uniform);
  EXPECT_NE(words.find("was never loaded: uniform within 1/sqrt(20)"), std::string::npos) << words;
  words = drawn(normal);
  EXPECT_EQ(words.find("uniform"), std::string::npos) << words;
  EXPECT_NE(words.find("matches nothing"), std::string::npos) << words;
}

}  // namespace
}  // namespace ps
