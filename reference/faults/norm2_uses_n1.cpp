#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  for (const auto& [own, other] :
       {std::pair<std::string, std::string>{".post_attention_layernorm", ".input_layernorm"},
        {".input_layernorm", ".post_attention_layernorm"}}) {
    for (const Scope& scope : scopes(scene.ops("rms_norm", own))) {
      const std::vector<Point> where = scope.points;
      const std::string from = own, to = other;
      out.push_back({joined(from.substr(1) + " with the weight of " + to.substr(1), scope.words),
                     {},
                     [=](const Net& net, Overrides& overrides) {
                       for (const Point& point : where) {
                         Op op = *net.find(point);
                         std::string& name = op.weights[0];
                         name.replace(name.find(from), from.size(), to);
                         overrides.insert_or_assign(point, std::move(op));
                       }
                     }});
    }
  }
}

}  // namespace

extern const FaultSpec norm2_uses_n1;
const FaultSpec norm2_uses_n1 = {
    {"norm2-uses-n1", "norm", 1, "a norm uses the weight of the layer's other norm",
     "input_layernorm and post_attention_layernorm have weights of their own",
     "needs norms with different weights", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
