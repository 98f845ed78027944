#include "diff/mask/run_index.h"

#include <algorithm>
#include <set>

#include "diff/mask/evaluate.h"

namespace ps::mask {

namespace {

// The runs of [0, n) where `holds` is true.
template <class F>
Intervals intervals_where(std::int64_t n, const F& holds) {
  Intervals out;
  for (std::int64_t i = 0; i < n; ++i) {
    if (!holds(static_cast<std::size_t>(i))) continue;
    if (!out.empty() && out.back().second == i) {
      out.back().second = i + 1;
    } else {
      out.emplace_back(i, i + 1);
    }
  }
  return out;
}

// An array that all batches share is indexed once.
std::int64_t row_key(const Array& a, std::int64_t b) {
  return a.shape.size() == 1 || a.shape[0] == 1 ? 0 : b;
}

}  // namespace

const Intervals& RunIndex::nonzero(int array, std::int64_t b) {
  const Array& a = array_of(program_, array);
  const auto [it, fresh] = nonzero_.try_emplace({array, row_key(a, b)});
  if (fresh) {
    const auto row = row_of(a, b);
    it->second = intervals_where(static_cast<std::int64_t>(row.size()),
                                 [&](std::size_t i) { return row[i] != 0; });
  }
  return it->second;
}

const Intervals& RunIndex::with_id(int array, std::int64_t b, std::int64_t id) {
  const Array& a = array_of(program_, array);
  const auto [it, fresh] = ids_.try_emplace({array, row_key(a, b)});
  if (fresh) {
    const auto row = row_of(a, b);
    for (std::size_t i = 0; i < row.size(); ++i) {
      Intervals& runs = it->second[row[i]];
      const auto at = static_cast<std::int64_t>(i);
      if (!runs.empty() && runs.back().second == at) {
        ++runs.back().second;
      } else {
        runs.emplace_back(at, at + 1);
      }
    }
  }
  return it->second[id];
}

const Intervals& RunIndex::with_role(int ids, int allow, std::int64_t b, std::int64_t id) {
  const Array& a = array_of(program_, ids);
  const auto [it, fresh] = roles_.try_emplace({ids, allow, row_key(a, b), id});
  if (fresh) {
    const auto row = row_of(a, b);
    const Array& matrix = array_of(program_, allow);
    const std::int64_t n = matrix.shape[0];
    it->second = intervals_where(static_cast<std::int64_t>(row.size()), [&](std::size_t i) {
      return row[i] >= 0 && row[i] < n &&
             matrix.data[static_cast<std::size_t>(id * n + row[i])] != 0;
    });
  }
  return it->second;
}

std::int64_t RunIndex::stretch_end(int array, std::int64_t b, std::int64_t at) {
  const Array& a = array_of(program_, array);
  const auto [it, fresh] = stretches_.try_emplace({array, row_key(a, b)});
  if (fresh) {
    const auto row = row_of(a, b);
    it->second.resize(row.size());
    for (std::size_t i = row.size(); i-- > 0;) {
      const bool goes_on = i + 1 < row.size() && row[i + 1] == row[i];
      it->second[i] = goes_on ? it->second[i + 1] : static_cast<std::int64_t>(i + 1);
    }
  }
  return it->second[static_cast<std::size_t>(at)];
}

const RunIndex::Pieces& RunIndex::pieces(const Node& node) {
  const auto [it, fresh] = pieces_.try_emplace(&node);
  if (!fresh) return it->second;
  std::set<std::int64_t> ends;
  Intervals sorted;
  for (const auto& s : node.bounds) {
    if (s.first >= s.second) continue;
    sorted.push_back(s);
    ends.insert({s.first, s.second});
  }
  std::sort(sorted.begin(), sorted.end());
  Intervals active;  // sorted by begin: those that may hold the piece
  auto next = sorted.begin();
  for (const std::int64_t begin : ends) {
    for (; next != sorted.end() && next->first <= begin; ++next) active.push_back(*next);
    std::erase_if(active, [&](const auto& s) { return s.second <= begin; });
    Intervals keys;
    for (const auto& s : active) {
      if (!keys.empty() && s.first <= keys.back().second) {
        keys.back().second = std::max(keys.back().second, s.second);
      } else {
        keys.push_back(s);
      }
    }
    it->second.begin.push_back(begin);
    it->second.keys.push_back(std::move(keys));
  }
  return it->second;
}

std::pair<const Intervals*, std::int64_t> RunIndex::segments(const Node& node, std::int64_t q) {
  static const Intervals kNone;
  const Pieces& p = pieces(node);
  const auto after = std::upper_bound(p.begin.begin(), p.begin.end(), q);
  const std::int64_t until = after == p.begin.end() ? INT64_MAX : *after;
  if (after == p.begin.begin()) return {&kNone, until};
  return {&p.keys[static_cast<std::size_t>(after - p.begin.begin()) - 1], until};
}

}  // namespace ps::mask
