// The algebra line: ! ~ & ^ | and parentheses over masks by name; any other word with what stands
// in parentheses behind it goes to the text syntax of masks.
#include <cctype>

#include "diff/mask/text.h"
#include "diff/view/mask_planes.h"

namespace ps::view {

namespace {

using mask::Mask;
using mask::SetOp;

const mask::Node* tagged(const mask::Node& node, const std::string& tag) {
  if (node.tag == tag) return &node;
  for (const mask::Node& arg : node.args) {
    if (const mask::Node* found = tagged(arg, tag)) return found;
  }
  return nullptr;
}

// One plane for all rows or heads, as many times as the other mask has them.
Mask spread(const Mask& m, const mask::Dims& to) {
  Mask out(to);
  for (std::int64_t b = 0; b < to.B; ++b) {
    for (std::int64_t h = 0; h < to.H; ++h) {
      out.set(b, h, m.shared(m.dims().B == 1 ? 0 : b, m.dims().H == 1 ? 0 : h));
    }
  }
  return out;
}

class Algebra {
 public:
  Algebra(MaskSet& set, const std::string& text) : set_(set), text_(text) {}

  Result<Mask> whole() {
    PS_TRY(Mask out, chain(0, 0));
    blank();
    if (at_ < text_.size()) return wrong("something follows the expression", "& ^ | or the end");
    return out;
  }

 private:
  Error wrong(const std::string& what, const std::string& expected) const {
    return bad_input("column " + std::to_string(at_ + 1) + " of \"" + text_ + "\"", what, expected,
                     at_ < text_.size() ? "'" + text_.substr(at_, 12) + "'" : "the end");
  }
  void blank() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_])) != 0) ++at_;
  }
  bool take(char c) {
    blank();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  static bool is_word(char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
  }

  Result<Mask> join(const Mask& a, const Mask& b, SetOp op) const {
    const mask::Dims &x = a.dims(), &y = b.dims();
    const auto fits = [](std::int64_t m, std::int64_t n) { return m == n || m == 1 || n == 1; };
    if (x.Q != y.Q || x.KV != y.KV || !fits(x.B, y.B) || !fits(x.H, y.H)) {
      return wrong("the masks are of different sizes", to_string(x) + " and " + to_string(y));
    }
    const mask::Dims all{std::max(x.B, y.B), std::max(x.H, y.H), x.Q, x.KV};
    return mask::combine(spread(a, all), spread(b, all), op);
  }

  Result<Mask> chain(std::size_t level, int depth) {
    static constexpr char kSigns[] = {'|', '^', '&'};
    static constexpr SetOp kOps[] = {SetOp::kOr, SetOp::kXor, SetOp::kAnd};
    if (level == 3) return unary(depth);
    PS_TRY(Mask left, chain(level + 1, depth));
    while (take(kSigns[level])) {
      PS_TRY(const Mask right, chain(level + 1, depth));
      PS_TRY(left, join(left, right, kOps[level]));
    }
    return left;
  }

  Result<Mask> unary(int depth) {
    if (depth > 100) return wrong("nested too deeply", "100 levels at most");
    if (take('!') || take('~')) {
      PS_TRY(const Mask inner, unary(depth + 1));
      return mask::complement(inner);
    }
    if (take('(')) {
      PS_TRY(Mask inner, chain(0, depth + 1));
      if (!take(')')) return wrong("a parenthesis is open", "')'");
      return inner;
    }
    return leaf();
  }

  Result<Mask> leaf() {
    blank();
    const std::size_t start = at_;
    if (at_ < text_.size() && text_[at_] == '$') ++at_;
    while (at_ < text_.size() && is_word(text_[at_])) ++at_;
    const std::string word = text_.substr(start, at_ - start);
    if (word.empty()) return wrong("no mask", "a name such as expected, actual, layer0, causal");
    const std::size_t after = at_;
    blank();
    const bool call = at_ < text_.size() && text_[at_] == '(';
    at_ = after;
    if (!call) {
      for (const std::string& name : set_.names()) {
        if (name != word) continue;
        PS_TRY(const auto mask, set_.get(word));
        return *mask;
      }
      if (const mask::Program* p = set_.program()) {
        if (const mask::Node* node = named(*p, word)) return mask::evaluate(*p, *node);
      }
    }
    return text_leaf(start);
  }

  static const mask::Node* named(const mask::Program& p, const std::string& word) {
    for (const mask::Def& def : p.defs) {
      if (word == "$" + def.name) return &def.node;
    }
    return tagged(p.expr, word);
  }

  Result<Mask> text_leaf(std::size_t start) {
    blank();
    if (at_ < text_.size() && text_[at_] == '(') {  // to the parenthesis that closes it
      int open = 0;
      do {
        open += text_[at_] == '(' ? 1 : text_[at_] == ')' ? -1 : 0;
        ++at_;
      } while (at_ < text_.size() && open > 0);
    }
    const std::string words = text_.substr(start, at_ - start);
    const auto dims = set_.dims();
    if (!dims) return wrong("no mask gives the sizes", "a captured mask or a program");
    mask::Dims one = *dims;
    std::string header;
    if (const mask::Program* p = set_.program()) {
      for (const std::int64_t x : p->q_offset)
        header += (header.empty() ? "" : ",") + std::to_string(x);
      if (p->q_offset.size() == 1) one.B = 1;
      one.H = 1;
      header = "q_offset=" + (p->q_offset.size() == 1 ? header : "[" + header + "]") +
               " kv_offset=" + std::to_string(p->kv_offset) + "; ";
    }
    PS_TRY(const mask::Program program, mask::parse_text(header + words, "\"" + words + "\"", one));
    return mask::evaluate(program);
  }

  MaskSet& set_;
  const std::string& text_;
  std::size_t at_ = 0;
};

}  // namespace

Result<Mask> MaskSet::evaluate(const std::string& text) { return Algebra(*this, text).whole(); }

}  // namespace ps::view
