// Block mask, block scores, transition, walk: each against the same step from the subject's own
// numbers before it.
#include <algorithm>
#include <cmath>

#include "diff/sparse/check.h"
#include "diff/sparse/lists.h"
#include "diff/sparse/replay.h"

namespace ps {

namespace {

struct Matrix {
  Cells cells;  // [B or B*H, n, n]
  DType dtype = DType::kF64;
  bool given = false;
};

// The subject's tensor; what is not there, or of another shape, is not given.
Matrix given(const SparseLayerCheck& c, std::int64_t layer, const char* what) {
  Matrix out;
  const TensorView* t = c.subject.find(layer_name(layer, what));
  if (t == nullptr || static_cast<std::size_t>(t->count()) != c.allowed.cells.size()) return out;
  out.given = true;
  out.dtype = t->dtype;
  out.cells.resize(c.allowed.cells.size());
  to_doubles(*t, out.cells);
  return out;
}

class StateCheck {
 public:
  explicit StateCheck(const SparseLayerCheck& c)
      : c_(c),
        config_(c.subject.config),
        n_(c.allowed.keys),
        size_(static_cast<std::size_t>(n_ * n_)) {}

  void run() {
    block_mask();
    shapes();
    scores_ = given(c_, c_.layer, "scores");
    if (config_.selector == SparseSelector::kGate) {
      gate();
      return;
    }
    transition_ = given(c_, c_.layer, "transition");
    walk_ = given(c_, c_.layer, "walk");
    scores();
    transitions();
    walks();
  }

 private:
  const std::uint8_t* allowed(std::int64_t b) const {
    return c_.allowed.cells.data() + static_cast<std::size_t>(b) * size_;
  }
  Cells part(const Cells& all, std::int64_t b) const {
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(size_) * b;
    return Cells(begin, begin + static_cast<std::ptrdiff_t>(size_));
  }
  Cells truth(const Tensor& t, std::int64_t b) const {
    const auto cells = t.view().as<double>().subspan(static_cast<std::size_t>(b) * size_, size_);
    return Cells(cells.begin(), cells.end());
  }
  // Disallowed cells taken as zeros: some write -inf there.
  Cells open(Cells x, std::int64_t b) const {
    for (std::size_t i = 0; i < size_; ++i) {
      if (allowed(b)[i] == 0) x[i] = 0;
    }
    return x;
  }
  bool near(const Cells& a, const Cells& e, double tolerance) const {
    return distance(a.data(), e.data(), size_) <= tolerance;
  }
  SparsePlace worst(const Cells& a, const Cells& e, std::int64_t b) const {
    std::size_t at = 0;
    double most = -1;
    for (std::size_t i = 0; i < size_; ++i) {
      const double d = std::isfinite(a[i]) ? std::fabs(a[i] - e[i]) : HUGE_VAL;
      if (d > most) most = d, at = i;
    }
    const auto i = static_cast<std::int64_t>(at);
    return {b, -1, i / n_, -1, i % n_};
  }

  void shapes() {
    const char* const names[] = {"scores", "transition", "walk"};
    for (const char* name : names) {
      const TensorView* t = c_.subject.find(c_.point(name));
      if (t == nullptr || static_cast<std::size_t>(t->count()) == c_.allowed.cells.size()) continue;
      c_.findings.unnamed("block-scores", c_.point(name), {},
                          "another shape: expected " + std::to_string(c_.allowed.cells.size()) +
                              " cells, found " + to_string(t->shape));
    }
  }

  void block_mask() {
    const TensorView* t = c_.subject.find(c_.point("block_allowed"));
    if (t == nullptr) return;
    std::int64_t wrong = static_cast<std::size_t>(t->count()) == c_.allowed.cells.size() ? 0 : -1;
    SparsePlace place;
    for (std::int64_t i = 0; wrong >= 0 && i < t->count(); ++i) {
      if ((value_at(*t, i) != 0) == (c_.allowed.cells[static_cast<std::size_t>(i)] != 0)) continue;
      const std::int64_t outer = i / (n_ * n_), heads = c_.allowed.heads;
      if (wrong++ == 0) {
        place = {outer / heads, heads == 1 ? -1 : outer % heads, i / n_ % n_, -1, i % n_};
      }
    }
    if (wrong == 0) return;
    c_.findings.add("SP023", c_.point("block_allowed"), place,
                    wrong < 0
                        ? "the block mask has another shape: " + to_string(t->shape)
                        : std::to_string(wrong) +
                              " blocks are not what any() over their tiles of the mask gives");
  }

  void gate() {
    if (!scores_.given) return;
    const double tolerance = rounding_of(scores_.dtype, static_cast<double>(config_.head_dim));
    for (std::int64_t b = 0; b < config_.batch * config_.heads; ++b) {
      const Cells mine = open(part(scores_.cells, b), b), exact = truth(c_.truth.scores, b);
      if (near(mine, exact, tolerance)) continue;
      SparsePlace place = worst(mine, exact, b / config_.heads);
      place.head = b % config_.heads;
      c_.findings.unnamed("block-scores", c_.point("scores"), place,
                          "the gate's probabilities are not those of the pooled q and k");
      return;
    }
  }

  std::vector<std::uint8_t> valid(std::int64_t b, bool queries, bool all) const {
    std::vector<std::uint8_t> out(static_cast<std::size_t>(config_.length), all ? 1 : 0);
    for (std::int64_t h = 0; !all && h < c_.mask.heads; ++h) {
      for (std::int64_t i = 0; i < c_.mask.queries; ++i) {
        for (std::int64_t j = 0; j < c_.mask.keys; ++j) {
          if (c_.mask.at(b, h, i, j)) out[static_cast<std::size_t>(queries ? i : j)] = 1;
        }
      }
    }
    return out;
  }

  Cells scores_with(std::int64_t b, Pooling pooling, bool all_tokens) const {
    const Cells q = pooled(c_.inputs.q, b, valid(b, true, all_tokens), config_.block, pooling);
    const Cells k = pooled(c_.inputs.k, b, valid(b, false, all_tokens), config_.block, pooling);
    return sketch_scores(q, k, c_.subject.weights.sketch.view(), config_.head_dim);
  }

  void scores() {
    if (!scores_.given) return;
    const double tolerance = rounding_of(
        scores_.dtype, static_cast<double>(config_.head_dim + config_.sketch + config_.block));
    for (std::int64_t b = 0; b < config_.batch; ++b) {
      const Cells mine = open(part(scores_.cells, b), b);
      const Cells exact = open(truth(c_.truth.scores, b), b);
      if (near(mine, exact, tolerance)) continue;
      const SparsePlace place = worst(mine, exact, b);
      const std::string at = c_.point("scores");
      const auto is = [&](Cells x) { return near(mine, open(std::move(x), b), tolerance); };
      Cells scaled = exact;
      const double factor =
          std::sqrt(static_cast<double>(config_.sketch) / static_cast<double>(config_.head_dim));
      for (double& x : scaled) x *= factor;
      if (is(scores_with(b, {true}, false)) || is(scores_with(b, {true}, true))) {
        c_.findings.add("SP018", at, place,
                        "block means were divided by the block's size, not by "
                        "the number of its tokens");
      } else if (is(scores_with(b, {false}, true))) {
        c_.findings.add("SP018", at, place, "block means include tokens that the mask hides");
      } else if (is(scaled)) {
        c_.findings.unnamed("block-scores", at, place,
                            "scores were divided by sqrt(D) instead of sqrt(r)");
      } else {
        c_.findings.unnamed("block-scores", at, place,
                            "block scores are not those of the sketched block means");
      }
      return;
    }
  }

  // W is free in one constant for the whole layer.
  static Cells scaled_to_one(Cells x) {
    const double most = *std::max_element(x.begin(), x.end());
    for (double& value : x) value = most > 0 ? value / most : value;
    return x;
  }

  void transitions() {
    if (!transition_.given) return;
    const std::string at = c_.point("transition");
    for (std::int64_t b = 0; b < config_.batch; ++b) {
      const Cells w = part(transition_.cells, b);
      for (std::size_t i = 0; i < size_; ++i) {
        const auto cell = static_cast<std::int64_t>(i);
        const SparsePlace place = {b, -1, cell / n_, -1, cell % n_};
        if (!(w[i] >= 0 && w[i] <= 1 + 1e-6)) {
          c_.findings.add("SP015", at, place,
                          "a transition of " + json_number(w[i]) + " is outside [0, 1]");
        } else if (w[i] != 0 && allowed(b)[i] == 0) {
          c_.findings.add("SP015", at, place, "a transition to a disallowed block");
        }
      }
      if (c_.findings.has("SP015", at)) return;
    }
    // One constant for all entries of the batch, so the batch is compared as one.
    Cells mine, exact, late, plain, rows;
    for (std::int64_t b = 0; b < config_.batch; ++b) {
      const Cells from = scores_.given ? part(scores_.cells, b) : truth(c_.truth.scores, b);
      const auto join = [](Cells& all, const Cells& x) {
        all.insert(all.end(), x.begin(), x.end());
      };
      const Cells w = part(transition_.cells, b);
      join(mine, w);
      join(rows, rows_normalised(ps::transition(from, allowed(b), n_, config_.exponent, true), n_));
    }
    const Cells from = scores_.given ? scores_.cells : all_truth(c_.truth.scores);
    exact = ps::transition(from, c_.allowed.cells.data(), n_, config_.exponent, true);
    late = ps::transition(open_all(from), c_.allowed.cells.data(), n_, config_.exponent, false);
    plain = ps::transition(from, c_.allowed.cells.data(), n_, 1, true);
    mine = scaled_to_one(std::move(mine));
    const double spread = 1 + config_.exponent * largest(from);
    const double tolerance = rounding_of(transition_.dtype, spread * spread);
    const auto is = [&](const Cells& x) {
      const Cells e = scaled_to_one(x);
      return distance(mine.data(), e.data(), e.size()) <= tolerance;
    };
    if (is(exact)) return;
    std::size_t where = 0;
    for (std::size_t i = 0; i < mine.size(); ++i) {
      if (std::fabs(mine[i] - exact[i]) > std::fabs(mine[where] - exact[where])) where = i;
    }
    const auto cell = static_cast<std::int64_t>(where);
    const SparsePlace place = {cell / (n_ * n_), -1, cell / n_ % n_, -1, cell % n_};
    if (is(late)) {
      c_.findings.add("SP013", at, place,
                      "disallowed blocks took part in the softmax and were zeroed after it: "
                      "transitions depend on later blocks");
    } else if (is(rows)) {
      c_.findings.unnamed("transition", at, place,
                          "rows of W were divided by their sums: that "
                          "changes what the next layers select");
    } else if (is(plain)) {
      c_.findings.unnamed("transition", at, place, "the softmax was not raised to the power s");
    } else {
      c_.findings.unnamed("transition", at, place,
                          "W is not the softmax of the block scores to the power s");
    }
  }

  double largest(const Cells& x) const {
    double most = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (c_.allowed.cells[i] != 0 && std::isfinite(x[i])) most = std::max(most, std::fabs(x[i]));
    }
    return most;
  }
  static Cells all_truth(const Tensor& t) {
    const auto cells = t.view().as<double>();
    return Cells(cells.begin(), cells.end());
  }
  // Scores with -inf where they were masked cannot have taken part.
  static Cells open_all(Cells x) {
    for (double& value : x) value = std::isfinite(value) ? value : -1e300;
    return x;
  }

  Cells step(std::int64_t b, const Cells& w) const {
    const std::int64_t first = std::min(config_.skip, c_.layer);
    const Matrix before = c_.layer > first ? given(c_, c_.layer - 1, "walk") : Matrix();
    if (c_.layer == first) return rows_normalised(open(w, b), n_);
    return walked(rows_normalised(part(before.cells, b), n_), w, allowed(b), n_, true);
  }

  void walks() {
    if (!walk_.given) return;
    const std::string at = c_.point("walk");
    // Own numbers lead from one layer to the next only in a walk without options.
    const std::int64_t first = std::min(config_.skip, c_.layer);
    const bool own = config_.depth == 0 && config_.damping == 0 && transition_.given &&
                     (c_.layer == first || given(c_, c_.layer - 1, "walk").given);
    const double u = rounding_of(walk_.dtype, static_cast<double>(n_));
    for (std::int64_t b = 0; b < config_.batch; ++b) {
      const Cells r = part(walk_.cells, b);
      row_invariants(b, r, u);
      const Cells w = own ? part(transition_.cells, b) : Cells();
      const Cells exact = own ? step(b, w) : truth(c_.truth.walk, b);
      const Cells mine = rows_normalised(open(r, b), n_);
      // A dead row can be no other: nothing is left of it to compare.
      Cells alive = exact;
      for (std::size_t i = 0; i < size_; ++i) {
        double sum = 0;
        for (std::int64_t j = 0; j < n_; ++j) {
          sum += mine[i / static_cast<std::size_t>(n_) * static_cast<std::size_t>(n_) +
                      static_cast<std::size_t>(j)];
        }
        if (sum == 0) alive[i] = 0;
      }
      if (near(mine, alive, own ? 8 * u : 64 * u * static_cast<double>(c_.layer + 1))) continue;
      const SparsePlace place = worst(mine, alive, b);
      const Matrix last = given(c_, config_.layers - 1, "walk");
      const bool stale =
          own && c_.layer == first && last.given &&
          near(mine, walked(rows_normalised(part(last.cells, b), n_), w, allowed(b), n_, true),
               8 * u);
      if (stale) {
        c_.findings.add("SP016", at, place,
                        "the first walk starts from the last layer of an earlier run: state was "
                        "not reset");
      } else if (c_.layer == first) {
        c_.findings.add("SP015", at, place, "the first walk is not proportional to its transition");
      } else {
        c_.findings.add("SP015", at, place,
                        own ? "the walk is not that of the layer before times the transition"
                            : "the walk is not the reference's");
      }
      return;
    }
  }

  void row_invariants(std::int64_t b, const Cells& r, double u) {
    const std::string at = c_.point("walk");
    for (std::int64_t i = 0; i < n_; ++i) {
      double sum = 0;
      std::int64_t open_cells = 0, equal = 0;
      double first = -1;
      for (std::int64_t j = 0; j < n_; ++j) {
        const auto cell = static_cast<std::size_t>(i * n_ + j);
        const SparsePlace place = {b, -1, i, -1, j};
        if (!(r[cell] >= 0) || !std::isfinite(r[cell])) {
          c_.findings.add("SP015", at, place, "a walk of " + json_number(r[cell]));
        }
        if (r[cell] != 0 && allowed(b)[cell] == 0) {
          c_.findings.add("SP015", at, place, "the walk reaches a disallowed block");
        }
        if (allowed(b)[cell] == 0) continue;
        sum += r[cell];
        if (open_cells++ == 0) first = r[cell];
        equal += r[cell] == first ? 1 : 0;
      }
      const SparsePlace place = {b, -1, i, -1, -1};
      if (open_cells == 0) continue;
      if (sum == 0) {
        c_.findings.add("SP020", at, place,
                        "a row of the walk is all zero: what is selected is an accident");
      } else if (!(std::fabs(sum - 1) <= std::max(1e-9, 8 * u))) {
        c_.findings.add("SP015", at, place, "a row of the walk sums to " + json_number(sum));
      } else if (open_cells > 2 && equal == open_cells) {
        c_.findings.add("SP020", at, place, "all blocks of a row have the same score");
      }
    }
  }

  const SparseLayerCheck& c_;
  const SparseConfig& config_;
  std::int64_t n_;
  std::size_t size_;
  Matrix scores_, transition_, walk_;
};

}  // namespace

double rounding_of(DType dtype, double terms) {
  return std::max(1e-12, 16 * unit_roundoff(dtype) * std::sqrt(std::max(1.0, terms)));
}

void check_state(const SparseLayerCheck& c) { StateCheck(c).run(); }

}  // namespace ps
