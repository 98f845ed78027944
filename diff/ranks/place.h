// Which rank of how many this process is, as its launcher says: torchrun, mpirun, `parscope launch`
// and whoever else sets the same variables.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/result.h"

namespace ps {

struct RankPlace {
  std::int64_t rank = 0, size = 1;
  std::int64_t local_rank = 0, local_size = 1;  // among the ranks of this machine
  std::string address;                          // where rank 0 listens
  std::int64_t port = 0;
  // torchrun listens at MASTER_PORT itself: rank 0 takes a free one of those behind it, and the
  // others look for it there.
  bool port_is_taken = false;
};

using Environment = std::function<const char*(const char* name)>;

// RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE or their OMPI_COMM_WORLD_ twins, MASTER_ADDR and
// MASTER_PORT. Nothing where the process is no rank of several.
Result<std::optional<RankPlace>> rank_place(const Environment& environment);
Result<std::optional<RankPlace>> rank_place();  // of this process

std::vector<std::int64_t> ports_of(const RankPlace& place);  // to be tried, in order
std::string rank_name(std::int64_t rank);                    // in messages: "rank 3"

}  // namespace ps
