#include "diff/foreign/pickle.h"

#include <bit>
#include <cstdio>
#include <map>

#include "diff/foreign/pickle_globals.h"

namespace ps {

namespace {

constexpr std::size_t kMostValues = 1 << 22;
constexpr std::size_t kMostHeld = std::size_t{64} << 20;  // bytes of strings, lists and shapes
using Kind = PickleValue::Kind;

class Machine {
 public:
  Machine(std::span<const std::byte> bytes, const std::string& where)
      : bytes_(bytes), where_(where) {}

  Result<Pickle> run() {
    while (true) {
      PS_TRY(const std::uint64_t op, number(1));
      // A string may be taken from the memo, and copied, any number of times.
      const bool large = held_ > kMostHeld + 16 * bytes_.size();
      if (out_.values.size() > kMostValues || large) return wrong("has too many values");
      if (op == '.') {
        if (stack_.size() != 1)
          return wrong("ends with " + std::to_string(stack_.size()) + " values");
        out_.root = stack_.back();
        return std::move(out_);
      }
      PS_TRY_VOID(step(static_cast<unsigned char>(op)));
    }
  }

 private:
  Error wrong(const std::string& what) const {
    return bad_input(where_, "is a broken pickle: " + what, "", "byte " + std::to_string(at_));
  }

  Result<std::uint64_t> number(std::size_t size) {
    if (size > bytes_.size() - at_) return wrong("it is cut off");
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < size; ++i) {
      value |= std::to_integer<std::uint64_t>(bytes_[at_ + i]) << (8 * i);
    }
    at_ += size;
    return value;
  }
  Result<std::string> text(std::uint64_t size) {
    if (size > bytes_.size() - at_) return wrong("a string is cut off");
    const auto begin = reinterpret_cast<const char*>(bytes_.data()) + at_;
    at_ += size;
    return std::string(begin, static_cast<std::size_t>(size));
  }
  Result<std::string> line() {
    std::string out;
    while (true) {
      PS_TRY(const std::uint64_t c, number(1));
      if (c == '\n') return out;
      out += static_cast<char>(c);
    }
  }

  void push(PickleValue value) {
    held_ += value.text.size() + sizeof(ValueId) * value.items.size() +
             sizeof(std::int64_t) * (value.shape.size() + value.strides.size());
    out_.values.push_back(std::move(value));
    stack_.push_back(static_cast<ValueId>(out_.values.size() - 1));
  }
  void push_kind(Kind kind) {
    PickleValue v;
    v.kind = kind;
    push(std::move(v));
  }
  void push_integer(std::int64_t n) {
    PickleValue v;
    v.kind = Kind::kInteger;
    v.integer = n;
    push(std::move(v));
  }
  Result<void> push_string(std::size_t size_bytes) {
    PS_TRY(const std::uint64_t size, number(size_bytes));
    PickleValue v;
    v.kind = Kind::kString;
    PS_TRY(v.text, text(size));
    push(std::move(v));
    return {};
  }
  Result<ValueId> pop() {
    if (stack_.empty() || (!marks_.empty() && stack_.size() <= marks_.back())) {
      return wrong("its stack is empty");
    }
    const ValueId id = stack_.back();
    stack_.pop_back();
    return id;
  }
  Result<std::vector<ValueId>> pop_marked() {
    if (marks_.empty()) return wrong("a mark is missing");
    const std::size_t mark = marks_.back();
    marks_.pop_back();
    std::vector<ValueId> out(stack_.begin() + static_cast<std::ptrdiff_t>(mark), stack_.end());
    stack_.resize(mark);
    return out;
  }
  Result<PickleValue*> top(Kind kind) {
    if (stack_.empty() || out_[stack_.back()].kind != kind) {
      return wrong("it adds to something that is no list or dict");
    }
    return &out_.values[stack_.back()];
  }
  Result<void> push_tuple(std::size_t count) {
    PickleValue v;
    v.kind = Kind::kTuple;
    v.items.resize(count);
    for (std::size_t i = count; i-- > 0;) {
      PS_TRY(v.items[i], pop());
    }
    push(std::move(v));
    return {};
  }
  Result<void> push_marked(Kind kind) {
    PickleValue v;
    v.kind = kind;
    PS_TRY(v.items, pop_marked());
    if (kind == Kind::kDict && v.items.size() % 2 != 0) return wrong("a key has no value");
    push(std::move(v));
    return {};
  }
  Result<void> add_marked(Kind kind) {
    PS_TRY(const std::vector<ValueId> items, pop_marked());
    if (kind == Kind::kDict && items.size() % 2 != 0) return wrong("a key has no value");
    PS_TRY(PickleValue* const to, top(kind));
    to->items.insert(to->items.end(), items.begin(), items.end());
    return {};
  }
  Result<void> add_last(Kind kind, std::size_t count) {
    std::vector<ValueId> items(count);
    for (std::size_t i = count; i-- > 0;) {
      PS_TRY(items[i], pop());
    }
    PS_TRY(PickleValue* const to, top(kind));
    to->items.insert(to->items.end(), items.begin(), items.end());
    return {};
  }
  Result<void> push_memo(std::uint64_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end()) return wrong("it uses a value that was not stored");
    stack_.push_back(found->second);
    return {};
  }
  Result<void> memoize(std::uint64_t key) {
    if (stack_.empty()) return wrong("its stack is empty");
    memo_[key] = stack_.back();
    return {};
  }
  Result<void> push_global(const std::string& module, const std::string& name) {
    const std::string why = refused_global(module, name);
    if (!why.empty()) {
      return bad_input(where_, "needs " + module + "." + name + ", which is not allowed: " + why,
                       "tensors, dicts, lists, numbers and strings");
    }
    PickleValue v;
    v.kind = Kind::kGlobal;
    v.text = module + " " + name;
    push(std::move(v));
    return {};
  }
  Result<void> reduce() {
    PS_TRY(const ValueId arguments, pop());
    PS_TRY(const ValueId function, pop());
    if (out_[function].kind != Kind::kGlobal || out_[arguments].kind != Kind::kTuple) {
      return wrong("it calls something that is no function");
    }
    PS_TRY(PickleValue made, call_global(out_, out_[function].text, out_[arguments].items, where_));
    push(std::move(made));
    return {};
  }
  // An OrderedDict's own state (a state_dict's _metadata) holds nothing that a trace needs.
  Result<void> build() {
    PS_TRY(const ValueId state, pop());
    static_cast<void>(state);
    PS_TRY(PickleValue* const to, top(Kind::kDict));
    static_cast<void>(to);
    return {};
  }

  Result<void> step(unsigned char op) {
    switch (op) {
      case 0x80:  // PROTO
      {
        PS_TRY(const std::uint64_t protocol, number(1));
        if (protocol > 5) return wrong("protocol " + std::to_string(protocol) + " is not known");
        return {};
      }
      case 0x95:  // FRAME
      {
        PS_TRY(const std::uint64_t size, number(8));
        static_cast<void>(size);
        return {};
      }
      case '(':
        marks_.push_back(stack_.size());
        return {};
      case '0': {
        PS_TRY(const ValueId dropped, pop());
        static_cast<void>(dropped);
        return {};
      }
      case 'N':
        push_kind(Kind::kNone);
        return {};
      case 0x88:
      case 0x89: {
        PickleValue v;
        v.kind = Kind::kBool;
        v.boolean = op == 0x88;
        push(std::move(v));
        return {};
      }
      case '}':
        push_kind(Kind::kDict);
        return {};
      case ']':
        push_kind(Kind::kList);
        return {};
      case ')':
        push_kind(Kind::kTuple);
        return {};
      case 'd':
        return push_marked(Kind::kDict);
      case 'l':
        return push_marked(Kind::kList);
      case 't':
        return push_marked(Kind::kTuple);
      case 0x85:
        return push_tuple(1);
      case 0x86:
        return push_tuple(2);
      case 0x87:
        return push_tuple(3);
      case 'a':
        return add_last(Kind::kList, 1);
      case 'e':
        return add_marked(Kind::kList);
      case 's':
        return add_last(Kind::kDict, 2);
      case 'u':
        return add_marked(Kind::kDict);
      case 'R':
        return reduce();
      case 'b':
        return build();
      default:
        return step_of_data(op);
    }
  }

  Result<void> step_of_data(unsigned char op) {
    switch (op) {
      case 'q':
      case 'r': {
        PS_TRY(const std::uint64_t key, number(op == 'q' ? 1 : 4));
        return memoize(key);
      }
      case 0x94:
        return memoize(memo_.size());
      case 'h':
      case 'j': {
        PS_TRY(const std::uint64_t key, number(op == 'h' ? 1 : 4));
        return push_memo(key);
      }
      case 'K':
      case 'M': {
        PS_TRY(const std::uint64_t n, number(op == 'K' ? 1 : 2));
        push_integer(static_cast<std::int64_t>(n));
        return {};
      }
      case 'J': {
        PS_TRY(const std::uint64_t n, number(4));
        push_integer(static_cast<std::int32_t>(static_cast<std::uint32_t>(n)));
        return {};
      }
      case 0x8a:
        return long_integer();
      case 'G':
        return float_number();
      case 'X':
        return push_string(4);
      case 0x8c:
        return push_string(1);
      case 0x8d:
        return push_string(8);
      case 'U':
        return push_string(1);
      case 'T':
        return push_string(4);
      case 'c': {
        PS_TRY(const std::string module, line());
        PS_TRY(const std::string name, line());
        return push_global(module, name);
      }
      case 0x93: {
        PS_TRY(const ValueId name, pop());
        PS_TRY(const ValueId module, pop());
        if (out_[name].kind != Kind::kString || out_[module].kind != Kind::kString) {
          return wrong("a name is no string");
        }
        return push_global(out_[module].text, out_[name].text);
      }
      case 'Q': {
        PS_TRY(const ValueId id, pop());
        PS_TRY(PickleValue storage, persistent_storage(out_, out_[id], where_));
        push(std::move(storage));
        return {};
      }
      default:
        return unknown(op);
    }
  }

  Result<void> unknown(unsigned char op) const {
    char text[8];
    std::snprintf(text, sizeof text, "0x%02x", op);
    return bad_input(
        where_, "needs something that is not allowed in a file of tensors",
        "tensors, dicts, lists, numbers and strings",
        std::string("pickle instruction ") + text + " at byte " + std::to_string(at_ - 1));
  }
  Result<void> long_integer() {
    PS_TRY(const std::uint64_t size, number(1));
    if (size > 8) return wrong("an integer does not fit 64 bits");
    PS_TRY(std::uint64_t value, number(static_cast<std::size_t>(size)));
    if (size > 0 && size < 8 && (value >> (8 * size - 1) & 1U) != 0) {
      value |= ~std::uint64_t{0} << (8 * size);
    }
    push_integer(static_cast<std::int64_t>(value));
    return {};
  }
  Result<void> float_number() {  // big-endian, alone in the format
    PS_TRY(const std::uint64_t little, number(8));
    std::uint64_t bits = 0;
    for (int i = 0; i < 8; ++i) bits |= (little >> (8 * i) & 0xffU) << (8 * (7 - i));
    PickleValue v;
    v.kind = Kind::kNumber;
    v.number = std::bit_cast<double>(bits);
    push(std::move(v));
    return {};
  }

  std::span<const std::byte> bytes_;
  const std::string& where_;
  std::size_t at_ = 0, held_ = 0;
  Pickle out_;
  std::vector<ValueId> stack_;
  std::vector<std::size_t> marks_;
  std::map<std::uint64_t, ValueId> memo_;
};

}  // namespace

Result<Pickle> parse_pickle(std::span<const std::byte> bytes, const std::string& where) {
  return Machine(bytes, where).run();
}

}  // namespace ps
