#include "diff/mask/evaluate.h"

#include <algorithm>

namespace ps::mask {

namespace {

__extension__ using Wide = __int128;

std::optional<std::int64_t> at(std::span<const std::int64_t> row, std::int64_t i) {
  if (i < 0 || i >= static_cast<std::int64_t>(row.size())) return std::nullopt;
  return row[static_cast<std::size_t>(i)];
}

bool contains(const std::vector<std::int64_t>& set, std::int64_t x) {
  return std::find(set.begin(), set.end(), x) != set.end();
}

class Meaning {
 public:
  Meaning(const Program& p, const Node& n, const Cell& c) : p_(p), n_(n), c_(c) {}

  bool value() const {
    const auto [b, h, i, j, q, k] = c_;
    switch (n_.op) {
      case Op::kAll:
        return true;
      case Op::kNone:
        return false;
      case Op::kCausal:
        return Wide{k} <= Wide{q} + number(0).value_or(0);
      case Op::kWindow:
        return (!number(0) || q - k <= *number(0)) && (!number(1) || k - q <= *number(1));
      case Op::kChunk:
        return chunk(q) == chunk(k);
      case Op::kKvRange:
        return in_range(k);
      case Op::kQRange:
        return in_range(q);
      case Op::kPrefix:
        return k >= 0 && (!number(0) || k < *number(0));
      case Op::kGenerated:
        return !number(0) || q >= *number(0);
      case Op::kKeyValid:
        return at(row(0), k).value_or(0) != 0;
      case Op::kQueryValid:
        return at(row(0), q).value_or(0) != 0;
      case Op::kSameSegment:
        return std::any_of(n_.bounds.begin(), n_.bounds.end(), [&](const auto& s) {
          return s.first <= c_.q && c_.q < s.second && s.first <= c_.k && c_.k < s.second;
        });
      case Op::kSameId:
        return same_id();
      case Op::kRole:
        return role();
      case Op::kBlocks:
        return blocks();
      case Op::kDense: {
        const Array& a = array(0);
        return a.data[plane_of(a, b, h) + static_cast<std::size_t>(i * a.shape[3] + j)] != 0;
      }
      case Op::kHeads:
        return contains(n_.set, h);
      case Op::kBatches:
        return contains(n_.set, b);
      case Op::kAffine:
        return linear() >= 0;
      case Op::kMod: {
        const std::int64_t m = *number(3);
        auto rest = static_cast<std::int64_t>(linear() % m);
        if (rest < 0) rest += m;
        return rest == *number(4);
      }
      case Op::kAnd:
        return std::all_of(n_.args.begin(), n_.args.end(), [&](const Node& a) { return of(a); });
      case Op::kOr:
        return std::any_of(n_.args.begin(), n_.args.end(), [&](const Node& a) { return of(a); });
      case Op::kXor:
        return of(n_.args[0]) != of(n_.args[1]);
      case Op::kNot:
        return !of(n_.args[0]);
      case Op::kIf:
        return of(n_.args[of(n_.args[0]) ? 1 : 2]);
      case Op::kShift: {
        Cell moved = c_;
        moved.q += *number(0);
        moved.k += *number(1);
        return allowed(p_, n_.args[0], moved);
      }
      case Op::kRemap:
        return remap();
      case Op::kRef:
        return of(p_.defs[static_cast<std::size_t>(n_.def)].node);
    }
    return false;
  }

 private:
  bool of(const Node& node) const { return allowed(p_, node, c_); }
  std::optional<std::int64_t> number(std::size_t i) const {
    return scalar_of(p_, n_.scalars[i], c_.b);
  }
  const Array& array(std::size_t i) const { return array_of(p_, n_.arrays[i]); }
  std::span<const std::int64_t> row(std::size_t i) const { return row_of(array(i), c_.b); }

  Wide linear() const {
    return Wide{*number(0)} * c_.q + Wide{*number(1)} * c_.k + Wide{*number(2)};
  }
  std::int64_t chunk(std::int64_t x) const {
    const Wide size = *number(0), from = Wide{x} - number(1).value_or(0);
    return static_cast<std::int64_t>(from >= 0 ? from / size : -((-from + size - 1) / size));
  }
  bool in_range(std::int64_t x) const {
    return (!number(0) || *number(0) <= x) && (!number(1) || x < *number(1));
  }
  bool same_id() const {
    const auto a = at(row(0), c_.q), b = at(row(0), c_.k);
    return a && b && *a == *b && (!number(0) || *a != *number(0));
  }
  bool role() const {
    const auto a = at(row(0), c_.q), b = at(row(0), c_.k);
    const Array& allow = array(1);
    const std::int64_t n = allow.shape[0];
    if (!a || !b || *a < 0 || *a >= n || *b < 0 || *b >= n) return false;
    return allow.data[static_cast<std::size_t>(*a * n + *b)] != 0;
  }
  bool blocks() const {
    const Array& keep = array(0);
    const std::int64_t r = floor_div(c_.q, *number(0)), s = floor_div(c_.k, *number(1));
    if (r < 0 || r >= keep.shape[2] || s < 0 || s >= keep.shape[3]) return false;
    const std::size_t plane = plane_of(keep, c_.b, c_.h);
    return keep.data[plane + static_cast<std::size_t>(r * keep.shape[3] + s)] != 0;
  }
  bool remap() const {
    Cell moved = c_;
    for (const std::size_t axis : {std::size_t{0}, std::size_t{1}}) {
      if (n_.arrays[axis] < 0) continue;
      std::int64_t& x = axis == 0 ? moved.q : moved.k;
      const auto to = at(row(axis), x);
      if (!to) return false;
      x = *to;
    }
    return allowed(p_, n_.args[0], moved);
  }

  const Program& p_;
  const Node& n_;
  const Cell& c_;
};

}  // namespace

bool allowed(const Program& program, const Node& node, const Cell& cell) {
  return Meaning(program, node, cell).value();
}

Cell cell_at(const Program& program, std::int64_t b, std::int64_t h, std::int64_t i,
             std::int64_t j) {
  return {b, h, i, j, i + program.q_offset_of(b), j + program.kv_offset};
}

std::optional<std::int64_t> scalar_of(const Program& program, const Scalar& s, std::int64_t b) {
  if (s.kind == Scalar::Kind::kUnbounded) return std::nullopt;
  if (s.kind == Scalar::Kind::kInteger) return s.value;
  const Array& a = array_of(program, static_cast<int>(s.value));
  return a.data[a.data.size() == 1 ? 0 : static_cast<std::size_t>(b)];
}

std::span<const std::int64_t> row_of(const Array& array, std::int64_t b) {
  if (array.shape.size() == 1) return array.data;
  const auto n = static_cast<std::size_t>(array.shape[1]);
  return std::span(array.data)
      .subspan(array.shape[0] == 1 ? 0 : static_cast<std::size_t>(b) * n, n);
}

std::size_t plane_of(const Array& array, std::int64_t b, std::int64_t h) {
  const std::int64_t bb = array.shape[0] == 1 ? 0 : b, hh = array.shape[1] == 1 ? 0 : h;
  return static_cast<std::size_t>((bb * array.shape[1] + hh) * array.shape[2] * array.shape[3]);
}

std::int64_t floor_div(std::int64_t a, std::int64_t b) {
  return a >= 0 ? a / b : -((-(a + 1)) / b) - 1;
}

}  // namespace ps::mask
