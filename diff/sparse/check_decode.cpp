// Decode steps: the row that each adds, against a reference that goes along.
#include <algorithm>
#include <cmath>

#include "diff/sparse/check.h"
#include "diff/sparse/lists.h"
#include "diff/sparse/replay.h"

namespace ps {

namespace {

struct Step {
  const SparseCase& subject;
  const PairMask& mask;  // of the prefill
  SparseReference& reference;
  SparseFindings& findings;
  std::size_t index;

  std::string point(std::int64_t layer, const char* what) const {
    return "decode" + std::to_string(index) + "/" + layer_name(layer, what);
  }
};

// Keys that anybody could see in the prefill, and all since: [B, 1 or H, 1, keys].
PairMask decode_mask(const PairMask& mask, std::int64_t keys) {
  PairMask out(mask.batch, mask.heads, 1, keys);
  for (std::int64_t b = 0; b < mask.batch; ++b) {
    for (std::int64_t h = 0; h < mask.heads; ++h) {
      std::uint8_t* row = out.cells.data() + out.row(b, h, 0);
      std::fill(row + mask.keys, row + keys, std::uint8_t{1});
      for (std::int64_t i = 0; i < mask.queries; ++i) {
        for (std::int64_t j = 0; j < mask.keys; ++j) {
          if (mask.at(b, h, i, j)) row[j] = 1;
        }
      }
    }
  }
  return out;
}

void check_row(const Step& s, std::int64_t layer, const SparseLayer& truth,
               const PairMask& allowed) {
  const std::string name = s.point(layer, "walk_row");
  const TensorView* stored = s.subject.find(name);
  if (stored == nullptr || truth.walk.shape().empty()) return;
  const std::int64_t n = allowed.keys;
  if (stored->count() != s.subject.config.batch * n) {
    s.findings.add("SP015", name, {},
                   "another number of columns: expected " + std::to_string(n) + " blocks, found " +
                       to_string(stored->shape) +
                       "; columns of blocks that do not exist yet are no blocks");
    return;
  }
  const double u = rounding_of(stored->dtype, static_cast<double>(n));
  const auto exact = truth.walk.view().as<double>();
  for (std::int64_t b = 0; b < s.subject.config.batch; ++b) {
    std::vector<double> row(static_cast<std::size_t>(n));
    double sum = 0;
    for (std::int64_t j = 0; j < n; ++j) {
      const double x = value_at(*stored, b * n + j);
      row[static_cast<std::size_t>(j)] = x;
      sum += x;
      const SparsePlace place = {b, -1, s.subject.decode[s.index].block, -1, j};
      if (!(x >= 0) || !std::isfinite(x)) {
        s.findings.add("SP015", name, place, "a walk of " + json_number(x));
      } else if (x != 0 && !allowed.at(b, 0, 0, j)) {
        s.findings.add("SP015", name, place, "the walk reaches a disallowed block");
      }
    }
    const SparsePlace place = {b, -1, s.subject.decode[s.index].block, -1, -1};
    if (sum == 0) {
      s.findings.add("SP020", name, place, "the row of the walk is all zero");
    } else if (!(std::fabs(sum - 1) <= std::max(1e-9, 8 * u))) {
      s.findings.add("SP015", name, place,
                     "the row of the walk sums to " + json_number(sum) +
                         ": part of it lies on columns that are not there");
    } else if (!(distance(row.data(), exact.data() + b * n, static_cast<std::size_t>(n)) <=
                 64 * u * static_cast<double>(layer + 1))) {
      s.findings.add("SP017", name, place,
                     "the row of the walk is not what the cached block means give");
    }
  }
}

Result<void> check_out(const Step& s, std::int64_t layer, const SparseInputs& whole,
                       const PairMask& mask, const BlockLists& lists, const SparseLayer& truth) {
  const std::string name = s.point(layer, "out");
  const TensorView* stored = s.subject.find(name);
  if (stored == nullptr) return {};
  const SparseConfig& c = s.subject.config;
  if (stored->shape != Shape{c.batch, c.heads, 1, c.head_dim}) {
    s.findings.unnamed("attention", name, {}, "another shape: " + to_string(stored->shape));
    return {};
  }
  const PairMask chosen = lists.empty() ? mask : inside(mask, lists, c.block);
  SparseInputs inputs = whole;
  inputs.mask = chosen.view();
  PS_TRY(const SparseAttended own, s.reference.attend(inputs, chosen.view()));
  std::vector<double> actual(static_cast<std::size_t>(stored->count()));
  to_doubles(*stored, actual);
  const auto exact = own.out.view().as<double>();
  const double tolerance = rounding_of(stored->dtype, static_cast<double>(mask.keys));
  std::vector<OutputRow> wrong;
  for (std::int64_t b = 0; b < c.batch; ++b) {
    for (std::int64_t h = 0; h < c.heads; ++h) {
      const auto at = static_cast<std::size_t>((b * c.heads + h) * c.head_dim);
      if (distance(actual.data() + at, exact.data() + at, static_cast<std::size_t>(c.head_dim)) <=
          tolerance) {
        continue;
      }
      wrong.push_back({b, h, 0, actual.data() + at, exact.data() + at});
    }
  }
  if (wrong.empty()) return {};
  const PairMask blocks = block_any(mask, c.block);
  const SparseLayerCheck check{s.subject, layer,  whole, mask,        blocks,
                               lists,     chosen, truth, s.reference, s.findings};
  explain_rows(check, wrong, name, std::max(1e-9, 64 * tolerance));
  return {};
}

Result<void> check_step(const Step& s) {
  const SparseConfig& c = s.subject.config;
  const SparseDecodeStep& step = s.subject.decode[s.index];
  const std::int64_t at = step.position;
  const PairMask mask = decode_mask(s.mask, at + 1);
  for (std::int64_t l = 0; l < c.layers; ++l) {
    PS_TRY(const Tensor q, s.subject.tokens("q", l, at, at + 1));
    PS_TRY(const Tensor k, s.subject.tokens("k", l, 0, at + 1));
    PS_TRY(const Tensor v, s.subject.tokens("v", l, 0, at + 1));
    PS_TRY(const Tensor new_k, s.subject.tokens("k", l, at, at + 1));
    PS_TRY(const Tensor new_v, s.subject.tokens("v", l, at, at + 1));
    PS_TRY(const SparseLayer truth,
           s.reference.decode(l, {q.view(), new_k.view(), new_v.view(), std::nullopt}));
    const SparseInputs whole{q.view(), k.view(), v.view(), mask.view()};
    const BlockLists& lists = step.selected[static_cast<std::size_t>(l)];
    const std::string point = s.point(l, "selected");
    PairMask allowed = any_head(block_any(mask, c.block));
    if (!lists.empty()) {
      check_lists(decode_rules(c), lists, allowed, step.block, point, s.findings);
      const PairMask chosen = inside(mask, lists, c.block);
      check_lost_queries(mask, chosen, point, s.findings);
      for (std::int64_t b = 0; b < c.batch && !truth.lists.empty(); ++b) {
        for (std::int64_t h = 0; h < c.heads; ++h) {
          const auto &mine = lists.at(b, h, 0), &exact = truth.lists.at(b, h, 0);
          if (mine == exact || s.findings.has_errors()) continue;
          const Tensor& scores = truth.walk.shape().empty() ? truth.scores : truth.walk;
          const double* row = scores.view().as<double>().data() +
                              (truth.walk.shape().empty() ? b * c.heads + h : b) * allowed.keys;
          const auto margin = row_margin(c, row, exact, allowed, b, h, 0, step.block);
          const SparsePlace place = {b, h, step.block, -1, -1};
          if (margin && *margin < 1e-4) {
            s.findings.add("SP021", point, place,
                           "the step is decided by less than 1e-4 of a score");
          } else {
            s.findings.unnamed("selection", point, place,
                               "the step does not select the blocks of greatest score");
          }
        }
      }
    }
    check_row(s, l, truth, allowed);
    PS_TRY_VOID(check_out(s, l, whole, mask, lists, truth));
  }
  return {};
}

}  // namespace

Result<void> check_decode(const SparseCase& subject, const PairMask& mask,
                          SparseReference& reference, SparseFindings& findings) {
  for (std::size_t i = 0; i < subject.decode.size(); ++i) {
    findings.step = static_cast<std::int64_t>(i) + 1;
    PS_TRY_VOID(check_step({subject, mask, reference, findings, i}));
  }
  findings.step = 0;
  return {};
}

}  // namespace ps
