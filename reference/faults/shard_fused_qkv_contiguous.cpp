#include <array>

#include "reference/bridge.h"
#include "reference/fault_tools.h"
#include "reference/weights.h"

namespace ps::reference::faults {

namespace {

// q, k and v as rows of one matrix [q; k; v]; `rows[i]` picks those of projection i.
Edit from_fused(const std::vector<Point>& points,
                const std::array<std::vector<std::int64_t>, 3>& rows) {
  return [=](const Net& net, Overrides& overrides) {
    for (const Point& point : points) {
      const std::string module = point.substr(0, point.rfind('.'));
      const std::size_t which = point.ends_with(".q_proj") ? 0 : point.ends_with(".k_proj") ? 1 : 2;
      Op op = *net.find(point);
      const bool bias = op.weights.size() > 1;
      op.weights.clear();
      for (const char* name : {".q_proj", ".k_proj", ".v_proj"})
        op.weights.push_back(module + name + ".weight");
      for (const char* name : {".q_proj", ".k_proj", ".v_proj"}) {
        if (bias) op.weights.push_back(module + name + ".bias");
      }
      const at::Tensor index =
          from_int64(rows[which], {static_cast<std::int64_t>(rows[which].size())});
      op.run = [index, bias](const Tensors& in, const Tensors& w) {
        const at::Tensor all = at::cat({w[0], w[1], w[2]}, 0).index_select(0, index);
        if (!bias) return linear_map(in[0], all);
        return linear_map(
            in[0], all,
            at::cat({w[3], w[4], w[5]}, 0).index_select(0, index).to(in[0].scalar_type()));
      };
      overrides.insert_or_assign(point, std::move(op));
    }
  };
}

void propose(Scene& scene, Proposals& out) {
  const ModelConfig& c = scene.config();
  const std::int64_t q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim, all = q + 2 * kv;
  const std::vector<Point> points =
      linears(scene, {".self_attn.q_proj", ".self_attn.k_proj", ".self_attn.v_proj"});
  for (std::int64_t tp = 2; tp <= 8; ++tp) {
    if (c.kv_heads % tp != 0 || c.heads % tp != 0) continue;
    std::array<std::vector<std::int64_t>, 3> rows;
    for (std::int64_t r = 0; r < tp; ++r) {
      std::int64_t at = r * (all / tp);
      const std::int64_t sizes[] = {q / tp, kv / tp, kv / tp};
      for (std::size_t i = 0; i < 3; ++i) {
        for (std::int64_t n = 0; n < sizes[i]; ++n) rows[i].push_back(at++);
      }
    }
    for (const Scope& scope : scopes(points)) {
      out.push_back({scope.words, {{"tp", std::to_string(tp)}}, from_fused(scope.points, rows)});
    }
  }
}

}  // namespace

extern const FaultSpec shard_fused_qkv_contiguous;
const FaultSpec shard_fused_qkv_contiguous = {
    {"shard-fused-qkv-contiguous", "shard", 4,
     "a fused [q; k; v] matrix was cut into equal row blocks for the ranks, so q, k and v rows are "
     "mixed",
     "shard q, k and v each by heads, then fuse each rank's own parts", "needs more than one rank",
     false},
    any_model,
    propose};

}  // namespace ps::reference::faults
