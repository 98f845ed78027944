#include <algorithm>

#include "diff/mask/text.h"
#include "diff/mask/text_forms.h"
#include "diff/mask/text_scan.h"
#include "diff/mask/validate.h"

namespace ps::mask {

namespace {

constexpr int kMostDepth = 200;

class TextParser : private TextScanner {
 public:
  TextParser(std::string_view text, std::string where) : TextScanner(text, std::move(where)) {}

  Result<Program> program(const std::optional<Dims>& sizes) {
    p_.dims.Q = p_.dims.KV = -1;
    if (sizes) p_.dims = *sizes;
    PS_TRY_VOID(declare_defs());
    for (;;) {
      skip_blank(true);
      const std::size_t start = at_;
      const std::string name = word();
      skip_blank(false);
      if (name == "array" && !next_is('(')) {
        PS_TRY_VOID(array_statement());
      } else if (name == "def" && !next_is('(')) {
        PS_TRY_VOID(def_statement());
      } else if (is_header(name) && next_is('=')) {
        at_ = start;
        PS_TRY_VOID(header());
      } else {
        at_ = start;
        break;
      }
      PS_TRY_VOID(end_of_statement());
    }
    if (p_.dims.Q < 0 || p_.dims.KV < 0) {
      return wrong("no sizes", "Q=... KV=... before the expression (or --size)");
    }
    if (offsets_listed_ && static_cast<std::int64_t>(p_.q_offset.size()) != p_.dims.B) {
      return wrong("q_offset lists " + std::to_string(p_.q_offset.size()) + " offsets",
                   "one number, or B = " + std::to_string(p_.dims.B) + " in a list");
    }
    depth_ = 1;  // the expression may go on over lines
    PS_TRY(p_.expr, expression(0));
    skip_blank(true);
    if (at_ < text_.size()) {
      return wrong("something follows the expression", "the end, or one of & | ^ #");
    }
    PS_TRY_VOID(validate(p_, where_));
    return std::move(p_);
  }

 private:
  // ---- statements ----

  static bool is_header(const std::string& name) {
    static const std::vector<std::string> kNames = {"B", "H", "Q", "KV", "q_offset", "kv_offset"};
    return std::find(kNames.begin(), kNames.end(), name) != kNames.end();
  }
  Result<void> end_of_statement() {
    skip_blank(false);
    if (at_ == text_.size()) return {};
    if (text_[at_] == '\n' || text_[at_] == ';') return {};
    return wrong("unexpected text", "the end of the line, or ';'");
  }
  // Names of defs are known before the first is read, so that they may refer to later ones.
  Result<void> declare_defs() {
    for (;;) {
      skip_blank(true);
      if (at_ >= text_.size()) break;
      const std::string first = word();
      skip_blank(false);
      const bool is_def = first == "def" && at_ < text_.size() && text_[at_] != '(';
      if (is_def) {
        PS_TRY(const std::string n, name());
        const bool twice =
            std::any_of(p_.defs.begin(), p_.defs.end(), [&](const Def& d) { return d.name == n; });
        if (twice) return wrong("a def of this name stands above", "another name");
        p_.defs.push_back({n, {}});
      }
      bool quoted = false;  // to the end of the statement
      for (; at_ < text_.size(); ++at_) {
        const char c = text_[at_];
        if (c == '\\' && quoted) ++at_;
        if (c == '"') quoted = !quoted;
        if (!quoted && text_.substr(at_).starts_with("//"))
          at_ = std::min(text_.find('\n', at_), text_.size());
        if (at_ >= text_.size() || (!quoted && (text_[at_] == '\n' || text_[at_] == ';'))) break;
      }
      at_ = std::min(at_, text_.size());
    }
    at_ = 0;
    return {};
  }
  Result<void> header() {
    for (;;) {
      skip_blank(false);
      const std::size_t start = at_;
      const std::string field = word();
      if (!is_header(field)) {
        at_ = start;
        return {};
      }
      PS_TRY_VOID(need('='));
      if (field == "q_offset" && next_is('[')) {
        PS_TRY(p_.q_offset, bracketed());
        offsets_listed_ = true;
        continue;
      }
      PS_TRY(const std::int64_t x, integer());
      if (field == "q_offset") p_.q_offset = {x};
      if (field == "kv_offset") p_.kv_offset = x;
      if (field == "q_offset" || field == "kv_offset") continue;
      const bool positive = field == "B" || field == "H";
      if (x < (positive ? 1 : 0) || x > kMaxDim) {
        return wrong(field + " is out of range", positive ? "1 or more" : "0 or more");
      }
      (field == "B"   ? p_.dims.B
       : field == "H" ? p_.dims.H
       : field == "Q" ? p_.dims.Q
                      : p_.dims.KV) = x;
    }
  }
  Result<void> array_statement() {
    PS_TRY(std::string n, name());
    if (find_array(n) >= 0) return wrong("an array of this name stands above", "another name");
    Array a{std::move(n), {}, {}};
    PS_TRY(a.shape, bracketed());
    PS_TRY_VOID(need('='));
    while (integer_follows()) {
      PS_TRY(const std::int64_t x, integer());
      a.data.push_back(x);
      take(',');
    }
    if (const std::string problem = array_problem(a); !problem.empty()) {
      return wrong(
          "array " + json_quoted(a.name) + " has " + std::to_string(a.data.size()) + " values",
          problem);
    }
    p_.arrays.push_back(std::move(a));
    return {};
  }
  Result<void> def_statement() {
    PS_TRY(const std::string n, name());
    PS_TRY_VOID(need('='));
    PS_TRY(Node node, expression(0));
    for (Def& d : p_.defs) {
      if (d.name == n) d.node = std::move(node);
    }
    return {};
  }

  // ---- expressions ----

  Result<Node> expression(int level) { return chain(level, '|', Op::kOr); }

  // One operator's chain; its parts are the chains of the next stronger one.
  Result<Node> chain(int depth, char sign, Op op) {
    if (depth > kMostDepth) return wrong("the expression is nested too deeply");
    std::vector<Node> parts;
    do {
      PS_TRY(Node part, sign == '|'   ? chain(depth, '^', Op::kXor)
                        : sign == '^' ? chain(depth, '&', Op::kAnd)
                                      : unary(depth));
      parts.push_back(std::move(part));
    } while (take(sign));
    if (op == Op::kXor) {  // two at a time, from the left
      Node left = std::move(parts[0]);
      for (std::size_t i = 1; i < parts.size(); ++i) {
        left = {op, "", {}, {}, {}, {}, -1, {std::move(left), std::move(parts[i])}};
      }
      return left;
    }
    if (parts.size() == 1) return std::move(parts[0]);
    return Node{op, "", {}, {}, {}, {}, -1, std::move(parts)};
  }

  Result<Node> unary(int depth) {
    if (depth > kMostDepth) return wrong("the expression is nested too deeply");
    if (take('!')) {
      PS_TRY(Node arg, unary(depth + 1));
      return Node{Op::kNot, "", {}, {}, {}, {}, -1, {std::move(arg)}};
    }
    PS_TRY(Node node, primary(depth));
    while (take('#')) {
      if (!node.tag.empty()) return wrong("a second tag", "one tag an expression");
      PS_TRY(node.tag, name());
    }
    return node;
  }

  Result<Node> primary(int depth) {
    if (take('(')) {
      ++depth_;
      PS_TRY(Node inner, expression(depth + 1));
      --depth_;
      PS_TRY_VOID(close());
      return inner;
    }
    if (take('$')) {
      PS_TRY(const std::string n, name());
      for (std::size_t i = 0; i < p_.defs.size(); ++i) {
        if (p_.defs[i].name != n) continue;
        return Node{Op::kRef, "", {}, {}, {}, {}, static_cast<int>(i), {}};
      }
      return wrong("no def is named " + json_quoted(n), "def NAME = ... above");
    }
    const std::size_t start = at_;
    const std::string word_here = word();
    if (word_here == "parscale_prefix" || word_here == "cross_replica") return form(word_here);
    const std::string op_name = word_here == "segments" ? "same_segment" : word_here;
    for (const OpInfo& info : op_table()) {
      if (info.name == op_name && info.op != Op::kRef) return call(info, depth);
    }
    at_ = start;
    return wrong(word_here.empty() ? "no expression" : "unknown word '" + word_here + "'",
                 "causal, window, segments, generated, ... (parscope mask --help)");
  }

  Result<void> close() {
    skip_blank(true);
    if (at_ < text_.size() && text_[at_] == ')') {
      ++at_;
      return {};
    }
    return wrong("a parenthesis is open", "')'");
  }

  Result<Node> form(const std::string& word_here) {
    PS_TRY_VOID(need('('));
    if (word_here == "parscale_prefix") {
      PS_TRY(const std::int64_t slots, integer());
      if (slots < -kMaxPosition || slots > kMaxPosition) return wrong("out of range", "P slots");
      PS_TRY_VOID(close());
      return parscale_prefix(slots);
    }
    PS_TRY(const int rep, array_value(ParamKind::kRows));
    PS_TRY_VOID(need(','));
    PS_TRY(const int pos, array_value(ParamKind::kMap));
    PS_TRY_VOID(close());
    return cross_replica(rep, pos);
  }

  int find_array(const std::string& n) const {
    for (std::size_t i = 0; i < p_.arrays.size(); ++i) {
      if (p_.arrays[i].name == n) return static_cast<int>(i);
    }
    return -1;
  }

  Result<int> array_value(ParamKind kind) {
    if (next_is('[')) {  // given in place, in the shape that is wanted
      PS_TRY(std::vector<std::int64_t> data, bracketed());
      const auto n = static_cast<std::int64_t>(data.size());
      std::string fresh;
      for (std::size_t i = p_.arrays.size();; ++i) {
        fresh = "a" + std::to_string(i);
        if (find_array(fresh) < 0) break;
      }
      const bool row = kind == ParamKind::kRows;
      p_.arrays.push_back(
          {fresh, row ? std::vector<std::int64_t>{1, n} : std::vector{n}, std::move(data)});
    } else {
      PS_TRY(const std::string n, name());
      const int index = find_array(n);
      if (index < 0)
        return wrong("no array is named " + json_quoted(n), "array NAME[...] = ... above");
      const std::string problem = kind >= ParamKind::kRows ? use_problem(p_, index, kind) : "";
      if (!problem.empty())
        return wrong("array " + json_quoted(n) + " has the wrong shape", problem);
      return index;
    }
    const int index = static_cast<int>(p_.arrays.size()) - 1;
    const std::string problem = kind >= ParamKind::kRows ? use_problem(p_, index, kind) : "";
    if (!problem.empty()) return wrong("the array has the wrong shape", problem);
    return index;
  }

  Result<Scalar> scalar_value(const Param& p) {
    if (integer_follows()) {
      PS_TRY(const std::int64_t x, integer());
      if (p.kind == ParamKind::kPositive && x <= 0) return wrong("must be positive", "1 or more");
      return Scalar{Scalar::Kind::kInteger, x};
    }
    const std::size_t start = at_;
    const bool open = p.kind == ParamKind::kOpen || p.kind == ParamKind::kIgnore;
    if (const std::string w = word(); open && (w == "inf" || w == "none")) {
      return Scalar{Scalar::Kind::kUnbounded, 0};
    }
    at_ = start;
    if (p.kind != ParamKind::kOpen && p.kind != ParamKind::kScalar)
      return wrong("no integer", "an integer");
    PS_TRY(const int index, array_value(p.kind));
    return Scalar{Scalar::Kind::kArray, index};
  }

  // The parameter that `name=` names; the next one without a value where there is no name.
  Result<std::size_t> which(const OpInfo& info, const std::vector<bool>& given) {
    skip_blank(true);
    named_ = false;
    const std::size_t start = at_;
    const std::string n = word();
    skip_blank(true);
    if (!n.empty() && at_ < text_.size() && text_[at_] == '=') {
      for (std::size_t i = 0; i < info.params.size(); ++i) {
        if (info.params[i].name != n || info.params[i].kind >= ParamKind::kBounds) continue;
        if (given[i]) return wrong(n + " is given twice");
        ++at_;
        named_ = true;
        return i;
      }
      at_ = start;
      return wrong("unknown parameter '" + n + "' of " + std::string(info.name));
    }
    at_ = start;
    for (std::size_t i = 0; i < info.params.size(); ++i) {
      if (!given[i]) return i;
    }
    return wrong("too many parameters of " + std::string(info.name), "')'");
  }

  Result<Node> call(const OpInfo& info, int depth) {
    Node n;
    n.op = info.op;
    std::vector<bool> given(info.params.size());
    std::vector<Scalar> scalars(info.params.size());
    std::vector<int> arrays(info.params.size(), -1);
    if (take('(')) {
      ++depth_;
      while (!next_is(')')) {
        PS_TRY(std::size_t i, which(info, given));
        // Expressions come last: what stands between and was not named keeps its default.
        const bool combinator = !info.params.empty() && info.params.back().kind >= ParamKind::kNode;
        const bool is_value = named_ || integer_follows() || next_is('[');
        if (combinator && !is_value) {
          while (i < info.params.size() && (given[i] || info.params[i].kind < ParamKind::kNode))
            ++i;
          if (i == info.params.size()) return wrong("too many arguments", "')'");
        }
        const Param& p = info.params[i];
        if (p.is_scalar()) {
          PS_TRY(scalars[i], scalar_value(p));
        } else if (p.is_array()) {
          PS_TRY(arrays[i], array_value(p.kind));
        } else if (p.kind == ParamKind::kBounds) {
          PS_TRY(const std::int64_t s, integer());
          PS_TRY_VOID(need('-'));
          PS_TRY(const std::int64_t e, integer());
          n.bounds.emplace_back(s, e);
        } else if (p.kind == ParamKind::kSet) {
          PS_TRY(const std::int64_t x, integer());
          n.set.push_back(x);
        } else {
          PS_TRY(Node arg, expression(depth + 1));
          n.args.push_back(std::move(arg));
        }
        const bool repeats = p.kind == ParamKind::kBounds || p.kind == ParamKind::kSet ||
                             p.kind == ParamKind::kNodes || p.kind == ParamKind::kTwoNodes;
        given[i] = !repeats;
        if (!take(',')) break;
      }
      --depth_;
      PS_TRY_VOID(close());
    }
    for (std::size_t i = 0; i < info.params.size(); ++i) {
      const Param& p = info.params[i];
      const bool needed = p.otherwise == kRequired && p.kind < ParamKind::kBounds;
      if (!given[i] && (needed || p.kind == ParamKind::kNode)) {
        return wrong(std::string(info.name) + " lacks its parameter '" + std::string(p.name) + "'");
      }
      if (p.is_array()) n.arrays.push_back(arrays[i]);
      if (!p.is_scalar()) continue;
      if (!given[i] && p.otherwise == kUnboundedDefault) scalars[i].kind = Scalar::Kind::kUnbounded;
      if (!given[i] && p.otherwise != kUnboundedDefault) scalars[i].value = p.otherwise;
      n.scalars.push_back(scalars[i]);
    }
    if (n.op == Op::kXor && n.args.size() != 2) return wrong("xor takes two arguments");
    return n;
  }

  bool offsets_listed_ = false;
  bool named_ = false;  // the parameter before us was given by name
  Program p_;
};

}  // namespace

Result<Program> parse_text(std::string_view text, const std::string& where,
                           const std::optional<Dims>& sizes) {
  return TextParser(text, where).program(sizes);
}

}  // namespace ps::mask
