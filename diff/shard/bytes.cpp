#include "diff/shard/bytes.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>

#include "core/crc32.h"
#include "core/float_bits.h"

namespace ps {

namespace {

class Float32Crc {
 public:
  void run(const ElementRun& run) {
    if (run.source == nullptr) {
      for (std::int64_t i = 0; i < run.count; ++i) crc_.word(0);
      return;
    }
    const auto first = static_cast<std::size_t>(run.first);
    const auto count = static_cast<std::size_t>(run.count);
    if (run.source->dtype == DType::kF32) {
      for (const float x : run.source->as<float>().subspan(first, count)) crc_.word(bits_of(x));
    } else if (run.source->dtype == DType::kBF16) {
      for (const std::uint16_t x : run.source->as<std::uint16_t>().subspan(first, count)) {
        crc_.word(std::uint32_t{x} << 16);
      }
    } else {
      for (std::int64_t i = 0; i < run.count; ++i) {
        crc_.word(bits_of(static_cast<float>(value_at(*run.source, run.first + i))));
      }
    }
  }
  std::uint32_t value() const { return crc_.value(); }

 private:
  Crc32 crc_;
};

// A matrix that stands transposed in the file: element by element.
void transposed_runs(const ShardPart& part, const TensorView& source,
                     const std::function<void(const ElementRun&)>& take) {
  const std::int64_t out = source.shape[1], in = source.shape[0];
  const bool rows = part.dim == std::optional<std::int64_t>(0);
  const bool columns = part.dim == std::optional<std::int64_t>(1);
  const std::int64_t first_row = rows ? part.start : 0, first_column = columns ? part.start : 0;
  const std::int64_t last_row = rows ? part.start + part.length : out;
  const std::int64_t last_column = columns ? part.start + part.length : in;
  for (std::int64_t r = first_row; r < last_row; ++r) {
    for (std::int64_t c = first_column; c < last_column; ++c) take({&source, c * out + r, 1});
  }
}

Result<void> part_runs(const PlanRecord& record, const ShardPart& part, const TensorView& stored,
                       const std::function<void(const ElementRun&)>& take) {
  TensorView source = stored;
  source.shape = shape_for(part, stored);
  const auto dim = static_cast<std::size_t>(part.dim.value_or(0));
  const bool whole = !part.dim;
  const std::string where = "rank " + std::to_string(record.rank) + " " + record.dest;
  if (dim >= source.shape.size() || part.start < 0 || part.length < 0 || part.pad < 0 ||
      part.start > source.shape[dim] || part.length > source.shape[dim] - part.start) {
    return bad_input(where, "the plan cuts outside of " + part.source,
                     "indices " + std::to_string(part.start) + " to " +
                         std::to_string(part.start + part.length) + " of axis " +
                         std::to_string(dim),
                     to_string(source.shape));
  }
  if (part.transposed && stored.shape.size() == 2) {
    transposed_runs(part, stored, take);
    return {};
  }
  std::int64_t outer = 1, inner = 1;
  for (std::size_t a = 0; a < dim; ++a) outer *= source.shape[a];
  for (std::size_t a = dim + 1; a < source.shape.size(); ++a) inner *= source.shape[a];
  if (whole) {
    take({&stored, 0, source.count()});
  } else if (dim == 0) {
    if (part.length > 0) take({&stored, part.start * inner, part.length * inner});
  } else {
    for (std::int64_t o = 0; o < outer; ++o) {
      take({&stored, (o * source.shape[dim] + part.start) * inner, part.length * inner});
    }
  }
  const std::int64_t width = whole || dim == 0 ? source.count() / source.shape[0]
                                               : part.length * inner * outer / source.shape[0];
  if (part.pad > 0) take({nullptr, 0, part.pad * width});
  return {};
}

Result<const TensorView*> source_of(const ShardPart& part, const SourceLookup& sources) {
  const TensorView* source = sources(part.source);
  if (source == nullptr) return bad_input(part.source, "is not in the checkpoint");
  if (source->shape.empty() || source->count() == 0) {
    return bad_input(part.source, "holds nothing to cut", "at least one element",
                     to_string(source->shape));
  }
  return source;
}

}  // namespace

Result<void> for_each_run(const PlanRecord& record, const SourceLookup& sources,
                          const std::function<void(const ElementRun&)>& take) {
  for (const ShardPart& part : record.parts) {
    PS_TRY(const TensorView* source, source_of(part, sources));
    PS_TRY_VOID(part_runs(record, part, *source, take));
  }
  return {};
}

Result<Tensor> build_rows(const PlanRecord& record, const SourceLookup& sources, std::int64_t begin,
                          std::int64_t count) {
  PS_CHECK(!record.shape.empty() && begin >= 0 && count >= 0 && begin + count <= record.shape[0] &&
               !record.parts.empty(),
           "rows of a record");
  PS_TRY(const TensorView* first, source_of(record.parts[0], sources));
  Shape shape = record.shape;
  const std::int64_t width = count_of(shape) / std::max<std::int64_t>(shape[0], 1);
  shape[0] = count;
  Tensor out(first->dtype, std::move(shape));
  const auto size = size_of(first->dtype);
  const std::int64_t low = begin * width, high = (begin + count) * width;
  std::int64_t at = 0;
  bool same_type = true;
  PS_TRY_VOID(for_each_run(record, sources, [&](const ElementRun& run) {
    const std::int64_t from = std::max(at, low), to = std::min(at + run.count, high);
    if (run.source != nullptr && from < to) {
      same_type = same_type && run.source->dtype == first->dtype;
      if (same_type) {
        std::memcpy(out.bytes().data() + (from - low) * size,
                    run.source->bytes.data() + (run.first + from - at) * size,
                    static_cast<std::size_t>((to - from) * size));
      }
    }
    at += run.count;
  }));
  if (!same_type) return bad_input(record.dest, "its sources have several types");
  if (at != count_of(record.shape)) {
    return bad_input(record.dest, "the plan's parts do not fill its shape", to_string(record.shape),
                     std::to_string(at) + " elements");
  }
  return out;
}

Result<Tensor> build_shard(const PlanRecord& record, const SourceLookup& sources) {
  return build_rows(record, sources, 0, record.shape.empty() ? 0 : record.shape[0]);
}

Result<std::uint32_t> shard_crc(const PlanRecord& record, const SourceLookup& sources) {
  Float32Crc crc;
  PS_TRY_VOID(for_each_run(record, sources, [&](const ElementRun& run) { crc.run(run); }));
  return crc.value();
}

std::uint32_t float32_crc(const TensorView& view) {
  Float32Crc crc;
  crc.run({&view, 0, view.count()});
  return crc.value();
}

std::string crc_text(std::uint32_t crc) { return crc32_text(crc); }

}  // namespace ps
