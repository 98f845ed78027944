#include "diff/mask/why.h"

#include <algorithm>

#include "diff/mask/evaluate.h"
#include "diff/mask/text.h"
#include "diff/mask/validate.h"

namespace ps::mask {

namespace {

__extension__ using Wide = __int128;

// A leaf that decides, the cell as it sees it, and how to reach it in a copy of the program.
struct Decider {
  const Node* node;
  Cell cell;
  std::string pointer;
  std::string tag;
};

class Explorer {
 public:
  explicit Explorer(const Program& p) : p_(p) {}

  // The leaves that force `node` to its value at `cell`.
  void walk(const Node& n, const Cell& c, const std::string& at, std::string tag) {
    if (!n.tag.empty()) tag = n.tag;
    const bool value = allowed(p_, n, c);
    const auto arg = [&](std::size_t i) {
      return at + (n.op == Op::kAnd || n.op == Op::kOr || n.op == Op::kXor
                       ? "/args/" + std::to_string(i)
                       : "/" + std::string(n.op == Op::kIf ? (i == 0   ? "cond"
                                                              : i == 1 ? "then"
                                                                       : "else")
                                                           : "arg"));
    };
    switch (n.op) {
      case Op::kAnd:
      case Op::kOr: {
        // One argument that is false decides an `and`, one that is true an `or`.
        const bool decisive = n.op == Op::kOr;
        for (std::size_t i = 0; i < n.args.size(); ++i) {
          const bool mine = allowed(p_, n.args[i], c);
          if (value == decisive ? mine == decisive : true) walk(n.args[i], c, arg(i), tag);
        }
        if (n.args.empty()) found.push_back({&n, c, at, tag});
        return;
      }
      case Op::kXor:
        walk(n.args[0], c, arg(0), tag);
        return walk(n.args[1], c, arg(1), tag);
      case Op::kNot:
        return walk(n.args[0], c, arg(0), tag);
      case Op::kIf: {
        walk(n.args[0], c, arg(0), tag);
        const std::size_t branch = allowed(p_, n.args[0], c) ? 1 : 2;
        return walk(n.args[branch], c, arg(branch), tag);
      }
      case Op::kShift: {
        Cell moved = c;
        moved.q += n.scalars[0].value;
        moved.k += n.scalars[1].value;
        return walk(n.args[0], moved, arg(0), tag);
      }
      case Op::kRemap: {
        Cell moved = c;
        for (const std::size_t axis : {std::size_t{0}, std::size_t{1}}) {
          if (n.arrays[axis] < 0) continue;
          std::int64_t& x = axis == 0 ? moved.q : moved.k;
          const auto row = row_of(array_of(p_, n.arrays[axis]), c.b);
          if (x < 0 || x >= static_cast<std::int64_t>(row.size())) {
            found.push_back({&n, c, at, tag});  // outside of the map
            return;
          }
          x = row[static_cast<std::size_t>(x)];
        }
        return walk(n.args[0], moved, arg(0), tag);
      }
      case Op::kRef:
        return walk(resolved(p_, n), c, "/defs/" + p_.defs[static_cast<std::size_t>(n.def)].name,
                    tag);
      default:
        found.push_back({&n, c, at, tag});
    }
  }

  std::vector<Decider> found;

 private:
  const Program& p_;
};

// Numbers that a scalar might take to turn its leaf over: the cell's own positions and distances,
// and one to either side. Every candidate is tried on the whole program, so that none can be wrong.
std::vector<std::int64_t> candidates(const Cell& c) {
  std::vector<std::int64_t> out;
  for (const std::int64_t x : {c.q, c.k, c.q - c.k, c.k - c.q}) {
    for (const std::int64_t d : {-1, 0, 1}) out.push_back(x + d);
  }
  return out;
}

class Turner {
 public:
  Turner(const Program& program, const CellIndex& cell)
      : p_(program), cell_(cell), value_(allowed(program, cell[0], cell[1], cell[2], cell[3])) {}

  void turn(const Decider& d) {
    Program copy = p_;
    Node* node = locate(copy, d.node);
    const OpInfo& info = info_of(d.node->op);
    std::size_t scalar = 0, array = 0;
    for (const Param& param : info.params) {
      const std::string at = d.pointer + "/" + std::string(param.name);
      if (param.is_scalar()) {
        Scalar& s = node->scalars[scalar++];
        if (s.kind == Scalar::Kind::kUnbounded) continue;
        if (s.kind == Scalar::Kind::kArray) {
          Array& a = copy.arrays[static_cast<std::size_t>(s.value)];
          const std::size_t i = a.data.size() == 1 ? 0 : static_cast<std::size_t>(cell_[0]);
          for (const std::int64_t x : candidates(d.cell))
            attempt(copy, a.data[i], x, element(a, i), d);
          continue;
        }
        auto list = candidates(d.cell);
        if (d.node->op == Op::kAffine && param.name == "c") {  // past zero, either way
          const Wide zero = zero_at(d);
          list.clear();
          for (const Wide x : {zero, zero - 1}) {
            if (x > INT64_MIN && x < INT64_MAX) list.push_back(static_cast<std::int64_t>(x));
          }
        }
        for (const std::int64_t x : list) {
          if (param.kind != ParamKind::kPositive || x > 0) attempt(copy, s.value, x, at, d);
        }
      } else if (param.is_array()) {
        turn_array(copy, d, param, d.node->arrays[array++]);
      }
    }
    for (std::size_t i = 0; i < node->bounds.size(); ++i) {
      const std::string at = d.pointer + "/bounds/" + std::to_string(i);
      for (const std::int64_t x : candidates(d.cell)) {
        attempt(copy, node->bounds[i].first, x, at + "/0", d);
        attempt(copy, node->bounds[i].second, x, at + "/1", d);
      }
    }
  }

  std::optional<Change> best;

 private:
  static std::string element(const Array& a, std::size_t i) {
    return "/arrays/" + pointer_part(a.name) + "/data/" + std::to_string(i);
  }
  static std::uint64_t distance(std::int64_t a, std::int64_t b) {
    const auto x = static_cast<std::uint64_t>(a), y = static_cast<std::uint64_t>(b);
    return a < b ? y - x : x - y;
  }
  // What c has to be for the value to be exactly 0.
  static Wide zero_at(const Decider& d) {
    return -(Wide{d.node->scalars[0].value} * d.cell.q + Wide{d.node->scalars[1].value} * d.cell.k);
  }
  static Node* locate(Node& root, const Node* original, const Node& original_root) {
    if (&original_root == original) return &root;
    for (std::size_t i = 0; i < root.args.size(); ++i) {
      if (Node* n = locate(root.args[i], original, original_root.args[i])) return n;
    }
    return nullptr;
  }
  Node* locate(Program& copy, const Node* original) const {
    if (Node* n = locate(copy.expr, original, p_.expr)) return n;
    for (std::size_t i = 0; i < copy.defs.size(); ++i) {
      if (Node* n = locate(copy.defs[i].node, original, p_.defs[i].node)) return n;
    }
    return nullptr;
  }

  // The entry of an array that the leaf reads for this cell.
  void turn_array(Program& copy, const Decider& d, const Param& param, int index) {
    if (index < 0) return;
    Array& a = copy.arrays[static_cast<std::size_t>(index)];
    const Cell& c = d.cell;
    const auto flip = [&](std::int64_t i, std::size_t begin) {
      const std::size_t at = begin + static_cast<std::size_t>(i);
      attempt(copy, a.data[at], a.data[at] == 0 ? 1 : 0, element(a, at), d);
    };
    const auto row_begin = [&] {
      return static_cast<std::size_t>(a.shape[0] == 1 ? 0 : c.b * a.shape[1]);
    };
    const auto inside = [](std::int64_t i, std::int64_t n) { return i >= 0 && i < n; };
    if (d.node->op == Op::kKeyValid || d.node->op == Op::kQueryValid) {
      const std::int64_t i = d.node->op == Op::kKeyValid ? c.k : c.q;
      if (inside(i, a.shape[1])) flip(i, row_begin());
    } else if (d.node->op == Op::kDense) {
      flip(c.i * a.shape[3] + c.j, plane_of(a, c.b, c.h));
    } else if (d.node->op == Op::kBlocks) {
      const std::int64_t r = floor_div(c.q, d.node->scalars[0].value);
      const std::int64_t s = floor_div(c.k, d.node->scalars[1].value);
      if (inside(r, a.shape[2]) && inside(s, a.shape[3]))
        flip(r * a.shape[3] + s, plane_of(a, c.b, c.h));
    } else if (param.name == "ids" && inside(c.q, a.shape[1]) && inside(c.k, a.shape[1])) {
      const std::size_t q = row_begin() + static_cast<std::size_t>(c.q);
      const std::size_t k = row_begin() + static_cast<std::size_t>(c.k);
      const std::int64_t to_q = a.data[k], to_k = a.data[q];
      attempt(copy, a.data[q], to_q == a.data[q] ? to_q + 1 : to_q, element(a, q), d);
      attempt(copy, a.data[k], to_k == a.data[k] ? to_k + 1 : to_k, element(a, k), d);
    } else if (param.name == "allow") {
      const auto ids = row_of(array_of(p_, d.node->arrays[0]), c.b);
      const auto n = static_cast<std::int64_t>(ids.size());
      if (!inside(c.q, n) || !inside(c.k, n)) return;
      const std::int64_t x = ids[static_cast<std::size_t>(c.q)],
                         y = ids[static_cast<std::size_t>(c.k)];
      if (inside(x, a.shape[0]) && inside(y, a.shape[0])) flip(x * a.shape[0] + y, 0);
    }
  }

  // Sets `number` (in `copy`) to `x`; keeps the change if it turns the cell over and is the least.
  void attempt(const Program& copy, std::int64_t& number, std::int64_t x,
               const std::string& pointer, const Decider& d) {
    const std::int64_t from = number;
    if (x == from) return;
    if (best && distance(best->from, best->to) <= distance(from, x)) return;
    number = x;
    if (allowed(copy, cell_[0], cell_[1], cell_[2], cell_[3]) != value_) {
      best = Change{pointer, text_of(*d.node, p_), from, x};
    }
    number = from;
  }

  const Program& p_;
  CellIndex cell_;
  bool value_;
};

}  // namespace

Why why(const Program& program, const CellIndex& cell) {
  Why out;
  out.cell = cell;
  const Cell c = cell_at(program, cell[0], cell[1], cell[2], cell[3]);
  out.q = c.q;
  out.k = c.k;
  out.allowed = allowed(program, program.expr, c);
  Explorer explorer(program);
  explorer.walk(program.expr, c, "/expr", "");
  Turner turner(program, cell);
  for (const Decider& d : explorer.found) {
    out.reasons.push_back({d.pointer, d.tag, text_of(*d.node, program)});
    turner.turn(d);
  }
  out.change = turner.best;
  return out;
}

std::string Why::text() const {
  std::string out = "query " + std::to_string(q) + ", key " + std::to_string(k) +
                    (allowed ? ": allowed by" : ": masked by");
  for (std::size_t i = 0; i < reasons.size(); ++i) {
    out += (i == 0 ? " " : "; ") + reasons[i].clause + " at " + reasons[i].pointer;
    if (!reasons[i].tag.empty()) out += " (" + reasons[i].tag + ")";
  }
  if (change) {
    out += std::string("\nwould be ") + (allowed ? "masked" : "allowed") + " with " +
           change->pointer + " = " + std::to_string(change->to) + " instead of " +
           std::to_string(change->from);
  } else {
    out += "\nno single parameter turns it over";
  }
  return out;
}

std::string Why::json() const {
  std::string list;
  for (const Reason& r : reasons) {
    list += (list.empty() ? "" : ",") + std::string("{\"pointer\":") + json_quoted(r.pointer) +
            ",\"tag\":" + (r.tag.empty() ? "null" : json_quoted(r.tag)) +
            ",\"clause\":" + json_quoted(r.clause) + "}";
  }
  std::string out = "{\"q\":" + std::to_string(q) + ",\"k\":" + std::to_string(k) +
                    ",\"allowed\":" + (allowed ? "true" : "false") + ",\"reasons\":[" + list +
                    "],\"change\":";
  if (!change) return out + "null}";
  return out + "{\"pointer\":" + json_quoted(change->pointer) +
         ",\"from\":" + std::to_string(change->from) + ",\"to\":" + std::to_string(change->to) +
         "}}";
}

}  // namespace ps::mask
