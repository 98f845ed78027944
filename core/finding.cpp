#include "core/finding.h"

#include <string_view>

namespace ps {

std::string_view to_string(Severity severity) {
  switch (severity) {
    case Severity::kError:
      return "error";
    case Severity::kWarning:
      return "warning";
    case Severity::kInfo:
      return "info";
  }
  return "error";
}

std::string_view to_string(Confidence confidence) {
  switch (confidence) {
    case Confidence::kExact:
      return "exact";
    case Confidence::kConsistent:
      return "consistent";
    case Confidence::kUnnamed:
      return "unnamed";
  }
  return "unnamed";
}

}  // namespace ps
