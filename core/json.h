// JSON as values, for core/ and whoever reads small JSON files. Total: any text gives a value or an
// Error; nesting, size and repeated names are bounded. nlohmann-json stays inside json.cpp.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace ps {

struct Json {
  enum class Kind : std::uint8_t { kNull, kBool, kInteger, kNumber, kString, kArray, kObject };
  Kind kind = Kind::kNull;
  bool boolean = false;
  std::int64_t integer = 0;        // kInteger: written without fraction or exponent, fits 64 bits
  double number = 0.0;             // kInteger and kNumber, always finite
  std::string text;                // kString; kNumber: as the file wrote it
  std::vector<Json> items;         // kArray, kObject
  std::vector<std::string> names;  // kObject: the items' names, in file order, each once

  const Json* find(std::string_view name) const;  // null when absent or no object
  bool is(Kind k) const { return kind == k; }
  std::string dump() const;                         // compact
  std::string brief(std::size_t limit = 60) const;  // dump() cut for a message
};

std::string_view to_string(Json::Kind kind);  // "a string"
std::string json_quoted(
    std::string_view text);  // with quotes; bytes that are no UTF-8 become U+FFFD

struct JsonLimits {
  int depth = 64;
  std::int64_t values = 1 << 22;
};

Result<Json> parse_json(std::string_view text, const std::string& where, JsonLimits limits = {});

// The same text as events, for files too large for a tree (safetensors headers).
class JsonEvents {
 public:
  virtual ~JsonEvents() = default;
  // Each returns an empty string to go on, or what is wrong.
  virtual std::string on_scalar(Json&& value) = 0;
  virtual std::string on_name(std::string&& name) = 0;
  virtual std::string on_begin(Json::Kind kind) = 0;  // kArray or kObject
  virtual std::string on_end(Json::Kind kind) = 0;
};
Result<void> parse_json_events(std::string_view text, const std::string& where, int depth_limit,
                               JsonEvents& events);

}  // namespace ps
