#include "diff/foreign/names.h"

#include <algorithm>
#include <charconv>
#include <sstream>

#include "core/file.h"
#include "core/points.h"
#include "core/text.h"
#include "diff/foreign/axes.h"

namespace ps {

namespace {

constexpr std::size_t kLongestName = 1024;  // std::regex recurses with the length

std::vector<std::string> words_of(const std::string& line) {
  std::istringstream in(line);
  std::vector<std::string> out;
  for (std::string word; in >> word;) {
    if (word == "#" || (out.empty() && word.starts_with("#"))) break;
    out.push_back(word);
  }
  return out;
}

std::string replaced(std::string text, std::string_view what, std::string_view by) {
  for (std::size_t at = 0; (at = text.find(what, at)) != text.npos; at += by.size()) {
    text.replace(at, what.size(), by);
  }
  return text;
}

std::string with_layers(const std::string& pattern, std::int64_t layers) {
  return replaced(pattern, "{L}", std::to_string(layers));
}

Result<std::regex> compiled(const std::string& pattern, const std::string& where) {
  try {
    return std::regex(with_layers(pattern, 1), std::regex::ECMAScript | std::regex::optimize);
  } catch (const std::regex_error& e) {
    return bad_input(where, "is no regular expression", "", pattern);
  }
}

// "$1" takes the name from the pattern.
constexpr std::string_view kInputs[] = {
    "input_ids", "position_ids", "attention_mask", "cu_seqlens", "seq_lens", "block_tables", "$1"};

class Parser {
 public:
  explicit Parser(const std::string& where) : where_(where) {}

  Result<NameRules> run(std::string_view text) {
    std::istringstream in{std::string(text)};
    for (std::string line; std::getline(in, line);) {
      ++line_;
      const std::vector<std::string> words = words_of(line);
      if (!words.empty()) PS_TRY_VOID(take(words, line));
    }
    if (out_.rules.empty() && out_.inputs.empty()) {
      return bad_input(where_, "has no rule", "lines such as: map PATTERN POINT AXES");
    }
    return std::move(out_);
  }

 private:
  std::string here() const { return where_ + ":" + std::to_string(line_); }

  Result<void> take(const std::vector<std::string>& words, const std::string& line) {
    const std::string& kind = words[0];
    const auto wants = [&](std::size_t low, std::size_t high, const char* form) -> Result<void> {
      if (words.size() >= low && words.size() <= high) return {};
      return bad_input(here(), "is not as it should be", form, line.substr(0, 80));
    };
    if (kind == "name") {
      PS_TRY_VOID(wants(2, 2, "name NAME"));
      out_.name = words[1];
    } else if (kind == "about") {
      out_.about = line.substr(std::min(line.size(), line.find("about") + 6));
    } else if (kind == "dims") {
      PS_TRY_VOID(wants(2, 2, "dims ggml"));
      if (words[1] != "ggml") return bad_input(here(), "is not known", "dims ggml", words[1]);
      out_.ggml_dims = true;
    } else if (kind == "recognise" || kind == "recognize") {
      PS_TRY_VOID(wants(2, 2, "recognise PATTERN"));
      PS_TRY(const std::regex checked, compiled(words[1], here()));
      out_.recognise.push_back(words[1]);
    } else if (kind == "input") {
      return take_input(words, wants(3, 3, "input PATTERN input_ids"));
    } else if (kind == "map" || kind == "drop") {
      const bool map = kind == "map";
      return take_rule(words,
                       wants(map ? 3 : 2, map ? 4 : 3,
                             map ? "map PATTERN POINT[,POINT...] [AXES]" : "drop PATTERN [AXES]"));
    } else if (kind == "include") {
      PS_TRY_VOID(wants(2, 2, "include PRESET"));
      return include(words[1]);
    } else {
      return bad_input(here(), "begins with a word that is not known",
                       "map, drop, input, recognise, dims, name or about", kind);
    }
    return {};
  }

  Result<void> include(const std::string& name) {
    for (const NamePreset& preset : name_presets()) {
      if (preset.name != name || name == out_.name) continue;
      PS_TRY(NameRules more, parse_names(preset.text, "preset " + name));
      out_.rules.insert(out_.rules.end(), more.rules.begin(), more.rules.end());
      out_.inputs.insert(out_.inputs.end(), more.inputs.begin(), more.inputs.end());
      return {};
    }
    return bad_input(here(), "includes what is no other preset", "", name);
  }

  Result<void> take_input(const std::vector<std::string>& words, Result<void> form) {
    PS_TRY_VOID(std::move(form));
    PS_TRY(const std::regex checked, compiled(words[1], here()));
    if (std::find(std::begin(kInputs), std::end(kInputs), words[2]) == std::end(kInputs)) {
      return bad_input(here(), "names no input",
                       "input_ids, position_ids, attention_mask, cu_seqlens, seq_lens or "
                       "block_tables",
                       words[2]);
    }
    out_.inputs.push_back({words[1], words[2]});
    return {};
  }

  Result<void> take_rule(const std::vector<std::string>& words, Result<void> form) {
    PS_TRY_VOID(std::move(form));
    PS_TRY(const std::regex checked, compiled(words[1], here()));
    NameRule rule;
    rule.pattern = words[1];
    rule.line = line_;
    const std::size_t axes = words[0] == "map" ? 3 : 2;
    if (axes == 3) rule.points = split_at(words[2], ',');
    if (words.size() > axes) {
      rule.axes = words[axes];
      PS_TRY(const Layout layout, parse_layout(rule.axes, here()));
      if (layout.parts() != std::max<std::size_t>(rule.points.size(), 1)) {
        return bad_input(here(), "splits a value into another number of points",
                         std::to_string(rule.points.size()), rule.axes);
      }
    } else if (rule.points.size() > 1) {
      return bad_input(here(), "names several points, but no axes to split",
                       "such as t,H*D|K*D|K*D");
    }
    out_.rules.push_back(std::move(rule));
    return {};
  }

  const std::string& where_;
  std::int64_t line_ = 0;
  NameRules out_;
};

// "model.layers.{$1-1}": the number in braces, after substitution. "" where it is below zero.
std::string computed(std::string text) {
  while (true) {
    const std::size_t open = text.find('{');
    const std::size_t close = text.find('}', open == text.npos ? 0 : open);
    if (open == text.npos || close == text.npos) return text;
    const std::string inside = text.substr(open + 1, close - open - 1);
    const std::size_t minus = inside.find('-');
    std::int64_t a = 0, b = 0;
    std::from_chars(inside.data(), inside.data() + std::min(minus, inside.size()), a);
    if (minus != inside.npos) {
      std::from_chars(inside.data() + minus + 1, inside.data() + inside.size(), b);
    }
    if (a - b < 0) return "";
    text.replace(open, close - open + 1, std::to_string(a - b));
  }
}

}  // namespace

Result<NameRules> parse_names(std::string_view text, const std::string& where) {
  return Parser(where).run(text);
}

Result<NameRules> load_names(const std::string& word) {
  std::string known;
  for (const NamePreset& preset : name_presets()) {
    if (preset.name == word) return parse_names(preset.text, "preset " + word);
    known += (known.empty() ? "" : ", ") + std::string(preset.name);
  }
  std::error_code ec;
  if (!std::filesystem::exists(word, ec)) {
    return bad_input(word, "is no preset, and no such file", "one of " + known + ", or a file");
  }
  PS_TRY(const std::string text, read_text(word, 1 << 20));
  PS_TRY(NameRules rules, parse_names(text, word));
  if (rules.name.empty()) rules.name = word;
  return rules;
}

Result<std::optional<NameRules>> recognise_names(std::span<const std::string> names) {
  for (const NamePreset& preset : name_presets()) {
    PS_TRY(NameRules rules, parse_names(preset.text, "preset " + std::string(preset.name)));
    if (rules.recognise.empty()) continue;
    const bool all = std::all_of(
        rules.recognise.begin(), rules.recognise.end(), [&](const std::string& pattern) {
          const std::regex expression(with_layers(pattern, 1));
          return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
            return name.size() <= kLongestName && std::regex_match(name, expression);
          });
        });
    if (all) return std::optional<NameRules>(std::move(rules));
  }
  return std::optional<NameRules>();
}

NameMatcher::NameMatcher(const NameRules& rules, std::int64_t layers) : layers_(layers) {
  for (const NameRule& rule : rules.rules) {
    rules_.push_back({std::regex(with_layers(rule.pattern, layers)), &rule});
  }
  for (const InputRule& rule : rules.inputs) {
    inputs_.emplace_back(std::regex(rule.pattern), rule.input);
  }
}

std::vector<NameMatch> NameMatcher::matches(const std::string& name) const {
  std::vector<NameMatch> out;
  if (name.size() > kLongestName) return out;
  std::smatch m;
  for (const Compiled& c : rules_) {
    if (!std::regex_match(name, m, c.pattern)) continue;
    NameMatch match{c.rule, {}};
    for (const std::string& point : c.rule->points) {
      match.points.push_back(
          computed(m.format(replaced(point, "{L", "{" + std::to_string(layers_)))));
    }
    out.push_back(std::move(match));
  }
  return out;
}

std::string NameMatcher::input(const std::string& name) const {
  if (name.size() > kLongestName) return "";
  std::smatch m;
  for (const auto& [pattern, input] : inputs_) {
    if (std::regex_match(name, m, pattern)) return m.format(input);
  }
  return "";
}

}  // namespace ps
