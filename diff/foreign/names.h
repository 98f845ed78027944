// What the values of other engines are called here: rules as text files, one a line. A preset is a
// file in presets/ and a line in presets.def; users write their own (docs/foreign.md has the form).
#pragma once

#include <cstdint>
#include <optional>
#include <regex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace ps {

struct NameRule {
  std::string pattern;              // a regular expression for the whole name; {L} = layers
  std::vector<std::string> points;  // "model.layers.$1", "model.layers.{$1-1}"; none: left out
  std::string axes;                 // "t,H*D|K*D|K*D"; empty: as it is
  std::int64_t line = 0;
};

struct InputRule {
  std::string pattern;
  std::string input;  // input_ids, position_ids, attention_mask, cu_seqlens, seq_lens, block_tables
};

struct NameRules {
  std::string name;
  std::string about;
  bool ggml_dims = false;              // shapes may be written with the fastest axis first
  std::vector<std::string> recognise;  // each must match some name of a run
  std::vector<NameRule> rules;         // the first that fits counts
  std::vector<InputRule> inputs;
};

Result<NameRules> parse_names(std::string_view text, const std::string& where);
// A preset's name, else a file.
Result<NameRules> load_names(const std::string& word);

struct NamePreset {
  std::string_view name;
  std::string_view text;
};
std::span<const NamePreset> name_presets();
// The preset whose names these are; nothing where they are parscope's own, or nobody's.
Result<std::optional<NameRules>> recognise_names(std::span<const std::string> names);

// One name against the rules.
struct NameMatch {
  const NameRule* rule = nullptr;
  std::vector<std::string> points;  // substituted; "" where the layer would be before the first
};

class NameMatcher {
 public:
  // `layers`: of the model, or the most that the names show; what {L} stands for.
  NameMatcher(const NameRules& rules, std::int64_t layers);
  // Every rule that matches, in order: the first whose axes fit the value counts.
  std::vector<NameMatch> matches(const std::string& name) const;
  std::string input(const std::string& name) const;  // "" where it is none

 private:
  struct Compiled {
    std::regex pattern;
    const NameRule* rule = nullptr;
  };
  std::vector<Compiled> rules_;
  std::vector<std::pair<std::regex, std::string>> inputs_;
  std::int64_t layers_ = 0;
};

}  // namespace ps
