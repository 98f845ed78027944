// Inputs made so that the answer is known: constant keys, one mask in many forms, one-hot values,
// queries that are fewer than the keys.
#include <algorithm>
#include <cmath>
#include <limits>

#include "diff/sparse/probe_run.h"
#include "diff/sparse/replay.h"

namespace ps {

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
