#include "diff/diagnose/torch_formula.h"

#include <cstdio>

#include "diff/isolate/additive_mask.h"

namespace ps {

namespace {

using Lines = std::vector<std::string>;

std::string digits(double x) {
  char text[40];
  std::snprintf(text, sizeof text, "%.17g", x);
  return text;
}

std::string activation(Activation a, const std::string& x) {
  switch (a) {
    case Activation::kSilu:
      return "F.silu(" + x + ")";
    case Activation::kGelu:
      return "F.gelu(" + x + ")";
    case Activation::kGeluTanh:
      return "F.gelu(" + x + ", approximate=\"tanh\")";
    case Activation::kRelu:
      return "F.relu(" + x + ")";
    case Activation::kRelu2:
      return "F.relu(" + x + ") ** 2";
    case Activation::kQuickGelu:
      return x + " * torch.sigmoid(1.702 * " + x + ")";
  }
  return x;
}

// Where a query may attend, whichever form the mask was captured in (trace.md's is bool).
std::string visible(const TensorView& mask) {
  if (mask.dtype == DType::kBool) return "x[1]";
  if (!is_floating(mask.dtype)) return "(x[1] != 0)";
  return read_additive_mask(mask) ? "(x[1] > -1000)" : "(x[1] == 1)";
}

Lines attention(const std::string& kind, const TensorView& y, const TensorView& first,
                const TensorView& second, const ModelConfig& c) {
  const std::string group = std::to_string(c.group());
  if (kind == "probs") {
    return {"y = torch.softmax(x[0].masked_fill(~" + visible(second) + ", -torch.inf), -1)"};
  }
  // Attention over the tokens of all replicas has other rows than its inputs.
  if (first.shape.empty() || y.shape.empty() || first.shape[0] != y.shape[0]) return {};
  const std::string shared = "kv = x[1].repeat_interleave(" + group + ", 1)  # heads share keys";
  if (kind == "scores") {
    return {shared, "y = x[0] @ kv.transpose(-1, -2) / " + std::to_string(c.head_dim) + " ** 0.5"};
  }
  return {shared, "y = (x[0] @ kv).transpose(1, 2).flatten(2)"};
}

Lines cache_append(const OpInfo& op, const TensorView& fresh, const ModelConfig& c,
                   std::int64_t rows) {
  const std::string heads = std::to_string(c.kv_heads);
  const std::string now =
      fresh.shape.size() == 3 ? "x[0].unflatten(2, (" + heads + ", -1)).transpose(1, 2)" : "x[0]";
  if (op.inputs.size() == 2) return {"y = torch.cat([x[1], " + now + "], 2)"};
  if (op.weights.empty()) return {"y = " + now};
  const std::string batch = std::to_string(rows / c.replicas);
  return {"prefix = w[0].repeat_interleave(" + batch + ", 0)  # row p*B + b has replica p's",
          "y = torch.cat([prefix, " + now + "], 2)"};
}

Lines rope(const TensorView& y) {
  const std::string n = std::to_string(y.shape[1]);
  return {"h = x[0].flatten(2).unflatten(2, (" + n + ", -1)).transpose(1, 2)",
          "cos, sin = (t.repeat(len(h) // len(t), 1, 1).unsqueeze(1) for t in x[1:])",
          "h1, h2 = h.chunk(2, -1)", "y = h * cos + torch.cat([-h2, h1], -1) * sin"};
}

}  // namespace

std::vector<std::string> torch_formula(const JudgedPoint& point, const ModelConfig& c) {
  const OpInfo& op = point.op;
  // An order of rounding (law) is not what the plain formula gives.
  if (point.expected.chain != 1 || !point.expected.law.empty()) return {};
  std::vector<TensorView> in;
  for (const std::string& name : op.inputs) {
    const std::optional<TensorView> value = point.lookup(name);
    if (!value) return {};
    in.push_back(*value);
  }
  const TensorView& y = point.candidate;
  const std::string& kind = op.kind;
  const std::string replicas = std::to_string(c.replicas);
  if (in.empty()) return {};
  if (kind == "linear" || kind == "linear_of_silu") {
    const std::string x = kind == "linear" ? "x[0]" : "F.silu(x[0])";
    Lines out = {"y = F.linear(" + x + ", *w)"};
    if (op.point == "lm_head") out.emplace_back("y = y[:, -candidate.shape[1]:]");
    return out;
  }
  if (kind == "rms_norm") {
    return {"x = x[0].reshape(candidate.shape)",
            "y = w[0] * x * torch.rsqrt(x.pow(2).mean(-1, True) + " + digits(c.rms_norm_eps) + ")"};
  }
  if (kind == "residual") return {"y = x[0] + x[1]"};
  if (kind == "replicate") return {"y = x[0].repeat(" + replicas + ", 1, 1)"};
  if (kind == "act") return {"y = " + activation(c.activation, "x[0]") + " * x[1]"};
  if (kind == "rope" && y.shape.size() == 4) return rope(y);
  if (kind == "cache_append" && !y.shape.empty()) return cache_append(op, in[0], c, y.shape[0]);
  if (kind == "scores" || kind == "probs" || kind == "context") {
    return attention(kind, y, in[0], in[1], c);
  }
  const std::string apart = ".unflatten(0, (" + replicas + ", -1))";
  if (kind == "aggregate_input") return {"y = x[0]" + apart + ".permute(1, 2, 3, 0).flatten(2)"};
  if (kind == "aggregate_weights") {
    return {"s = " + digits(c.attn_smooth),
            "y = torch.softmax(x[0], -1) * (1 - s) + s / " + replicas};
  }
  if (kind == "aggregated") {
    if (in.size() == 1) return {"y = x[0]"};
    return {"y = (x[1]" + apart + " * x[0].permute(2, 0, 1).unsqueeze(-1)).sum(0)"};
  }
  return {};
}

}  // namespace ps
