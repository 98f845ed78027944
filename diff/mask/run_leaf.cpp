#include "diff/mask/run_leaf.h"

#include <algorithm>

#include "diff/mask/evaluate.h"

namespace ps::mask {

namespace {

__extension__ using Wide = __int128;

// Far outside of every plane, and far from overflow.
constexpr std::int64_t kFar = std::int64_t{1} << 58;
std::int64_t clamped(Wide x) {
  return static_cast<std::int64_t>(std::clamp(x, Wide{-kFar}, Wide{kFar}));
}
Wide floor_of(Wide a, Wide b) {  // b > 0
  return a >= 0 ? a / b : -((-a + b - 1) / b);
}
Wide ceil_of(Wide a, Wide b) { return -floor_of(-a, b); }

// The description holds for queries below `q`.
void below(const Window& w, Wide q, std::int64_t& until) {
  until = std::min(until, clamped(q - w.oq));
}

}  // namespace

Bands LeafRuns::of(const Node& n, const Window& w) {
  Bands out(w.r0);
  std::vector<Run> runs;
  for (std::int64_t row = w.r0; row < w.r1 && budget_ >= 0; row = out.end()) {
    std::int64_t until = w.r1;
    raw_.clear();
    describe(n, w, row, until);
    runs.clear();
    const Edge left(w.c0, 0), right(w.c1, 0);
    for (const Run& r : raw_) {
      const Edge lo = compare(r.lo, left, row, until) > 0 ? left : r.lo;
      const Edge hi = compare(r.hi, right, row, until) < 0 ? right : r.hi;
      if (compare(lo, hi, row, until) > 0) runs.push_back({lo, hi});
    }
    out.append(until, runs);
    budget_ -= 1 + static_cast<std::int64_t>(runs.size());
  }
  if (out.end() < w.r1) out.append(w.r1, {});
  return out;
}

// What one row of a leaf allows; q and k are positions.

void LeafRuns::all() { raw_.push_back({Edge(-kFar, 0), Edge(kFar, 0)}); }
void LeafRuns::keys(const Window& w, Wide lo, Wide hi) {
  raw_.push_back({Edge(clamped(lo - w.ok), 0), Edge(clamped(hi - w.ok), 0)});
}
void LeafRuns::keys(const Window& w, const Intervals& list) {
  const std::int64_t from = w.c0 + w.ok;
  auto it = std::upper_bound(list.begin(), list.end(), from,
                             [](std::int64_t x, const auto& r) { return x < r.second; });
  for (; it != list.end() && it->first < w.c1 + w.ok; ++it) keys(w, it->first, it->second);
}
// k in [q + lo, q + hi)
void LeafRuns::diagonal(const Window& w, Wide lo, Wide hi) {
  const auto edge = [&](Wide d) {
    return d <= -kFar || d >= kFar ? Edge(clamped(d), 0) : Edge(clamped(d + w.oq - w.ok), 1);
  };
  raw_.push_back({edge(lo), edge(hi)});
}
void LeafRuns::queries(const Window& w, Wide lo, Wide hi, std::int64_t q, std::int64_t& until) {
  if (q < lo) return below(w, lo, until);
  if (q >= hi) return;
  all();
  below(w, hi, until);
}

LeafRuns::Wide LeafRuns::number(const Node& n, std::size_t i, Wide unbounded) const {
  const auto x = scalar_of(p_, n.scalars[i], b_);
  return x ? Wide{*x} : unbounded;
}

void LeafRuns::describe(const Node& n, const Window& w, std::int64_t row, std::int64_t& until) {
  const std::int64_t q = row + w.oq;
  switch (n.op) {
    case Op::kAll:
      return all();
    case Op::kCausal:
      return diagonal(w, -kFar, number(n, 0, 0) + 1);
    case Op::kWindow:
      return diagonal(w, -number(n, 0, kFar), number(n, 1, kFar) + 1);
    case Op::kChunk: {
      const Wide size = number(n, 0, 1), start = number(n, 1, 0);
      const Wide begin = start + floor_of(q - start, size) * size;
      keys(w, begin, begin + size);
      return below(w, begin + size, until);
    }
    case Op::kKvRange:
      return keys(w, number(n, 0, -kFar), number(n, 1, kFar));
    case Op::kQRange:
      return queries(w, number(n, 0, -kFar), number(n, 1, kFar), q, until);
    case Op::kPrefix:
      return keys(w, 0, number(n, 0, kFar));
    case Op::kGenerated:
      return queries(w, number(n, 0, -kFar), kFar, q, until);
    case Op::kKeyValid:
      return keys(w, index_.nonzero(n.arrays[0], b_));
    case Op::kQueryValid: {
      const Intervals& list = index_.nonzero(n.arrays[0], b_);
      const auto it = std::upper_bound(list.begin(), list.end(), q,
                                       [](std::int64_t x, const auto& r) { return x < r.second; });
      if (it != list.end()) queries(w, it->first, it->second, q, until);
      return;
    }
    case Op::kSameSegment: {
      const auto [list, next] = index_.segments(n, q);
      keys(w, *list);
      return below(w, next, until);
    }
    case Op::kSameId:
    case Op::kRole:
      return ids(n, w, q, until);
    case Op::kBlocks:
      return blocks(n, w, q, until);
    case Op::kDense:
      return dense(n, w, row, until);
    case Op::kHeads:
      return member(n.set, h_);
    case Op::kBatches:
      return member(n.set, b_);
    case Op::kAffine:
      return affine(n, w, row, until);
    case Op::kMod:
      return mod(n, w, q, row, until);
    default:
      return;  // kNone; combinators are no leaves
  }
}

void LeafRuns::member(const std::vector<std::int64_t>& set, std::int64_t x) {
  if (std::find(set.begin(), set.end(), x) != set.end()) all();
}

void LeafRuns::ids(const Node& n, const Window& w, std::int64_t q, std::int64_t& until) {
  const auto row = row_of(array_of(p_, n.arrays[0]), b_);
  if (q < 0) return below(w, 0, until);
  if (q >= static_cast<std::int64_t>(row.size())) return;
  const std::int64_t id = row[static_cast<std::size_t>(q)];
  below(w, index_.stretch_end(n.arrays[0], b_, q), until);
  if (n.op == Op::kSameId) {
    const auto ignored = scalar_of(p_, n.scalars[0], b_);
    if (!ignored || id != *ignored) keys(w, index_.with_id(n.arrays[0], b_, id));
  } else if (id >= 0 && id < array_of(p_, n.arrays[1]).shape[0]) {
    keys(w, index_.with_role(n.arrays[0], n.arrays[1], b_, id));
  }
}

void LeafRuns::blocks(const Node& n, const Window& w, std::int64_t q, std::int64_t& until) {
  const Array& keep = array_of(p_, n.arrays[0]);
  const std::int64_t bq = n.scalars[0].value, bk = n.scalars[1].value, columns = keep.shape[3];
  const std::int64_t r = floor_div(q, bq);
  if (r < 0) return below(w, 0, until);
  if (r >= keep.shape[2]) return;
  below(w, (Wide{r} + 1) * bq, until);
  const std::size_t plane = plane_of(keep, b_, h_);
  const auto kept = [&](std::int64_t s) {
    return keep.data[plane + static_cast<std::size_t>(r * columns + s)] != 0;
  };
  for (std::int64_t s = 0; s < columns; ++s) {
    if (!kept(s)) continue;
    const std::int64_t begin = s;
    while (s + 1 < columns && kept(s + 1)) ++s;
    keys(w, Wide{begin} * bk, (Wide{s} + 1) * bk);
  }
}

void LeafRuns::dense(const Node& n, const Window& w, std::int64_t row, std::int64_t& until) {
  until = row + 1;
  const Array& a = array_of(p_, n.arrays[0]);
  const std::size_t at = plane_of(a, b_, h_) + static_cast<std::size_t>(row * a.shape[3]);
  for (std::int64_t j = w.c0; j < w.c1; ++j) {
    if (a.data[at + static_cast<std::size_t>(j)] == 0) continue;
    if (raw_.empty() || raw_.back().hi.base() != j) {
      raw_.push_back({Edge(j, 0), Edge(j + 1, 0)});
    } else {
      raw_.back().hi = Edge(j + 1, 0);
    }
  }
}

// cq q + ck k + c >= 0
void LeafRuns::affine(const Node& n, const Window& w, std::int64_t row, std::int64_t& until) {
  const Wide cq = n.scalars[0].value, ck = n.scalars[1].value, c = n.scalars[2].value;
  const std::int64_t q = row + w.oq;
  if (ck == 0) {
    if (cq == 0) return c >= 0 ? all() : void();
    if (cq > 0) return queries(w, ceil_of(-c, cq), kFar, q, until);
    return queries(w, -kFar, floor_of(c, -cq) + 1, q, until);
  }
  const Wide n_k = ck > 0 ? ck : -ck;
  // ck > 0: k >= (-c - cq q) / ck.  ck < 0: k <= (c + cq q) / -ck.
  const Wide lead = ck > 0 ? -cq : cq, rest = ck > 0 ? -c : c;
  const bool linear = lead % n_k == 0 && lead / n_k >= -1 && lead / n_k <= 1;
  const int slope = linear ? static_cast<int>(lead / n_k) : 0;
  const Wide in_row = linear ? rest : rest + lead * q;
  const Wide bound = ck > 0 ? ceil_of(in_row, n_k) : floor_of(in_row, n_k) + 1;
  if (!linear) until = row + 1;
  const Edge edge(clamped(bound + Wide{slope} * w.oq - w.ok), slope);
  if (ck > 0) {
    raw_.push_back({edge, Edge(2 * kFar, 0)});
  } else {
    raw_.push_back({Edge(-2 * kFar, 0), edge});
  }
}

// (cq q + ck k + c) mod m == r: the keys of a row are one residue of a divisor of m.
void LeafRuns::mod(const Node& n, const Window& w, std::int64_t q, std::int64_t row,
                   std::int64_t& until) {
  const auto reduced = [m = Wide{n.scalars[3].value}](Wide x) { return ((x % m) + m) % m; };
  const Wide m = n.scalars[3].value, r = n.scalars[4].value;
  if (r < 0 || r >= m) return;
  const Wide cq = reduced(n.scalars[0].value), ck = reduced(n.scalars[1].value);
  if (cq != 0) until = row + 1;
  const Wide wanted = reduced(r - cq * reduced(q) - n.scalars[2].value);  // of ck k
  Wide g = m, inverse = 0, other = ck, next = 1;  // g = inverse * ck (mod m), by Euclid
  while (other != 0) {
    const Wide times = g / other;
    std::swap(g -= times * other, other);
    std::swap(inverse -= times * next, next);
  }
  if (wanted % g != 0) return;
  const Wide period = m / g;
  if (period == 1) return all();
  const Wide residue = (((wanted / g) * (inverse % period)) % period + period) % period;
  const Wide begin = Wide{w.c0} + w.ok;
  Wide k = begin + ((residue - begin) % period + period) % period;
  const Wide end = Wide{w.c1} + w.ok;
  budget_ -= static_cast<std::int64_t>(end > k ? (end - k) / period : 0) / 4;
  for (; k < end && budget_ >= 0; k += period) keys(w, k, k + 1);
}

}  // namespace ps::mask
