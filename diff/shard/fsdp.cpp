#include "diff/shard/fsdp.h"

#include <algorithm>

namespace ps {

RowsOfRank rows_of_rank(std::int64_t n, std::int64_t world, std::int64_t rank) {
  const std::int64_t per = (n + world - 1) / world;
  const std::int64_t begin = std::min(rank * per, n), end = std::min((rank + 1) * per, n);
  return {begin, end - begin};
}

RepeatedRows repeated_rows(std::int64_t n, std::int64_t world, std::int64_t b) {
  RepeatedRows out;
  for (std::int64_t r = 0; r < world; ++r) {
    out.want.push_back(rows_of_rank(n * b, world, r).rows);
    out.have.push_back(rows_of_rank(n, world, r).rows * b);
  }
  return out;
}

FlatShard flat_shard(std::int64_t numel, std::int64_t world) {
  const std::int64_t per = (numel + world - 1) / world;
  return {per, per * world - numel};
}

}  // namespace ps
