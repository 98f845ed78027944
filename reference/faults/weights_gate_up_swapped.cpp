#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  std::vector<Point> points = linears(scene, {".mlp.gate_proj", ".mlp.up_proj"});
  for (const Scope& scope : scopes(points)) {
    out.push_back({scope.words, {}, [where = scope.points](const Net& net, Overrides& overrides) {
                     for (const Point& point : where) {
                       Op op = *net.find(point);
                       for (std::string& name : op.weights) {
                         const std::size_t gate = name.find(".gate_proj"),
                                           up = name.find(".up_proj");
                         if (gate != std::string::npos)
                           name.replace(gate, 10, ".up_proj");
                         else
                           name.replace(up, 8, ".gate_proj");
                       }
                       overrides.insert_or_assign(point, std::move(op));
                     }
                   }});
  }
}

}  // namespace

extern const FaultSpec weights_gate_up_swapped;
const FaultSpec weights_gate_up_swapped = {
    {"weights-gate-up-swapped", "weights", 3, "gate and up projections are exchanged",
     "gate comes first in a fused gate_up matrix; the activation belongs to the gate",
     "always visible", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
