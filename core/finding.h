// A finding: something wrong, or worth knowing, said so that a tired reader can act on it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ps {

enum class Severity : std::uint8_t { kError, kWarning, kInfo };
enum class Confidence : std::uint8_t { kExact, kConsistent, kUnnamed };

struct Finding {
  std::string id;           // a fault id of faults.json, or a code such as MK001
  std::string fault_class;  // "rope"
  Severity severity = Severity::kError;
  std::int64_t step = 0;
  std::int64_t rank = 0;
  std::string point;  // or the tensor, or the config field
  std::string where;  // "replica=1 batch=0 head=3 query=7"
  std::string message;
  std::vector<std::pair<std::string, std::string>> evidence;  // name, JSON text
  std::string fix;
  Confidence confidence = Confidence::kExact;
};

std::string_view to_string(Severity severity);
std::string_view to_string(Confidence confidence);

}  // namespace ps
