// rope_theta, rope_scaling (its older spelling) and rope_parameters (transformers 5).
#include <array>
#include <cmath>
#include <string>
#include <utility>

#include "core/config_fields.h"

namespace ps {

namespace {

struct RopeName {
  std::string_view name;
  RopeKind kind;
};
constexpr std::array kRopeNames = {
    RopeName{"default", RopeKind::kDefault},
    RopeName{"linear", RopeKind::kLinear},
    RopeName{"llama3", RopeKind::kLlama3},
    RopeName{"yarn", RopeKind::kYarn},
};

// What one rope object says; theta only where it says one.
struct RopeEntry {
  Rope rope;
  std::optional<double> theta;
};

bool same_scaling(const Rope& a, const Rope& b) {
  return a.kind == b.kind && a.factor == b.factor && a.low_freq_factor == b.low_freq_factor &&
         a.high_freq_factor == b.high_freq_factor &&
         a.original_max_position == b.original_max_position && a.beta_fast == b.beta_fast &&
         a.beta_slow == b.beta_slow && a.attention_factor == b.attention_factor &&
         a.mscale == b.mscale && a.mscale_all_dim == b.mscale_all_dim && a.truncate == b.truncate;
}

std::optional<double> positive(ConfigFields& fields, std::string_view name) {
  const std::optional<double> value = fields.number(name);
  if (value && *value <= 0) {
    fields.error(name, "must be above 0");
    return std::nullopt;
  }
  return value;
}

double required(ConfigFields& fields, std::string_view name, RopeKind kind) {
  const std::optional<double> value = positive(fields, name);
  if (fields.find_set(name) == nullptr) {
    fields.error(name, "rope type " + std::string(to_string(kind)) + " needs it");
  }
  return value.value_or(1.0);
}

void read_kind(ConfigFields& fields, bool kind_is_required, Rope& rope) {
  const bool modern_name = fields.find_set("rope_type") != nullptr;
  const std::string_view field = modern_name ? "rope_type" : "type";
  const std::optional<std::string> name = fields.text(field);
  if (!name) {
    if (kind_is_required && fields.find_set(field) == nullptr) {
      fields.error("rope_type", "is missing: a scaling says its kind");
    }
    return;
  }
  for (const RopeName& known : kRopeNames) {
    if (known.name == *name) {
      rope.kind = known.kind;
      return;
    }
  }
  fields.error(field, "this rope type is not supported; default, linear, llama3 and yarn are");
}

void read_llama3(ConfigFields& fields, const ModelConfig& config, Rope& rope) {
  rope.low_freq_factor = required(fields, "low_freq_factor", rope.kind);
  rope.high_freq_factor = required(fields, "high_freq_factor", rope.kind);
  rope.original_max_position = required(fields, "original_max_position_embeddings", rope.kind);
  if (fields.find_set("high_freq_factor") != nullptr &&
      rope.high_freq_factor <= rope.low_freq_factor) {
    fields.error("high_freq_factor", "must be above low_freq_factor");
  }
  const auto longest = static_cast<double>(config.max_position_embeddings);
  if (longest > 0 && *rope.original_max_position >= longest) {
    fields.warn("original_max_position_embeddings",
                "is not below max_position_embeddings: scaling has nothing to stretch");
  }
}

void read_yarn(ConfigFields& fields, const ModelConfig& config, Rope& rope) {
  rope.original_max_position = positive(fields, "original_max_position_embeddings");
  rope.beta_fast = positive(fields, "beta_fast").value_or(rope.beta_fast);
  rope.beta_slow = positive(fields, "beta_slow").value_or(rope.beta_slow);
  rope.attention_factor = positive(fields, "attention_factor");
  rope.mscale = fields.number("mscale");
  rope.mscale_all_dim = fields.number("mscale_all_dim");
  if (fields.find_set("truncate") != nullptr) rope.truncate = fields.flag("truncate");
  if (rope.beta_fast < rope.beta_slow) fields.warn("beta_fast", "is below beta_slow");
  const auto longest = static_cast<double>(config.max_position_embeddings);
  if (rope.original_max_position && longest > 0 &&
      rope.factor != longest / *rope.original_max_position) {
    fields.warn("factor",
                "is not max_position_embeddings / original_max_position_embeddings, which is "
                "used instead of it");
  }
}

RopeEntry read_entry(ConfigFields& fields, bool kind_is_required, const ModelConfig& config) {
  RopeEntry entry;
  Rope& rope = entry.rope;
  read_kind(fields, kind_is_required, rope);
  entry.theta = positive(fields, "rope_theta");
  if (const auto part = fields.number("partial_rotary_factor"); part && *part != 1.0) {
    fields.error("partial_rotary_factor", "partial rotation is not supported; must be 1");
  }
  if (rope.kind == RopeKind::kDefault) return entry;
  rope.factor = required(fields, "factor", rope.kind);
  if (rope.factor < 1.0) fields.warn("factor", "below 1 shortens the context");
  if (rope.kind == RopeKind::kLlama3) read_llama3(fields, config, rope);
  if (rope.kind == RopeKind::kYarn) read_yarn(fields, config, rope);
  return entry;
}

bool is_per_layer_type(const Json& object) {
  for (const Json& item : object.items) {
    if (item.is(Json::Kind::kObject)) return true;
  }
  return false;
}

// rope_parameters may hold one object for each layer type; one rotation for all is what we do.
RopeEntry read_per_layer_type(ConfigFields& root, std::vector<ConfigIssue>& issues,
                              const Json& object, const ModelConfig& config) {
  std::optional<RopeEntry> first;
  for (std::size_t i = 0; i < object.items.size(); ++i) {
    if (object.items[i].is(Json::Kind::kNull)) continue;
    if (!object.items[i].is(Json::Kind::kObject)) {
      root.error("rope_parameters", "mixes layer types and plain fields");
      break;
    }
    ConfigFields fields(object.items[i], "rope_parameters." + object.names[i] + ".", issues);
    const RopeEntry entry = read_entry(fields, false, config);
    if (!first) {
      first = entry;
    } else if (!same_scaling(first->rope, entry.rope) || first->theta != entry.theta) {
      root.error("rope_parameters", "layer types with different rotations are not supported");
      break;
    }
  }
  return first.value_or(RopeEntry{});
}

std::optional<RopeEntry> read_object(ConfigFields& root, std::vector<ConfigIssue>& issues,
                                     std::string_view name, const ModelConfig& config) {
  const Json* object = root.find_set(name);
  if (object == nullptr) return std::nullopt;
  if (!object->is(Json::Kind::kObject)) {
    root.error(name, "must be an object or null, not " + std::string(to_string(object->kind)));
    return std::nullopt;
  }
  const bool modern = name == "rope_parameters";
  if (modern && is_per_layer_type(*object)) {
    return read_per_layer_type(root, issues, *object, config);
  }
  ConfigFields fields(*object, std::string(name) + ".", issues);
  return read_entry(fields, !modern, config);
}

}  // namespace

void read_rope(ConfigFields& fields, std::vector<ConfigIssue>& issues, ModelConfig& config) {
  const std::optional<RopeEntry> modern = read_object(fields, issues, "rope_parameters", config);
  const std::optional<RopeEntry> legacy = read_object(fields, issues, "rope_scaling", config);
  if (modern && legacy && !same_scaling(modern->rope, legacy->rope)) {
    fields.error("rope_scaling", "contradicts rope_parameters");
  }
  const RopeEntry entry = modern ? *modern : legacy.value_or(RopeEntry{});
  const std::optional<double> theta = positive(fields, "rope_theta");
  if (theta && entry.theta && *theta != *entry.theta) {
    fields.error("rope_theta", "contradicts the rope_theta of " +
                                   std::string(modern ? "rope_parameters" : "rope_scaling"));
  }
  config.rope = entry.rope;
  config.rope.theta = entry.theta ? *entry.theta : theta.value_or(Rope{}.theta);
  if (config.rope.kind == RopeKind::kYarn && config.rope.theta <= 1.0) {
    fields.error("rope_theta", "must be above 1 for yarn, which divides by its logarithm");
  }
  if (const auto part = fields.number("partial_rotary_factor"); part && *part != 1.0) {
    fields.error("partial_rotary_factor", "partial rotation is not supported; must be 1");
  }
}

std::string_view to_string(RopeKind kind) {
  for (const RopeName& known : kRopeNames) {
    if (known.kind == kind) return known.name;
  }
  return "default";
}

}  // namespace ps
