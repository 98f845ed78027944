// A leaf of a program as run lists over a rectangle of cells: for one row it says which columns are
// allowed, and up to which row that description holds.
#pragma once

#include "diff/mask/bands.h"
#include "diff/mask/run_index.h"

namespace ps::mask {

// A rectangle of storage cells, and the positions q = row + oq, k = column + ok in it.
struct Window {
  std::int64_t r0, r1, c0, c1;
  std::int64_t oq, ok;
};

class LeafRuns {
 public:
  // `budget` is what may still be made: bands and runs are taken from it, and below 0 all is empty.
  LeafRuns(const Program& program, RunIndex& index, std::int64_t& budget)
      : p_(program), index_(index), budget_(budget) {}
  void enter(std::int64_t b, std::int64_t h) {
    b_ = b;
    h_ = h;
  }
  Bands of(const Node& node, const Window& window);

 private:
  // Adds what `row` allows to raw_; `until` shrinks to the first row of another description.
  void describe(const Node& n, const Window& w, std::int64_t row, std::int64_t& until);
  void ids(const Node& n, const Window& w, std::int64_t q, std::int64_t& until);
  void blocks(const Node& n, const Window& w, std::int64_t q, std::int64_t& until);
  void dense(const Node& n, const Window& w, std::int64_t row, std::int64_t& until);
  void affine(const Node& n, const Window& w, std::int64_t row, std::int64_t& until);
  void mod(const Node& n, const Window& w, std::int64_t q, std::int64_t row, std::int64_t& until);

  __extension__ using Wide = __int128;
  void all();
  void keys(const Window& w, Wide lo, Wide hi);
  void keys(const Window& w, const Intervals& list);
  void diagonal(const Window& w, Wide lo, Wide hi);
  void queries(const Window& w, Wide lo, Wide hi, std::int64_t q, std::int64_t& until);
  void member(const std::vector<std::int64_t>& set, std::int64_t x);
  Wide number(const Node& n, std::size_t i, Wide unbounded) const;

  const Program& p_;
  RunIndex& index_;
  std::int64_t& budget_;
  std::int64_t b_ = 0, h_ = 0;
  std::vector<Run> raw_;  // of one row, not yet cut to the window
};

}  // namespace ps::mask
