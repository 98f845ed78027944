// The parts of a fused record by what they are: q, k and v, or gate and up.
#pragma once

#include <string>
#include <vector>

#include "diff/shard/same_bits.h"

namespace ps {

struct PartGroup {
  std::string name;
  std::vector<ShardPart> parts;
};

// "q_proj" of a tensor's name, or the name.
std::string short_name(const std::string& name);
// q, k and v of a record, or gate and up; nothing where it cannot be told.
std::vector<PartGroup> groups_of(const ShardQuestion& q);
// A fused record with the key/value rows of another head; one head a rank.
std::vector<ShardPart> with_kv_head(const ShardQuestion& q, std::int64_t head);

}  // namespace ps
