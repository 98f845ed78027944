#include "diff/shard/same_bits.h"

#include <cstring>

#include "core/float_bits.h"

namespace ps {

namespace {

// `x` as the type stores it, in its bits.
std::uint64_t stored_bits(double x, DType type) {
  switch (type) {
    case DType::kF32:
      return bits_of(static_cast<float>(x));
    case DType::kBF16:
      return float_to_bf16(static_cast<float>(x));
    case DType::kF16:
      return float_to_f16(static_cast<float>(x));
    default:
      return bits_of(x);
  }
}
std::uint64_t bits_at(const TensorView& view, std::int64_t i) {
  const auto at = static_cast<std::size_t>(i);
  switch (size_of(view.dtype)) {
    case 2:
      return view.as<std::uint16_t>()[at];
    case 4:
      return view.as<std::uint32_t>()[at];
    case 8:
      return view.as<std::uint64_t>()[at];
    default:
      return view.as<std::uint8_t>()[at];
  }
}

}  // namespace

bool same_elements(const ShardQuestion& q, const std::vector<ShardPart>& parts,
                   const ElementChange& change) {
  PlanRecord record = *q.record;
  record.parts = parts;
  std::int64_t at = 0;
  bool same = true;
  const std::int64_t size = q.actual.count(), bytes = size_of(q.actual.dtype);
  const Result<void> walked = for_each_run(record, *q.sources, [&](const ElementRun& run) {
    if (!same) return;
    same = at + run.count <= size;
    if (!same) return;
    if (run.source != nullptr && run.source->dtype == q.actual.dtype && !change) {
      same = std::memcmp(run.source->bytes.data() + run.first * bytes,
                         q.actual.bytes.data() + at * bytes,
                         static_cast<std::size_t>(run.count * bytes)) == 0;
    } else {
      for (std::int64_t i = 0; same && i < run.count; ++i) {
        double x = run.source == nullptr ? 0.0 : value_at(*run.source, run.first + i);
        if (change) x = change(x);
        same = bits_at(q.actual, at + i) == stored_bits(x, q.actual.dtype);
      }
    }
    at += run.count;
  });
  return walked.ok() && same && at == size;
}

bool same_transposed(const ShardQuestion& q, const std::vector<ShardPart>& parts) {
  if (q.actual.shape.size() != 2 || parts.empty()) return false;
  PlanRecord record = *q.record;
  record.parts = parts;
  record.shape = {q.actual.shape[1], q.actual.shape[0]};
  const Result<Tensor> built = build_shard(record, *q.sources);
  if (!built.ok()) return false;
  const TensorView view = built->view();
  const std::int64_t rows = q.actual.shape[0], columns = q.actual.shape[1];
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) {
      const double x = value_at(view, j * rows + i);
      if (bits_at(q.actual, i * columns + j) != stored_bits(x, q.actual.dtype)) return false;
    }
  }
  return true;
}

bool equals_plan(const ShardQuestion& question) {
  return question.actual.shape == question.record->shape &&
         same_elements(question, question.record->parts);
}

}  // namespace ps
