#include "reference/fault_tools.h"
#include "reference/weights.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  std::vector<Point> rows;
  for (const Point& point : linears(scene, {".self_attn.o_proj", ".mlp.down_proj"})) {
    if (scene.net().find(point)->weights.size() > 1) rows.push_back(point);
  }
  for (const std::int64_t tp : {2, 3, 4, 6, 8, 16}) {
    propose_linear(scene, out, rows,
                   [tp](const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias) {
                     return linear_map(x, w, bias * static_cast<double>(tp));
                   },
                   "", {{"tp", std::to_string(tp)}});
  }
}

}  // namespace

extern const FaultSpec shard_row_bias_every_rank;
const FaultSpec shard_row_bias_every_rank = {
    {"shard-row-bias-every-rank", "shard", 4,
     "a row-parallel op's bias is added on every rank, so the sum holds it tp times",
     "add the bias on rank 0 only, or after the all-reduce",
     "needs more than one rank and a bias on o_proj or down_proj", false},
    [](const ModelConfig& c) { return c.o_bias || c.mlp_bias; },
    propose};

}  // namespace ps::reference::faults
