// One sequence against another: a larger tau, a later token, another batch, a second time.
#include "diff/sparse/probe_questions.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "diff/sparse/probe_run.h"
#include "diff/sparse/replay.h"

namespace ps {

Result<void> ask_larger_tau(const ProbeContext& c) {
  SparseConfig larger = c.base.config;
  larger.tau += 1;
  if (larger.selector != SparseSelector::kWalk) return {};
  PS_TRY(const Run run, run_of(c.base));
  PS_TRY(const auto small, fresh(c, c.base.config, run, nullptr, "the case"));
  PS_TRY(const auto large, fresh(c, larger, run, nullptr, "tau + 1"));
  for (std::size_t l = 0; l < std::min(small.size(), large.size()); ++l) {
    const BlockLists &a = small[l].lists, &b = large[l].lists;
    for (std::size_t row = 0; row < std::min(a.lists.size(), b.lists.size()); ++row) {
      for (const std::int32_t j : a.lists[row]) {
        if (std::find(b.lists[row].begin(), b.lists[row].end(), j) != b.lists[row].end()) continue;
        c.findings.add("SP012", point_of(l, "selected"),
                       {-1, -1, static_cast<std::int64_t>(row) % a.rows, -1, j},
                       "tau + 1 no longer selects a block that tau selects");
      }
    }
  }
  return {};
}

Result<void> ask_later_tokens(const ProbeContext& c) {
  const SparseConfig& s = c.base.config;
  if (!s.causal || s.length <= s.block) return {};
  PS_TRY(const Run run, run_of(c.base));
  Run other = run;
  // The first token of a block: queries before it in its own block would rightly follow it, since
  // their block's mean query does.
  const std::int64_t changed = std::max<std::int64_t>(1, s.length * 2 / 3 / s.block) * s.block;
  const std::int64_t dim = s.head_dim;
  for (std::vector<Tensor>* const part : {&other.q, &other.k, &other.v}) {
    for (Tensor& t : *part) {
      for (std::int64_t r = 0; r < t.shape()[0] * t.shape()[1]; ++r) {
        float* x = t.as<float>().data() + (r * s.length + changed) * dim;
        for (std::int64_t d = 0; d < dim; ++d) x[d] = 2.f - 3.f * x[d] + static_cast<float>(d % 3);
      }
    }
  }
  PS_TRY(const auto before, fresh(c, s, run, nullptr, "the case"));
  PS_TRY(const auto after, fresh(c, s, other, nullptr, "the case with one token changed"));
  for (std::size_t l = 0; l < std::min(before.size(), after.size()); ++l) {
    const BlockLists &was = before[l].lists, &is = after[l].lists;
    for (std::size_t row = 0; row < std::min(was.lists.size(), is.lists.size()); ++row) {
      const std::int64_t block = static_cast<std::int64_t>(row) % was.rows;
      if (block >= changed / s.block || was.lists[row] == is.lists[row]) continue;
      c.findings.add(
          "SP013", point_of(l, "selected"), {-1, -1, block, -1, -1},
          "an earlier row selects other blocks when token " + std::to_string(changed) + " changes");
    }
    // Where the selection changed, so must the output: that is reported already.
    if (c.findings.has("SP013")) return {};
    const auto x = before[l].out.view().bytes, y = after[l].out.view().bytes;
    const std::size_t width = static_cast<std::size_t>(dim * size_of(before[l].out.dtype()));
    const auto heads = static_cast<std::size_t>(s.batch * s.heads);
    for (std::size_t r = 0; x.size() == y.size() && r < heads; ++r) {
      for (std::size_t i = 0; i < static_cast<std::size_t>(changed); ++i) {
        const std::size_t at = (r * static_cast<std::size_t>(s.length) + i) * width;
        if (std::memcmp(x.data() + at, y.data() + at, width) == 0) continue;
        c.findings.add(
            "SP013", point_of(l, "out"), {-1, -1, -1, static_cast<std::int64_t>(i), -1},
            "an earlier query's output changes when token " + std::to_string(changed) + " changes");
      }
    }
    // Scores of earlier rows, where they are shown: a selection may be too robust to tell.
    if (before[l].transition.shape().empty() || after[l].transition.shape().empty()) continue;
    const std::int64_t n = s.blocks(s.length);
    for (std::int64_t b = 0; b < s.batch; ++b) {
      const std::int64_t first = b * n * n;
      Cells p, q;
      for (std::int64_t i = 0; i < changed / s.block * n; ++i) {
        p.push_back(value_at(before[l].transition.view(), first + i));
        q.push_back(value_at(after[l].transition.view(), first + i));
      }
      // W is free in one constant for the layer.
      for (Cells* const w : {&p, &q}) {
        const double most = w->empty() ? 0 : *std::max_element(w->begin(), w->end());
        for (double& v : *w) v = most > 0 ? v / most : v;
      }
      if (distance(p.data(), q.data(), p.size()) <= 1e-6) continue;
      c.findings.add(
          "SP013", point_of(l, "transition"), {b, -1, -1, -1, -1},
          "transitions of earlier rows change when token " + std::to_string(changed) + " changes");
    }
  }
  return {};
}

Result<void> ask_batch_order(const ProbeContext& c) {
  SparseConfig two = c.base.config;
  two.batch = 2;
  PS_TRY(const Run run, run_of(c.base));
  if (run.mask) return {};
  // Entry x as it is, entry y with its tokens in reverse; then y first.
  const auto pair = [&](bool swapped) {
    Run out;
    const auto both = [&](const std::vector<Tensor>& from, std::vector<Tensor>& to) {
      for (const Tensor& t : from) {
        const Shape& s = t.shape();
        Tensor x(DType::kF32, {2, s[1], s[2], s[3]});
        const std::int64_t one = s[1] * s[2] * s[3];
        const auto source = t.view().as<float>();
        for (std::int64_t i = 0; i < one; ++i) {
          const std::int64_t token = i / s[3] % s[2];
          const std::int64_t mirrored = i + (s[2] - 1 - 2 * token) * s[3];
          x.as<float>()[static_cast<std::size_t>(swapped ? one + i : i)] =
              source[static_cast<std::size_t>(i)];
          x.as<float>()[static_cast<std::size_t>(swapped ? i : one + i)] =
              source[static_cast<std::size_t>(mirrored)];
        }
        to.push_back(std::move(x));
      }
    };
    both(run.q, out.q);
    both(run.k, out.k);
    both(run.v, out.v);
    return out;
  };
  PS_TRY(const auto a, fresh(c, two, pair(false), "SP014", "a batch of two"));
  PS_TRY(const auto b, fresh(c, two, pair(true), "SP014", "a batch of two"));
  for (std::size_t l = 0; l < std::min(a.size(), b.size()); ++l) {
    const auto half = static_cast<std::ptrdiff_t>(a[l].lists.lists.size() / 2);
    const auto& x = a[l].lists.lists;
    const auto& y = b[l].lists.lists;
    const bool lists = x.size() == y.size() &&
                       std::equal(x.begin(), x.begin() + half, y.begin() + half) &&
                       std::equal(x.begin() + half, x.end(), y.begin());
    Tensor turned(b[l].out.dtype(), b[l].out.shape());
    const auto bytes = b[l].out.view().bytes;
    const auto middle = bytes.begin() + static_cast<std::ptrdiff_t>(bytes.size() / 2);
    std::copy(bytes.begin(), middle, std::copy(middle, bytes.end(), turned.bytes().begin()));
    if (lists && close(a[l].out, turned)) continue;
    c.findings.add("SP014", point_of(l, lists ? "out" : "selected"), {},
                   "exchanging two batch entries changes what one of them gets");
  }
  return {};
}

Result<void> ask_second_sequence(const ProbeContext& c) {
  const SparseConfig& s = c.base.config;
  PS_TRY(const Run run, run_of(c.base));
  PS_TRY(const std::unique_ptr<SparseEngine> engine, c.make(s));
  const auto once = play(*engine, run);
  if (!once.ok()) return {};  // said elsewhere
  const auto compare = [&](const std::vector<SparseLayer>& a, const std::vector<SparseLayer>& b,
                           const char* what) {
    for (std::size_t l = 0; l < std::min(a.size(), b.size()); ++l) {
      if (a[l].lists.lists == b[l].lists.lists && close(a[l].out, b[l].out) &&
          (a[l].walk.shape().empty() || close(a[l].walk, b[l].walk))) {
        continue;
      }
      c.findings.add("SP016", point_of(l, "walk"), {}, what);
    }
  };
  const auto twice = play(*engine, run);
  if (twice.ok()) {
    compare(once.value(), twice.value(), "the same sequence a second time gives something else");
  } else {
    c.findings.add("SP016", "probe", {}, "a second sequence is refused: " + twice.error().line());
    return {};
  }
  const std::int64_t shorter = s.length - s.block - 1;
  if (shorter < 1 || run.mask) return {};
  Run other;
  for (std::size_t l = 0; l < run.q.size(); ++l) {
    other.q.push_back(sliced(run.q[l], 0, shorter));
    other.k.push_back(sliced(run.k[l], 0, shorter));
    other.v.push_back(sliced(run.v[l], 0, shorter));
  }
  const auto after = play(*engine, other);
  if (!after.ok()) {
    c.findings.add("SP016", "probe", {},
                   "a sequence of another length is refused: " + after.error().line());
    return {};
  }
  PS_TRY(const auto alone, fresh(c, s, other, "SP016", "a shorter sequence"));
  compare(alone, after.value(), "a sequence after another gives something else than alone");
  return {};
}

Result<void> ask_last_token_alone(const ProbeContext& c) {
  SparseConfig s = c.base.config;
  if (!s.causal || s.selector != SparseSelector::kWalk || s.length < 2) return {};
  s.decode_window = s.block;
  PS_TRY(const Run run, run_of(c.base));
  if (run.mask) return {};
  PS_TRY(const auto whole, fresh(c, s, run, nullptr, "the case"));
  PS_TRY(const std::unique_ptr<SparseEngine> engine, c.make(s));
  Run most, last;
  const std::int64_t n = s.length - 1;
  for (std::size_t l = 0; l < run.q.size(); ++l) {
    const auto split = [&](const std::vector<Tensor>& from, std::vector<Tensor>& a,
                           std::vector<Tensor>& b) {
      a.push_back(sliced(from[l], 0, n));
      b.push_back(sliced(from[l], n, n + 1));
    };
    split(run.q, most.q, last.q);
    split(run.k, most.k, last.k);
    split(run.v, most.v, last.v);
  }
  if (!play(*engine, most).ok()) return {};
  for (std::size_t l = 0; l < whole.size(); ++l) {
    const auto step = engine->decode(static_cast<std::int64_t>(l),
                                     {last.q[l].view(), last.k[l].view(), last.v[l].view(), {}});
    if (!step.ok()) {
      c.findings.add("SP017", "probe", {}, "a decode step is refused: " + step.error().line());
      return {};
    }
    const BlockLists& lists = whole[l].lists;
    for (std::int64_t b = 0; b < s.batch && !lists.empty(); ++b) {
      for (std::int64_t h = 0; h < lists.heads; ++h) {
        if (step->lists.empty() || step->lists.at(b, h, 0) != lists.at(b, h, lists.rows - 1)) {
          c.findings.add("SP017", point_of(l, "selected"), {b, h, lists.rows - 1, -1, -1},
                         "the last token decoded alone selects other blocks than in the prefill, "
                         "though the window is the whole block");
        }
      }
    }
    if (whole[l].walk.shape().empty() || step->walk.shape().empty()) continue;
    const std::int64_t blocks = s.blocks(s.length);
    for (std::int64_t b = 0; b < s.batch && step->walk.view().count() == s.batch * blocks; ++b) {
      Cells mine, theirs;
      for (std::int64_t j = 0; j < blocks; ++j) {
        mine.push_back(value_at(step->walk.view(), b * blocks + j));
        theirs.push_back(value_at(whole[l].walk.view(), ((b + 1) * blocks - 1) * blocks + j));
      }
      if (distance(mine.data(), theirs.data(), mine.size()) <=
          rounding_of(step->walk.dtype(), static_cast<double>(blocks)) * 64) {
        continue;
      }
      c.findings.add("SP017", point_of(l, "walk_row"), {b, -1, blocks - 1, -1, -1},
                     "the last row of the walk differs between decode and prefill, though the "
                     "window is the whole block");
    }
  }
  return {};
}

}  // namespace ps
