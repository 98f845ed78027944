#include "diff/foreign/npy.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>

namespace ps {

namespace {

constexpr std::string_view kMagic = "\x93NUMPY";

struct Header {
  std::string descr;
  bool fortran = false;
  Shape shape;
};

// The header is a Python literal: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }.
class HeaderReader {
 public:
  HeaderReader(std::string_view text, const std::string& where) : text_(text), where_(where) {}

  Result<Header> read() {
    Header out;
    bool descr = false, order = false, shape = false;
    if (!eat('{')) return wrong("'{'");
    while (!eat('}')) {
      PS_TRY(const std::string key, string());
      if (!eat(':')) return wrong("':'");
      if (key == "descr" && !descr) {
        if (peek() == '[') {
          return bad_input(where_, "has a structured type", "one type of numbers", "a list");
        }
        PS_TRY(out.descr, string());
        descr = true;
      } else if (key == "fortran_order" && !order) {
        PS_TRY(out.fortran, boolean());
        order = true;
      } else if (key == "shape" && !shape) {
        PS_TRY(out.shape, tuple());
        shape = true;
      } else {
        return bad_input(where_, "has a header that numpy does not write", "", "'" + key + "'");
      }
      if (!eat(',') && peek() != '}') return wrong("',' or '}'");
    }
    if (!descr || !order || !shape) {
      return bad_input(where_, "lacks a part of its header", "descr, fortran_order and shape");
    }
    return out;
  }

 private:
  Error wrong(const std::string& expected) const {
    return bad_input(where_, "has a header that cannot be read", expected,
                     at_ < text_.size()
                         ? "'" + std::string(1, text_[at_]) + "' at byte " + std::to_string(at_)
                         : "its end");
  }
  void space() {
    while (at_ < text_.size() && std::string_view(" \t\n\r").find(text_[at_]) != text_.npos) ++at_;
  }
  char peek() {
    space();
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool eat(char c) {
    if (peek() != c || at_ >= text_.size()) return false;
    ++at_;
    return true;
  }
  Result<std::string> string() {
    const char quote = peek();
    if (quote != '\'' && quote != '"') return wrong("a string");
    const std::size_t end = text_.find(quote, at_ + 1);
    if (end == text_.npos) return wrong("the end of a string");
    std::string out(text_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return out;
  }
  Result<bool> boolean() {
    space();
    for (const bool value : {true, false}) {
      const std::string_view word = value ? "True" : "False";
      if (text_.substr(at_, word.size()) != word) continue;
      at_ += word.size();
      return value;
    }
    return wrong("True or False");
  }
  Result<Shape> tuple() {
    Shape out;
    if (!eat('(')) return wrong("'('");
    while (!eat(')')) {
      space();
      std::int64_t n = 0;
      const char* begin = text_.data() + at_;
      const auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), n);
      if (error != std::errc{} || n < 0) return wrong("a size");
      at_ += static_cast<std::size_t>(end - begin);
      if (peek() == 'L') ++at_;  // numpy on Python 2
      out.push_back(n);
      if (!eat(',') && peek() != ')') return wrong("',' or ')'");
    }
    return out;
  }

  std::string_view text_;
  const std::string& where_;
  std::size_t at_ = 0;
};

struct Element {
  DType dtype = DType::kF32;
  bool swapped = false;
};

Result<Element> element_of(const std::string& descr, const std::string& where) {
  const auto refuse = [&](const std::string& what) {
    return bad_input(where, what, "floats, integers or booleans", "'" + descr + "'");
  };
  if (descr.size() < 2) return refuse("has a type that is not known");
  const char order = descr[0];
  const std::string_view kind = std::string_view(descr).substr(1);
  if (order != '<' && order != '>' && order != '|' && order != '=') {
    return refuse("has a type that is not known");
  }
  if (kind[0] == 'O') return refuse("holds Python objects, which only a pickle can make");
  if (kind[0] == 'c') return refuse("holds complex numbers");
  struct Known {
    std::string_view kind;
    DType dtype;
  };
  // numpy has no bfloat16: ml_dtypes' is written as two bytes without a meaning.
  static constexpr Known kKnown[] = {{"f8", DType::kF64},  {"f4", DType::kF32}, {"f2", DType::kF16},
                                     {"V2", DType::kBF16}, {"i8", DType::kI64}, {"i4", DType::kI32},
                                     {"i2", DType::kI16},  {"i1", DType::kI8},  {"u8", DType::kU64},
                                     {"u4", DType::kU32},  {"u2", DType::kU16}, {"u1", DType::kU8},
                                     {"b1", DType::kBool}};
  for (const Known& known : kKnown) {
    if (known.kind == kind) return Element{known.dtype, order == '>' && size_of(known.dtype) > 1};
  }
  return refuse("has a type that parscope does not read");
}

// The cells in C order and little-endian. `shape` is the file's; in Fortran order its first axis
// runs fastest.
Tensor rewritten(const Element& element, const Header& header, std::span<const std::byte> data) {
  Tensor out(element.dtype, header.shape);
  const auto size = static_cast<std::size_t>(size_of(element.dtype));
  const std::size_t axes = header.shape.size();
  std::vector<std::size_t> strides(axes), at(axes, 0);
  std::size_t step = 1;
  for (std::size_t k = 0; k < axes; ++k) {
    const std::size_t axis = header.fortran ? k : axes - 1 - k;
    strides[axis] = step;
    step *= static_cast<std::size_t>(header.shape[axis]);
  }
  std::size_t from = 0;
  std::byte* to = out.bytes().data();
  for (std::size_t cell = 0; cell * size < out.bytes().size(); ++cell, to += size) {
    std::memcpy(to, data.data() + from * size, size);
    if (element.swapped) std::reverse(to, to + size);
    for (std::size_t axis = axes; axis-- > 0;) {
      from += strides[axis];
      if (++at[axis] < static_cast<std::size_t>(header.shape[axis])) break;
      from -= strides[axis] * static_cast<std::size_t>(header.shape[axis]);
      at[axis] = 0;
    }
  }
  return out;
}

}  // namespace

bool looks_like_npy(std::span<const std::byte> bytes) {
  return bytes.size() >= kMagic.size() &&
         std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) == 0;
}

Result<NamedTensor> parse_npy(std::string name, std::span<const std::byte> bytes,
                              const std::shared_ptr<const void>& keep, const std::string& where) {
  if (!looks_like_npy(bytes)) return bad_input(where, "is no .npy file", "\\x93NUMPY at its start");
  const auto byte_at = [&](std::size_t i) { return std::to_integer<std::size_t>(bytes[i]); };
  if (bytes.size() < 10) return bad_input(where, "is cut off inside its header");
  const std::size_t major = byte_at(6);
  if (major < 1 || major > 3) {
    return bad_input(where, "has a version of .npy that is not known", "1, 2 or 3",
                     std::to_string(major));
  }
  const std::size_t begin = major == 1 ? 10 : 12;
  if (bytes.size() < begin) return bad_input(where, "is cut off inside its header");
  std::size_t length = byte_at(8) | byte_at(9) << 8U;
  if (major > 1) length |= byte_at(10) << 16U | byte_at(11) << 24U;
  constexpr std::size_t kLongestHeader = 1 << 20;
  if (length > kLongestHeader || length > bytes.size() - begin) {
    return bad_input(where, "is cut off inside its header", std::to_string(length) + " bytes",
                     std::to_string(bytes.size() - begin));
  }
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + begin, length);
  PS_TRY(const Header header, HeaderReader(text, where).read());
  PS_TRY(const Element element, element_of(header.descr, where));
  const std::span<const std::byte> data = bytes.subspan(begin + length);
  PS_TRY(const std::int64_t count, checked_count(header.shape, element.dtype, data.size(), where));
  const auto size = static_cast<std::size_t>(count * size_of(element.dtype));
  if (element.swapped || (header.fortran && header.shape.size() > 1)) {
    return owned_tensor(std::move(name), rewritten(element, header, data.first(size)));
  }
  return tensor_in(std::move(name), element.dtype, header.shape, data.first(size), keep);
}

}  // namespace ps
