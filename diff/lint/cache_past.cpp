// Caches of two steps that follow each other, with reorders in between or none.
#include <numeric>

#include "diff/lint/cache_cells.h"

namespace ps {

namespace {

// Slots [0, n) of every head of a row, then and now.
bool row_is(const Cells& before, const Cells& now, std::int64_t row, std::int64_t from) {
  const std::int64_t n = before.slots();
  for (std::int64_t h = 0; h < now.heads(); ++h) {
    if (!same(now.run(row, h, 0, n), before.run(from, h, 0, n))) return false;
  }
  return true;
}

// A row that is not where the reorders moved it.
CacheFault moved_wrong(const Cells& before, const Cells& now, const RowsFrom& from,
                       std::int64_t row, const ModelConfig& c) {
  const std::int64_t batch = now.rows() / c.replicas, p = row / batch;
  std::string message = "row " + std::to_string(row) + " should hold what row " +
                        std::to_string(from[row]) + " held (beam_idx " +
                        std::to_string(from[row] % batch) + " of replica " + std::to_string(p) +
                        ")";
  if (row_is(before, now, row, row)) {
    message += ", and was left as it was: the reorder was skipped";
    // Replica 0 moved, the others not: beam_idx was taken for row numbers.
    bool first_moved = p > 0;
    for (std::int64_t b = 0; b < batch && first_moved; ++b) {
      first_moved = row_is(before, now, b, from[b]);
    }
    if (first_moved) message += " in this replica, and not in replica 0";
  } else {
    for (std::int64_t other = 0; other < now.rows(); ++other) {
      if (!row_is(before, now, row, other)) continue;
      message += ", and holds row " + std::to_string(other) + "'s";
      if (other / batch != p) message += ": another replica's, so beam_idx was not replica-aware";
      break;
    }
  }
  return {"TP044", cache_place(row, 0, 0, c, now.rows()), message};
}

// Whether every head that is wrong holds what one other row held, whole.
bool holds_another_row(const Cells& before, const Cells& now, const RowsFrom& from,
                       std::int64_t row) {
  const std::int64_t n = before.slots();
  for (std::int64_t other = 0; other < now.rows(); ++other) {
    bool all = other != from[row];
    for (std::int64_t h = 0; h < now.heads() && all; ++h) {
      all = same(now.run(row, h, 0, n), before.run(other, h, 0, n)) ||
            same(now.run(row, h, 0, n), before.run(from[row], h, 0, n));
    }
    if (all) return true;
  }
  return false;
}

CacheFault changed_slot(const Cells& before, const Cells& now, const RowsFrom& from,
                        std::int64_t row, std::int64_t h, std::int64_t s, const ModelConfig& c) {
  std::string message =
      "slot " + std::to_string(s) + " was in the cache before this step and was changed by it";
  if (from.moved()) {
    message = "slot " + std::to_string(s) + " of row " + std::to_string(from[row]) +
              " was in the cache before the reorder, which moves it to row " + std::to_string(row) +
              ", and was changed since";
  }
  if (all_zero(now.run(row, h, s, 1))) message += " (to zeros)";
  for (std::int64_t other = 0; other < now.rows(); ++other) {
    if (other == from[row] || !same(now.run(row, h, s, 1), before.run(other, h, s, 1))) continue;
    message += ": it holds row " + std::to_string(other) + "'s";
    break;
  }
  return {"TP041", cache_place(row, h, s, c, now.rows()), message};
}

}  // namespace

std::string cache_place(std::int64_t row, std::int64_t head, std::int64_t slot,
                        const ModelConfig& config, std::int64_t rows) {
  const std::int64_t batch = std::max<std::int64_t>(rows / config.replicas, 1);
  return "replica=" + std::to_string(row / batch) + " batch=" + std::to_string(row % batch) +
         " kv_head=" + std::to_string(head) + " slot=" + std::to_string(slot);
}

RowsFrom::RowsFrom(std::int64_t rows, std::int64_t replicas)
    : replicas_(replicas), from_(static_cast<std::size_t>(rows)) {
  std::iota(from_.begin(), from_.end(), 0);
}

bool RowsFrom::reorder(const std::vector<std::int64_t>& beam_idx) {
  const std::size_t batch = beam_idx.size();
  if (batch * static_cast<std::size_t>(replicas_) != from_.size()) return false;
  const std::vector<std::int64_t> before = from_;
  for (std::size_t row = 0; row < from_.size(); ++row) {
    const std::int64_t beam = beam_idx[row % batch];
    if (beam < 0 || beam >= static_cast<std::int64_t>(batch)) return false;
    from_[row] = before[row / batch * batch + static_cast<std::size_t>(beam)];
  }
  moved_ = true;
  return true;
}

std::optional<CacheFault> reorder_fault(const Cells& before, const Cells& now, const RowsFrom& from,
                                        const ModelConfig& config) {
  for (std::int64_t row = 0; row < now.rows(); ++row) {
    if (!row_is(before, now, row, from[row])) return moved_wrong(before, now, from, row, config);
  }
  return std::nullopt;
}

std::optional<CacheFault> past_fault(const Cells& before, const Cells& now, const RowsFrom& from,
                                     const ModelConfig& config) {
  for (std::int64_t row = 0; row < now.rows(); ++row) {
    if (row_is(before, now, row, from[row])) continue;
    if (from.moved() && holds_another_row(before, now, from, row)) {
      return moved_wrong(before, now, from, row, config);
    }
    for (std::int64_t h = 0; h < now.heads(); ++h) {
      for (std::int64_t s = 0; s < before.slots(); ++s) {
        if (same(now.run(row, h, s, 1), before.run(from[row], h, s, 1))) continue;
        return changed_slot(before, now, from, row, h, s, config);
      }
    }
  }
  return std::nullopt;
}

}  // namespace ps
