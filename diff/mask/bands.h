// The cells of one [Q, KV] plane as run lists, the working form of masks. Neighbouring rows often
// hold the same runs, or runs whose ends move by one a row (causal, windows). Such rows are one
// band: its runs' ends are linear in the row. A 65,536 x 65,536 causal mask with segments is then a
// few hundred numbers, and an unstructured one is one band a row.
//
// Set algebra is an ordinary sweep over one row's ends; every comparison of two ends also says from
// which row on it would come out otherwise, and the band reaches to the nearest such row.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace ps::mask {

// The column  base + slope * row,  slope -1, 0 or 1.
class Edge {
 public:
  Edge() = default;
  Edge(std::int64_t base, int slope) : packed_(base * 4 + slope + 1) {}
  std::int64_t base() const { return packed_ >> 2; }
  std::int64_t slope() const { return (packed_ & 3) - 1; }
  std::int64_t at(std::int64_t row) const { return base() + slope() * row; }
  bool operator==(const Edge&) const = default;

 private:
  std::int64_t packed_ = 1;
};

struct Run {  // columns [lo, hi)
  Edge lo, hi;
  bool operator==(const Run&) const = default;
};

// Where b stands against a in `row`: < 0, 0 or > 0. `until` shrinks to the first later row where
// the answer changes.
inline std::int64_t compare(Edge a, Edge b, std::int64_t row, std::int64_t& until) {
  const std::int64_t d = b.at(row) - a.at(row), slope = b.slope() - a.slope();
  if (d == 0) {
    if (slope != 0) until = std::min(until, row + 1);
  } else if (d > 0 && slope < 0) {
    until = std::min(until, row + (d - slope - 1) / -slope);
  } else if (d < 0 && slope > 0) {
    until = std::min(until, row + (slope - d - 1) / slope);
  }
  return d;
}

enum class SetOp : std::uint8_t { kAnd, kOr, kXor, kMinus };

// Rows [begin, end) of the plane. In every band and row: runs are not empty, in order, and do not
// touch.
class Bands {
 public:
  struct Band {
    std::int64_t begin = 0, end = 0;  // rows
    std::span<const Run> runs;
  };
  Bands() = default;
  explicit Bands(std::int64_t first_row) : first_(first_row) {}

  std::int64_t begin() const { return first_; }
  std::int64_t end() const { return stored_.empty() ? first_ : stored_.back().end; }
  std::size_t size() const { return stored_.size(); }
  Band operator[](std::size_t i) const;
  std::size_t band_of(std::int64_t row) const;  // rows inside only
  std::vector<std::pair<std::int64_t, std::int64_t>> row(std::int64_t i) const;
  bool at(std::int64_t row, std::int64_t column) const;

  // The next rows, up to `end`. Joins them to the band before where that holds the same runs.
  void append(std::int64_t end, std::span<const Run> runs);
  void append(const Bands& other);  // the rows that follow

  bool empty() const;                                                  // no cell
  std::int64_t count() const;                                          // cells
  std::optional<std::pair<std::int64_t, std::int64_t>> first() const;  // smallest (row, column)
  std::int64_t empty_rows() const;
  std::optional<std::int64_t> first_empty_row() const;
  std::size_t runs() const { return runs_.size(); }
  std::size_t bytes() const { return stored_.size() * sizeof(Stored) + runs_.size() * sizeof(Run); }

 private:
  struct Stored {
    std::int64_t end;
    std::size_t runs_end;
  };
  bool joins(std::int64_t row, std::int64_t end, std::span<const Run> runs);
  std::int64_t first_ = 0;
  std::vector<Stored> stored_;
  std::vector<Run> runs_;
};

// Both hold the same rows.
Bands combine(const Bands& a, const Bands& b, SetOp op);
Bands filled(std::int64_t begin, std::int64_t end, std::int64_t lo, std::int64_t hi);
// Columns [lo, hi) without `a`'s.
Bands complement(const Bands& a, std::int64_t lo, std::int64_t hi);
// Union of any number, pairwise; `begin`, `end` are the rows.
Bands unite(std::vector<Bands> parts, std::int64_t begin, std::int64_t end);
// Cells (j, i) for every (i, j); the result has rows [0, columns).
Bands transposed(const Bands& a, std::int64_t columns);
// The columns in which any row has a cell, as runs of one row.
std::vector<std::pair<std::int64_t, std::int64_t>> columns_used(const Bands& a);

}  // namespace ps::mask
