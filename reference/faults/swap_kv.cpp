#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  for (const Scope& scope : scopes(linears(scene, {".self_attn.k_proj", ".self_attn.v_proj"}))) {
    out.push_back({scope.words, {}, [points = scope.points](const Net& net, Overrides& overrides) {
                     for (const Point& point : points) {
                       Op op = *net.find(point);
                       for (std::string& name : op.weights) {
                         const bool key = name.find(".k_proj") != std::string::npos;
                         name.replace(name.find(key ? ".k_proj" : ".v_proj"), 7,
                                      key ? ".v_proj" : ".k_proj");
                       }
                       overrides.insert_or_assign(point, std::move(op));
                     }
                   }});
  }
}

}  // namespace

extern const FaultSpec swap_kv;
const FaultSpec swap_kv = {
    {"swap-kv", "attention", 1, "keys and values are exchanged",
     "k_proj makes the keys, v_proj the values: check the order of the fused projection",
     "always visible", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
