#include "tests/support/deviant_sparse.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "model/sparse.h"

namespace ps {

namespace {

// A cell of an array of two to four axes in host memory.
template <class T>
T& cell(const Array& x, std::initializer_list<std::int64_t> at) {
  std::int64_t offset = 0;
  int axis = 0;
  for (const std::int64_t i : at) offset += i * x.stride(axis++);
  return static_cast<T*>(x.data())[offset];
}

// A backend some of whose ops are given something else than they were asked to work on.
class DeviantBackend final : public Backend {
 public:
  DeviantBackend(std::unique_ptr<Backend> inner, std::string deviation, const SparseConfig& config)
      : inner_(std::move(inner)), deviation_(std::move(deviation)), config_(config) {}

  std::int64_t layer = 0;  // what the engine is about to do
  bool decode = false;

  std::string describe() const override { return inner_->describe(); }
  void* allocate(std::int64_t bytes, std::string_view what) override {
    return inner_->allocate(bytes, what);
  }
  void release(void* memory) override { inner_->release(memory); }
  Array weight(const TensorView& tensor, DType dtype, bool as_stored) override {
    return inner_->weight(tensor, dtype, as_stored);
  }
  void upload(const void* from, const Array& to) override { inner_->upload(from, to); }
  void download(const Array& from, void* to) override { inner_->download(from, to); }
  void gemm(const GemmPlan& plan, const Array& a, const Array& b, const Array& bias,
            const Array& c) override {
    inner_->gemm(plan, a, b, bias, c);
    pass_on();
  }
  void tap(const std::string& point, const Array& value, Tap& tap) override {
    inner_->tap(point, value, tap);
  }
  void finish() override { inner_->finish(); }

  void run(Op op, std::initializer_list<Array> arrays,
           std::initializer_list<double> scalars) override {
    const std::vector<Array> a(arrays);
    const std::vector<double> s(scalars);
    if (op == Op::log_transition && (does("late_mask") || does("ignore_mask"))) {
      late_transition(a, s[0]);
    } else if (op == Op::block_top) {
      top(a, s[0]);
    } else if (op == Op::log_walk && does("float_state")) {
      linear_walk(a);
    } else if (op == Op::log_walk && does("stale_state")) {
      stale_walk(a, s[0]);
    } else {
      inner_->run(op, arrays, scalars);
    }
    if (op == Op::block_pool && does("padded_mean")) padded(a, static_cast<std::int64_t>(s[0]));
    if (op == Op::log_walk && does("decode_padded") && decode) {
      const std::int64_t last = a[6].size(1) - 1;
      for (std::int64_t r = 0; r < a[6].size(0); ++r) {
        for (std::int64_t j = 0; j < a[6].size(2); ++j) {
          cell<float>(a[6], {r, last, j}) += std::log(0.9f);
        }
      }
    }
    const bool dense = layer < config_.skip;
    if (op == Op::gather_mask && (does("no_token_mask") || (does("dense_no_causal") && dense))) {
      unmasked(a, static_cast<std::int64_t>(s[0]));
    }
    pass_on();
  }

 private:
  bool does(const char* deviation) const { return deviation_ == deviation; }
  void pass_on() {
    if (inner_->error()) fail(*inner_->error());
  }
  static Array like(const Array& x, std::vector<std::uint8_t>& cells, std::uint8_t value) {
    cells.assign(static_cast<std::size_t>(x.count()), value);
    return {cells.data(), DType::kBool, {x.size(0), x.size(1), x.size(2)}};
  }
  // What may be looked at by causality alone.
  static bool causal(const Array& x, std::int64_t i, std::int64_t j) {
    return j <= x.size(2) - x.size(1) + i;
  }

  // The softmax sees every block, or all that are not later; the mask comes after it, or never.
  void late_transition(const std::vector<Array>& a, double exponent) {
    std::vector<std::uint8_t> cells;
    const Array open = like(a[1], cells, 1);
    for_each(open, [&](std::int64_t r, std::int64_t i, std::int64_t j) {
      if (does("ignore_mask") && !causal(open, i, j)) cell<std::uint8_t>(open, {r, i, j}) = 0;
    });
    inner_->run(Op::log_transition, {a[0], open, a[2]}, {exponent});
    if (does("ignore_mask")) return;
    for_each(a[2], [&](std::int64_t r, std::int64_t i, std::int64_t j) {
      if (cell<std::uint8_t>(a[1], {r, i, j}) == 0) cell<float>(a[2], {r, i, j}) = 0;
    });
  }

  void top(const std::vector<Array>& a, double count) {
    std::vector<std::uint8_t> open_cells, forced_cells;
    std::vector<float> score_cells;
    Array scores = a[0], open = a[1], forced = a[2];
    if (does("future_fill") || does("ignore_mask")) {  // what is hidden competes with a zero
      open = like(a[1], open_cells, 1);
      score_cells.resize(static_cast<std::size_t>(scores.count()));
      const Array filled(score_cells.data(), DType::kF32,
                         {scores.size(0), scores.size(1), scores.size(2)});
      for_each(open, [&](std::int64_t r, std::int64_t i, std::int64_t j) {
        const bool seen = cell<std::uint8_t>(a[1], {r, i, j}) != 0;
        cell<float>(filled, {r, i, j}) = seen ? cell<float>(scores, {r, i, j}) : -1e30f;
        if (does("ignore_mask")) {
          cell<float>(filled, {r, i, j}) = cell<float>(scores, {r, i, j});
          if (!causal(open, i, j)) cell<std::uint8_t>(open, {r, i, j}) = 0;
        }
      });
      scores = filled;
    }
    if (does("no_diagonal")) {
      forced = like(a[2], forced_cells, 0);
      for_each(forced, [&](std::int64_t r, std::int64_t i, std::int64_t j) {
        const bool own = j == a[2].size(2) - a[2].size(1) + i;
        cell<std::uint8_t>(forced, {r, i, j}) =
            own ? std::uint8_t{0} : cell<std::uint8_t>(a[2], {r, i, j});
      });
    }
    inner_->run(Op::block_top, {scores, open, forced, a[3]}, {count});
  }

  // Plain float32 numbers that nobody divides by their sum.
  void linear_walk(const std::vector<Array>& a) {
    const Array &before = a[0], &reached = a[1], &step = a[2], &open = a[3], &out = a[6];
    for_each(out, [&](std::int64_t r, std::int64_t i, std::int64_t j) {
      float sum = 0;
      for (std::int64_t m = 0; m < before.size(2); ++m) {
        if (cell<std::uint8_t>(reached, {r, i, m}) == 0) continue;
        if (cell<std::uint8_t>(open, {r, m, j}) == 0) continue;
        sum += std::exp(cell<float>(before, {r, i, m})) * std::exp(cell<float>(step, {r, m, j}));
      }
      cell<float>(out, {r, i, j}) = sum > 0 ? std::log(sum) : -1e30f;
    });
  }

  // The first layer of a sequence goes on from the last sequence's.
  void stale_walk(const std::vector<Array>& a, double damping) {
    const auto cells = static_cast<std::size_t>(a[6].count());
    std::vector<float> old = stale_;
    const bool first = layer == config_.skip && !decode;
    if (first && old.size() == cells) {
      const Array before(old.data(), DType::kF32, {a[0].size(0), a[0].size(1), a[0].size(2)});
      inner_->run(Op::log_walk, {before, a[5], a[2], a[3], a[4], a[5], a[6]}, {damping});
    } else {
      inner_->run(Op::log_walk, {a[0], a[1], a[2], a[3], a[4], a[5], a[6]}, {damping});
    }
    const float* made = static_cast<const float*>(a[6].data());
    if (first) stale_.assign(made, made + cells);
  }

  void padded(const std::vector<Array>& a, std::int64_t size) {
    for_each(a[2], [&](std::int64_t r, std::int64_t block, std::int64_t d) {
      std::int64_t real = 0;
      const std::int64_t end = std::min(a[0].size(2), (block + 1) * size);
      for (std::int64_t t = block * size; t < end; ++t) real += cell<std::uint8_t>(a[1], {r, t});
      cell<float>(a[2], {r, block, d}) *= static_cast<float>(real) / static_cast<float>(size);
    });
  }

  static void unmasked(const std::vector<Array>& a, std::int64_t size) {
    const Array &mask = a[0], &index = a[1], &out = a[3];
    for (std::int64_t h = 0; h < out.size(1); ++h) {
      for (std::int64_t i = 0; i < out.size(2); ++i) {
        for (std::int64_t s = 0; s < out.size(3); ++s) {
          const std::int64_t token = cell<std::int64_t>(index, {s / size}) * size + s % size;
          cell<std::uint8_t>(out, {0, h, i, s}) = token < mask.size(3) ? 1 : 0;
        }
      }
    }
  }

  template <class Do>
  static void for_each(const Array& x, const Do& one) {
    for (std::int64_t r = 0; r < x.size(0); ++r) {
      for (std::int64_t i = 0; i < x.size(1); ++i) {
        for (std::int64_t j = 0; j < x.size(2); ++j) one(r, i, j);
      }
    }
  }

  std::unique_ptr<Backend> inner_;
  std::string deviation_;
  SparseConfig config_;
  std::vector<float> stale_;
};

// Block 0 in front and the last pick dropped, or the newest block in front of a decode step's.
void doubled(BlockLists& lists, std::int64_t first, std::int64_t front) {
  for (std::int64_t b = 0; b < lists.batch; ++b) {
    for (std::int64_t h = 0; h < lists.heads; ++h) {
      for (std::int64_t i = 0; i < lists.rows; ++i) {
        std::vector<std::int32_t>& list = lists.at(b, h, i);
        const auto block = static_cast<std::int32_t>(front < 0 ? first + i : front);
        if (list.empty()) continue;
        if (front < 0) {
          list.erase(list.begin());  // top (tau - 1)
        } else {
          list.pop_back();
        }
        list.insert(list.begin(), block);
      }
    }
  }
}

class DeviantCandidate final : public SparseEngine {
 public:
  DeviantCandidate(SparseConfig config, const SparseWeights& weights, std::string deviation)
      : config_(std::move(config)), deviation_(std::move(deviation)) {
    if (does("top_left")) config_.causal = false;  // the mask it is given says it all
    Launch launch;
    auto backend =
        std::make_unique<DeviantBackend>(open_host_backend(1, launch), deviation_, config_);
    backend_ = backend.get();
    engine_ = std::make_unique<SparseCandidate>(config_, weights, DType::kF32, std::move(backend));
    if (does("prepend_block0")) {
      engine_->plant_lists([](BlockLists& lists, std::int64_t first, bool decode) {
        if (!decode) doubled(lists, first, 0);
      });
    }
    if (does("decode_duplicates")) {
      engine_->plant_lists([](BlockLists& lists, std::int64_t first, bool decode) {
        if (decode) doubled(lists, first, -1);
      });
    }
  }

  Result<SparseLayer> prefill(std::int64_t layer, const SparseInputs& in) override {
    return call(layer, in, false);
  }
  Result<SparseLayer> decode(std::int64_t layer, const SparseInputs& in) override {
    return call(layer, in, true);
  }
  void reset() override { engine_->reset(); }

 private:
  bool does(const char* deviation) const { return deviation_ == deviation; }
  Result<SparseLayer> call(std::int64_t layer, const SparseInputs& in, bool decode) {
    const std::int64_t queries = in.q.shape[2], keys = in.k.shape[2];
    if (does("no_gqa") && config_.heads != config_.kv_heads) {
      return bad_input("matmul", "batch dimensions differ", std::to_string(config_.heads),
                       std::to_string(config_.kv_heads));
    }
    if (does("nq_error") && !decode && keys > queries && layer > config_.skip) {
      return bad_input("matmul", "shapes cannot be multiplied", "[nb,nb]", "[1,nb]");
    }
    backend_->layer = layer, backend_->decode = decode;
    SparseInputs given = in;
    Tensor corner;
    // A boolean mask is added to the scores: nothing is hidden by ones and zeros.
    if (does("add_bool") && in.mask && !is_floating(in.mask->dtype)) given.mask.reset();
    if (does("top_left") && !in.mask && !decode) {  // aligned at the first key, not at the last
      corner = Tensor(DType::kU8, {in.q.shape[0], queries, keys});
      for (std::int64_t i = 0; i < corner.view().count(); ++i) {
        corner.as<std::uint8_t>()[static_cast<std::size_t>(i)] = i % keys <= i / keys % queries;
      }
      given.mask = corner.view();
    }
    return decode ? engine_->decode(layer, given) : engine_->prefill(layer, given);
  }

  SparseConfig config_;
  std::string deviation_;
  DeviantBackend* backend_ = nullptr;  // engine_'s
  std::unique_ptr<SparseCandidate> engine_;
};

}  // namespace

Result<std::unique_ptr<SparseEngine>> open_deviant_candidate(const SparseConfig& config,
                                                             const SparseWeights& weights,
                                                             const std::string& deviation) {
  return std::unique_ptr<SparseEngine>(
      std::make_unique<DeviantCandidate>(config, weights, deviation));
}

}  // namespace ps
