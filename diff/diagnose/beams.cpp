#include "diff/diagnose/beams.h"

#include <algorithm>
#include <cstring>

#include "diff/isolate/lockstep.h"

namespace ps {

namespace {

// Whether row i of `after` is row source[i] of `before`, to the bit.
bool holds_rows(const TensorView& before, const TensorView& after,
                const std::vector<std::int64_t>& source) {
  const auto rows = static_cast<std::int64_t>(source.size());
  if (after.shape.empty() || after.shape[0] != rows || before.dtype != after.dtype) return false;
  if (!std::equal(before.shape.begin() + 1, before.shape.end(), after.shape.begin() + 1,
                  after.shape.end())) {
    return false;
  }
  const std::size_t row = after.bytes.size() / static_cast<std::size_t>(rows);
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::int64_t from = source[static_cast<std::size_t>(i)];
    if (from < 0 || from >= before.shape[0]) return false;
    if (std::memcmp(after.bytes.data() + static_cast<std::size_t>(i) * row,
                    before.bytes.data() + static_cast<std::size_t>(from) * row, row) != 0) {
      return false;
    }
  }
  return true;
}

}  // namespace

bool moves_rows(const std::vector<std::int64_t>& beam_idx) {
  for (std::size_t i = 0; i < beam_idx.size(); ++i) {
    if (beam_idx[i] != static_cast<std::int64_t>(i)) return true;
  }
  return false;
}

Finding reorder_finding(const FirstDivergence& first, const PointRow& row, const TensorView& before,
                        const TensorView& after, const std::vector<std::int64_t>& beam_idx,
                        std::int64_t replicas) {
  Finding f = unnamed_finding(first, row);
  f.fault_class = "cache";
  const std::int64_t rows = before.shape.empty() ? 0 : before.shape[0], batch = rows / replicas;
  const auto beams = static_cast<std::int64_t>(beam_idx.size());
  std::vector<std::int64_t> same, first_only = beam_idx, repeated, sample_major;
  for (std::int64_t r = 0; r < rows; ++r) same.push_back(r);
  for (std::int64_t p = 0; p < replicas; ++p) {
    repeated.insert(repeated.end(), beam_idx.begin(), beam_idx.end());
    // The other replicas keep their rows.
    if (p > 0) {
      for (std::int64_t b = 0; b < batch; ++b) first_only.push_back(p * batch + b);
    }
  }
  for (const std::int64_t b : beam_idx) {
    for (std::int64_t p = 0; p < replicas; ++p) sample_major.push_back(b * replicas + p);
  }
  const auto name = [&](const char* id, const char* message, const char* fix) {
    f.id = id;
    f.message = message;
    f.fix = fix;
    f.confidence = Confidence::kExact;
  };
  f.evidence = {{"beams", std::to_string(beams)}, {"replicas", std::to_string(replicas)}};
  if (holds_rows(before, after, same)) {
    name("cache-beam-reorder-skipped",
         "the cache was not reordered after a beam step: rows keep the keys of another beam",
         "call reorder_cache(beam_idx) for every layer's keys and values after each beam step");
  } else if (replicas > 1 &&
             (holds_rows(before, after, beam_idx) || holds_rows(before, after, first_only) ||
              holds_rows(before, after, repeated) || holds_rows(before, after, sample_major))) {
    name("cache-beam-reorder-no-replicas",
         "the cache was reordered by beam_idx alone, which counts samples: the replicas' rows were "
         "left out or mixed up",
         "take rows beam_idx + p * batch for every replica p");
  }
  return f;
}

}  // namespace ps
