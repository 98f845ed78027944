// What the kernel attended: its output against attention over the subject's own lists.
#include <algorithm>
#include <cmath>
#include <functional>

#include "diff/sparse/check.h"
#include "diff/sparse/replay.h"

namespace ps {

namespace {

// Rows over which explanations are tried; enough for one to be no accident.
constexpr std::size_t kTried = 24;

double length_of(const double* x, std::int64_t n) {
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += x[i] * x[i];
  return std::sqrt(sum);
}

double length_of(const TensorView& t, std::int64_t b, std::int64_t h, std::int64_t i) {
  const Shape& s = t.shape;
  double sum = 0;
  for (std::int64_t d = 0; d < s[3]; ++d) {
    const double x = value_at(t, ((b * s[1] + h) * s[2] + i) * s[3] + d);
    sum += x * x;
  }
  return std::sqrt(sum);
}

// Of one key head: the greatest |k_j| and |v_j|.
struct Lengths {
  std::vector<double> k, v;  // [B * Hk]
};
Lengths lengths(const SparseInputs& in) {
  Lengths out;
  const Shape& s = in.k.shape;
  for (std::int64_t b = 0; b < s[0]; ++b) {
    for (std::int64_t h = 0; h < s[1]; ++h) {
      double k = 0, v = 0;
      for (std::int64_t j = 0; j < s[2]; ++j) {
        k = std::max(k, length_of(in.k, b, h, j));
        v = std::max(v, length_of(in.v, b, h, j));
      }
      out.k.push_back(k);
      out.v.push_back(v);
    }
  }
  return out;
}

// One query's neighbourhood: the keys of some lists, in the ways a kernel may misread them.
class Keys {
 public:
  explicit Keys(const SparseLayerCheck& c) : c_(c) {}
  enum How : unsigned { kMasked = 1, kRepeated = 2 };
  std::vector<std::int64_t> of(const BlockLists& lists, const OutputRow& row, unsigned how) const {
    std::vector<std::int64_t> out;
    const std::int64_t block = c_.subject.config.block, n = c_.mask.keys;
    const std::int64_t past = n - c_.mask.queries;
    auto list = lists.at(row.b, row.h, (past + row.i) / block - past / block);
    if ((how & kRepeated) == 0) {
      std::sort(list.begin(), list.end());
      list.erase(std::unique(list.begin(), list.end()), list.end());
    }
    for (const std::int32_t j : list) {
      for (std::int64_t t = std::max<std::int64_t>(0, j) * block;
           j >= 0 && t < std::min(n, (j + 1) * block); ++t) {
        if ((how & kMasked) == 0 || c_.mask.at(row.b, row.h, row.i, t)) out.push_back(t);
      }
    }
    return out;
  }
  std::vector<std::int64_t> all(const OutputRow& row, bool masked) const {
    std::vector<std::int64_t> out;
    for (std::int64_t t = 0; t < c_.mask.keys; ++t) {
      if (!masked || c_.mask.at(row.b, row.h, row.i, t)) out.push_back(t);
    }
    return out;
  }

 private:
  const SparseLayerCheck& c_;
};

}  // namespace

void explain_rows(const SparseLayerCheck& c, const std::vector<OutputRow>& wrong,
                  const std::string& point, double tolerance) {
  const std::int64_t dim = c.inputs.q.shape[3];
  const std::int64_t group = c.inputs.q.shape[1] / c.inputs.k.shape[1];
  const double scale = 1.0 / std::sqrt(static_cast<double>(dim));
  const Keys keys(c);
  std::vector<OutputRow> tried;
  for (std::size_t i = 0; i < std::min(kTried, wrong.size()); ++i) {
    tried.push_back(wrong[i * wrong.size() / std::min(kTried, wrong.size())]);
  }
  const auto explained = [&](const std::function<std::vector<double>(const OutputRow&)>& row_of) {
    return std::all_of(tried.begin(), tried.end(), [&](const OutputRow& row) {
      const std::vector<double> x = row_of(row);
      return distance(row.actual, x.data(), x.size()) <= tolerance;
    });
  };
  const auto over = [&](const OutputRow& row, const std::vector<std::int64_t>& which) {
    return attend_row(c.inputs, row.b, row.h, row.i, which, row.h / group, scale);
  };
  const auto lists_as = [&](unsigned how) {
    return !c.lists.empty() &&
           explained([&](const OutputRow& row) { return over(row, keys.of(c.lists, row, how)); });
  };
  const OutputRow& first = wrong.front();
  const SparsePlace place = {first.b, first.h, -1, first.i, -1};
  const std::string rows =
      std::to_string(wrong.size()) + (wrong.size() == 1 ? " row: " : " rows: ");
  const bool dense = c.lists.empty();
  const auto all_keys = [&](bool masked) {
    return explained([&](const OutputRow& row) { return over(row, keys.all(row, masked)); });
  };
  std::string what = "the output is not attention over the selected keys";
  if (dense) {
    c.findings.add(
        "SP024", point, place,
        rows + (all_keys(false) ? "a dense layer attends every key, whatever the mask"
                                : "a dense layer's output is not attention under the mask"));
    return;
  }
  if (lists_as(Keys::kMasked | Keys::kRepeated)) {
    what = "blocks that are listed twice count twice";
    c.findings.add("SP004", point, place, rows + what);
  } else if (lists_as(0)) {
    what = "the token mask is not applied inside the selected blocks";
    c.findings.add("SP008", point, place, rows + what);
  } else if (lists_as(Keys::kRepeated)) {
    what = "no token mask inside the blocks, and blocks listed twice count twice";
    c.findings.add("SP008", point, place, rows + what);
    c.findings.add("SP004", point, place, rows + what);
  } else if (all_keys(true)) {
    what = "the output is dense attention: the lists were not used";
  } else if (all_keys(false)) {
    what = "the output attends every key, future ones too: neither lists nor mask were used";
    c.findings.add("SP008", point, place, rows + what);
  } else if (c.truth.lists.lists != c.lists.lists && explained([&](const OutputRow& row) {
               return over(row, keys.of(c.truth.lists, row, Keys::kMasked));
             })) {
    what = "the output is that of the reference's lists, not of its own";
  } else if (explained([&](const OutputRow& row) {
               return attend_row(c.inputs, row.b, row.h, row.i,
                                 keys.of(c.lists, row, Keys::kMasked), row.h / group, 1.0);
             })) {
    what = "scores were not divided by sqrt(D)";
  } else if (group > 1 && explained([&](const OutputRow& row) {
               return attend_row(c.inputs, row.b, row.h, row.i,
                                 keys.of(c.lists, row, Keys::kMasked), row.h % c.inputs.k.shape[1],
                                 scale);
             })) {
    what = "query head h reads key head h mod Hk instead of h / (H / Hk)";
  } else {
    // One factor a row: its probabilities do not sum to 1. Empty rows must be zeros.
    const bool factor = std::all_of(tried.begin(), tried.end(), [&](const OutputRow& row) {
      const double mine = length_of(row.actual, dim), exact = length_of(row.expected, dim);
      if (exact == 0) return true;
      double dot = 0;
      for (std::int64_t d = 0; d < dim; ++d) dot += row.actual[d] * row.expected[d];
      const double by = dot / (exact * exact);
      double rest = 0;
      for (std::int64_t d = 0; d < dim; ++d) {
        const double e = row.actual[d] - by * row.expected[d];
        rest += e * e;
      }
      return by > 0 && std::sqrt(rest) <= tolerance * mine;
    });
    const bool empty = length_of(first.expected, dim) == 0;
    if (factor || empty) {
      what = empty ? "a row without a key is not zeros" : "row probabilities do not sum to 1";
      c.findings.add("SP010", point, place, rows + what);
    }
  }
  if (!c.findings.has("SP010", point)) c.findings.add("SP011", point, place, rows + what);
}

Result<void> check_output(const SparseLayerCheck& c, const SparseAttended& dense) {
  const SparseConfig& config = c.subject.config;
  const std::string name = c.point("out");
  const TensorView* stored = c.subject.find(name);
  const bool complete = c.chosen.count() * c.mask.heads == c.mask.count() * c.chosen.heads;
  if (!c.lists.empty() && config.selector == SparseSelector::kWalk &&
      config.tau >= c.allowed.keys && !complete) {
    c.findings.add("SP009", c.point("selected"), {},
                   "tau covers all blocks, and not every allowed pair is selected");
  }
  if (stored == nullptr) return {};
  const Shape shape = {config.batch, config.heads, config.length, config.head_dim};
  if (stored->shape != shape || !is_floating(stored->dtype)) {
    c.findings.unnamed("attention", name, {},
                       "another shape or type: expected " + to_string(shape) + ", found " +
                           to_string(stored->shape));
    return {};
  }
  SparseInputs inputs = c.inputs;
  inputs.mask = c.chosen.view();
  Tensor exact;
  PairMask rest;
  Tensor others;
  if (c.lists.empty()) {
    exact = dense.out;
  } else {
    PS_TRY(SparseAttended own, c.reference.attend(inputs, c.chosen.view()));
    exact = std::move(own.out);
    rest = PairMask(c.chosen.batch, c.chosen.heads, c.chosen.queries, c.chosen.keys);
    for (std::int64_t b = 0; b < rest.batch; ++b) {
      for (std::int64_t h = 0; h < rest.heads; ++h) {
        for (std::int64_t i = 0; i < rest.queries; ++i) {
          for (std::int64_t j = 0; j < rest.keys; ++j) {
            rest.cells[rest.row(b, h, i) + static_cast<std::size_t>(j)] =
                c.mask.at(b, h, i, j) && !c.chosen.at(b, h, i, j) ? 1 : 0;
          }
        }
      }
    }
    inputs.mask = rest.view();
    PS_TRY(SparseAttended left, c.reference.attend(inputs, rest.view()));
    others = std::move(left.out);
  }
  const std::int64_t dim = config.head_dim, group = config.heads / config.kv_heads;
  std::vector<double> actual(static_cast<std::size_t>(stored->count()));
  to_doubles(*stored, actual);
  const auto expected = exact.view().as<double>();
  const auto full = dense.out.view().as<double>();
  const auto mass = dense.mass.view().as<double>();
  const Lengths of = lengths(c.inputs);
  const double u = unit_roundoff(stored->dtype);
  std::vector<OutputRow> wrong;
  double worst = 0, loosest = 0;
  std::int64_t identity = 0, bound = 0;
  for (std::int64_t b = 0; b < config.batch; ++b) {
    for (std::int64_t h = 0; h < config.heads; ++h) {
      const auto head = static_cast<std::size_t>(b * config.kv_heads + h / group);
      for (std::int64_t i = 0; i < config.length; ++i) {
        const auto row = static_cast<std::size_t>((b * config.heads + h) * config.length + i);
        const std::size_t at = row * static_cast<std::size_t>(dim);
        const std::uint8_t* pairs = c.chosen.cells.data() + c.chosen.row(b, h, i);
        const auto kept = std::count(pairs, pairs + c.chosen.keys, 1);
        // A probability errs by twice the error of its score, which grows with |q||k|; sums of
        // `kept` terms by their own rounding.
        const double score =
            length_of(c.inputs.q, b, h, i) * of.k[head] / std::sqrt(static_cast<double>(dim));
        const double relative =
            std::max(stored->dtype == DType::kF64 ? 1e-12 : 0.0,
                     u * (4 * std::sqrt(static_cast<double>(kept)) + 8 * score));
        const double allowed = relative * of.v[head];
        double error = 0, identity_error = 0, distance_to_dense = 0;
        for (std::int64_t d = 0; d < dim; ++d) {
          const auto cell = at + static_cast<std::size_t>(d);
          const double e = actual[cell] - expected[cell];
          error += e * e;
          distance_to_dense += (full[cell] - actual[cell]) * (full[cell] - actual[cell]);
          if (c.lists.empty()) continue;
          const double mix = mass[row] * actual[cell] +
                             (1 - mass[row]) * others.view().as<double>()[cell] - full[cell];
          identity_error += mix * mix;
        }
        if (std::sqrt(error) <= allowed) continue;
        wrong.push_back({b, h, i, actual.data() + at, expected.data() + at});
        loosest = std::max(loosest, relative);
        worst = std::max(worst, std::sqrt(error) / std::max(of.v[head], 1e-300));
        if (!(std::sqrt(identity_error) <= allowed)) ++identity;
        if (!(std::sqrt(distance_to_dense) <= (1 - mass[row]) * 2 * of.v[head] + allowed)) ++bound;
      }
    }
  }
  if (wrong.empty()) return {};
  explain_rows(c, wrong, name, std::max(1e-9, 64 * loosest));
  if (!c.lists.empty() && complete) {
    c.findings.add("SP009", name, {wrong[0].b, wrong[0].h, -1, wrong[0].i, -1},
                   "everything is selected, and the output is not dense attention");
  }
  if (identity + bound > 0 && !c.lists.empty()) {
    c.findings.add("SP011", name, {wrong[0].b, wrong[0].h, -1, wrong[0].i, -1},
                   "o_dense = rho o_sparse + (1 - rho) o_rest does not hold",
                   {{"rows", std::to_string(wrong.size())},
                    {"identity_violated", std::to_string(identity)},
                    {"bound_violated", std::to_string(bound)},
                    {"worst", json_number(worst)}});
  }
  return {};
}

}  // namespace ps
