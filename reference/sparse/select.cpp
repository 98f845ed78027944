// From scores to lists: index work, row by row.
#include <stdexcept>

#include "reference/sparse/blocks.h"

namespace ps::reference {

namespace {

struct Row {
  const double* score;
  const bool* allowed;
  std::int64_t n;      // key blocks
  std::int64_t block;  // the query block
};

// The `count` allowed blocks of greatest score that are not in `taken`; ties to the smaller index.
void fill(const Row& row, std::int64_t count, std::vector<char>& taken) {
  std::vector<std::int64_t> order;
  for (std::int64_t j = 0; j < row.n; ++j) {
    if (row.allowed[j] && !taken[static_cast<std::size_t>(j)]) order.push_back(j);
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int64_t a, std::int64_t b) { return row.score[a] > row.score[b]; });
  count = std::min(count, static_cast<std::int64_t>(order.size()));
  for (std::int64_t i = 0; i < count; ++i) {
    taken[static_cast<std::size_t>(order[static_cast<std::size_t>(i)])] = 1;
  }
}

std::vector<std::int32_t> ascending(const std::vector<char>& taken) {
  std::vector<std::int32_t> list;
  for (std::size_t j = 0; j < taken.size(); ++j) {
    if (taken[j]) list.push_back(static_cast<std::int32_t>(j));
  }
  return list;
}

std::vector<char> forced(const SparseConfig& c, const Row& row) {
  std::vector<char> taken(static_cast<std::size_t>(row.n), 0);
  for (std::int64_t j = 0; j < row.n; ++j) {
    const bool wanted = j < c.sinks || (row.block - c.locals < j && j <= row.block);
    if (wanted && row.allowed[j]) taken[static_cast<std::size_t>(j)] = 1;
  }
  return taken;
}

template <class Pick>
BlockLists pick_rows(const at::Tensor& scores, const at::Tensor& allowed, std::int64_t first,
                     const Pick& pick) {
  const at::Tensor s = scores.contiguous(), a = allowed.expand_as(scores).contiguous();
  const std::int64_t rows = s.size(2), n = s.size(3);
  BlockLists out(s.size(0), s.size(1), rows);
  for (std::size_t at = 0; at < out.lists.size(); ++at) {
    const auto offset = static_cast<std::int64_t>(at) * n;
    const Row row{s.const_data_ptr<double>() + offset, a.const_data_ptr<bool>() + offset, n,
                  first + static_cast<std::int64_t>(at) % rows};
    out.lists[at] = ascending(pick(row));
  }
  return out;
}

// A walk's tau and a gate's budget are what a row has in all: forced blocks first, then the best.
void fill_up_to(std::int64_t count, const Row& row, std::vector<char>& taken) {
  const auto size = static_cast<std::int64_t>(std::count(taken.begin(), taken.end(), 1));
  fill(row, std::max(count, size) - size, taken);
}

// What a threshold or a ratio takes, whatever is forced.
std::vector<char> gate_row(const SparseConfig& c, const Row& row) {
  std::vector<char> taken(static_cast<std::size_t>(row.n), 0);
  if (c.gate == GateRule::kThreshold) {
    for (std::int64_t j = 0; j < row.n; ++j) {
      taken[static_cast<std::size_t>(j)] = row.allowed[j] && row.score[j] > c.threshold;
    }
  } else {
    // Top of ALL columns, the allowed ones of which are kept: early rows waste their budget.
    const double kept = 1.0 - std::sqrt(1.0 - c.nz_ratio);
    const auto tau = static_cast<std::int64_t>(kept * static_cast<double>(row.n));
    const std::vector<char> all(static_cast<std::size_t>(row.n), 1);
    Row open = row;
    open.allowed = reinterpret_cast<const bool*>(all.data());
    fill(open, std::max<std::int64_t>(1, tau), taken);
    for (std::int64_t j = 0; j < row.n; ++j) {
      if (!row.allowed[j]) taken[static_cast<std::size_t>(j)] = 0;
    }
  }
  return taken;
}

}  // namespace

at::Tensor pooled_channels(const std::string& kinds, const at::Tensor& x, const at::Tensor& valid,
                           std::int64_t block, std::int64_t past) {
  const at::Tensor real = valid.unsqueeze(1).unsqueeze(3);  // [B,1,N,1]
  std::vector<at::Tensor> blocks;
  for (std::int64_t begin = 0; begin < x.size(2);) {
    const std::int64_t end = std::min(x.size(2), ((past + begin) / block + 1) * block - past);
    const at::Tensor tokens = x.slice(2, begin, end), here = real.slice(2, begin, end);
    const at::Tensor count = here.sum(2), none = here.logical_not();
    std::vector<at::Tensor> parts;
    for (std::size_t at = 0; at <= kinds.size();) {
      const std::size_t plus = std::min(kinds.find('+', at), kinds.size());
      const std::string kind = kinds.substr(at, plus - at);
      at = plus + 1;
      if (kind == "avg") {
        parts.push_back(tokens.masked_fill(none, 0.0).sum(2) / count.clamp_min(1));
      } else if (kind == "max") {
        parts.push_back(tokens.masked_fill(none, -HUGE_VAL).amax(2).masked_fill(count.eq(0), 0.0));
      } else if (kind == "min") {
        parts.push_back(tokens.masked_fill(none, HUGE_VAL).amin(2).masked_fill(count.eq(0), 0.0));
      } else {
        throw std::invalid_argument("pool '" + kind + "' is none of avg, max, min");
      }
    }
    blocks.push_back(at::cat(parts, -1));
    begin = end;
  }
  return at::stack(blocks, 2);  // [B,heads,n,pools D]
}

BlockLists select_walk(const SparseConfig& c, const at::Tensor& scores, const at::Tensor& allowed,
                       std::int64_t first) {
  return pick_rows(scores, allowed, first, [&](const Row& row) {
    std::vector<char> taken = forced(c, row);
    fill_up_to(c.tau, row, taken);
    return taken;
  });
}

BlockLists select_gate(const SparseConfig& c, const at::Tensor& scores, const at::Tensor& allowed,
                       std::int64_t first, bool decode) {
  const std::int64_t rows = scores.size(2);
  return pick_rows(scores, allowed, first, [&](const Row& row) {
    std::vector<char> always = forced(c, row);
    const bool dense = c.last_block_dense && row.block >= first + rows - 2;
    for (std::size_t j = 0; j < always.size(); ++j) {
      const bool last = decode && j + 1 == always.size();
      if (row.allowed[j] && (dense || last)) always[j] = 1;
    }
    if (c.gate == GateRule::kTokenBudget) {
      fill_up_to(std::max<std::int64_t>(1, c.token_budget / c.block), row, always);
      return always;
    }
    std::vector<char> taken = gate_row(c, row);
    for (std::size_t j = 0; j < taken.size(); ++j) taken[j] = taken[j] || always[j] ? 1 : 0;
    return taken;
  });
}

at::Tensor gate_probabilities(const at::Tensor& pq, const at::Tensor& pk, const at::Tensor& wq,
                              const at::Tensor& wk, const at::Tensor& allowed) {
  const at::Tensor gq = at::matmul(pq, wq);
  const at::Tensor gk = at::matmul(pk.repeat_interleave(pq.size(1) / pk.size(1), 1), wk);
  const double scale = 1.0 / std::sqrt(static_cast<double>(wq.size(-1)));
  const at::Tensor scores = at::matmul(gq, gk.transpose(-1, -2)) * scale;
  const at::Tensor p = at::softmax(scores.masked_fill(allowed.logical_not(), -HUGE_VAL), -1);
  return at::where(allowed, p, 0.0);
}

at::Tensor gate_scores(const SparseConfig& c, const at::Tensor& q, const at::Tensor& k,
                       const at::Tensor& q_valid, const at::Tensor& k_valid, const at::Tensor& wq,
                       const at::Tensor& wk, const at::Tensor& allowed, std::int64_t past) {
  return gate_probabilities(pooled_channels(c.pool, q, q_valid, c.block, past),
                            pooled_channels(c.pool, k, k_valid, c.block, 0), wq, wk, allowed);
}

at::Tensor tokens_of(const BlockLists& lists, std::int64_t block, std::int64_t queries,
                     std::int64_t keys) {
  at::Tensor out = at::zeros({lists.batch, lists.heads, queries, keys}, at::kBool);
  const std::int64_t past = keys - queries, first = past / block;
  for (std::int64_t b = 0; b < lists.batch; ++b) {
    for (std::int64_t h = 0; h < lists.heads; ++h) {
      for (std::int64_t i = 0; i < lists.rows; ++i) {
        const std::int64_t begin = std::max<std::int64_t>(0, (first + i) * block - past);
        const std::int64_t end = std::min(queries, (first + i + 1) * block - past);
        if (begin >= end) continue;
        at::Tensor rows = out[b][h].slice(0, begin, end);
        for (const std::int32_t j : lists.at(b, h, i)) {
          if (j < 0 || j * block >= keys) continue;
          rows.slice(1, j * block, std::min(keys, (j + 1) * block)).fill_(true);
        }
      }
    }
  }
  return out;
}

}  // namespace ps::reference
