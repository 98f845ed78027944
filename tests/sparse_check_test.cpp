// What `parscope sparse check` says of cases that somebody's implementation got wrong: golden cases
// with one thing changed, and the code that must name it.
#include <cmath>
#include <functional>

#include <gtest/gtest.h>

#include "diff/sparse/check.h"
#include "tests/support/fixtures.h"
#include "tests/support/program.h"

namespace ps {
namespace {

SparseCase golden(const std::string& name) {
  auto opened = open_sparse_case({fixtures_dir() / "golden" / "sparse" / name});
  PS_CHECK(opened.ok(), opened.ok() ? "" : opened.error().line());
  return std::move(opened).value();
}

Report checked(const SparseCase& subject, const SparseCheckOptions& options = {}) {
  const auto reference = open_sparse_reference(subject.config, subject.weights);
  PS_CHECK(reference.ok(), "no reference");
  auto report = check_sparse_case(subject, **reference, options);
  PS_CHECK(report.ok(), report.ok() ? "" : report.error().line());
  return std::move(report).value();
}

std::string all_of(const Report& report) {
  std::string out;
  for (const Finding& f : report.findings) {
    out += f.id + " " + f.point + " " + f.where + ": " + f.message + "\n";
  }
  return out;
}

bool has(const Report& report, const std::string& code, const std::string& words = {}) {
  for (const Finding& f : report.findings) {
    if (f.id == code && f.message.find(words) != std::string::npos) return true;
  }
  return false;
}

// ---- right cases ------------------------------------------------------------------------------

class Right : public testing::TestWithParam<const char*> {};
TEST_P(Right, HasNoFinding) {
  PS_NEEDS_REFERENCE();
  const Report report = checked(golden(GetParam()));
  EXPECT_EQ(report.verdict, Verdict::kEquivalent) << all_of(report);
  EXPECT_TRUE(report.findings.empty()) << all_of(report);
}
INSTANTIATE_TEST_SUITE_P(Golden, Right,
                         testing::Values("walk_basic_grad", "walk_decode", "walk_left_padding_3d",
                                         "walk_noncausal", "walk_partial_block_gqa",
                                         "walk_per_head_4d_mask", "walk_tau_covers_all"));

TEST(SparseCheck, ThresholdsLoseTheRowsThatTheSpecNames) {
  PS_NEEDS_REFERENCE();
  const Report report = checked(golden("gate_threshold_rows_lost"));
  EXPECT_EQ(exit_code(report), 1);
  std::vector<std::string> lost;
  for (const Finding& f : report.findings) {
    EXPECT_TRUE(f.id == "SP001" || f.id == "SP003") << f.id;
    if (f.id == "SP001") lost.push_back(f.evidence.front().second);
  }
  EXPECT_EQ(lost, (std::vector<std::string>{"24", "40"}));
}

// ---- wrong cases ------------------------------------------------------------------------------

struct Wrong {
  const char* name;
  const char* golden;
  std::function<void(SparseCase&)> plant;
  const char* code;
  const char* words = "";
};
std::ostream& operator<<(std::ostream& out, const Wrong& w) { return out << w.name; }

// A float64 copy of a stored tensor, changed.
void change(SparseCase& c, const std::string& name,
            const std::function<void(std::span<double>, const Shape&)>& how) {
  const TensorView* t = c.find(name);
  PS_CHECK(t != nullptr, name);
  Tensor copy(DType::kF64, t->shape);
  to_doubles(*t, copy.as<double>());
  how(copy.as<double>(), t->shape);
  c.set(name, std::move(copy));
}

void change_list(SparseCase& c, std::int64_t row,
                 const std::function<void(std::vector<std::int32_t>&)>& how) {
  for (std::int64_t h = 0; h < c.selected[0].heads; ++h) how(c.selected[0].at(0, h, row));
}

// Attention of every query of layer 0 over the keys that `sees` names, by hand.
void attend_by_hand(
    SparseCase& c, const std::string& out,
    const std::function<double(std::int64_t h, std::int64_t i, std::int64_t j)>& times) {
  const SparseConfig& s = c.config;
  const Tensor q = c.tokens("q", 0, 0, s.length).value(), k = c.tokens("k", 0, 0, s.length).value(),
               v = c.tokens("v", 0, 0, s.length).value();
  const std::int64_t group = s.heads / s.kv_heads;
  change(c, out, [&](std::span<double> x, const Shape&) {
    for (std::int64_t h = 0; h < s.heads; ++h) {
      for (std::int64_t i = 0; i < s.length; ++i) {
        const std::int64_t at = (h * s.length + i) * s.head_dim;
        std::vector<double> sum(static_cast<std::size_t>(s.head_dim), 0);
        double total = 0;
        for (std::int64_t j = 0; j < s.length; ++j) {
          const double count = times(h, i, j);
          if (count == 0) continue;
          const std::int64_t key = (h / group * s.length + j) * s.head_dim;
          double dot = 0;
          for (std::int64_t d = 0; d < s.head_dim; ++d) {
            dot += value_at(q.view(), at + d) * value_at(k.view(), key + d);
          }
          const double p = count * std::exp(dot / std::sqrt(static_cast<double>(s.head_dim)));
          total += p;
          for (std::int64_t d = 0; d < s.head_dim; ++d) {
            sum[static_cast<std::size_t>(d)] += p * value_at(v.view(), key + d);
          }
        }
        for (std::int64_t d = 0; d < s.head_dim; ++d) {
          x[static_cast<std::size_t>(at + d)] = sum[static_cast<std::size_t>(d)] / total;
        }
      }
    }
  });
}

double listed(const SparseCase& c, std::int64_t h, std::int64_t i, std::int64_t j) {
  const auto& list = c.selected[0].at(0, h, i / c.config.block);
  return static_cast<double>(std::count(list.begin(), list.end(), j / c.config.block));
}

const std::vector<Wrong>& wrongs() {
  static const std::vector<Wrong> kWrongs = {
      {"lost_row", "walk_basic_grad",
       [](SparseCase& c) { change_list(c, 4, [](auto& l) { l.clear(); }); }, "SP001"},
      {"future_block", "walk_basic_grad",
       [](SparseCase& c) { change_list(c, 3, [](auto& l) { l = {0, 3, 5}; }); }, "SP002"},
      {"padding_block", "walk_left_padding_3d",
       [](SparseCase& c) { c.selected[0].at(1, 0, 4) = {0, 3, 4}; }, "SP002"},
      {"no_diagonal", "walk_basic_grad",
       [](SparseCase& c) { change_list(c, 5, [](auto& l) { l = {0, 2, 4}; }); }, "SP003"},
      {"duplicate", "walk_noncausal",
       [](SparseCase& c) { change_list(c, 2, [](auto& l) { l = {0, 0, 2, 4}; }); }, "SP004"},
      {"descending", "walk_noncausal",
       [](SparseCase& c) { change_list(c, 2, [](auto& l) { l = {4, 2, 0}; }); }, "SP004"},
      {"negative_index", "walk_noncausal",
       [](SparseCase& c) { change_list(c, 2, [](auto& l) { l = {-1, 0, 2}; }); }, "SP005"},
      {"one_too_many", "walk_noncausal",
       [](SparseCase& c) { change_list(c, 2, [](auto& l) { l = {0, 1, 2, 4}; }); }, "SP006"},
      {"no_sink", "walk_basic_grad",
       [](SparseCase& c) { change_list(c, 6, [](auto& l) { l = {2, 4, 6}; }); }, "SP007"},
      {"another_block", "walk_basic_grad",
       [](SparseCase& c) { change_list(c, 6, [](auto& l) { l = {0, 3, 6}; }); }, "unnamed",
       "greatest score"},
      {"no_token_mask", "walk_basic_grad",
       [](SparseCase& c) {
         attend_by_hand(c, "layer0/out",
                        [&](auto h, auto i, auto j) { return listed(c, h, i, j); });
       },
       "SP008"},
      {"counted_twice", "walk_basic_grad",
       [](SparseCase& c) {
         change_list(c, 5, [](auto& l) { l.insert(l.begin(), l.front()); });
         attend_by_hand(c, "layer0/out",
                        [&](auto h, auto i, auto j) { return j <= i ? listed(c, h, i, j) : 0; });
       },
       "SP004", "count twice"},
      {"dense_instead", "walk_partial_block_gqa",
       [](SparseCase& c) {
         attend_by_hand(c, "layer0/out", [](auto, auto i, auto j) { return j <= i ? 1.0 : 0.0; });
       },
       "SP011", "dense attention"},
      {"full_is_not_dense", "walk_tau_covers_all",
       [](SparseCase& c) {
         attend_by_hand(c, "layer0/out", [](auto, auto i, auto j) {
           return j <= i && j > 3 ? 1.0 : j == i ? 1.0 : 0.0;
         });
       },
       "SP009"},
      {"one_cell", "walk_decode",
       [](SparseCase& c) { change(c, "layer1/out", [](auto x, const Shape&) { x[77] += 1e-9; }); },
       "SP011"},
      {"row_halved", "walk_decode",
       [](SparseCase& c) {
         change(c, "layer1/out", [](auto x, const Shape& s) {
           for (std::int64_t d = 0; d < s[3]; ++d)
             x[static_cast<std::size_t>(20 * s[3] + d)] *= 0.5;
         });
       },
       "SP010"},
      {"nan_for_no_key", "walk_left_padding_3d",
       [](SparseCase& c) {
         change(c, "layer0/out", [](auto x, const Shape& s) {
           x[static_cast<std::size_t>(s[1] * s[2] * s[3])] = NAN;
         });
       },
       "SP010", "not zeros"},
      {"out_is_infinite", "walk_basic_grad",
       [](SparseCase& c) {
         change(c, "layer0/out", [](auto x, const Shape&) { x[5] = INFINITY; });
       },
       "SP011"},
      {"negative_walk", "walk_basic_grad",
       [](SparseCase& c) {
         change(c, "layer1/walk", [](auto x, const Shape&) { x[57] = -x[57] - 0.1; });
       },
       "SP015"},
      {"walk_not_normalised", "walk_basic_grad",
       [](SparseCase& c) {
         change(c, "layer1/walk", [](auto x, const Shape&) {
           for (double& v : x) v *= 0.25;
         });
       },
       "SP015", "sums to"},
      {"walk_underflowed", "walk_basic_grad",
       [](SparseCase& c) {
         change(c, "layer2/walk", [](auto x, const Shape&) {
           for (double& v : x) v = 0;
         });
       },
       "SP020"},
      {"walk_to_the_future", "walk_basic_grad",
       [](SparseCase& c) {
         change(c, "layer0/walk", [](auto x, const Shape&) {
           x[5] = 0.5;
           x[0] = 0.5;
         });
       },
       "SP015", "disallowed"},
      {"stale_walk", "walk_noncausal",
       [](SparseCase& c) {
         // R of the last layer times W of the first, rows divided by their sums.
         const TensorView *r = c.find("layer1/walk"), *w = c.find("layer0/transition");
         change(c, "layer0/walk", [&](auto x, const Shape& s) {
           const std::int64_t n = s[2];
           for (std::int64_t i = 0; i < n; ++i) {
             double sum = 0;
             for (std::int64_t j = 0; j < n; ++j) {
               double& cell = x[static_cast<std::size_t>(i * n + j)];
               cell = 0;
               for (std::int64_t m = 0; m < n; ++m)
                 cell += value_at(*r, i * n + m) * value_at(*w, m * n + j);
               sum += cell;
             }
             for (std::int64_t j = 0; j < n; ++j) x[static_cast<std::size_t>(i * n + j)] /= sum;
           }
         });
       },
       "SP016"},
      {"rows_of_w_normalised", "walk_basic_grad",
       [](SparseCase& c) {
         change(c, "layer1/transition", [](auto x, const Shape& s) {
           for (std::size_t row = 0; row < x.size(); row += static_cast<std::size_t>(s[2])) {
             double sum = 0;
             for (std::size_t j = 0; j < static_cast<std::size_t>(s[2]); ++j) sum += x[row + j];
             for (std::size_t j = 0; j < static_cast<std::size_t>(s[2]); ++j) x[row + j] /= sum;
           }
         });
       },
       "unnamed", "rows of W"},
      {"late_mask", "walk_basic_grad",
       [](SparseCase& c) {
         const TensorView* a = c.find("layer0/scores");
         change(c, "layer0/transition", [&](auto x, const Shape& s) {
           const std::int64_t n = s[2];
           for (std::int64_t i = 0; i < n; ++i) {
             double sum = 0;
             for (std::int64_t j = 0; j < n; ++j) sum += std::exp(value_at(*a, i * n + j));
             for (std::int64_t j = 0; j < n; ++j) {
               x[static_cast<std::size_t>(i * n + j)] =
                   j > i ? 0 : std::pow(std::exp(value_at(*a, i * n + j)) / sum, c.config.exponent);
             }
           }
         });
       },
       "SP013"},
      {"decode_repeats_its_block", "walk_decode",
       [](SparseCase& c) { c.decode[1].selected[0].lists[0] = {5, 0, 5}; }, "SP004"},
      {"decode_without_its_block", "walk_decode",
       [](SparseCase& c) { c.decode[1].selected[0].lists[0] = {0, 3, 4}; }, "SP003"},
      {"decode_row_with_padding", "walk_decode",
       [](SparseCase& c) {
         change(c, "decode2/layer1/walk_row", [](auto x, const Shape&) {
           for (double& v : x) v *= 0.9;
         });
       },
       "SP015"},
      {"decode_row_of_another_window", "walk_decode",
       [](SparseCase& c) {
         change(c, "decode0/layer1/walk_row", [](auto x, const Shape&) { std::swap(x[1], x[4]); });
       },
       "SP017"},
      {"decode_out", "walk_decode",
       [](SparseCase& c) {
         change(c, "decode3/layer2/out", [](auto x, const Shape&) { x[3] += 1e-6; });
       },
       "SP011"},
      {"gradient_zero", "walk_basic_grad",
       [](SparseCase& c) {
         change(c, "layer1/grad/dq", [](auto x, const Shape&) {
           for (double& v : x) v = 0;
         });
       },
       "SP019", "zero everywhere"},
      {"gradient_of_unselected_keys", "walk_left_padding_3d",
       [](SparseCase& c) {
         change(c, "layer1/grad/dk", [](auto x, const Shape& s) {
           x[static_cast<std::size_t>(s[1] * s[2] * s[3])] = 1e-7;
         });
       },
       "SP019", "no query selected"},
      {"gradient_scaled", "walk_basic_grad",
       [](SparseCase& c) {
         change(c, "layer0/grad/dk", [](auto x, const Shape&) {
           for (double& v : x) v *= 4;
         });
       },
       "SP019", "constant mask"},
      {"block_mask_of_future", "walk_per_head_4d_mask",
       [](SparseCase& c) {
         change(c, "layer0/block_allowed", [](auto x, const Shape&) { x[4] = 1; });
       },
       "SP023"},
      {"dense_without_causality", "walk_basic_grad",
       [](SparseCase& c) {
         attend_by_hand(c, "layer0/dense_out", [](auto, auto, auto) { return 1.0; });
       },
       "SP024", "every key"},
      {"padded_means", "walk_partial_block_gqa",
       [](SparseCase& c) {
         // The last block holds 5 of 8 tokens: its mean shrinks on both sides.
         change(c, "layer0/scores", [](auto x, const Shape& s) {
           const std::int64_t n = s[2];
           for (std::int64_t i = 0; i < n; ++i) {
             for (std::int64_t j = 0; j < n; ++j) {
               x[static_cast<std::size_t>(i * n + j)] *=
                   (i == n - 1 ? 0.625 : 1) * (j == n - 1 ? 0.625 : 1);
             }
           }
         });
       },
       "SP018"},
  };
  return kWrongs;
}

class Corrupted : public testing::TestWithParam<Wrong> {};
TEST_P(Corrupted, IsNamed) {
  PS_NEEDS_REFERENCE();
  const Wrong& w = GetParam();
  SparseCase subject = golden(w.golden);
  w.plant(subject);
  const Report report = checked(subject);
  EXPECT_TRUE(has(report, w.code, w.words)) << w.code << " among\n" << all_of(report);
  const bool warning = std::string(w.code) == "SP020";
  EXPECT_EQ(exit_code(report), warning ? exit_code(report) : 1) << all_of(report);
}
INSTANTIATE_TEST_SUITE_P(Case, Corrupted, testing::ValuesIn(wrongs()),
                         [](const auto& p) { return std::string(p.param.name); });

// Every kind of stored candidate, by the command.
TEST(SparseCheck, CandidatesAreJudgedByTheCommand) {
  PS_NEEDS_REFERENCE();
  const std::pair<const char*, const char*> rows[] = {
      {"published_prefill_rule", "SP004"}, {"duplicate_first", "SP004"},
      {"diagonal_dropped", "SP003"},       {"next_block_added", "SP002"},
      {"out_of_range", "SP005"},           {"one_missing", "SP006"}};
  for (const auto& [candidate, code] : rows) {
    const SparseCheckOptions options{0, candidate};
    const Report report = checked(golden("walk_basic_grad"), options);
    EXPECT_TRUE(has(report, code)) << candidate << "\n" << all_of(report);
    EXPECT_EQ(exit_code(report), 1);
  }
  EXPECT_EQ(exit_code(checked(golden("walk_basic_grad"), {0, "reference"})), 0);
}

TEST(SparseCheck, RecallBelowTheAskedForIsAWarning) {
  PS_NEEDS_REFERENCE();
  const Report report = checked(golden("walk_basic_grad"), {0.5, std::nullopt});
  EXPECT_TRUE(has(report, "SP022", "recall")) << all_of(report);
  EXPECT_EQ(exit_code(report), 0);
}

}  // namespace
}  // namespace ps
