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

// A source as its part counts it: [outer, size, inner] around the part's dim.
struct Along {
  std::int64_t outer = 1, size = 1, inner = 1;
  std::int64_t outer_step = 1, step = 1, inner_step = 1;  // in elements of the file

  std::int64_t at(std::int64_t o, std::int64_t d, std::int64_t i) const {
    return o * outer_step + d * step + i * inner_step;
  }
};

Along along(const ShardPart& part, const TensorView& source) {
  const Shape shape = shape_for(part, source);
  const auto dim = static_cast<std::size_t>(*part.dim);
  Along out;
  out.size = shape[dim];
  for (std::size_t a = 0; a < dim; ++a) out.outer *= shape[a];
  for (std::size_t a = dim + 1; a < shape.size(); ++a) out.inner *= shape[a];
  if (part.transposed && shape.size() == 2) {  // stands as [in, out]
    (dim == 0 ? out.inner_step : out.step) = shape[0];
    return out;
  }
  out.step = out.inner;
  out.outer_step = out.size * out.inner;
  return out;
}

bool starts_at(const ShardQuestion& q, const ShardPart& part, const TensorView& source,
               const Along& a, std::int64_t start) {
  std::int64_t at = 0;
  for (std::int64_t o = 0; o < a.outer; ++o) {
    for (std::int64_t d = 0; d < part.length; ++d) {
      for (std::int64_t i = 0; i < a.inner; ++i, ++at) {
        const double x = value_at(source, a.at(o, (start + d) % a.size, i));
        if (bits_at(q.actual, at) != stored_bits(x, q.actual.dtype)) return false;
      }
    }
  }
  for (; at < q.actual.count(); ++at) {  // padding
    if (bits_at(q.actual, at) != 0) return false;
  }
  return true;
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

std::optional<std::int64_t> start_in_source(const ShardQuestion& q, const ShardPart& part) {
  const TensorView* source = (*q.sources)(part.source);
  if (source == nullptr || !part.dim) return std::nullopt;
  if (static_cast<std::size_t>(*part.dim) >= source->shape.size()) return std::nullopt;
  const Along a = along(part, *source);
  const std::int64_t wanted = a.outer * part.length * a.inner;
  const bool fits = part.pad == 0 || *part.dim == 0;
  if (!fits || part.length > a.size || q.actual.count() != wanted + part.pad * a.inner) {
    return std::nullopt;
  }
  bool varied = false;
  for (std::int64_t i = 1; i < wanted && !varied; ++i) {
    varied = bits_at(q.actual, i) != bits_at(q.actual, 0);
  }
  for (std::int64_t start = 0; varied && start < a.size; ++start) {
    if (start != part.start && starts_at(q, part, *source, a, start)) return start;
  }
  return std::nullopt;
}

bool equals_plan(const ShardQuestion& question) {
  return question.actual.shape == question.record->shape &&
         same_elements(question, question.record->parts);
}

}  // namespace ps
