// A fault is an op done wrong on purpose. Each file of faults/ is one: it looks at the scene (which
// ops lie between what was captured and the wrong point) and proposes edits of the net; the replay
// of an edited net is compared with the candidate by whoever asked.
#pragma once

#include <set>

#include "core/fault.h"
#include "reference/net.h"

namespace ps::reference {

// Ops to be used instead of the net's own, by the point that they write.
using Overrides = std::map<Point, Op>;
// Must work on the net in the reference's types and on the one in the candidate's.
using Edit = std::function<void(const Net&, Overrides&)>;

struct Proposal {
  std::string variant;
  std::vector<std::pair<std::string, std::string>> parameters;
  Edit edit;
  int freedom = 0;
  bool signature = false;
  bool early = false;  // of a late fault: this way of it shows in the first step too
};

class Scene {
 public:
  virtual ~Scene() = default;
  virtual const Net& net() const = 0;
  virtual const Point& point() const = 0;                   // the one to explain
  virtual const std::vector<const Op*>& chain() const = 0;  // ops run for it, it the last
  virtual bool solving() const = 0;
  // The candidate's value and the right one, float64 (bool for masks).
  virtual const at::Tensor& observed() const = 0;
  virtual const at::Tensor& expected() const = 0;
  // 1 where cells count: false in rows of padding and rows without a key.
  virtual const at::Tensor& counts() const = 0;
  // A point on the way, as the right replay had it (given or computed).
  virtual at::Tensor value(const Point& name) = 0;
  virtual bool given(const Point& name) const = 0;  // captured, not computed
  virtual at::Tensor weight(const std::string& name) = 0;
  virtual at::Tensor replay(const Edit& edit) = 0;  // exact; undefined where it throws
  // Token ids of the steps before, the last one last.
  virtual const std::vector<StepInputs>& earlier() const = 0;

  const StepContext& context() const { return net().context(); }
  const ModelConfig& config() const { return net().config(); }
  // Points of the chain's ops of this kind, in order; `suffix` "" = any.
  std::vector<Point> ops(std::string_view kind, std::string_view suffix = "") const;
  bool in_chain(const Point& point) const;
};

using Proposals = std::vector<Proposal>;

struct FaultSpec {
  FaultInfo info;
  bool (*applies)(const ModelConfig& config);
  void (*propose)(Scene& scene, Proposals& out);
};

const std::vector<const FaultSpec*>& all_faults();

// Every model.
bool any_model(const ModelConfig& config);

// The same op with another computation; `good` is the right op.
using BadRun = std::function<at::Tensor(const Op& good, const Tensors& in, const Tensors& w)>;
Edit wrap(std::vector<Point> points, BadRun bad);
Edit both(Edit first, Edit second);

// All of these points at once; where they lie in more than one layer, each layer's alone as well.
struct Scope {
  std::string words;  // "layer 3 alone"; empty: everywhere
  std::vector<Point> points;
};
std::vector<Scope> scopes(const std::vector<Point>& points);
std::int64_t layer_of(const Point& point);                       // -1 outside the layers
std::string joined(const std::string& a, const std::string& b);  // "a, b" without empty ones

// JSON text of a number.
std::string number(double value);

// A number that the edit depends on, fitted so that the replay comes as near to the candidate as it
// can: from each start, Gauss-Newton in the logarithm (or the number itself where `linear`).
struct Fit {
  double value = 0;
  double residual = 0;  // ||observed - replay|| over cells that count
  bool converged = false;
};
Fit fit_number(Scene& scene, const std::vector<double>& starts, bool linear,
               const std::function<Edit(double)>& edit);
double distance(const Scene& scene,
                const at::Tensor& value);  // ||observed - value||, cells that count
bool same_shape(const at::Tensor& a, const at::Tensor& b);

}  // namespace ps::reference
