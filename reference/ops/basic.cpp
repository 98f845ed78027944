// Embedding, replication, RMSNorm, linear maps, residuals, the head.
#include "reference/bridge.h"
#include "reference/ops/blocks.h"
#include "reference/weights.h"

namespace ps::reference {

std::string layer(std::int64_t i) { return "model.layers." + std::to_string(i); }
std::string layer(std::int64_t i, std::string_view module) {
  return layer(i) + "." + std::string(module);
}

Point embed(Net& net) {
  const StepInputs* inputs = net.context().inputs;
  const at::ScalarType model = net.context().types.model;
  return net.add({"model.embed_tokens",
                  "embed",
                  {},
                  {"model.embed_tokens.weight"},
                  [inputs, model](const Tensors&, const Tensors& w) {
                    const at::Tensor ids =
                        from_int64(inputs->input_ids, {inputs->batch, inputs->length});
                    return lookup_rows(w[0], ids, model);
                  }});
}

// Replica outermost: row p*B + b is sample b. (Not repeat_interleave: that is b*P + p.)
Point replicate(Net& net, const Point& x) {
  const std::int64_t replicas = net.config().replicas;
  return net.add(
      {"model:replicated", "replicate", {x}, {}, [replicas](const Tensors& in, const Tensors&) {
         return in[0].repeat({replicas, 1, 1});
       }});
}

// The statistics are an island; the normalised value is cast back before the weight multiplies it.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, const Types& types) {
  const at::Tensor wide = x.to(types.island);
  const at::Tensor mean_square = wide.pow(2).mean(-1, /*keepdim=*/true);
  return weight * (wide * at::rsqrt(mean_square + eps)).to(types.model);
}

Point rms_norm(Net& net, const Point& point, const Point& x) {
  const double eps = net.config().rms_norm_eps;
  const Types types = net.context().types;
  return net.add({point,
                  "rms_norm",
                  {x},
                  {point + ".weight"},
                  [eps, types](const Tensors& in, const Tensors& w) {
                    return rms_norm(in[0], w[0], eps, types);
                  }});
}

Point linear(Net& net, const Point& point, const Point& x, bool bias) {
  std::vector<std::string> weights = {point + ".weight"};
  if (bias) weights.push_back(point + ".bias");
  return net.add(
      {point, "linear", {x}, std::move(weights), [](const Tensors& in, const Tensors& w) {
         return w.size() == 2 ? linear_map(in[0], w[0], w[1]) : linear_map(in[0], w[0]);
       }});
}

Point residual(Net& net, const Point& point, const Point& x, const Point& update) {
  return net.add({point, "residual", {x, update}, {}, [](const Tensors& in, const Tensors&) {
                    return in[0] + in[1];
                  }});
}

Point after_attention(Net& net, std::int64_t i, const Point& x, const Point& attended) {
  const Point middle = residual(net, layer(i) + ":attn_residual", x, attended);
  const Point normed = rms_norm(net, layer(i, "post_attention_layernorm"), middle);
  return residual(net, layer(i), middle, feed_forward(net, i, normed));
}

Point decoder_layer(Net& net, std::int64_t i, const Point& x, const Tables& tables) {
  const Point normed = rms_norm(net, layer(i, "input_layernorm"), x);
  return after_attention(net, i, x, self_attention(net, i, normed, tables));
}

Point output(Net& net, const Point& x) {
  const Point combined = aggregate(net, rms_norm(net, "model.norm", x));
  const bool tied = net.config().tie_word_embeddings;
  return net.add({"lm_head",
                  "linear",
                  {combined},
                  {tied ? "model.embed_tokens.weight" : "lm_head.weight"},
                  [](const Tensors& in, const Tensors& w) { return linear_map(in[0], w[0]); }});
}

}  // namespace ps::reference
