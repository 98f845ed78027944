#include "reference/bridge.h"
#include "reference/fault_tools.h"
#include "reference/ops/blocks.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const StepContext& now = scene.context();
  if (now.past == 0) return;
  const std::vector<Point> caches = scene.ops("cache_append", ":k_cache");
  const std::int64_t prefix = scene.config().prefix_tokens;
  // Positions of the cached tokens: by slot, with or without the prefix, or as the steps gave them.
  at::Tensor own;
  bool known = !scene.earlier().empty();
  for (const StepInputs& step : scene.earlier()) {
    known = known && step.position_ids && step.batch == now.batch();
    if (!known) break;
    const at::Tensor ids = from_int64(*step.position_ids, {step.batch, step.length});
    own = own.defined() ? at::cat({own, ids}, 1) : ids;
  }
  for (int way = 0; way < (known && own.size(1) == now.past ? 5 : 4); ++way) {
    const bool whole = way % 2 == 1;  // the new token too
    const int kind = way / 2;         // 0 slots, 1 tokens, 2 the steps' own
    const BadRun bad = [=, c = now](const Op& good, const Tensors& in, const Tensors& w) {
      const at::Tensor right = good.run(in, w);
      const std::int64_t first = kind == 0 ? 0 : prefix;
      const std::int64_t end = whole ? right.size(2) : right.size(2) - c.length();
      at::Tensor position = at::arange(end - first, at::kLong).unsqueeze(0);
      if (kind == 2) position = own.repeat({c.config->replicas, 1});
      const auto type = right.scalar_type();
      const at::Tensor angle =
          position.to(type).unsqueeze(-1) * rope_frequencies(*c.config, c.types).to(type);
      const at::Tensor table = at::cat({angle, angle}, -1).unsqueeze(1);
      const double scale = rope_table_scale(c.config->rope, c.config->max_position_embeddings);
      const at::Tensor turned =
          rotate(right.slice(2, first, end), at::cos(table) * scale, at::sin(table) * scale);
      return at::cat({right.slice(2, 0, first), turned, right.slice(2, end)}, 2);
    };
    const char* kinds[] = {"every slot by its index", "every token by its index",
                           "every token by its position"};
    propose_wrap(scene, out, caches, bad,
                 std::string(kinds[kind]) + (whole ? ", the new one too" : ""));
  }
}

}  // namespace

extern const FaultSpec rope_applied_twice_to_cache;
const FaultSpec rope_applied_twice_to_cache = {
    {"rope-applied-twice-to-cache", "rope", 2,
     "keys in the cache are rotated again each time they are read",
     "store rotated keys and read them as they are, or store raw keys and rotate at each read: not "
     "both",
     "needs a step with tokens in the cache", true},
    any_model,
    propose};

}  // namespace ps::reference::faults
