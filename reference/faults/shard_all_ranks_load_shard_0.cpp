#include <stdexcept>

#include "reference/fault_tools.h"
#include "reference/weights.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const std::vector<Point> columns = linears(
      scene, {"_attn.q_proj", "_attn.k_proj", "_attn.v_proj", ".mlp.gate_proj", ".mlp.up_proj"});
  const std::vector<Point> rows = linears(scene, {"_attn.o_proj", ".mlp.down_proj"});
  std::vector<Point> all = columns;
  all.insert(all.end(), rows.begin(), rows.end());
  for (const std::int64_t tp : {2, 3, 4, 8}) {
    for (const bool whole_bias : {false, true}) {
      const auto column = [tp, whole_bias](const at::Tensor& x, const at::Tensor& w,
                                           const at::Tensor& bias) {
        const std::int64_t n = w.size(0) / tp;
        if (w.size(0) % tp != 0) throw std::runtime_error("not divisible");
        const at::Tensor y = linear_map(x, w.slice(0, 0, n)).repeat({1, 1, tp});
        if (!bias.defined()) return y;
        return y + (whole_bias ? bias : bias.slice(0, 0, n).repeat({tp}));
      };
      const auto row = [tp](const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias) {
        const std::int64_t n = w.size(1) / tp;
        if (w.size(1) % tp != 0) throw std::runtime_error("not divisible");
        const at::Tensor y = linear_map(x, w.slice(1, 0, n).repeat({1, tp}));
        return bias.defined() ? y + bias : y;
      };
      const Parameters parameters = {{"tp", std::to_string(tp)}};
      for (const Point& point : columns) {
        if (whole_bias && scene.net().find(point)->weights.size() < 2) continue;
        propose_linear(scene, out, {point}, column,
                       joined(module_words(point), whole_bias ? "its bias is whole" : ""),
                       parameters);
      }
      if (!whole_bias) {
        for (const Point& point : rows) {
          propose_linear(scene, out, {point}, row, module_words(point), parameters);
        }
      }
      if (columns.size() < 2) continue;
      for (const Scope& scope : scopes(columns)) {
        out.push_back({joined("all column-parallel weights", scope.words), parameters,
                       linear_edit(scope.points, column)});
      }
      for (const Scope& scope : scopes(all)) {
        std::vector<Point> c, r;
        for (const Point& point : scope.points) {
          const bool is_row = std::find(rows.begin(), rows.end(), point) != rows.end();
          (is_row ? r : c).push_back(point);
        }
        out.push_back({joined("all weights", scope.words), parameters,
                       both(linear_edit(c, column), linear_edit(r, row))});
      }
    }
  }
}

}  // namespace

extern const FaultSpec shard_all_ranks_load_shard_0;
const FaultSpec shard_all_ranks_load_shard_0 = {
    {"shard-all-ranks-load-shard-0", "shard", 3,
     "every rank of a parallel op loaded rank 0's shard",
     "read the rank after the process group is up, and pass it to the loader",
     "needs more than one rank", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
