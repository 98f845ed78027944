// How FSDP and DTensor cut a tensor over ranks (tensor-parallel.md section 8): by rows on dim 0,
// where trailing ranks may get nothing, or (FSDP1) as one flat run of numbers.
#pragma once

#include <cstdint>
#include <vector>

namespace ps {

struct RowsOfRank {
  std::int64_t offset = 0;
  std::int64_t rows = 0;
};
// Shard(0) of `n` rows: ceil(n / world) rows a rank until they are used up.
RowsOfRank rows_of_rank(std::int64_t n, std::int64_t world, std::int64_t rank);
inline bool shards_evenly(std::int64_t n, std::int64_t world) { return n % world == 0; }

// A repeat of every row b times: what each rank should have of the repeated tensor, and what it has
// when it repeats the rows it holds. They agree for every b only where the rows divide evenly.
struct RepeatedRows {
  std::vector<std::int64_t> want, have;
  bool consistent() const { return want == have; }
};
RepeatedRows repeated_rows(std::int64_t n, std::int64_t world, std::int64_t b);

struct FlatShard {
  std::int64_t per_rank = 0;
  std::int64_t padding = 0;  // zeros behind the last number
};
FlatShard flat_shard(std::int64_t numel, std::int64_t world);

}  // namespace ps
