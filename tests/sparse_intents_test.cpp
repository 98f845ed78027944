// The 31 test intents of spec sparse.md section 8, with the corrections of its sections 1 to 6, as
// a table; asked of the reference and of the candidate.
#include <cmath>
#include <filesystem>
#include <functional>

#include <gtest/gtest.h>

#include "core/rng.h"
#include "core/sketch.h"
#include "diff/sparse/check.h"
#include "diff/sparse/lists.h"
#include "diff/sparse/probe.h"
#include "model/candidate.h"
#include "tests/support/paths.h"
#include "tests/support/plain_sparse.h"

namespace ps {
namespace {

const std::string kReference = binary_dir() + "/libparscope_reference.so";

SparseConfig usual() {
  SparseConfig c;
  c.heads = 4;
  c.kv_heads = 2;
  c.length = 45;
  c.head_dim = 16;
  c.block = 8;
  c.sketch = 8;
  c.tau = 3;
  c.layers = 2;
  c.skip = 0;
  return c;
}

struct Subject {
  bool candidate;
  Result<std::unique_ptr<SparseEngine>> make(const SparseCase& base) const {
    if (!candidate) {
      PS_TRY(auto made, open_sparse_reference(base.config, base.weights));
      return std::unique_ptr<SparseEngine>(std::move(made));
    }
    CandidateOptions options;
    options.device = Device::kHost;
    options.threads = 1;
    return open_sparse_candidate(base.config, base.weights, options);
  }
  // What it makes of a case; with `errors`, what the verifier says of that.
  SparseCase ran(const SparseCase& base, std::string* errors = nullptr) const {
    auto engine = make(base);
    PS_CHECK(engine.ok(), engine.ok() ? "" : engine.error().line());
    auto out = run_sparse_case(base, **engine);
    PS_CHECK(out.ok(), out.ok() ? "" : out.error().line());
    if (errors == nullptr) return std::move(out).value();
    const auto reference = open_sparse_reference(base.config, base.weights);
    const auto report = check_sparse_case(*out, **reference, {});
    PS_CHECK(report.ok(), "check");
    for (const Finding& f : report->findings) {
      if (f.severity == Severity::kError) *errors += f.id + " " + f.point + ": " + f.message + "\n";
    }
    return std::move(out).value();
  }
};

std::vector<double> values(const SparseCase& c, const std::string& name) {
  const TensorView* t = c.find(name);
  PS_CHECK(t != nullptr, name);
  std::vector<double> out(static_cast<std::size_t>(t->count()));
  to_doubles(*t, out);
  return out;
}

bool all_finite(const std::vector<double>& x) {
  return std::all_of(x.begin(), x.end(), [](double v) { return std::isfinite(v); });
}

std::vector<double> projected(const std::vector<double>& x, const Tensor& p) {
  std::vector<double> out(static_cast<std::size_t>(p.shape()[1]), 0);
  for (std::size_t d = 0; d < x.size(); ++d) {
    for (std::size_t c = 0; c < out.size(); ++c) {
      out[c] += x[d] * value_at(p.view(), static_cast<std::int64_t>(d * out.size() + c));
    }
  }
  return out;
}

std::vector<double> random_vector(std::int64_t n, std::uint64_t stream) {
  const Rng rng(77, stream);
  std::vector<double> out;
  for (std::int64_t i = 0; i < n; ++i) out.push_back(rng.normal(static_cast<std::uint64_t>(i)));
  return out;
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// The first layer's parts, for intents that look inside.
SparseLayer first_layer(const Subject& s, const SparseCase& base) {
  auto engine = s.make(base);
  PS_CHECK(engine.ok(), "no engine");
  const std::int64_t n = base.config.length;
  const Tensor q = base.tokens("q", 0, 0, n).value(), k = base.tokens("k", 0, 0, n).value(),
               v = base.tokens("v", 0, 0, n).value();
  auto layer = (*engine)->prefill(0, {q.view(), k.view(), v.view(), std::nullopt});
  PS_CHECK(layer.ok(), layer.ok() ? "" : layer.error().line());
  return std::move(layer).value();
}

void same_walks(const Subject& s, bool two_layers) {
  const SparseCase base = random_sparse_case(usual(), 0, 31);
  const SparseCase c = s.ran(base);
  const std::int64_t n = c.config.blocks(c.config.length);
  const auto w0 = values(c, "layer0/transition"), w1 = values(c, "layer1/transition");
  const auto walk = values(c, two_layers ? "layer1/walk" : "layer0/walk");
  for (std::int64_t i = 0; i < n; ++i) {
    std::vector<double> row;
    double sum = 0;
    for (std::int64_t j = 0; j < n; ++j) {
      double x = two_layers ? 0 : w0[static_cast<std::size_t>(i * n + j)];
      for (std::int64_t m = 0; two_layers && m < n; ++m) {
        x += w0[static_cast<std::size_t>(i * n + m)] * w1[static_cast<std::size_t>(m * n + j)];
      }
      row.push_back(x);
      sum += x;
    }
    for (std::int64_t j = 0; j < n; ++j) {
      EXPECT_NEAR(walk[static_cast<std::size_t>(i * n + j)], row[static_cast<std::size_t>(j)] / sum,
                  3e-6)
          << i << "," << j;
    }
  }
}

void clean(const Subject& s, const SparseConfig& config, double scale = 1) {
  std::string errors;
  const SparseCase c = s.ran(random_sparse_case(config, 0, 41, scale), &errors);
  EXPECT_EQ(errors, "");
  for (std::int64_t l = 0; l < config.layers; ++l) {
    EXPECT_TRUE(all_finite(values(c, layer_name(l, "out"))));
  }
}

void same_after_reset(const Subject& s, bool by_call) {
  const SparseCase base = random_sparse_case(usual(), 0, 33);
  auto engine = s.make(base);
  ASSERT_TRUE(engine.ok());
  const auto once = run_sparse_case(base, **engine);
  if (by_call) (*engine)->reset();
  const auto twice = run_sparse_case(base, **engine);
  ASSERT_TRUE(once.ok() && twice.ok());
  for (std::int64_t l = 0; l < base.config.layers; ++l) {
    EXPECT_EQ(values(*once, layer_name(l, "walk")), values(*twice, layer_name(l, "walk")));
    EXPECT_EQ(once->selected[static_cast<std::size_t>(l)].lists,
              twice->selected[static_cast<std::size_t>(l)].lists);
  }
}

struct Intent {
  const char* name;
  std::function<void(const Subject&)> ask;
};
std::ostream& operator<<(std::ostream& out, const Intent& i) { return out << i.name; }

const std::vector<Intent>& intents() {
  static const std::vector<Intent> kIntents = {
      // Hadamard: the projection that a new case is given.
      {"hadamard_entries_are_signs",
       [](const Subject&) {
         const Tensor p = srht_sketch(32, 8, 1);
         for (std::int64_t i = 0; i < p.view().count(); ++i) {
           EXPECT_FLOAT_EQ(std::fabs(static_cast<float>(value_at(p.view(), i))), std::sqrt(0.125f));
         }
       }},
      {"hadamard_keeps_inner_products",
       [](const Subject&) {
         const Tensor whole = srht_sketch(128, 128, 2), half = srht_sketch(128, 64, 2);
         double xy = 0, xx = 0, yy = 0;
         for (std::uint64_t i = 0; i < 200; ++i) {
           const auto a = random_vector(128, 2 * i), b = random_vector(128, 2 * i + 1);
           const double x = dot(a, b), y = dot(projected(a, half), projected(b, half));
           EXPECT_NEAR(dot(projected(a, whole), projected(b, whole)), x, 1e-4);
           xy += x * y, xx += x * x, yy += y * y;
         }
         EXPECT_GT(xy / std::sqrt(xx * yy), 0.3);
       }},
      {"hadamard_keeps_norms",
       [](const Subject&) {
         const Tensor p = srht_sketch(128, 64, 3);
         for (std::uint64_t i = 0; i < 20; ++i) {
           const auto a = random_vector(128, i);
           EXPECT_NEAR(std::sqrt(dot(projected(a, p), projected(a, p)) / dot(a, a)), 1, 0.5);
         }
       }},
      {"hadamard_shape",
       [](const Subject&) { EXPECT_EQ(srht_sketch(24, 17, 4).shape(), (Shape{24, 17})); }},
      {"hadamard_same_seed",
       [](const Subject&) {
         const Tensor a = srht_sketch(24, 16, 5), b = srht_sketch(24, 16, 5);
         EXPECT_TRUE(
             std::equal(a.view().bytes.begin(), a.view().bytes.end(), b.view().bytes.begin()));
       }},
      {"hadamard_other_seed",
       [](const Subject&) {
         const Tensor a = srht_sketch(24, 16, 5), b = srht_sketch(24, 16, 6);
         EXPECT_FALSE(
             std::equal(a.view().bytes.begin(), a.view().bytes.end(), b.view().bytes.begin()));
       }},
      // Sketch.
      {"block_mean_is_the_mean",
       [](const Subject& s) {
         const SparseCase base = random_sparse_case(usual(), 0, 51);
         const SparseLayer layer = first_layer(s, base);
         const SparseConfig& c = base.config;
         for (std::int64_t j = 0; j < c.blocks(c.length); ++j) {
           for (std::int64_t d = 0; d < c.head_dim; ++d) {
             double sum = 0, count = 0;
             for (std::int64_t t = j * c.block; t < std::min(c.length, (j + 1) * c.block); ++t) {
               for (std::int64_t h = 0; h < c.kv_heads; ++h, ++count) {
                 sum += value_at(*base.find("k"), (h * c.length + t) * c.head_dim + d);
               }
             }
             EXPECT_NEAR(value_at(layer.key_blocks.view(), j * c.head_dim + d), sum / count, 1e-5);
           }
         }
       }},
      {"score_shapes",
       [](const Subject& s) {
         SparseConfig config = usual();
         config.batch = 2;
         EXPECT_EQ(first_layer(s, random_sparse_case(config, 0, 52)).scores.shape(),
                   (Shape{2, 6, 6}));
       }},
      {"scores_are_finite",
       [](const Subject& s) {
         const SparseLayer layer = first_layer(s, random_sparse_case(usual(), 0, 53));
         std::vector<double> x(static_cast<std::size_t>(layer.scores.view().count()));
         to_doubles(layer.scores.view(), x);
         EXPECT_TRUE(all_finite(x));
       }},
      {"transitions_are_causal",
       [](const Subject& s) {
         const SparseLayer layer = first_layer(s, random_sparse_case(usual(), 0, 54, 0.5));
         for (std::int64_t cell = 0; cell < 36; ++cell) {
           const double w = value_at(layer.transition.view(), cell);
           EXPECT_TRUE(w == 0 || cell % 6 <= cell / 6) << cell;
           EXPECT_TRUE(w > 0 || cell % 6 > cell / 6) << cell;
         }
       }},
      {"head_mean_keeps_constants",
       [](const Subject& s) {
         SparseCase base = random_sparse_case(usual(), 0, 55);
         Tensor k(DType::kF32, base.find("k")->shape);
         std::fill(k.as<float>().begin(), k.as<float>().end(), 0.375f);
         base.set("k", std::move(k));
         const SparseLayer layer = first_layer(s, base);
         for (std::int64_t i = 0; i < layer.key_blocks.view().count(); ++i) {
           EXPECT_NEAR(value_at(layer.key_blocks.view(), i), 0.375, 1e-6);
         }
       }},
      // Walk.
      {"reset_forgets", [](const Subject& s) { same_after_reset(s, true); }},
      {"first_walk_is_the_transition", [](const Subject& s) { same_walks(s, false); }},
      {"second_walk_is_the_product", [](const Subject& s) { same_walks(s, true); }},
      {"walk_is_causal",
       [](const Subject& s) {
         const SparseCase c = s.ran(random_sparse_case(usual(), 0, 56));
         const auto walk = values(c, "layer1/walk");
         for (std::size_t cell = 0; cell < walk.size(); ++cell) {
           EXPECT_TRUE(walk[cell] == 0 || cell % 6 <= cell / 6) << cell;
         }
       }},
      {"list_lengths",
       [](const Subject& s) {
         const SparseCase c = s.ran(random_sparse_case(usual(), 0, 57));
         for (std::int64_t i = 0; i < 6; ++i) {
           EXPECT_EQ(c.selected[1].at(0, 0, i).size(),
                     static_cast<std::size_t>(std::min<std::int64_t>(3, i + 1)));
         }
       }},
      {"block_zero_is_there",
       [](const Subject& s) {
         const SparseCase c = s.ran(random_sparse_case(usual(), 0, 58));
         for (const auto& list : c.selected[1].lists) EXPECT_EQ(list.front(), 0);
       }},
      // Integration.
      {"tau_beyond_the_blocks",
       [](const Subject& s) {
         SparseConfig config = usual();
         config.tau = 16;
         clean(s, config);
         const SparseCase c = s.ran(random_sparse_case(config, 0, 59));
         EXPECT_EQ(c.find("layer0/out")->shape, (Shape{1, 4, 45, 16}));
         for (std::int64_t i = 0; i < 6; ++i)
           EXPECT_EQ(c.selected[0].at(0, 0, i).size(), static_cast<std::size_t>(i + 1));
       }},
      {"skipped_layers_select_nothing",
       [](const Subject& s) {
         SparseConfig config = usual();
         config.skip = 1;
         const SparseCase c = s.ran(random_sparse_case(config, 0, 60));
         EXPECT_TRUE(c.selected[0].empty());
         EXPECT_FALSE(c.selected[1].empty());
         clean(s, config);
       }},
      {"output_is_near_causal_dense_attention",
       [](const Subject& s) {
         SparseConfig config = usual(), dense = usual();
         config.tau = 5;
         dense.skip = dense.layers;
         const auto a = values(s.ran(random_sparse_case(config, 0, 61)), "layer1/out");
         const auto b = values(s.ran(random_sparse_case(dense, 0, 61)), "layer1/out");
         EXPECT_GT(dot(a, b) / std::sqrt(dot(a, a) * dot(b, b)), 0.9);
         clean(s, config);
       }},
      {"second_run_is_the_first", [](const Subject& s) { same_after_reset(s, false); }},
      // Edges.
      {"length_one",
       [](const Subject& s) {
         auto c = usual();
         c.length = 1;
         clean(s, c);
       }},
      {"shorter_than_a_block",
       [](const Subject& s) {
         auto c = usual();
         c.length = 5;
         clean(s, c);
       }},
      {"four_thousand_tokens",
       [](const Subject& s) {
         SparseConfig c = usual();
         c.length = 4096, c.block = 128, c.heads = 2, c.kv_heads = 1, c.layers = 1;
         clean(s, c);
       }},
      {"one_query_many_keys",
       [](const Subject& s) {
         SparseConfig c = usual();
         c.length = 1024, c.block = 64, c.tau = 4;
         const SparseCase base = random_sparse_case(c, 0, 62);
         auto engine = s.make(base);
         ASSERT_TRUE(engine.ok());
         for (std::int64_t l = 0; l < c.layers; ++l) {
           const Tensor q = base.tokens("q", l, 1023, 1024).value(),
                        k = base.tokens("k", l, 0, 1024).value(),
                        v = base.tokens("v", l, 0, 1024).value();
           const auto layer = (*engine)->prefill(l, {q.view(), k.view(), v.view(), std::nullopt});
           ASSERT_TRUE(layer.ok()) << layer.error().line();
           ASSERT_EQ(layer->lists.rows, 1);
           EXPECT_EQ(layer->lists.at(0, 0, 0).size(), 4u);
           EXPECT_EQ(layer->lists.at(0, 0, 0).back(), 15);
         }
       }},
      // Stability.
      {"any_input_scale",
       [](const Subject& s) {
         for (const double x : {1e-3, 1.0, 1e3}) clean(s, usual(), x);
       }},
      {"exponent_16",
       [](const Subject& s) {
         auto c = usual();
         c.exponent = 16;
         clean(s, c);
       }},
      {"gradients_are_there",
       [](const Subject&) {  // the candidate has no backward pass; the reference's is held to
                             // differences
         const SparseCase base = random_sparse_case(usual(), 0, 63);
         const SparseConfig& c = base.config;
         const auto reference = open_sparse_reference(c, base.weights);
         ASSERT_TRUE(reference.ok());
         const Tensor q = base.tokens("q", 0, 0, c.length).value(),
                      k = base.tokens("k", 0, 0, c.length).value(),
                      v = base.tokens("v", 0, 0, c.length).value(),
                      g = base.tokens("q", 1, 0, c.length).value();
         const auto layer = (*reference)->prefill(0, {q.view(), k.view(), v.view(), std::nullopt});
         const PairMask chosen = inside(pair_mask(c, std::nullopt, c.length, c.length, "").value(),
                                        layer->lists, c.block);
         const auto exact =
             (*reference)->gradients({q.view(), k.view(), v.view(), chosen.view()}, g.view());
         ASSERT_TRUE(exact.ok());
         struct Part {
           const Tensor* x;
           const Tensor* d;
         };
         const Part parts[] = {{&q, &exact->dq}, {&k, &exact->dk}, {&v, &exact->dv}};
         for (int p = 0; p < 3; ++p) {
           for (std::int64_t at = 5; at < parts[p].x->view().count(); at += 311) {
             double loss[2];
             for (int side = 0; side < 2; ++side) {
               Tensor moved(DType::kF64, parts[p].x->shape());
               to_doubles(parts[p].x->view(), moved.as<double>());
               moved.as<double>()[static_cast<std::size_t>(at)] += side == 0 ? -1e-5 : 1e-5;
               const SparseInputs in{p == 0 ? moved.view() : q.view(),
                                     p == 1 ? moved.view() : k.view(),
                                     p == 2 ? moved.view() : v.view(), chosen.view()};
               const auto out = (*reference)->attend(in, chosen.view());
               loss[side] = 0;
               for (std::int64_t i = 0; i < g.view().count(); ++i) {
                 loss[side] += value_at(out->out.view(), i) * value_at(g.view(), i);
               }
             }
             EXPECT_NEAR((loss[1] - loss[0]) / 2e-5, value_at(parts[p].d->view(), at), 1e-6)
                 << p << " " << at;
           }
         }
         std::vector<double> dq(static_cast<std::size_t>(exact->dq.view().count()));
         to_doubles(exact->dq.view(), dq);
         EXPECT_GT(dot(dq, dq), 1e-3);
       }},
      // Properties.
      {"walk_lies_in_0_1",
       [](const Subject& s) {
         for (const double x : values(s.ran(random_sparse_case(usual(), 0, 64)), "layer1/walk")) {
           EXPECT_TRUE(x >= 0 && x <= 1 + 1e-6) << x;
         }
       }},
      {"indices_in_range",
       [](const Subject& s) {
         const SparseCase c = s.ran(random_sparse_case(usual(), 0, 65));
         for (const auto& list : c.selected[1].lists) {
           for (const std::int32_t j : list) EXPECT_TRUE(j >= 0 && j < 6) << j;
         }
       }},
      {"blocks_are_distinct",
       [](const Subject& s) {
         const SparseCase c = s.ran(random_sparse_case(usual(), 0, 66));
         for (const auto& list : c.selected[1].lists) {
           EXPECT_EQ(std::adjacent_find(list.begin(), list.end(), std::greater_equal<>()),
                     list.end());
           EXPECT_LE(list.size(), 6u);
         }
       }},
  };
  return kIntents;
}

class Intents : public testing::TestWithParam<std::tuple<Intent, bool>> {};
TEST_P(Intents, Holds) {
  if (!std::filesystem::exists(kReference)) GTEST_SKIP() << "built without LibTorch";
  std::get<0>(GetParam()).ask({std::get<1>(GetParam())});
}
INSTANTIATE_TEST_SUITE_P(Section8, Intents,
                         testing::Combine(testing::ValuesIn(intents()), testing::Bool()),
                         [](const auto& p) {
                           return std::string(std::get<0>(p.param).name) +
                                  (std::get<1>(p.param) ? "_candidate" : "_reference");
                         });

TEST(SparseIntents, AreThirtyOne) { EXPECT_EQ(intents().size(), 31u); }

// ---- gates, by hand ---------------------------------------------------------------------------

// One head of one dimension and identity weights, so that scores are products of block pools.
SparseCase gate_case(GateRule rule, const std::string& pool) {
  SparseConfig c;
  c.length = 12, c.block = 4, c.head_dim = 1, c.layers = 1, c.skip = 0;
  c.selector = SparseSelector::kGate;
  c.gate = rule, c.pool = pool, c.sinks = 0, c.locals = 0;
  SparseCase out = random_sparse_case(c, 0, 1);
  const std::vector<float> q(12, 1.f), k = {0, 0, 0, 1, 2, 2, 2, 2, -4, 5, -4, 5};
  out.set("q", Tensor::of<float>(DType::kF32, {1, 1, 1, 12, 1}, q));
  out.set("k", Tensor::of<float>(DType::kF32, {1, 1, 1, 12, 1}, k));
  const auto pools = static_cast<std::int64_t>(std::count(pool.begin(), pool.end(), '+')) + 1;
  const std::vector<float> ones(static_cast<std::size_t>(pools), 1.f);
  out.weights.gate_wq = Tensor::of<float>(DType::kF32, {1, pools, 1}, ones);
  out.weights.gate_wk = out.weights.gate_wq;
  return out;
}

std::vector<std::vector<std::int32_t>> selected(const SparseCase& base) {
  return Subject{false}.ran(base).selected[0].lists;
}
using Lists = std::vector<std::vector<std::int32_t>>;

TEST(SparseGate, ThresholdsCompareProbabilities) {
  if (!std::filesystem::exists(kReference)) GTEST_SKIP() << "built without LibTorch";
  // Key means 0.25, 2, 0.5: row 2 has probabilities 0.12, 0.71, 0.16.
  SparseCase base = gate_case(GateRule::kThreshold, "avg");
  base.config.threshold = 0.15;
  EXPECT_EQ(selected(base), (Lists{{0}, {1}, {1, 2}}));
  base.config.threshold = 0.2;
  EXPECT_EQ(selected(base), (Lists{{0}, {1}, {1}}));
  base.config.locals = 1;  // the policy "repair": the diagonal is forced
  EXPECT_EQ(selected(base), (Lists{{0}, {1}, {1, 2}}));
}

TEST(SparseGate, BudgetsCountBlocks) {
  if (!std::filesystem::exists(kReference)) GTEST_SKIP() << "built without LibTorch";
  SparseCase base = gate_case(GateRule::kTokenBudget, "max");  // 1, 2, 5
  base.config.token_budget = 8;
  EXPECT_EQ(selected(base), (Lists{{0}, {0, 1}, {1, 2}}));
  base.config.token_budget = 4;
  EXPECT_EQ(selected(base), (Lists{{0}, {1}, {2}}));
  base.config.last_block_dense = true;
  EXPECT_EQ(selected(base), (Lists{{0}, {0, 1}, {0, 1, 2}}));
}

TEST(SparseGate, RatiosWasteTheirBudgetOnTheFuture) {
  if (!std::filesystem::exists(kReference)) GTEST_SKIP() << "built without LibTorch";
  // 1 - sqrt(1 - 0.9) of 3 blocks = 2 of all columns, then the allowed ones.
  SparseCase base = gate_case(GateRule::kNzRatio, "min");  // 0, 2, -4
  base.config.nz_ratio = 0.9;
  EXPECT_EQ(selected(base), (Lists{{0}, {0, 1}, {0, 1}}));
}

TEST(SparseGate, PoolsAreConcatenated) {
  if (!std::filesystem::exists(kReference)) GTEST_SKIP() << "built without LibTorch";
  // q pools to (1, 1) and sums to 2; keys: max + min = 1, 4, 1.
  SparseCase base = gate_case(GateRule::kTokenBudget, "max+min");
  base.config.token_budget = 4;
  EXPECT_EQ(selected(base), (Lists{{0}, {1}, {1}}));
}

}  // namespace
}  // namespace ps
