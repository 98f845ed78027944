#include "diff/mask/tiles.h"

#include <algorithm>

#include "diff/mask/evaluate.h"

namespace ps::mask {

namespace {

__extension__ using Wide = __int128;

Fill decided(bool full, bool empty) {
  return full ? Fill::kFull : empty ? Fill::kEmpty : Fill::kUnknown;
}
Fill inverse(Fill f) { return static_cast<Fill>(2 - static_cast<int>(f)); }
Fill both(Fill a, Fill b) { return std::min(a, b); }
Fill either(Fill a, Fill b) { return std::max(a, b); }
Fill exclusive(Fill a, Fill b) {
  if (a == Fill::kUnknown || b == Fill::kUnknown) return Fill::kUnknown;
  return a == b ? Fill::kEmpty : Fill::kFull;
}

Wide chunk_of(std::int64_t x, Wide start, Wide size) {
  const Wide from = x - start;
  return from >= 0 ? from / size : -((-from + size - 1) / size);
}

struct Extremes {
  std::int64_t least = INT64_MAX, most = INT64_MIN;
  bool clipped = false;  // a part of the range is outside of the array
};
Extremes extremes(std::span<const std::int64_t> row, std::int64_t lo, std::int64_t hi) {
  Extremes out;
  const auto n = static_cast<std::int64_t>(row.size());
  out.clipped = lo < 0 || hi >= n;
  for (std::int64_t i = std::max<std::int64_t>(lo, 0); i <= std::min(hi, n - 1); ++i) {
    out.least = std::min(out.least, row[static_cast<std::size_t>(i)]);
    out.most = std::max(out.most, row[static_cast<std::size_t>(i)]);
  }
  return out;
}

}  // namespace

Fill TileClassifier::classify(const Node& node, const Tile& t) {
  const std::int64_t q = p_.q_offset_of(t.b), k = p_.kv_offset;
  return of(node, t, {t.i0 + q, t.i1 + q, t.j0 + k, t.j1 + k});
}

Fill TileClassifier::of(const Node& n, const Tile& t, const Positions& x) {
  switch (n.op) {
    case Op::kAnd: {
      Fill out = Fill::kFull;
      for (const Node& a : n.args) out = both(out, of(a, t, x));
      return out;
    }
    case Op::kOr: {
      Fill out = Fill::kEmpty;
      for (const Node& a : n.args) out = either(out, of(a, t, x));
      return out;
    }
    case Op::kXor:
      return exclusive(of(n.args[0], t, x), of(n.args[1], t, x));
    case Op::kNot:
      return inverse(of(n.args[0], t, x));
    case Op::kIf: {
      const Fill cond = of(n.args[0], t, x);
      if (cond != Fill::kUnknown) return of(n.args[cond == Fill::kFull ? 1 : 2], t, x);
      const Fill a = of(n.args[1], t, x), b = of(n.args[2], t, x);
      return a == b ? a : Fill::kUnknown;
    }
    case Op::kShift: {
      const std::int64_t dq = n.scalars[0].value, dk = n.scalars[1].value;
      return of(n.args[0], t, {x.q0 + dq, x.q1 + dq, x.k0 + dk, x.k1 + dk});
    }
    case Op::kRemap:
      return remap(n, t, x);
    case Op::kRef:
      return of(resolved(p_, n), t, x);
    default:
      return leaf(n, t, x);
  }
}

Fill TileClassifier::leaf(const Node& n, const Tile& t, const Positions& x) {
  const auto [q0, q1, k0, k1] = x;
  const auto number = [&](std::size_t i) { return scalar_of(p_, n.scalars[i], t.b); };
  const auto range = [&](std::int64_t from, std::int64_t to) {
    const auto lo = number(0), hi = number(1);
    return decided((!lo || *lo <= from) && (!hi || to < *hi),
                   (lo && to < *lo) || (hi && from >= *hi));
  };
  switch (n.op) {
    case Op::kAll:
      return Fill::kFull;
    case Op::kNone:
      return Fill::kEmpty;
    case Op::kCausal: {
      const Wide shift = *number(0);
      return decided(k1 <= q0 + shift, k0 > q1 + shift);
    }
    case Op::kWindow: {
      const auto left = number(0), right = number(1);
      return decided((!left || q1 - k0 <= *left) && (!right || k1 - q0 <= *right),
                     (left && q0 - k1 > *left) || (right && k0 - q1 > *right));
    }
    case Op::kChunk: {
      const Wide size = *number(0), start = number(1).value_or(0);
      const Wide a = chunk_of(q0, start, size), b = chunk_of(q1, start, size);
      const Wide c = chunk_of(k0, start, size), d = chunk_of(k1, start, size);
      return decided(a == b && b == c && c == d, b < c || d < a);
    }
    case Op::kKvRange:
      return range(k0, k1);
    case Op::kQRange:
      return range(q0, q1);
    case Op::kPrefix: {
      const auto len = number(0);
      return decided(k0 >= 0 && (!len || k1 < *len), k1 < 0 || (len && k0 >= *len));
    }
    case Op::kGenerated: {
      const auto start = number(0);
      return decided(!start || q0 >= *start, start && q1 < *start);
    }
    case Op::kKeyValid:
    case Op::kQueryValid: {
      const std::int64_t row = array_of(p_, n.arrays[0]).shape[0] == 1 ? 0 : t.b;
      const bool keys = n.op == Op::kKeyValid;
      return table(n.arrays[0], t, row, row, keys ? k0 : q0, keys ? k1 : q1);
    }
    case Op::kSameSegment: {
      bool full = false, empty = true;
      for (const auto& [s, e] : n.bounds) {
        full = full || (s <= q0 && q1 < e && s <= k0 && k1 < e);
        empty = empty && (q1 < s || q0 >= e || k1 < s || k0 >= e);
      }
      return decided(full, empty);
    }
    case Op::kSameId:
    case Op::kRole:
      return ids(n, t, x);
    case Op::kBlocks: {
      const std::int64_t bq = n.scalars[0].value, bk = n.scalars[1].value;
      return table(n.arrays[0], t, floor_div(q0, bq), floor_div(q1, bq), floor_div(k0, bk),
                   floor_div(k1, bk));
    }
    case Op::kDense:
      return table(n.arrays[0], t, t.i0, t.i1, t.j0, t.j1);
    case Op::kHeads:
    case Op::kBatches: {
      const std::int64_t me = n.op == Op::kHeads ? t.h : t.b;
      const bool in = std::find(n.set.begin(), n.set.end(), me) != n.set.end();
      return in ? Fill::kFull : Fill::kEmpty;
    }
    case Op::kAffine: {
      const Wide cq = *number(0), ck = *number(1), c = *number(2);
      const Wide least = cq * (cq > 0 ? q0 : q1) + ck * (ck > 0 ? k0 : k1) + c;
      const Wide most = cq * (cq > 0 ? q1 : q0) + ck * (ck > 0 ? k1 : k0) + c;
      return decided(least >= 0, most < 0);
    }
    case Op::kMod: {
      const Wide m = *number(3), cq = *number(0), ck = *number(1);
      const bool constant = (q0 == q1 || cq % m == 0) && (k0 == k1 || ck % m == 0);
      if (!constant) return Fill::kUnknown;
      Wide rest = ((cq % m) * (q0 % m) + (ck % m) * (k0 % m) + *number(2)) % m;
      if (rest < 0) rest += m;
      return rest == *number(4) ? Fill::kFull : Fill::kEmpty;
    }
    default:
      return Fill::kUnknown;
  }
}

Fill TileClassifier::ids(const Node& n, const Tile& t, const Positions& x) const {
  const auto row = row_of(array_of(p_, n.arrays[0]), t.b);
  const Extremes q = extremes(row, x.q0, x.q1), k = extremes(row, x.k0, x.k1);
  if (q.least > q.most || k.least > k.most) return Fill::kEmpty;  // nothing is in the array
  if (n.op == Op::kRole) return Fill::kUnknown;
  const auto ignore = scalar_of(p_, n.scalars[0], t.b);
  const bool one = q.least == q.most && k.least == k.most && q.least == k.least;
  const bool ignored = one && ignore && *ignore == q.least;
  return decided(one && !ignored && !q.clipped && !k.clipped,
                 ignored || q.most < k.least || k.most < q.least);
}

Fill TileClassifier::remap(const Node& n, const Tile& t, const Positions& x) {
  Positions to = x;
  bool clipped = false;
  for (const std::size_t axis : {std::size_t{0}, std::size_t{1}}) {
    if (n.arrays[axis] < 0) continue;
    std::int64_t& lo = axis == 0 ? to.q0 : to.k0;
    std::int64_t& hi = axis == 0 ? to.q1 : to.k1;
    const Extremes e = extremes(row_of(array_of(p_, n.arrays[axis]), t.b), lo, hi);
    if (e.least > e.most) return Fill::kEmpty;
    clipped = clipped || e.clipped;
    lo = e.least;
    hi = e.most;
  }
  const Fill f = of(n.args[0], t, to);
  return f == Fill::kFull && clipped ? Fill::kUnknown : f;
}

Fill TileClassifier::table(int array, const Tile& t, std::int64_t r0, std::int64_t r1,
                           std::int64_t c0, std::int64_t c1) {
  const Array& a = array_of(p_, array);
  const bool four = a.shape.size() == 4;
  const std::int64_t rows = a.shape[four ? 2 : 0], columns = a.shape[four ? 3 : 1];
  const bool clipped = r0 < 0 || r1 >= rows || c0 < 0 || c1 >= columns;
  r0 = std::max<std::int64_t>(r0, 0);
  c0 = std::max<std::int64_t>(c0, 0);
  r1 = std::min(r1 + 1, rows);
  c1 = std::min(c1 + 1, columns);
  if (r0 >= r1 || c0 >= c1) return Fill::kEmpty;
  const auto& s = sums(array, four ? plane_of(a, t.b, t.h) : 0, rows, columns);
  const auto at = [&](std::int64_t r, std::int64_t c) {
    return s[static_cast<std::size_t>(r * (columns + 1) + c)];
  };
  const std::int64_t set = at(r1, c1) - at(r0, c1) - at(r1, c0) + at(r0, c0);
  return decided(!clipped && set == (r1 - r0) * (c1 - c0), set == 0);
}

const std::vector<std::int64_t>& TileClassifier::sums(int array, std::size_t plane,
                                                      std::int64_t rows, std::int64_t columns) {
  const auto [it, fresh] = sums_.try_emplace({array, plane});
  if (!fresh) return it->second;
  const Array& a = array_of(p_, array);
  const auto width = static_cast<std::size_t>(columns) + 1;
  std::vector<std::int64_t>& s = it->second;
  s.resize((static_cast<std::size_t>(rows) + 1) * width);
  for (std::size_t r = 0; r < static_cast<std::size_t>(rows); ++r) {
    std::int64_t row = 0;
    for (std::size_t c = 0; c + 1 < width; ++c) {
      row += a.data[plane + r * (width - 1) + c] != 0 ? 1 : 0;
      s[(r + 1) * width + c + 1] = s[r * width + c + 1] + row;
    }
  }
  return s;
}

}  // namespace ps::mask
