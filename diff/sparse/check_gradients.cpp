// Gradients: those of attention under a mask that does not depend on q, k or v.
#include <algorithm>
#include <cmath>

#include "diff/sparse/check.h"
#include "diff/sparse/replay.h"

namespace ps {

namespace {

struct Stored {
  const char* name;
  const TensorView* view;
  const Tensor* exact;
};

// Keys that no query chose: [B, Hk, N].
std::vector<std::uint8_t> chosen_keys(const SparseLayerCheck& c) {
  const SparseConfig& s = c.subject.config;
  std::vector<std::uint8_t> out(static_cast<std::size_t>(s.batch * s.kv_heads * s.length), 0);
  const std::int64_t group = s.heads / s.kv_heads;
  for (std::int64_t b = 0; b < s.batch; ++b) {
    for (std::int64_t h = 0; h < s.heads; ++h) {
      std::uint8_t* keys = out.data() + (b * s.kv_heads + h / group) * s.length;
      for (std::int64_t i = 0; i < s.length; ++i) {
        for (std::int64_t j = 0; j < s.length; ++j) {
          if (c.chosen.at(b, h, i, j)) keys[j] = 1;
        }
      }
    }
  }
  return out;
}

}  // namespace

Result<void> check_gradients(const SparseLayerCheck& c) {
  const TensorView* g = c.subject.find(c.point("grad/g"));
  if (g == nullptr) return {};
  const SparseConfig& s = c.subject.config;
  if (g->shape != Shape{s.batch, s.heads, s.length, s.head_dim}) {
    return bad_input(c.subject.where + ": " + c.point("grad/g"), "wrong shape",
                     to_string({s.batch, s.heads, s.length, s.head_dim}), to_string(g->shape));
  }
  SparseInputs inputs = c.inputs;
  inputs.mask = c.chosen.view();
  PS_TRY(const SparseGradients exact, c.reference.gradients(inputs, *g));
  const Stored all[] = {{"grad/dq", c.subject.find(c.point("grad/dq")), &exact.dq},
                        {"grad/dk", c.subject.find(c.point("grad/dk")), &exact.dk},
                        {"grad/dv", c.subject.find(c.point("grad/dv")), &exact.dv}};
  const auto there = std::count_if(std::begin(all), std::end(all),
                                   [](const Stored& x) { return x.view != nullptr; });
  if (there == 0 && !c.subject.wants_gradients) return {};  // g alone: nobody asked for more
  for (const Stored& x : all) {
    const std::string point = c.point(x.name);
    if (x.view == nullptr) {
      const bool guarded = there == 0 || x.name == all[0].name;
      c.findings.add("SP019", point, {},
                     guarded ? "no gradient arrived: the attention runs under a no-gradient guard, "
                               "or its result was detached"
                             : "no gradient arrived, and others did: this input was detached");
      continue;
    }
    if (x.view->shape != x.exact->shape()) {
      c.findings.add("SP019", point, {},
                     "another shape: expected " + to_string(x.exact->shape()) + ", found " +
                         to_string(x.view->shape));
      continue;
    }
    std::vector<double> mine(static_cast<std::size_t>(x.view->count()));
    to_doubles(*x.view, mine);
    const auto truth = x.exact->view().as<double>();
    const bool keys = x.name != all[0].name;
    const std::int64_t dim = s.head_dim, heads = keys ? s.kv_heads : s.heads;
    const auto place = [&](std::size_t cell) {
      const auto row = static_cast<std::int64_t>(cell) / dim;
      return SparsePlace{row / (heads * s.length), row / s.length % heads, -1, row % s.length, -1};
    };
    const bool none = std::all_of(mine.begin(), mine.end(), [](double v) { return v == 0; });
    const bool any = std::any_of(truth.begin(), truth.end(), [](double v) { return v != 0; });
    if (none && any) {
      c.findings.add("SP019", point, {}, "the gradient is zero everywhere, the reference's is not");
      continue;
    }
    const std::vector<std::uint8_t> chosen = chosen_keys(c);
    std::int64_t reached = 0;
    std::size_t first = 0;
    for (std::size_t i = 0; keys && i < mine.size(); ++i) {
      if (mine[i] == 0 || chosen[i / static_cast<std::size_t>(dim)] != 0) continue;
      if (reached++ == 0) first = i;
    }
    if (reached > 0) {
      c.findings.add("SP019", point, place(first),
                     "the gradient of keys that no query selected is not zero");
      continue;
    }
    const double tolerance =
        std::max(1e-11, 16 * unit_roundoff(x.view->dtype) *
                            std::sqrt(static_cast<double>(s.length + s.head_dim)));
    if (distance(mine.data(), truth.data(), mine.size()) <= tolerance) continue;
    std::size_t worst = 0;
    double most = -1;
    for (std::size_t i = 0; i < mine.size(); ++i) {
      const double d = std::isfinite(mine[i]) ? std::fabs(mine[i] - truth[i]) : HUGE_VAL;
      if (d > most) most = d, worst = i;
    }
    c.findings.add("SP019", point, place(worst),
                   "is not the gradient of attention under the same constant mask: " +
                       json_number(mine[worst]) + ", expected " + json_number(truth[worst]));
  }
  return {};
}

}  // namespace ps
