// The parts of block-sparse attention as calls of a Backend: means and pools of blocks, scores,
// walk, selection, and attention over lists of blocks. Who keeps what from step to step is the
// business of those who use it: SparseCandidate (attention alone) and Forward (a layer of a model).
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "core/sparse.h"
#include "model/arena.h"
#include "model/backend.h"

namespace ps {

class SparseKernels {
 public:
  // config, backend, arena outlive it.
  SparseKernels(const SparseConfig& config, Backend& backend, Arena& arena)
      : config_(config), backend_(backend), arena_(arena) {}

  // ---- walk; everything in f32, n = key blocks ------------------------------------------------
  // x [row,head,token,dim], valid bool [row,token] -> [row,n,dim].
  Array means(const Array& x, const Array& valid);
  // [row,n,dim] twice, weight [r,dim] -> [row,n,n].
  Array sketch_scores(const Array& q_blocks, const Array& k_blocks, const Array& weight);
  // [row,n,n], allowed bool [row,n,n] -> logarithms, 0 where not allowed.
  Array log_transition(const Array& scores, const Array& allowed);
  // log_steps: of the layers that count, oldest first, this one's last; the walk up to the layer
  // before them in `before`, where there is one.
  Array log_walk(const Array* before, std::span<const Array> log_steps, const Array& allowed);
  // scores [row,query,n]; forced by sinks and locals, `first` is the query block of row 0.
  Array pick_walk(const Array& scores, const Array& allowed, std::span<const std::uint8_t> open,
                  std::int64_t first);

  // ---- gate -----------------------------------------------------------------------------------
  // [row,head,token,dim] -> [row,head,block,pools dim], in the order of config.pool.
  Array pooled(const Array& x, const Array& valid, std::int64_t past);
  // pooled q [row,H,query,C] and k [row,Hk,n,C], wq [H,C,g], wk_turned [H,g,C], allowed bool
  // [row,1|H,query,n] -> probabilities [row,H,query,n].
  Array gate_scores(const Array& q, const Array& k, const Array& wq, const Array& wk_turned,
                    const Array& allowed);
  // scores and allowed [row*H,query,n]; open: allowed on the host.
  Array pick_gate(const Array& scores, const Array& allowed, std::span<const std::uint8_t> open,
                  std::int64_t first, bool decode);

  // ---- attention over lists -------------------------------------------------------------------
  struct Attended {
    Array q, k, v;                      // [row,H,query,dim], [row,Hk,prefix + key,dim]
    std::int64_t prefix = 0;            // slots in front of the keys that every query attends to
    std::int64_t past = 0;              // tokens before the first query
    const BlockLists* lists = nullptr;  // null: every block that is not EMPTY
    // bool [mask_row,mask_head,count,prefix + key] of queries begin .. begin + count - 1.
    std::function<Array(std::int64_t begin, std::int64_t count)> mask;
    // Whether the mask shows all (1), some (0) or none (2) of a tile: queries begin .. begin +
    // count - 1 of a row and head (-1: of all heads), key block j.
    std::function<std::uint8_t(std::int64_t row, std::int64_t head, std::int64_t begin,
                               std::int64_t count, std::int64_t j)>
        tile;
    Array probs{};  // where to write them [row,H,query,prefix + key]; absent: nowhere
    Array out;      // [row,H,query,dim]
  };
  void attend(const Attended& a);

  // bool [row*heads, query, n] on the host as lists.
  static BlockLists lists_of(std::span<const std::uint8_t> taken, std::int64_t rows,
                             std::int64_t heads, std::int64_t queries, std::int64_t n);

  template <class T>
  Array uploaded(DType dtype, std::initializer_list<std::int64_t> sizes, const T* values) {
    const Array out = arena_.take(dtype, sizes);
    if (!backend_.error()) backend_.upload(values, out);
    return out;
  }
  template <class T>
  std::vector<T> downloaded(const Array& x) {
    std::vector<T> out(static_cast<std::size_t>(x.count()));
    if (!backend_.error()) backend_.download(x, out.data());
    return out;
  }

 private:
  void attend_tiles(const Attended& a, const Array& mask, std::int64_t row, std::int64_t head,
                    std::int64_t heads, std::int64_t begin, std::int64_t count,
                    const std::vector<std::int64_t>& list);

  const SparseConfig& config_;
  Backend& backend_;
  Arena& arena_;
};

}  // namespace ps
