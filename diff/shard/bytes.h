// The bytes behind a plan: runs of a checkpoint's elements, and what is made of them.
#pragma once

#include <functional>
#include <string>

#include "diff/shard/plan.h"

namespace ps {

using SourceLookup = std::function<const TensorView*(std::string_view name)>;

// `count` neighbouring elements of a source; no source: zeros.
struct ElementRun {
  const TensorView* source = nullptr;
  std::int64_t first = 0;
  std::int64_t count = 0;
};

// The runs of a record in the order of its elements. An Error where a source is missing or too
// small. The record's own shape plays no part: see shard_fits.
Result<void> for_each_run(const PlanRecord& record, const SourceLookup& sources,
                          const std::function<void(const ElementRun&)>& take);

// The shard in its sources' type.
Result<Tensor> build_shard(const PlanRecord& record, const SourceLookup& sources);
// Rows [begin, begin + count) of it.
Result<Tensor> build_rows(const PlanRecord& record, const SourceLookup& sources, std::int64_t begin,
                          std::int64_t count);

// CRC-32 (the one of zlib) of the elements as float32, row-major.
Result<std::uint32_t> shard_crc(const PlanRecord& record, const SourceLookup& sources);
std::uint32_t float32_crc(const TensorView& view);
std::string crc_text(std::uint32_t crc);  // "0357c450"

}  // namespace ps
