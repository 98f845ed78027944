#include <algorithm>
#include <string>

#include "diff/lint/trace_checks.h"
#include "diff/report/report.h"

namespace ps {

namespace {

using Rows = std::vector<std::int64_t>;

// Real tokens of row b before column `end` of the attention mask.
std::int64_t real_before(const StepInputs& in, std::int64_t b, std::int64_t end,
                         std::int64_t columns) {
  if (!in.attention_mask) return end;
  const auto row = in.attention_mask->begin() + b * columns;
  return std::count(row, row + end, 1);
}

}  // namespace

std::optional<Finding> position_finding(const StepInputs& in, const ModelConfig& config,
                                        std::int64_t past) {
  if (!in.position_ids) return std::nullopt;
  const std::int64_t columns = past + in.length, prefix = config.prefix_tokens;
  // Each pattern holds for every real token of the step, or is not the cause.
  bool right = true, plain = true, restarts = past > 0, next = past > 0, offset = prefix > 0;
  std::int64_t tokens = 0, wrong = -1, expected_there = 0;
  for (std::int64_t b = 0; b < in.batch; ++b) {
    const std::int64_t real_past = real_before(in, b, past, columns);
    for (std::int64_t i = 0; i < in.length; ++i) {
      const bool real = !in.attention_mask ||
                        (*in.attention_mask)[static_cast<std::size_t>(b * columns + past + i)] == 1;
      if (!real) continue;  // any number may stand at padding
      const std::int64_t cell = b * in.length + i;
      const std::int64_t found = (*in.position_ids)[static_cast<std::size_t>(cell)];
      const std::int64_t expected = real_before(in, b, past + i, columns);
      ++tokens;
      if (found != expected && wrong < 0) {
        wrong = cell;
        expected_there = expected;
      }
      right = right && found == expected;
      plain = plain && found == past + i;
      restarts = restarts && found == expected - real_past;
      next = next && found == expected + 1;
      offset = offset && found == expected + prefix;
    }
  }
  if (right || tokens == 0) return std::nullopt;
  Finding f;
  f.fault_class = "rope";
  f.point = "position_ids";
  f.where =
      "batch=" + std::to_string(wrong / in.length) + " token=" + std::to_string(wrong % in.length);
  const auto name = [&](const char* id, const char* message, const char* fix) {
    f.id = id;
    f.message = message;
    f.fix = fix;
  };
  if (restarts) {
    name("rope-decode-position-restarts",
         "positions start from 0 again although the cache holds tokens",
         "positions of a step start at the number of real tokens in the cache");
  } else if (next) {
    name("rope-decode-off-by-one", "every position is one too large",
         "use the number of cached tokens as the position, then advance");
  } else if (offset) {
    name("rope-position-offset-by-prefix",
         "every position is too large by the number of prefix tokens",
         "count real tokens only: the prefix takes no positions");
  } else if (plain) {
    f.severity = Severity::kWarning;  // harmless where no unrotated key meets them
    name("rope-ragged-batch-scalar-past",
         "positions count the padding of padded rows, though the attention mask marks it",
         "take position_ids from the cumulative sum of the attention mask, less one");
  } else {
    return std::nullopt;  // packed documents, drafts: positions may be what their maker wants
  }
  f.evidence = {{"expected", std::to_string(expected_there)},
                {"found", std::to_string((*in.position_ids)[static_cast<std::size_t>(wrong)])}};
  return f;
}

}  // namespace ps
