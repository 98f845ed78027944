#include "reference/net.h"

#include "reference/arch/arch.h"

namespace ps::reference {

const Op* Net::find(std::string_view point) const {
  for (const Op& op : ops_) {
    if (op.point == point) return &op;
  }
  return nullptr;
}

Point Net::add(Op op) {
  ops_.push_back(std::move(op));
  return ops_.back().point;
}

Types types_of(at::ScalarType model) {
  return {model, model == at::kDouble ? at::kDouble : at::kFloat};
}

std::string past_of(const Point& point) { return "past:" + point; }
bool is_past(std::string_view name) { return name.starts_with("past:"); }

at::ScalarType point_type(std::string_view point, const Types& types) {
  if (point.starts_with("model:mask") || point == "model:block_allowed") return at::kBool;
  // What is selected by is held in float32 whatever the model's type is; the mask of blocks is ones
  // and zeros.
  for (const char* suffix : {":q_mean_cache", ":query_blocks", ":key_blocks", ":query_pools",
                             ":key_pools", ":block_scores", ":block_transition", ":block_walk"}) {
    if (point.ends_with(suffix)) return types.island;
  }
  if (point.starts_with("model.replica_rope:") || point.ends_with(":inv_freq") ||
      point == "model:aggregate_weights") {
    return types.island;
  }
  return types.model;
}

namespace {
struct Arch {
  std::string_view name;
  void (*build)(Net&);
};
constexpr Arch kArchs[] = {
#define PS_ARCH(name) Arch{#name, arch::name},
#include "reference/arch/archs.def"
#undef PS_ARCH
};
}  // namespace

void build(Net& net) {
  const std::string_view name = to_string(net.config().architecture);
  for (const Arch& a : kArchs) {
    if (a.name == name) return a.build(net);
  }
  PS_CHECK(false, "no architecture " + std::string(name));
}

}  // namespace ps::reference
