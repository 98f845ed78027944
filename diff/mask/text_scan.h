// The characters of the text syntax: blanks, comments, words, names, integers; errors with line and
// column.
#pragma once

#include <cctype>
#include <charconv>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "core/result.h"

namespace ps::mask {

class TextScanner {
 protected:
  TextScanner(std::string_view text, std::string where) : text_(text), where_(std::move(where)) {}

  Error wrong(std::string what, std::string expected = {}) const {
    std::size_t line = 1, column = 1;
    for (std::size_t i = 0; i < std::min(at_, text_.size()); ++i) {
      column = text_[i] == '\n' ? 1 : column + 1;
      line += text_[i] == '\n' ? 1 : 0;
    }
    std::string found = "the end";
    if (at_ < text_.size()) {
      found =
          "'" + std::string(text_.substr(at_, std::min<std::size_t>(12, text_.size() - at_))) + "'";
    }
    return bad_input(where_ + ":" + std::to_string(line) + ":" + std::to_string(column),
                     std::move(what), std::move(expected), std::move(found));
  }
  void skip_blank(bool lines) {
    for (; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (c == '/' && text_.substr(at_).starts_with("//")) {  // a comment
        while (at_ < text_.size() && text_[at_] != '\n') ++at_;
        --at_;
        continue;
      }
      const bool end = c == '\n' || c == ';';
      if (c != ' ' && c != '\t' && c != '\r' && !(lines && end)) break;
    }
  }
  bool next_is(char c) {
    skip_blank(depth_ > 0);
    return at_ < text_.size() && text_[at_] == c;
  }
  bool take(char c) {
    if (!next_is(c)) return false;
    ++at_;
    return true;
  }
  Result<void> need(char c) {
    if (take(c)) return {};
    return wrong("unexpected text", std::string("'") + c + "'");
  }
  std::string word() {
    std::size_t end = at_;
    const auto letter = [&](char c) {
      return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
    };
    if (end < text_.size() && std::isdigit(static_cast<unsigned char>(text_[end])) != 0) return {};
    while (end < text_.size() && letter(text_[end])) ++end;
    std::string out(text_.substr(at_, end - at_));
    at_ = end;
    return out;
  }
  Result<std::string> name() {  // a word, or a JSON string
    skip_blank(depth_ > 0);
    if (at_ < text_.size() && text_[at_] == '"') {
      std::size_t end = at_ + 1;
      while (end < text_.size() && text_[end] != '"') end += text_[end] == '\\' ? 2 : 1;
      if (end >= text_.size()) return wrong("the string does not end", "'\"'");
      const auto json = parse_json(text_.substr(at_, end + 1 - at_), where_);
      if (!json.ok() || !json->is(Json::Kind::kString)) return wrong("no string", "\"name\"");
      at_ = end + 1;
      return json->text;
    }
    std::string out = word();
    if (out.empty()) return wrong("no name", "a name");
    return out;
  }
  Result<std::int64_t> integer() {
    skip_blank(depth_ > 0);
    std::int64_t value = 0;
    const char* begin = text_.data() + at_;
    const auto [end, ec] = std::from_chars(begin, text_.data() + text_.size(), value);
    if (ec != std::errc()) return wrong("no integer", "an integer of 64 bits");
    at_ += static_cast<std::size_t>(end - begin);
    return value;
  }
  bool integer_follows() {
    skip_blank(depth_ > 0);
    if (at_ >= text_.size()) return false;
    const char c = text_[at_];
    return c == '-' || std::isdigit(static_cast<unsigned char>(c)) != 0;
  }
  Result<std::vector<std::int64_t>> bracketed() {
    PS_TRY_VOID(need('['));
    std::vector<std::int64_t> out;
    ++depth_;
    while (!next_is(']')) {
      PS_TRY(const std::int64_t x, integer());
      out.push_back(x);
      take(',');
    }
    --depth_;
    ++at_;
    return out;
  }

  std::string_view text_;
  std::string where_;
  std::size_t at_ = 0;
  int depth_ = 0;  // of parentheses: inside, a line's end is a blank
};

}  // namespace ps::mask
