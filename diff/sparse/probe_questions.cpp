#include "diff/sparse/probe_questions.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "diff/sparse/replay.h"

namespace ps {

namespace {

// q, k, v of each layer in float32, so that a probe may write into them.
struct Run {
  std::vector<Tensor> q, k, v;
  std::optional<Tensor> mask;
};

Result<Tensor> tokens_f32(const SparseCase& base, const char* name, std::int64_t layer,
                          std::int64_t n) {
  PS_TRY(const Tensor t, base.tokens(name, layer, 0, n));
  Tensor out(DType::kF32, t.shape());
  for (std::int64_t i = 0; i < t.view().count(); ++i) {
    out.as<float>()[static_cast<std::size_t>(i)] = static_cast<float>(value_at(t.view(), i));
  }
  return out;
}

Result<Run> run_of(const SparseCase& base) {
  Run out;
  for (std::int64_t l = 0; l < base.config.layers; ++l) {
    PS_TRY(Tensor q, tokens_f32(base, "q", l, base.config.length));
    PS_TRY(Tensor k, tokens_f32(base, "k", l, base.config.length));
    PS_TRY(Tensor v, tokens_f32(base, "v", l, base.config.length));
    out.q.push_back(std::move(q));
    out.k.push_back(std::move(k));
    out.v.push_back(std::move(v));
  }
  PS_TRY(out.mask, mask_argument(base));
  return out;
}

// Tokens [begin, end) of the third axis.
Tensor sliced(const Tensor& t, std::int64_t begin, std::int64_t end) {
  const Shape& s = t.shape();
  Tensor out(t.dtype(), {s[0], s[1], end - begin, s[3]});
  const std::int64_t from = s[2] * s[3], to = (end - begin) * s[3];
  const auto source = t.view().as<float>();
  for (std::int64_t r = 0; r < s[0] * s[1]; ++r) {
    std::copy_n(source.begin() + r * from + begin * s[3], to, out.as<float>().begin() + r * to);
  }
  return out;
}

Result<std::vector<SparseLayer>> play(SparseEngine& engine, const Run& run) {
  std::vector<SparseLayer> out;
  for (std::size_t l = 0; l < run.q.size(); ++l) {
    SparseInputs in{run.q[l].view(), run.k[l].view(), run.v[l].view(), std::nullopt};
    if (run.mask) in.mask = run.mask->view();
    PS_TRY(SparseLayer layer, engine.prefill(static_cast<std::int64_t>(l), in));
    out.push_back(std::move(layer));
  }
  return out;
}

// A run of a fresh engine; none, and a finding, where it refuses what the contract allows.
Result<std::vector<SparseLayer>> fresh(const ProbeContext& c, const SparseConfig& config,
                                       const Run& run, const char* code, const char* what) {
  PS_TRY(const std::unique_ptr<SparseEngine> engine, c.make(config));
  Result<std::vector<SparseLayer>> out = play(*engine, run);
  if (out.ok() || out.error().kind == Error::Kind::kMachine) return out;
  const std::string message = std::string(what) + " is refused: " + out.error().line();
  if (code != nullptr) c.findings.add(code, "probe", {}, message);
  if (code == nullptr) c.findings.unnamed("engine", "probe", {}, message);
  return std::vector<SparseLayer>();
}

// The outputs' own rounding, as a share of the greatest of them.
bool close(const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape()) return false;
  std::vector<double> x(static_cast<std::size_t>(a.view().count())), y(x.size());
  to_doubles(a.view(), x);
  to_doubles(b.view(), y);
  return distance(x.data(), y.data(), x.size()) <= 64 * unit_roundoff(a.dtype());
}

std::string point_of(std::size_t layer, const char* what) {
  return "probe/" + layer_name(static_cast<std::int64_t>(layer), what);
}

}  // namespace

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

Result<void> ask_constant_keys(const ProbeContext& c) {
  const SparseConfig& s = c.base.config;
  if (s.selector != SparseSelector::kWalk) return {};
  PS_TRY(Run run, run_of(c.base));
  run.mask.reset();
  for (Tensor& k : run.k) std::fill(k.as<float>().begin(), k.as<float>().end(), 0.75f);
  PS_TRY(const auto layers, fresh(c, s, run, nullptr, "a constant K"));
  for (std::size_t l = 0; l < layers.size(); ++l) {
    const Tensor& scores = layers[l].scores;
    if (scores.shape().size() != 3 || layers[l].lists.empty()) continue;
    const std::int64_t n = scores.shape()[2];
    // All block means are equal, so each row has one score for all blocks it may see.
    for (std::int64_t row = 0; row < scores.shape()[0] * scores.shape()[1]; ++row) {
      const std::int64_t seen = s.causal ? row % n + 1 : n;
      const double first = value_at(scores.view(), row * n);
      for (std::int64_t j = 1; j < seen; ++j) {
        const double x = value_at(scores.view(), row * n + j);
        if (std::fabs(x - first) <= 1e-4 * std::max(std::fabs(first), 1e-3)) continue;
        c.findings.add("SP018", point_of(l, "scores"), {row / n, -1, row % n, -1, j},
                       "keys are all the same, and block means are not");
      }
    }
  }
  return {};
}

Result<void> ask_mask_forms(const ProbeContext& c) {
  const SparseConfig& s = c.base.config;
  PS_TRY(Run run, run_of(c.base));
  PS_TRY(const PairMask plain, pair_mask(s, std::nullopt, s.length, s.length, ""));
  // Causality and a padded start: one block hidden, the next one cut, as left padding does.
  const std::int64_t start = std::min(s.length - 1, s.block + s.block / 2 + 1);
  const std::int64_t plane = s.length * s.length;
  const auto form = [&](std::int64_t heads, bool four, bool additive) {
    Shape shape = {s.batch, s.length, s.length};
    if (four) shape.insert(shape.begin() + 1, heads);
    Tensor out(additive ? DType::kF32 : DType::kBool, shape);
    for (std::int64_t i = 0; i < s.batch * heads * plane; ++i) {
      const std::int64_t b = i / (heads * plane), q = i / s.length % s.length, k = i % s.length;
      const bool allowed = plain.at(b, 0, q, k) && k >= start;
      const float shut =
          i % 2 == 0 ? -std::numeric_limits<float>::infinity() : -std::numeric_limits<float>::max();
      const auto at = static_cast<std::size_t>(i);
      if (additive) out.as<float>()[at] = allowed ? 0.f : shut;
      if (!additive) out.as<std::uint8_t>()[at] = allowed ? 1 : 0;
    }
    return out;
  };
  struct Form {
    const char* name;
    Tensor mask;
  };
  const Form forms[] = {{"[B,Nq,Nk]", form(1, false, false)},
                        {"[B,1,Nq,Nk]", form(1, true, false)},
                        {"[B,H,Nq,Nk]", form(s.heads, true, false)},
                        {"additive [B,1,Nq,Nk]", form(1, true, true)}};
  std::vector<SparseLayer> first;
  for (const Form& f : forms) {
    run.mask = f.mask;
    PS_TRY(auto layers, fresh(c, s, run, "SP023", (std::string("a mask ") + f.name).c_str()));
    if (layers.empty()) continue;
    if (first.empty()) {
      first = std::move(layers);
      // The first form against the verifier's own block mask.
      PS_TRY(const PairMask m, pair_mask(s, f.mask.view(), s.length, s.length, "probe"));
      const PairMask blocks = any_head(block_any(m, s.block));
      for (std::size_t l = 0; l < first.size(); ++l) {
        if (first[l].lists.empty()) continue;
        SparseFindings broken;
        check_lists(s, first[l].lists,
                    s.selector == SparseSelector::kWalk ? blocks : block_any(m, s.block), 0,
                    "selected", broken);
        if (!broken.has("SP002")) continue;
        c.findings.add("SP023", point_of(l, "selected"), {},
                       "the mask is ignored in the selection: masked blocks are selected");
      }
      continue;
    }
    for (std::size_t l = 0; l < layers.size(); ++l) {
      if (layers[l].lists.lists == first[l].lists.lists && close(layers[l].out, first[l].out)) {
        continue;
      }
      c.findings.add("SP023", point_of(l, "out"), {},
                     std::string("a mask ") + f.name +
                         " gives something else than the same mask "
                         "as boolean [B,Nq,Nk]");
    }
  }
  return {};
}

Result<void> ask_one_hot(const ProbeContext& c) {
  const SparseConfig& s = c.base.config;
  PS_TRY(Run run, run_of(c.base));
  PS_TRY(const PairMask mask,
         pair_mask(s, run.mask ? std::optional(run.mask->view()) : std::nullopt, s.length, s.length,
                   "probe"));
  const std::int64_t layers = std::min(s.layers, s.skip + 1), dim = s.head_dim;
  for (Tensor& q : run.q) std::fill(q.as<float>().begin(), q.as<float>().end(), 0.f);
  run.q.resize(static_cast<std::size_t>(layers));
  const auto rows = static_cast<std::size_t>(s.batch * s.heads * s.length);
  std::vector<std::vector<double>> sums(static_cast<std::size_t>(layers),
                                        std::vector<double>(rows, 0.0));
  for (std::int64_t begin = 0; begin < s.length; begin += dim) {
    for (std::size_t l = 0; l < run.q.size(); ++l) {
      auto cells = run.v[l].as<float>();
      for (std::size_t i = 0; i < cells.size(); ++i) {
        const auto at = static_cast<std::int64_t>(i);
        cells[i] = at / dim % s.length - begin == at % dim ? 1.f : 0.f;
      }
    }
    PS_TRY(const auto played, fresh(c, s, run, nullptr, "Q = 0 with one-hot V"));
    for (std::size_t l = 0; l < played.size(); ++l) {
      const BlockLists& lists = played[l].lists;
      const PairMask chosen = lists.empty() ? mask : inside(mask, lists, s.block);
      for (std::size_t r = 0; r < rows; ++r) {
        const auto row = static_cast<std::int64_t>(r), head = row / s.length;
        const std::int64_t b = head / s.heads, h = head % s.heads, i = row % s.length;
        for (std::int64_t j = begin; j < std::min(s.length, begin + dim); ++j) {
          const double p = value_at(played[l].out.view(), row * dim + j - begin);
          sums[l][r] += p;
          const SparsePlace place = {b, h, -1, i, j / s.block};
          const std::string pair =
              "query " + std::to_string(i) + " attends key " + std::to_string(j);
          if (p > 0 && !mask.at(b, h, i, j)) {
            c.findings.add(lists.empty() ? "SP024" : "SP008", point_of(l, "out"), place,
                           pair + ", which the mask forbids");
          } else if ((p > 0) != chosen.at(b, h, i, j)) {
            c.findings.add(lists.empty() ? "SP024" : "SP011", point_of(l, "out"), place,
                           p > 0 ? pair + ", which no selected block holds"
                                 : "query " + std::to_string(i) + " misses key " +
                                       std::to_string(j) + ", which a selected block holds");
          }
        }
      }
    }
  }
  for (std::size_t l = 0; l < sums.size(); ++l) {
    for (std::size_t r = 0; r < rows; ++r) {
      const double sum = sums[l][r];
      if (std::fabs(sum - 1) <= 1e-3 || sum == 0) continue;
      const auto row = static_cast<std::int64_t>(r), head = row / s.length;
      c.findings.add("SP010", point_of(l, "out"),
                     {head / s.heads, head % s.heads, -1, row % s.length, -1},
                     "the weights of a row sum to " + json_number(sum));
    }
  }
  return {};
}

Result<void> ask_late_queries(const ProbeContext& c) {
  const SparseConfig& s = c.base.config;
  PS_TRY(const Run run, run_of(c.base));
  const std::int64_t past = s.length / 3;
  if (run.mask || !s.causal || past < 1) return {};
  Run late = run;
  for (Tensor& q : late.q) q = sliced(q, past, s.length);
  PS_TRY(const auto layers, fresh(c, s, late, "SP016", "a prefill of fewer queries than keys"));
  PS_TRY(const PairMask mask, pair_mask(s, std::nullopt, s.length - past, s.length, "probe"));
  const PairMask blocks = block_any(mask, s.block);
  const std::int64_t first = past / s.block;
  for (std::size_t l = 0; l < layers.size(); ++l) {
    const BlockLists& lists = layers[l].lists;
    const std::string at = point_of(l, "late_queries");
    if (!lists.empty() && lists.rows != blocks.queries) {
      c.findings.unnamed("selection", at, {},
                         "one list a query block: expected " + std::to_string(blocks.queries) +
                             ", found " + std::to_string(lists.rows));
      continue;
    }
    if (!lists.empty()) {
      PairMask allowed = blocks;
      if (lists.heads > 1) {
        PairMask wide(blocks.batch, lists.heads, blocks.queries, blocks.keys);
        for (std::size_t i = 0; i < wide.cells.size(); ++i) {
          const std::size_t plane = static_cast<std::size_t>(blocks.queries * blocks.keys);
          const std::size_t b = i / plane / static_cast<std::size_t>(lists.heads);
          wide.cells[i] = blocks.cells[b * plane + i % plane];
        }
        allowed = std::move(wide);
      }
      check_lists(s, lists, allowed, first, at, c.findings);
    }
    const PairMask chosen = lists.empty() ? mask : inside(mask, lists, s.block);
    const SparseInputs in{late.q[l].view(), late.k[l].view(), late.v[l].view(), chosen.view()};
    PS_TRY(const SparseAttended exact, c.reference.attend(in, chosen.view()));
    Tensor out(DType::kF64, layers[l].out.shape());
    to_doubles(layers[l].out.view(), out.as<double>());
    const double tolerance = 256 * unit_roundoff(layers[l].out.dtype());
    if (out.shape() == exact.out.shape() &&
        distance(out.view().as<double>().data(), exact.out.view().as<double>().data(),
                 static_cast<std::size_t>(out.view().count())) <= std::max(tolerance, 1e-12)) {
      continue;
    }
    c.findings.add(lists.empty() ? "SP024" : "SP011", at, {},
                   "with fewer queries than keys the last query sees the last key; the output is "
                   "not attention at these positions");
  }
  return {};
}

}  // namespace ps
