// Reads the fields of config.json with their types, and keeps what is wrong with them. A field that
// breaks a rule gives 0, so that later rules can tell and do not complain about it again.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/config.h"
#include "core/json.h"

namespace ps {

class ConfigFields {
 public:
  // `path` stands before the names in messages: "rope_scaling."
  ConfigFields(const Json& object, std::string path, std::vector<ConfigIssue>& issues)
      : object_(object), path_(std::move(path)), issues_(issues) {}

  const Json* find(std::string_view name) const { return object_.find(name); }
  const Json* find_set(std::string_view name) const;  // null for an explicit null, too
  std::int64_t count(std::string_view name, std::int64_t fallback, std::int64_t least,
                     std::int64_t most);
  std::optional<double> number(std::string_view name);  // null and absent alike: nullopt
  bool flag(std::string_view name);                     // null and absent alike: false
  std::optional<std::string> text(std::string_view name);

  void error(std::string_view name, std::string rule, std::string_view id = "config-rule");
  void warn(std::string_view name, std::string rule, std::string_view id = "config-rule");

 private:
  void add(bool error, std::string_view name, std::string rule, std::string_view id);
  void wrong_type(std::string_view name, std::string_view expected);
  const Json& object_;
  std::string path_;
  std::vector<ConfigIssue>& issues_;
};

// Sizes beyond this are slips of the pen, and their products would leave 64 bits.
constexpr std::int64_t kLargestSize = std::int64_t{1} << 31;

// The parts of parse_config, each in its own file.
void read_rope(ConfigFields& fields, std::vector<ConfigIssue>& issues, ModelConfig& config);
void read_windows(ConfigFields& fields, ModelConfig& config);
void read_replicas(ConfigFields& fields, ModelConfig& config);
void check_weight_sizes(ConfigFields& fields, const ModelConfig& config);

}  // namespace ps
