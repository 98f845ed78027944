#include "core/collective.h"

namespace ps {

std::string to_string(const Collective& entry) {
  return entry.op + " " + to_string(entry.shape) + " " + std::string(torch_name(entry.dtype)) +
         " " + entry.tag;
}

}  // namespace ps
