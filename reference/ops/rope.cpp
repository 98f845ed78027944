// Rotary positions (parscale.md 3.4 and 5): frequencies, their scalings, the tables, the rotation.
#include <numbers>

#include "reference/bridge.h"
#include "reference/ops/blocks.h"

namespace ps::reference {

namespace {

// theta^(-2j/D), j < D/2, in the island's type.
at::Tensor plain_frequencies(double theta, std::int64_t head_dim, const Types& types) {
  const auto options = at::TensorOptions().dtype(types.island);
  const at::Tensor exponent = at::arange(0, head_dim, 2, options) / static_cast<double>(head_dim);
  return 1.0 / at::pow(theta, exponent);
}

// Long wavelengths are stretched by the factor, short ones kept, those between are blended.
at::Tensor llama3_frequencies(const at::Tensor& f, const Rope& rope, double original) {
  const at::Tensor wavelength = 2.0 * std::numbers::pi / f;
  const at::Tensor blend = (original / wavelength - rope.low_freq_factor) /
                           (rope.high_freq_factor - rope.low_freq_factor);
  const at::Tensor medium = f * ((1.0 - blend) / rope.factor + blend);
  const at::Tensor is_short = wavelength < original / rope.high_freq_factor;
  const at::Tensor is_long = wavelength > original / rope.low_freq_factor;
  return at::where(is_short, f, at::where(is_long, f / rope.factor, medium));
}

double yarn_factor(const Rope& rope, std::int64_t max_position) {
  if (!rope.original_max_position) return rope.factor;
  return static_cast<double>(max_position) / *rope.original_max_position;
}

at::Tensor yarn_frequencies(const at::Tensor& f, const Rope& rope, std::int64_t head_dim,
                            std::int64_t max_position, const Types& types) {
  const double original = rope.original_max_position.value_or(static_cast<double>(max_position));
  const auto correction = [&](double rotations) {
    return static_cast<double>(head_dim) *
           std::log(original / (rotations * 2.0 * std::numbers::pi)) / (2.0 * std::log(rope.theta));
  };
  double low = correction(rope.beta_fast);
  double high = correction(rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(head_dim - 1));
  if (low == high) high += 0.001;
  const auto options = at::TensorOptions().dtype(types.island);
  const at::Tensor ramp =
      ((at::arange(head_dim / 2, options) - low) / (high - low)).clamp(0.0, 1.0);
  return f / yarn_factor(rope, max_position) * ramp + f * (1.0 - ramp);
}

}  // namespace

// What cos and sin are multiplied by: 1 but for yarn.
double rope_table_scale(const Rope& rope, std::int64_t max_position) {
  if (rope.kind != RopeKind::kYarn) return 1.0;
  if (rope.attention_factor) return *rope.attention_factor;
  const double k = yarn_factor(rope, max_position);
  const auto mscale = [k](double m) { return k <= 1.0 ? 1.0 : 0.1 * m * std::log(k) + 1.0; };
  if (rope.mscale && rope.mscale_all_dim && *rope.mscale != 0 && *rope.mscale_all_dim != 0) {
    return mscale(*rope.mscale) / mscale(*rope.mscale_all_dim);
  }
  return mscale(1.0);
}

at::Tensor rope_frequencies(const ModelConfig& config, const Types& types) {
  const Rope& rope = config.rope;
  const at::Tensor f = plain_frequencies(rope.theta, config.head_dim, types);
  switch (rope.kind) {
    case RopeKind::kDefault:
      return f;
    case RopeKind::kLinear:
      return f / rope.factor;
    case RopeKind::kLlama3:
      return llama3_frequencies(
          f, rope,
          rope.original_max_position.value_or(static_cast<double>(config.max_position_embeddings)));
    case RopeKind::kYarn:
      return yarn_frequencies(f, rope, config.head_dim, config.max_position_embeddings, types);
  }
  return f;
}

// [1 or R, S]: what the caller gave, repeated for the replicas, else past .. past+S-1 for all rows.
at::Tensor rope_positions(const StepContext& c) {
  if (!c.inputs->position_ids)
    return at::arange(c.past, c.past + c.length(), at::kLong).unsqueeze(0);
  return from_int64(*c.inputs->position_ids, {c.batch(), c.length()})
      .repeat({c.config->replicas, 1});
}

namespace {

at::Tensor table(const StepContext& c, const at::Tensor& inv_freq, bool sine) {
  const at::Tensor position = rope_positions(c);
  if (c.pinned_rope != nullptr) {
    const at::Tensor all = borrow((sine ? c.pinned_rope->sin : c.pinned_rope->cos).view());
    return all.index({position}).to(c.types.model);
  }
  const at::Tensor angle = position.to(c.types.island).unsqueeze(-1) * inv_freq;  // [.,S,D/2]
  const at::Tensor both = at::cat({angle, angle}, -1);
  const double scale = rope_table_scale(c.config->rope, c.config->max_position_embeddings);
  const at::Tensor value = sine ? at::sin(both) : at::cos(both);
  return (scale == 1.0 ? value : value * scale).to(c.types.model);
}

}  // namespace

void rope_tables(Net& net, Tables& out) {
  const StepContext c = net.context();
  const Point inv_freq = net.add(
      {"model.rotary_emb:inv_freq", "rope_freq", {}, {}, [c](const Tensors&, const Tensors&) {
         return rope_frequencies(*c.config, c.types);
       }});
  out.cos = net.add({"model.rotary_emb:cos",
                     "rope_table",
                     {inv_freq},
                     {},
                     [c](const Tensors& in, const Tensors&) { return table(c, in[0], false); }});
  out.sin = net.add({"model.rotary_emb:sin",
                     "rope_table",
                     {inv_freq},
                     {},
                     [c](const Tensors& in, const Tensors&) { return table(c, in[0], true); }});
}

// The replica's index is the position, theta is 10000 whatever the config says, and the angles are
// interleaved (a0,a0,a1,a1,..) although the rotation pairs halves: upstream computes exactly this.
ReplicaRope replica_rope_tables(Net& net) {
  const bool any = std::find(net.config().cross_layer.begin(), net.config().cross_layer.end(),
                             true) != net.config().cross_layer.end();
  if (!net.config().replica_rope || !any) return {};
  const StepContext c = net.context();
  const auto make = [c](bool sine) {
    const auto options = at::TensorOptions().dtype(c.types.island);
    const at::Tensor f = plain_frequencies(10000.0, c.config->cross_head_dim(), c.types);
    const at::Tensor angle = at::arange(c.config->replicas, options).unsqueeze(-1) * f;  // [P,X/2]
    const at::Tensor both = angle.repeat_interleave(2, -1);                              // [P,X]
    return (sine ? at::sin(both) : at::cos(both))
        .unsqueeze(0)
        .repeat({c.batch(), 1, 1});  // [B,P,X]
  };
  ReplicaRope out;
  out.cos = net.add({"model.replica_rope:cos",
                     "replica_rope_table",
                     {},
                     {},
                     [make](const Tensors&, const Tensors&) { return make(false); }});
  out.sin = net.add({"model.replica_rope:sin",
                     "replica_rope_table",
                     {},
                     {},
                     [make](const Tensors&, const Tensors&) { return make(true); }});
  return out;
}

// x * cos + (-x2, x1) * sin over the halves x1, x2 of the last axis.
at::Tensor rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  const std::int64_t half = x.size(-1) / 2;
  const at::Tensor first = x.slice(-1, 0, half);
  const at::Tensor second = x.slice(-1, half);
  return x * cos + at::cat({-second, first}, -1) * sin;
}

}  // namespace ps::reference
