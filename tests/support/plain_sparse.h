// Block-sparse attention in plain loops of doubles, written from spec sparse.md alone; and the
// deviations of the published implementation (its section 7), each of which can be switched on.
// It shares nothing with reference/, model/ or diff/: it is what the verifier is tried on.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/sparse.h"
#include "diff/sparse/case.h"

namespace ps {

class PlainSparse final : public SparseEngine {
 public:
  PlainSparse(const SparseConfig& config, const SparseWeights& weights,
              std::set<std::string> deviations = {});
  Result<SparseLayer> prefill(std::int64_t layer, const SparseInputs& inputs) override;
  Result<SparseLayer> decode(std::int64_t layer, const SparseInputs& inputs) override;
  void reset() override;

 private:
  struct Token {
    std::vector<double> q, k, v;  // [H D], [Hk D], [Hk D] of one token and batch entry
  };
  struct State {
    std::vector<std::vector<Token>> tokens;            // [B][N]
    std::vector<std::vector<std::uint8_t>> key_valid;  // [B][N]
    std::vector<std::vector<double>> w, r;             // [B][n n]
    std::int64_t n = 0;
  };
  bool does(const char* deviation) const { return deviations_.contains(deviation); }
  SparseLayer select_and_attend(std::int64_t layer, const std::vector<std::uint8_t>& mask,
                                std::int64_t mask_heads, std::int64_t queries, bool decode,
                                bool given);
  std::vector<std::int32_t> pick(const double* scores, const std::uint8_t* allowed, std::int64_t n,
                                 std::int64_t own, bool decode) const;

  SparseConfig config_;
  SparseWeights weights_;
  std::set<std::string> deviations_;
  std::map<std::int64_t, State> states_;
  std::map<std::int64_t, std::vector<std::vector<double>>> stale_;
};

// A case with random q, k, v and a random projection: what an engine is probed on.
SparseCase random_sparse_case(const SparseConfig& config, std::int64_t decode_steps,
                              std::uint64_t seed, double scale = 1);

}  // namespace ps
