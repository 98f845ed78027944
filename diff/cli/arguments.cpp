#include "diff/cli/arguments.h"

#include <algorithm>
#include <charconv>
#include <numeric>

namespace ps::cli {

namespace {

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0]++;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t above = row[j + 1];
      row[j + 1] = std::min({above + 1, row[j] + 1, diagonal + (a[i] == b[j] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row.back();
}

}  // namespace

std::string closest(std::string_view word, std::span<const std::string> known) {
  std::string best;
  std::size_t distance = word.size() / 2 + 1;
  for (const std::string& k : known) {
    if (const std::size_t d = edit_distance(word, k); d < distance) {
      distance = d;
      best = k;
    }
  }
  return best;
}

Result<std::int64_t> parse_integer(std::string_view text, std::string_view where, std::int64_t low,
                                   std::int64_t high) {
  std::int64_t value = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec != std::errc() || end != text.data() + text.size() || value < low || value > high) {
    return bad_input(std::string(where), "wrong number",
                     "a whole number from " + std::to_string(low) + " to " + std::to_string(high),
                     "'" + std::string(text) + "'");
  }
  return value;
}

Result<Arguments> Arguments::parse(std::string_view command, std::span<const std::string> words,
                                   std::span<const Option> options, bool wraps) {
  Arguments out;
  bool only_positionals = false;
  const auto is_option = [&](std::string_view word) {
    return std::any_of(options.begin(), options.end(),
                       [&](const Option& o) { return o.name == word; });
  };
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (only_positionals || word.size() < 2 || word[0] != '-') {
      out.positionals_.push_back(word);
      only_positionals = only_positionals || wraps;
      continue;
    }
    if (word == "--") {
      only_positionals = true;
      continue;
    }
    const std::size_t equals = word.find('=');
    const std::string name = word.substr(0, equals);
    const auto known = std::find_if(options.begin(), options.end(),
                                    [&](const Option& o) { return o.name == name; });
    if (known == options.end()) {
      std::vector<std::string> names;
      for (const Option& o : options) names.emplace_back(o.name);
      const std::string guess = closest(name, names);
      const std::string me = "parscope " + std::string(command);
      return bad_input(
          me, "unknown option " + name + "; " +
                  (guess.empty() ? "see " + me + " --help" : "did you mean " + guess + "?"));
    }
    std::string value;
    if (known->value.empty()) {
      if (equals != std::string::npos) {
        return bad_input(name, "takes no value", "", "'" + word.substr(equals + 1) + "'");
      }
    } else if (equals != std::string::npos) {
      value = word.substr(equals + 1);
    } else if (!known->takes_word()) {
      // The next word is no value of it.
    } else if (i + 1 < words.size() && !is_option(words[i + 1])) {
      value = words[++i];
    } else if (i + 1 < words.size()) {
      return bad_input(
          name, "needs a value; write " + name + "=" + words[i + 1] + " if that is the value",
          std::string(known->value), "the option " + words[i + 1]);
    } else {
      return bad_input(name, "needs a value", std::string(known->value), "nothing");
    }
    out.values_[name].push_back(value);
  }
  return out;
}

std::string Arguments::get(std::string_view name, std::string_view otherwise) const {
  const auto it = values_.find(name);
  return it == values_.end() ? std::string(otherwise) : it->second.back();
}

std::vector<std::string> Arguments::all(std::string_view name) const {
  const auto it = values_.find(name);
  return it == values_.end() ? std::vector<std::string>() : it->second;
}

Result<std::int64_t> Arguments::integer(std::string_view name, std::int64_t otherwise,
                                        std::int64_t low, std::int64_t high) const {
  if (!has(name)) return otherwise;
  return parse_integer(get(name), name, low, high);
}

}  // namespace ps::cli
