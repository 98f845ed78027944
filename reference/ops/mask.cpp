// Which columns a query may attend (parscale.md 3.5), as a boolean: true = may.
#include "reference/bridge.h"
#include "reference/ops/blocks.h"
#include "reference/ops/sparse_attention.h"

namespace ps::reference {

namespace {

// [B,S,L] over real columns, L = past + S: not later than the query, and a real token. `window` > 0
// hides keys that are `window` or more behind.
at::Tensor real_columns(const StepContext& c, std::int64_t window) {
  const std::int64_t length = c.length();
  const std::int64_t total = c.past + length;
  const at::Tensor query = at::arange(c.past, total, at::kLong).unsqueeze(1);  // [S,1]
  const at::Tensor key = at::arange(total, at::kLong).unsqueeze(0);            // [1,L]
  at::Tensor seen = key <= query;
  if (window > 0) seen = seen.logical_and(key > query - window);
  seen = seen.unsqueeze(0).expand({c.batch(), length, total});
  if (c.inputs->attention_mask) {
    const at::Tensor real =
        from_int64(*c.inputs->attention_mask, {c.batch(), total}).ne(0).unsqueeze(1);
    seen = seen.logical_and(real);
  }
  if (c.empty_rows == EmptyRows::kOpened) {
    // Judged before the prefix columns are added, so it happens also where the prefix is seen.
    seen = seen.logical_or(seen.any(-1, true).logical_not());
  }
  return seen;
}

at::Tensor row_mask(const StepContext& c, std::int64_t window) {
  if (c.inputs->visible) {  // a mask from outside replaces all rules
    const std::int64_t columns = c.config->prefix_tokens + c.past + c.length();
    const auto cells = static_cast<std::int64_t>(c.inputs->visible->size());
    const std::int64_t heads = cells == c.batch() * c.length() * columns ? 1 : c.config->heads;
    const at::Tensor given =
        from_int64(*c.inputs->visible, {c.batch(), heads, c.length(), columns});
    return given.ne(0).repeat({c.config->replicas, 1, 1, 1});
  }
  const at::Tensor seen = real_columns(c, window);
  const at::Tensor prefix = at::ones({c.batch(), c.length(), c.config->prefix_tokens}, at::kBool);
  return at::cat({prefix, seen}, -1).unsqueeze(1).repeat({c.config->replicas, 1, 1, 1});
}

}  // namespace

void rope_tables(Net& net, Tables& out);  // rope.cpp

Tables position_and_mask_tables(Net& net) {
  Tables out;
  rope_tables(net, out);
  const StepContext c = net.context();
  const auto& sliding = net.config().sliding_layer;
  const bool any = std::find(sliding.begin(), sliding.end(), true) != sliding.end();
  const bool all = any && std::find(sliding.begin(), sliding.end(), false) == sliding.end();
  const std::int64_t window = net.config().sliding_window;
  const auto add = [&](const char* name, std::int64_t w) {
    return net.add(
        {name, "mask", {}, {}, [c, w](const Tensors&, const Tensors&) { return row_mask(c, w); }});
  };
  // Where every layer slides, the one mask of the model is the window's.
  out.mask = add("model:mask", all ? window : 0);
  if (const std::optional<SparseAttention> sparse = sparse_attention(net.config())) {
    block_allowed(net, *sparse);
  }
  if (any) out.mask_sliding = all ? out.mask : add("model:mask_sliding", window);
  return out;
}

// [B,1,P*S,P*L]: query p*S + t sees key p'*L + j of every replica p' by the rule above; taken
// literally (no causal mask, no padding, no cache) it sees everything.
Point cross_kv_mask(Net& net) {
  const StepContext c = net.context();
  return net.add(
      {"model:mask_cross_kv", "mask_cross_kv", {}, {}, [c](const Tensors&, const Tensors&) {
         const std::int64_t p = c.config->replicas;
         if (!c.config->cross_kv_causal) {
           return at::ones({c.batch(), 1, p * c.length(), p * c.length()}, at::kBool);
         }
         return real_columns(c, 0).repeat({1, p, p}).unsqueeze(1);
       }});
}

// Chosen, never added: a masked cell is -inf and an empty row is decided by `empty_rows`.
at::Tensor masked_softmax(const at::Tensor& scores, const at::Tensor& mask, EmptyRows empty_rows,
                          const Types& types) {
  constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();
  const at::Tensor any = mask.any(-1, /*keepdim=*/true);
  at::Tensor masked = scores.to(types.island).masked_fill(mask.logical_not(), kMinusInfinity);
  if (empty_rows != EmptyRows::kNan) masked = masked.masked_fill(any.logical_not(), 0.0);
  at::Tensor probs = at::softmax(masked, -1);  // an empty row is uniform here
  if (empty_rows == EmptyRows::kZeros) probs = probs.masked_fill(any.logical_not(), 0.0);
  return probs.to(types.model);
}

}  // namespace ps::reference
