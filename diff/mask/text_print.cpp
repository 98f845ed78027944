#include <algorithm>
#include <cctype>

#include "diff/mask/text.h"
#include "diff/mask/text_forms.h"

namespace ps::mask {

Node parscale_prefix(std::int64_t slots) {
  Node causal{Op::kCausal, "", {{{}, 0}}, {}, {}, {}, -1, {}};
  Node moved{Op::kShift, "", {{{}, 0}, {{}, -slots}}, {}, {}, {}, -1, {std::move(causal)}};
  Node prefix{Op::kKvRange, "", {{{}, 0}, {{}, slots}}, {}, {}, {}, -1, {}};
  return {Op::kOr, "", {}, {}, {}, {}, -1, {std::move(prefix), std::move(moved)}};
}

Node cross_replica(int rep, int pos) {
  const auto at_positions = [&](Node inner) {
    return Node{Op::kRemap, "", {}, {pos, pos}, {}, {}, -1, {std::move(inner)}};
  };
  Node causal{Op::kCausal, "", {{{}, 0}}, {}, {}, {}, -1, {}};
  Node self{Op::kWindow, "", {{{}, 0}, {{}, 0}}, {}, {}, {}, -1, {}};
  Node same{Op::kSameId, "", {{{}, -1}}, {rep}, {}, {}, -1, {}};
  Node within{Op::kAnd, "", {}, {}, {}, {}, -1, {std::move(same), at_positions(std::move(causal))}};
  return {Op::kOr, "", {}, {}, {}, {}, -1, {std::move(within), at_positions(std::move(self))}};
}

namespace {

// Every name that is no plain word, or could be read as something else, is quoted.
std::string name_text(const std::string& name) {
  bool plain = !name.empty() && std::isalpha(static_cast<unsigned char>(name[0])) != 0 &&
               name != "inf" && name != "none";
  for (const char c : name) {
    plain = plain && (std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_');
  }
  return plain ? name : json_quoted(name);
}

enum Strength { kOrLevel = 1, kXorLevel, kAndLevel, kNotLevel, kPrimary };

class Printer {
 public:
  explicit Printer(const Program& program) : p_(program) {}

  std::string of(const Node& n, int least) const {
    int level = kPrimary;
    std::string out = bare(n, level);
    const bool tagged = !n.tag.empty();
    if ((tagged && level < kPrimary) || level < least) out = "(" + out + ")";
    return tagged ? out + " #" + name_text(n.tag) : out;
  }

 private:
  std::string bare(const Node& n, int& level) const {
    if (const std::string named = by_name(n); !named.empty()) return named;
    const bool chain = (n.op == Op::kAnd || n.op == Op::kOr) && n.args.size() > 1;
    if (chain || n.op == Op::kXor) {
      level = n.op == Op::kAnd ? kAndLevel : n.op == Op::kOr ? kOrLevel : kXorLevel;
      const char* sign = n.op == Op::kAnd ? " & " : n.op == Op::kOr ? " | " : " ^ ";
      std::string out;
      for (const Node& a : n.args) out += (out.empty() ? "" : sign) + of(a, level + 1);
      return out;
    }
    if (n.op == Op::kNot) {
      level = kNotLevel;
      return "!" + of(n.args[0], kPrimary);
    }
    if (n.op == Op::kRef) return "$" + name_text(p_.defs[static_cast<std::size_t>(n.def)].name);
    const std::string inside = parameters(n);
    const std::string name(n.op == Op::kSameSegment ? "segments" : info_of(n.op).name);
    return inside.empty() && info_of(n.op).params.empty() ? name : call(n, name, inside);
  }

  // A leaf without parameters that have to be said is a word: causal, window.
  static std::string call(const Node& n, const std::string& name, const std::string& inside) {
    const bool word = inside.empty() && n.args.empty() && n.op != Op::kAnd && n.op != Op::kOr &&
                      n.op != Op::kSameSegment && n.op != Op::kHeads && n.op != Op::kBatches;
    return word ? name : name + "(" + inside + ")";
  }

  std::string by_name(const Node& n) const {
    if (n.op != Op::kOr || n.args.size() != 2) return {};
    Node plain = n;
    plain.tag.clear();
    const Node& first = n.args[0];
    if (first.op == Op::kKvRange && first.scalars[1].kind == Scalar::Kind::kInteger &&
        first.scalars[1].value > -kMaxPosition && first.scalars[1].value < kMaxPosition &&
        plain == parscale_prefix(first.scalars[1].value)) {
      return "parscale_prefix(" + std::to_string(first.scalars[1].value) + ")";
    }
    const Node& last = n.args[1];
    const bool crossed = first.op == Op::kAnd && first.args.size() == 2 &&
                         first.args[0].op == Op::kSameId && last.op == Op::kRemap &&
                         last.arrays[0] >= 0;
    if (crossed && plain == cross_replica(first.args[0].arrays[0], last.arrays[0])) {
      return "cross_replica(" + array_name(first.args[0].arrays[0]) + ", " +
             array_name(last.arrays[0]) + ")";
    }
    return {};
  }

  std::string array_name(int index) const {
    return name_text(p_.arrays[static_cast<std::size_t>(index)].name);
  }

  std::string parameters(const Node& n) const {
    std::string out;
    const auto put = [&](const std::string& text) { out += (out.empty() ? "" : ", ") + text; };
    std::size_t scalar = 0, array = 0;
    bool in_order = n.args.empty();  // so far every parameter was printed
    for (const Param& p : info_of(n.op).params) {
      const std::string named =
          in_order && p.kind < ParamKind::kNode ? "" : std::string(p.name) + "=";
      if (p.is_scalar()) {
        const Scalar& s = n.scalars[scalar++];
        const bool unbounded = s.kind == Scalar::Kind::kUnbounded;
        const bool same = unbounded ? p.otherwise == kUnboundedDefault
                                    : p.otherwise > kNullDefault && s == Scalar{{}, p.otherwise};
        if (same) {
          in_order = false;
          continue;
        }
        put(named + (unbounded                          ? std::string("inf")
                     : s.kind == Scalar::Kind::kInteger ? std::to_string(s.value)
                                                        : array_name(static_cast<int>(s.value))));
      } else if (p.is_array()) {
        const int index = n.arrays[array++];
        if (index < 0) {
          in_order = false;
          continue;
        }
        put(named + array_name(index));
      }
    }
    for (const auto& [s, e] : n.bounds) put(std::to_string(s) + "-" + std::to_string(e));
    for (const std::int64_t x : n.set) put(std::to_string(x));
    for (const Node& a : n.args) put(of(a, kOrLevel));
    return out;
  }

  const Program& p_;
};

std::string numbers(const std::vector<std::int64_t>& list, const char* between) {
  std::string out;
  for (const std::int64_t x : list) out += (out.empty() ? "" : between) + std::to_string(x);
  return out;
}

}  // namespace

std::string text_of(const Node& node, const Program& program) {
  return Printer(program).of(node, kOrLevel);
}

std::string text_of(const Program& p) {
  std::string out = "B=" + std::to_string(p.dims.B) + " H=" + std::to_string(p.dims.H) +
                    " Q=" + std::to_string(p.dims.Q) + " KV=" + std::to_string(p.dims.KV);
  if (p.q_offset.size() > 1) out += " q_offset=[" + numbers(p.q_offset, ",") + "]";
  if (p.q_offset.size() == 1 && p.q_offset[0] != 0) {
    out += " q_offset=" + std::to_string(p.q_offset[0]);
  }
  if (p.kv_offset != 0) out += " kv_offset=" + std::to_string(p.kv_offset);
  out += "\n";
  for (const Array& a : p.arrays) {
    out += "array " + name_text(a.name) + "[" + numbers(a.shape, ",") +
           "] = " + numbers(a.data, " ") + "\n";
  }
  for (const Def& d : p.defs) out += "def " + name_text(d.name) + " = " + text_of(d.node, p) + "\n";
  return out + text_of(p.expr, p) + "\n";
}

}  // namespace ps::mask
