// A model with one replica may have a prefix (parscale-xattn): its caches and attentions are past +
// S and the prefix long, and come out so. Planted and seen red: C counted without the prefix.
#include <string>

#include <gtest/gtest.h>

#include "tests/support/foreign_dump.h"
#include "tests/support/program.h"

namespace ps {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kRoom = 5;  // slots behind the cache that were not used

// [.., slots, D] with room behind the slots, which holds anything.
Floats with_room(const Floats& cache) {
  const std::int64_t slots = cache.shape[2], size = cache.shape[3];
  Floats out;
  out.shape = cache.shape;
  out.shape[2] += kRoom;
  for (std::int64_t row = 0; row < cache.shape[0] * cache.shape[1]; ++row) {
    const auto begin = cache.cells.begin() + row * slots * size;
    out.cells.insert(out.cells.end(), begin, begin + slots * size);
    out.cells.insert(out.cells.end(), static_cast<std::size_t>(kRoom * size), 777.0F);
  }
  return out;
}

// As transformers' output would hold it.
void dump(const GoldenStep& g, const fs::path& dir, bool room) {
  std::vector<std::int64_t> ids;
  const TensorView* tokens = g.step->tensors->find("input_ids");
  for (std::int64_t i = 0; i < tokens->count(); ++i) {
    ids.push_back(static_cast<std::int64_t>(value_at(*tokens, i)));
  }
  put_integers(dir / "input_ids.npy", tokens->shape, ids);
  put_floats(dir / "logits.npy", g.value("lm_head"));
  for (int layer = 0; layer < 2; ++layer) {
    const std::string n = std::to_string(layer), attn = "model.layers." + n + ".self_attn";
    put_floats(dir / ("attentions." + n + ".npy"), g.value(attn + ":probs"));
    int part = 0;
    for (const char* point : {":k_cache", ":v_cache"}) {
      const Floats cache = g.value(attn + point);
      put_floats(dir / ("past_key_values." + n + "." + std::to_string(part++) + ".npy"),
                 room ? with_room(cache) : cache);
    }
  }
}

TEST(ConvertPrefix, OneReplicasCachesAndAttentionsAreWhole) {
  const fs::path model = fixtures_dir() / "golden" / "parscale" / "xa_base_n1_t4";
  const Result<Trace> golden = Trace::open(model / "expected");
  ASSERT_TRUE(golden.ok());
  for (const bool room : {false, true}) {
    const TempDir dir;
    for (const GoldenStep& g : golden_steps(*golden)) {
      dump(g, dir.path() / "dump" / ("step-" + std::to_string(g.step->step)), room);
    }
    const Ran ran = run_parscope({"convert", dir / "dump", "-o", dir / "t", "--model", model});
    ASSERT_EQ(ran.code, 0) << ran.err;
    const Result<Trace> made = Trace::open(dir / "t");
    ASSERT_TRUE(made.ok()) << made.error().line();
    ASSERT_EQ(made->steps().size(), golden->steps().size());
    for (std::size_t s = 0; s < made->steps().size(); ++s) {
      for (const char* point : {":k_cache", ":v_cache", ":probs"}) {
        const std::string name = std::string("model.layers.1.self_attn") + point;
        const TensorView* got = made->steps()[s].tensors->find(name);
        const TensorView* want = golden->steps()[s].tensors->find(name);
        ASSERT_TRUE(got != nullptr && want != nullptr) << name;
        EXPECT_EQ(got->shape, want->shape) << name << " step " << s << " room " << room;
        EXPECT_TRUE(std::ranges::equal(got->bytes, want->bytes)) << name << " step " << s;
      }
    }
    if (!has_reference()) continue;
    const Ran judged = run_parscope({"diagnose", dir / "dump", "--model", model});
    EXPECT_EQ(judged.code, 0) << judged.out;
  }
}

}  // namespace
}  // namespace ps
