// The candidate: a ParScale model whose kernels run on a GPU, or on a host from the same bodies.
// The only header of model/ that others include.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/checkpoint.h"
#include "core/engine.h"
#include "core/sparse.h"

namespace ps {

struct Launch;
class Collectives;

enum class Device : std::uint8_t {
  kAuto,  // a GPU where there is one
  kHost,
  kCuda,  // an Error where there is none
};

// A fault done on purpose (plant.h): which one, and what draws its variant.
struct PlantChoice {
  std::string id;
  std::uint64_t seed = 0;
};

struct CandidateOptions : EngineOptions {
  Device device = Device::kAuto;
  const Launch* host_launch = nullptr;  // tests: the host runner (permuted, checked)
  // Of a tensor-parallel rank, whose model is its share of heads and inner features (core/ranks.h);
  // embedding and head are whole on every rank. Outlives the engine.
  Collectives* collectives = nullptr;
  std::optional<PlantChoice> plant;  // on the host only; Error where the model cannot have it
};

// Runs in f32, bf16 or f16. Weights are read from the mapped checkpoint (host) or uploaded once
// (GPU); `model.checkpoint` is kept alive.
Result<std::unique_ptr<Engine>> open_candidate(const Model& model, const CandidateOptions& options);

struct CandidateStats {
  std::string device;           // "host, 2 threads, OpenBLAS ..."
  std::int64_t empty_rows = 0;  // query rows without a key, over all steps; [row, query] of a mask
  std::int64_t activation_bytes = 0;  // most that a step needed
};
// Block-sparse attention alone, by a walk or a gate: pooling, sketch, walk (in logarithms) and
// selection as kernels in float32, attention as products over the selected blocks.
Result<std::unique_ptr<SparseEngine>> open_sparse_candidate(const SparseConfig& config,
                                                            const SparseWeights& weights,
                                                            const CandidateOptions& options);

// Null for an engine that is no candidate.
std::optional<CandidateStats> candidate_stats(const Engine& engine);

enum class PlantSort : std::uint8_t {
  kListed,    // a fault of faults.json, under its id
  kBenign,    // a difference that changes nothing: no finding may come of it
  kInvented,  // a fault that no list has: located, and never given a name
};
struct PlantInfo {
  std::string_view id, fault_class;
  PlantSort sort = PlantSort::kListed;
};
std::vector<PlantInfo> plants();
// The variant in words (maybe none); Error: an unknown id, or one that this model cannot have.
Result<std::string> plant_fits(const Model& model, DType dtype, const PlantChoice& choice);

}  // namespace ps
