// A network as a list of ops. Each op reads named points (and weights) and writes one point, so it
// can be run in order, or alone from values that another program computed, or replaced by the same
// op done wrong. Architectures (arch/) build the list for one step; nothing is computed meanwhile.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/config.h"
#include "core/engine.h"
#include "reference/torch.h"

namespace ps::reference {

using Point = std::string;
using Tensors = std::vector<at::Tensor>;

struct Op {
  Point point;                       // what it writes
  std::string kind;                  // points.def's word for it
  std::vector<Point> inputs;         // "past:POINT" is POINT of the step before
  std::vector<std::string> weights;  // checkpoint names
  std::function<at::Tensor(const Tensors& in, const Tensors& w)> run;
};

// The types a run computes in: `model` for projections and activations, `island` for the places
// where the published code stays in float32 (parscale.md section 4); in float64 both are float64.
struct Types {
  at::ScalarType model = at::kFloat;
  at::ScalarType island = at::kFloat;
};
Types types_of(at::ScalarType model);

// What the ops of one step know beside their inputs.
struct StepContext {
  const ModelConfig* config = nullptr;
  const StepInputs* inputs = nullptr;
  std::int64_t past = 0;    // tokens in the cache, without the prefix
  bool cache_empty = true;  // no step before: the prefix is put in front
  Types types;
  EmptyRows empty_rows = EmptyRows::kZeros;
  const PinnedRope* pinned_rope = nullptr;

  std::int64_t batch() const { return inputs->batch; }
  std::int64_t length() const { return inputs->length; }
  std::int64_t rows() const { return config->replicas * inputs->batch; }
};

class Net {
 public:
  explicit Net(StepContext context) : context_(context) {}

  const StepContext& context() const { return context_; }
  const ModelConfig& config() const { return *context_.config; }
  const std::vector<Op>& ops() const { return ops_; }
  std::vector<Op>& ops() { return ops_; }
  const Op* find(std::string_view point) const;

  Point add(Op op);  // returns op.point

 private:
  StepContext context_;
  std::vector<Op> ops_;
};

// "past:" in front of a point's name.
std::string past_of(const Point& point);
bool is_past(std::string_view name);

// The type in which a point is held: most in the model's, a few in the island's, masks as bool.
at::ScalarType point_type(std::string_view point, const Types& types);

// Builds the ops of one step of this architecture: dispatch over archs.def.
void build(Net& net);

}  // namespace ps::reference
