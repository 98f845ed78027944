#include "model/block/checked_block.h"

namespace ps {

std::string CheckedBlock::say(const std::string& what) const {
  std::string text = launch_.body;
  text.append(" block ")
      .append(std::to_string(index_))
      .append(" thread ")
      .append(std::to_string(self_));
  return text.append(": ").append(what);
}

std::string CheckedBlock::describe_index(std::span<const std::int64_t> at) {
  std::string text = "index [";
  for (const std::int64_t i : at) text.append(std::to_string(i)).append(" ");
  return text.append("] outside a global array");
}

}  // namespace ps
