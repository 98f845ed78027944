// The words of a command line, checked against the options that a command declares. The same
// declarations make its --help.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace ps::cli {

struct Option {
  std::string_view name;   // "--steps"
  std::string_view value;  // "N"; empty: a flag; "[=N]": a flag that may have a value
  std::string_view help;

  bool takes_word() const { return !value.empty() && value.front() != '['; }
};

class Arguments {
 public:
  // `--name value`, `--name=value`, flags, and everything else as positionals. "--" ends options,
  // and so does the first positional of a command that wraps another.
  static Result<Arguments> parse(std::string_view command, std::span<const std::string> words,
                                 std::span<const Option> options, bool wraps = false);

  const std::vector<std::string>& positionals() const { return positionals_; }
  bool has(std::string_view name) const { return values_.contains(name); }
  std::string get(std::string_view name, std::string_view otherwise = {}) const;
  std::vector<std::string> all(std::string_view name) const;  // of an option given repeatedly
  Result<std::int64_t> integer(std::string_view name, std::int64_t otherwise, std::int64_t low,
                               std::int64_t high) const;

 private:
  std::vector<std::string> positionals_;
  std::map<std::string, std::vector<std::string>, std::less<>> values_;
};

// "a, b or c", for messages; the closest of `known` to a mistyped word, or "".
std::string closest(std::string_view word, std::span<const std::string> known);

Result<std::int64_t> parse_integer(std::string_view text, std::string_view where, std::int64_t low,
                                   std::int64_t high);

}  // namespace ps::cli
