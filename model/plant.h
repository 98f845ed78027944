// Plants: faults of faults.json done on purpose in this engine, so that the tools that look for
// faults can be measured. One file in plants/ and one line in plants.def each. A plant edits the
// config, the stored weights, a step's inputs, or a value right after the op that wrote it. The
// reference's faults (reference/faults) are written from the same text and share no code with
// these.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/checkpoint.h"
#include "core/rng.h"
#include "model/array.h"
#include "model/candidate.h"
#include "model/step_inputs.h"

namespace ps {

// A value that an op has just written, and what it was made from. Host memory.
struct Planting {
  const ModelConfig& config;
  const PreparedInputs& inputs;
  std::string_view point;
  const Array& value;
  const std::vector<Array>& in;  // norm: x, weight; linear: x, weight, bias; scores: q, keys;
                                 // probs: scores, mask; context: probs, values; else empty
  const std::map<std::string, Array, std::less<>>& points;  // of this pass; those of earlier
                                                            // layers are overwritten by now

  bool is(std::string_view suffix) const { return point.ends_with(suffix); }
  // "model.layers.3" of a point of layer 3; the same layer's point with this suffix.
  const Array& near(std::string_view suffix) const;
};

struct Plant {
  std::string words;  // which variant; may be empty
  std::function<void(ModelConfig& config)> config;
  // A copy of a stored tensor, in f32.
  std::function<void(const std::string& name, Tensor& value)> weight;
  std::function<void(std::vector<float>& inverse, double& factor)> frequencies;
  std::function<void(PreparedInputs& inputs)> inputs;
  std::function<void(const Planting& at)> after;
  std::function<void(std::vector<std::int64_t>& rows, std::int64_t batch)> reorder;
};

// What a plant may look at when it decides whether, and in which variant, it fits.
class PlantSite {
 public:
  PlantSite(const Model& model, DType dtype, std::uint64_t seed)
      : model_(model), dtype_(dtype), rng_(seed, 77) {}
  const ModelConfig& config() const { return model_.config; }
  DType dtype() const { return dtype_; }
  const Rng& rng() const { return rng_; }
  std::int64_t pick(std::int64_t count) { return rng_.below(next_++, count); }
  bool has(const std::string& tensor) const { return model_.checkpoint->peek(tensor) != nullptr; }
  std::vector<double> stored(const std::string& tensor) const;  // its values; PS_CHECK has()
  bool cross_kv() const;  // a layer attends over the tokens of all replicas
  // The weights of the aggregation change something: where every replica sees the tokens of all,
  // their outputs are the same.
  bool weighs() const { return config().aggregates() && !cross_kv(); }

 private:
  const Model& model_;
  DType dtype_;
  Rng rng_;
  std::uint64_t next_ = 0;
};

struct PlantKind {
  PlantInfo info;
  std::optional<Plant> (*make)(PlantSite& site);  // nothing where this model cannot have it
};

// The plant of this id. Error: an unknown id, or one that this model cannot have.
Result<Plant> make_plant(const Model& model, DType dtype, const PlantChoice& choice);

}  // namespace ps
