#include "diff/mask/validate.h"

#include <algorithm>

#include "core/json.h"

namespace ps::mask {

namespace {

constexpr std::int64_t kMostNodes = 1 << 20;
constexpr std::int64_t kMostDepth = 256;

bool one_or(std::int64_t have, std::int64_t n) { return have == 1 || have == n; }

struct Cost {
  std::int64_t nodes = 0, depth = 0;
};

class Validator {
 public:
  Validator(const Program& p, const std::string& where, const std::string& base)
      : p_(p), where_(where), base_(base), state_(p.defs.size()), cost_(p.defs.size()) {}

  Error wrong(const std::string& at, std::string what, std::string expected = {},
              std::string found = {}) const {
    return bad_input(where_ + "#" + base_ + at, std::move(what), std::move(expected),
                     std::move(found));
  }

  Result<Cost> def(std::size_t i, const std::string& from) {
    if (state_[i] == 1) {
      return wrong(from, "the defs refer to each other in a circle", "no ref that leads back",
                   json_quoted(p_.defs[i].name));
    }
    if (state_[i] == 0) {
      state_[i] = 1;
      PS_TRY(cost_[i], node(p_.defs[i].node, "/defs/" + pointer_part(p_.defs[i].name)));
      state_[i] = 2;
    }
    return cost_[i];
  }

  Result<Cost> node(const Node& n, const std::string& at) {
    PS_TRY_VOID(scalars(n, at));
    Cost cost{1, 1};
    const auto add = [&](const Cost& c) {
      cost.nodes = std::min(kMostNodes + 1, cost.nodes + c.nodes);
      cost.depth = std::max(cost.depth, c.depth + 1);
    };
    for (std::size_t i = 0; i < n.args.size(); ++i) {
      const Param& p = param_of_arg(n, i);
      std::string spot = at + "/" + std::string(p.name);
      if (p.kind != ParamKind::kNode) spot += "/" + std::to_string(i);
      PS_TRY(const Cost c, node(n.args[i], spot));
      add(c);
    }
    if (n.op == Op::kRef) {
      PS_TRY(const Cost c, def(static_cast<std::size_t>(n.def), at + "/name"));
      add(c);
    }
    if (cost.nodes > kMostNodes || cost.depth > kMostDepth) {
      return wrong(at, "the program is too large once its refs are followed",
                   std::to_string(kMostNodes) + " nodes, " + std::to_string(kMostDepth) + " deep");
    }
    return cost;
  }

 private:
  static const Param& param_of_arg(const Node& n, std::size_t i) {
    std::size_t seen = 0;
    const Param* last = nullptr;
    for (const Param& p : info_of(n.op).params) {
      if (p.kind < ParamKind::kNode) continue;
      last = &p;
      if (p.kind != ParamKind::kNode || seen == i) break;
      ++seen;
    }
    return *last;
  }

  Result<void> scalars(const Node& n, const std::string& at) const {
    std::size_t scalar = 0, array = 0;
    for (const Param& p : info_of(n.op).params) {
      const std::string spot = at + "/" + std::string(p.name);
      if (p.is_array()) {
        const int index = n.arrays[array++];
        if (index < 0) continue;
        const std::string problem = use_problem(p_, index, p.kind);
        if (!problem.empty()) {
          const Array& a = p_.arrays[static_cast<std::size_t>(index)];
          return wrong(spot, "array " + json_quoted(a.name) + " has the wrong shape", problem,
                       shape_text(a.shape));
        }
        if (p.kind != ParamKind::kMap) continue;
        const auto& data = p_.arrays[static_cast<std::size_t>(index)].data;
        for (const std::int64_t x : data) {
          if (x >= -kMaxPosition && x <= kMaxPosition) continue;
          return wrong(spot, "maps to a position out of range", "-2^48 to 2^48", std::to_string(x));
        }
        continue;
      }
      if (!p.is_scalar()) continue;
      const Scalar& s = n.scalars[scalar++];
      if (s.kind == Scalar::Kind::kArray) {
        const Array& a = p_.arrays[static_cast<std::size_t>(s.value)];
        if (a.shape.size() != 1 || !one_or(a.shape[0], p_.dims.B)) {
          return wrong(spot + "/array", "array " + json_quoted(a.name) + " has the wrong shape",
                       "[1] or [B = " + std::to_string(p_.dims.B) + "]", shape_text(a.shape));
        }
      }
      const bool moves = n.op == Op::kShift;
      if (moves && (s.value < -kMaxPosition || s.value > kMaxPosition)) {
        return wrong(spot, "shift out of range", "-2^48 to 2^48", std::to_string(s.value));
      }
    }
    return {};
  }

  const Program& p_;
  const std::string& where_;
  const std::string& base_;
  std::vector<int> state_;  // of a def: 0 not seen, 1 being visited, 2 done
  std::vector<Cost> cost_;
};

}  // namespace

std::string pointer_part(std::string_view name) {
  std::string out;
  for (const char c : name) out += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
  return out;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string out = "[";
  for (const std::int64_t d : shape) out += (out.size() > 1 ? "," : "") + std::to_string(d);
  return out + "]";
}

std::string array_problem(const Array& array) {
  std::int64_t count = 1;
  for (const std::int64_t d : array.shape) {
    if (d < 0 || __builtin_mul_overflow(count, d, &count)) {
      return "a shape that can be counted, not " + shape_text(array.shape);
    }
  }
  if (count == static_cast<std::int64_t>(array.data.size())) return {};
  return std::to_string(count) + " for shape " + shape_text(array.shape);
}

std::string use_problem(const Program& program, int array, ParamKind kind) {
  const auto& s = program.arrays[static_cast<std::size_t>(array)].shape;
  const auto& [B, H, Q, KV] = program.dims;
  const std::string b = "1 or B = " + std::to_string(B), h = "1 or H = " + std::to_string(H);
  switch (kind) {
    case ParamKind::kRows:
      return s.size() == 2 && one_or(s[0], B) ? "" : "[" + b + ", n]";
    case ParamKind::kSquare:
      return s.size() == 2 && s[0] == s[1] ? "" : "[n, n]";
    case ParamKind::kMap:
      return s.size() == 1 || (s.size() == 2 && one_or(s[0], B)) ? "" : "[n] or [" + b + ", n]";
    case ParamKind::kBlockMap:
      return s.size() == 4 && one_or(s[0], B) && one_or(s[1], H) ? ""
                                                                 : "[" + b + ", " + h + ", nq, nk]";
    case ParamKind::kCells:
      return s.size() == 4 && one_or(s[0], B) && one_or(s[1], H) && s[2] == Q && s[3] == KV
                 ? ""
                 : "[" + b + ", " + h + ", Q = " + std::to_string(Q) +
                       ", KV = " + std::to_string(KV) + "]";
    default:
      return {};
  }
}

Result<void> validate(const Program& program, const std::string& where, const std::string& base) {
  Validator v(program, where, base);
  const auto& [B, H, Q, KV] = program.dims;
  if (program.q_offset.size() != 1 && static_cast<std::int64_t>(program.q_offset.size()) != B) {
    return v.wrong("/q_offset", "wrong number of offsets", "one, or B = " + std::to_string(B),
                   std::to_string(program.q_offset.size()));
  }
  for (const std::int64_t o : program.q_offset) {
    if (o >= -kMaxPosition && o <= kMaxPosition) continue;
    return v.wrong("/q_offset", "offset out of range", "-2^48 to 2^48", std::to_string(o));
  }
  if (program.kv_offset < -kMaxPosition || program.kv_offset > kMaxPosition) {
    return v.wrong("/kv_offset", "offset out of range", "-2^48 to 2^48",
                   std::to_string(program.kv_offset));
  }
  constexpr std::int64_t kMostPlanes = 1 << 24;
  if (std::int64_t planes = 0; __builtin_mul_overflow(B, H, &planes) || planes > kMostPlanes) {
    return v.wrong("", "too many planes", "B * H of at most 2^24");
  }
  for (std::size_t i = 0; i < program.defs.size(); ++i) {
    PS_TRY(const Cost cost, v.def(i, "/defs/" + pointer_part(program.defs[i].name)));
    (void)cost;
  }
  PS_TRY(const Cost cost, v.node(program.expr, "/expr"));
  (void)cost;
  return {};
}

}  // namespace ps::mask
