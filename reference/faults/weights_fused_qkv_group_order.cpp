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
  const std::int64_t d = c.head_dim, q = c.heads * d, kv = c.kv_heads * d, group = c.group();
  std::vector<std::int64_t> grouped;  // rows of [q; k; v] in the order of groups
  const auto add = [&](std::int64_t from, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) grouped.push_back(from + i);
  };
  for (std::int64_t g = 0; g < c.kv_heads; ++g) {
    add(g * group * d, group * d);
    add(q + g * d, d);
    add(q + kv + g * d, d);
  }
  const auto part = [](const std::vector<std::int64_t>& rows, std::int64_t from,
                       std::int64_t count) {
    return std::vector<std::int64_t>(rows.begin() + from, rows.begin() + from + count);
  };
  const std::vector<Point> points =
      linears(scene, {".self_attn.q_proj", ".self_attn.k_proj", ".self_attn.v_proj"});
  const std::array<std::vector<std::int64_t>, 3> as_blocks = {
      part(grouped, 0, q), part(grouped, q, kv), part(grouped, q + kv, kv)};
  // The reverse: stored as blocks, read per group.
  std::array<std::vector<std::int64_t>, 3> as_groups;
  for (std::int64_t i = 0; i < q + 2 * kv; ++i) {
    const std::int64_t meant = grouped[static_cast<std::size_t>(i)];
    std::vector<std::int64_t>& rows = as_groups[meant < q ? 0 : meant < q + kv ? 1 : 2];
    rows.push_back(i);
  }
  for (const Scope& scope : scopes(points)) {
    out.push_back({joined("stored by group, read as [Q | K | V]", scope.words),
                   {},
                   from_fused(scope.points, as_blocks)});
    out.push_back({joined("stored as [Q | K | V], read by group", scope.words),
                   {},
                   from_fused(scope.points, as_groups)});
  }
}

}  // namespace

extern const FaultSpec weights_fused_qkv_group_order;
const FaultSpec weights_fused_qkv_group_order = {
    {"weights-fused-qkv-group-order", "weights", 4,
     "a fused qkv matrix is split in the wrong order: per key/value group against [Q | K | V]",
     "split by the layout that the checkpoint was written in: [Q | K | V], or g query heads, k, v "
     "for each group",
     "needs more than one key/value head", false},
    [](const ModelConfig& c) { return c.kv_heads > 1; },
    propose};

}  // namespace ps::reference::faults
