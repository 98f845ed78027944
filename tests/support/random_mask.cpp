#include "tests/support/random_mask.h"

#include "core/rng.h"

namespace ps::mask {

namespace {

class Maker {
 public:
  explicit Maker(std::uint64_t seed) : rng_(seed, 0xa11) {}

  Program program() {
    p_.dims = {pick(1, 3), pick(1, 3), pick(0, 23), pick(0, 26)};
    if (pick(0, 2) == 0) p_.dims.KV = p_.dims.Q;
    if (pick(0, 2) == 0) {
      p_.q_offset.clear();
      for (std::int64_t b = 0; b < p_.dims.B; ++b) p_.q_offset.push_back(pick(-4, 9));
    } else {
      p_.q_offset = {pick(-5, 9)};
    }
    p_.kv_offset = pick(0, 1) == 0 ? 0 : pick(-6, 6);
    for (std::int64_t i = pick(0, 2); i > 0; --i) {
      Node n = node(2);
      p_.defs.push_back({"d" + std::to_string(p_.defs.size()), std::move(n)});
    }
    p_.expr = node(4);
    return std::move(p_);
  }

 private:
  std::int64_t pick(std::int64_t lo, std::int64_t hi) {
    return lo + rng_.below(at_++, hi - lo + 1);
  }

  int array(std::vector<std::int64_t> shape, std::int64_t lo, std::int64_t hi) {
    Array a{"a" + std::to_string(p_.arrays.size()), std::move(shape), {}};
    std::int64_t count = 1;
    for (const std::int64_t d : a.shape) count *= d;
    // Runs of equal and of rising values, so that remap has stretches to find.
    const std::int64_t style = pick(0, 2);
    for (std::int64_t i = 0; i < count; ++i) {
      const bool fresh = a.data.empty() || pick(0, 4) == 0;
      const std::int64_t next = style == 0 || fresh ? pick(lo, hi) : a.data.back() + style - 1;
      a.data.push_back(next > hi ? lo : next);
    }
    p_.arrays.push_back(std::move(a));
    return static_cast<int>(p_.arrays.size()) - 1;
  }
  std::int64_t one_or(std::int64_t n) { return pick(0, 1) == 0 ? 1 : n; }

  Scalar scalar(const Param& p) {
    const auto [B, H, Q, KV] = p_.dims;
    if (p.kind == ParamKind::kPositive) return {Scalar::Kind::kInteger, pick(1, 9)};
    const bool open = p.kind == ParamKind::kOpen || p.kind == ParamKind::kIgnore;
    if (open && pick(0, 3) == 0) return {Scalar::Kind::kUnbounded, 0};
    const bool may_vary = p.kind == ParamKind::kOpen || p.kind == ParamKind::kScalar;
    if (may_vary && pick(0, 3) == 0) {
      return {Scalar::Kind::kArray, array({one_or(B)}, -6, 22)};
    }
    if (p.kind == ParamKind::kInteger) return {Scalar::Kind::kInteger, pick(-3, 3)};
    if (pick(0, 40) == 0)
      return {Scalar::Kind::kInteger, pick(0, 1) == 0 ? INT64_MIN + 7 : INT64_MAX};
    return {Scalar::Kind::kInteger, pick(-6, 22)};
  }

  int array_for(const Param& p) {
    const auto [B, H, Q, KV] = p_.dims;
    switch (p.kind) {
      case ParamKind::kRows:
        return array({one_or(B), pick(0, 30)}, -1, pick(1, 4));
      case ParamKind::kSquare: {
        const std::int64_t n = pick(0, 4);
        return array({n, n}, 0, 1);
      }
      case ParamKind::kBlockMap:
        return array({one_or(B), one_or(H), pick(0, 5), pick(0, 6)}, 0, 1);
      case ParamKind::kCells:
        return array({one_or(B), one_or(H), Q, KV}, 0, 1);
      default:  // kMap
        if (pick(0, 3) == 0) return -1;
        return pick(0, 1) == 0 ? array({pick(0, 30)}, -3, 26)
                               : array({one_or(B), pick(0, 30)}, -3, 26);
    }
  }

  Node node(int depth) {
    const auto& table = op_table();
    Node n;
    for (;;) {
      n.op =
          table[static_cast<std::size_t>(pick(0, static_cast<std::int64_t>(table.size()) - 1))].op;
      if (n.op == Op::kRef && p_.defs.empty()) continue;
      if (depth == 0 && info_of(n.op).params.size() > 0 &&
          info_of(n.op).params.back().kind >= ParamKind::kNode) {
        continue;
      }
      break;
    }
    if (pick(0, 5) == 0) n.tag = pick(0, 1) == 0 ? "future" : "odd tag/~\"x";
    for (const Param& p : info_of(n.op).params) {
      if (p.is_scalar()) {
        n.scalars.push_back(scalar(p));
      } else if (p.is_array()) {
        n.arrays.push_back(array_for(p));
      } else if (p.kind == ParamKind::kBounds) {
        for (std::int64_t i = pick(0, 4); i > 0; --i) {
          const std::int64_t s = pick(-4, 24);
          n.bounds.emplace_back(s, s + pick(-1, 9));
        }
      } else if (p.kind == ParamKind::kSet) {
        for (std::int64_t i = pick(0, 2); i > 0; --i) n.set.push_back(pick(-1, 3));
      } else if (p.kind == ParamKind::kName) {
        n.def = static_cast<int>(pick(0, static_cast<std::int64_t>(p_.defs.size()) - 1));
      } else if (p.kind == ParamKind::kNode) {
        n.args.push_back(node(depth - 1));
      } else {
        const std::int64_t args = p.kind == ParamKind::kTwoNodes ? 2 : pick(0, 3);
        for (std::int64_t i = 0; i < args; ++i) n.args.push_back(node(depth - 1));
      }
    }
    return n;
  }

  Program p_;
  Rng rng_;
  std::uint64_t at_ = 0;
};

}  // namespace

Program random_program(std::uint64_t seed) { return Maker(seed).program(); }

}  // namespace ps::mask
