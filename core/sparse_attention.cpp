#include "core/sparse_attention.h"

#include <algorithm>
#include <cmath>

#include "core/json.h"
#include "core/rng.h"
#include "core/sketch.h"
#include "core/sparse_fields.h"

namespace ps {

namespace {

constexpr std::string_view kField = "sparse_attention";
constexpr std::int64_t kUsualSkip = 2;

bool any(const std::vector<bool>& layers) {
  return std::find(layers.begin(), layers.end(), true) != layers.end();
}

Result<void> known_names(const Json& object, const std::string& here) {
  std::vector<std::string> names = sparse_option_names();
  names.insert(names.end(), {"seed", "gate_dim"});
  std::string all;
  for (const std::string& name : names) all += (all.empty() ? "" : ", ") + name;
  for (const std::string& name : object.names) {
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      return bad_input(here + "/" + name, "unknown option", all);
    }
  }
  return {};
}

Result<std::int64_t> whole(const Json& object, const std::string& here, const char* name,
                           std::int64_t low, std::int64_t high) {
  const Json* value = object.find(name);
  if (value->is(Json::Kind::kInteger) && value->integer >= low && value->integer <= high) {
    return value->integer;
  }
  return bad_input(here + "/" + name, "wrong number",
                   "a whole number from " + std::to_string(low) + " to " + std::to_string(high),
                   value->brief());
}

// A rule that selects nothing, or everything, is a slip of the pen.
Result<void> check_gate(const Json& object, const std::string& here, SparseConfig& c) {
  constexpr double kUsualThreshold = 5e-3;
  const auto needs = [&](const char* name) {
    return bad_input(here + "/" + name, "is what this gate selects by, and is not set");
  };
  if (c.gate == GateRule::kThreshold && object.find("thr") == nullptr) {
    c.threshold = kUsualThreshold;
  }
  if (c.gate == GateRule::kNzRatio && object.find("nz_ratio") == nullptr) return needs("nz_ratio");
  if (c.gate == GateRule::kTokenBudget && c.token_budget < c.block) return needs("token_budget");
  return {};
}

Result<SparseAttention> read(const Json& object, const ModelConfig& model) {
  const std::string here(kField);
  if (!object.is(Json::Kind::kObject)) {
    return bad_input(here, "wrong value", "an object with selector, bs, tau, ...", object.brief());
  }
  PS_TRY_VOID(known_names(object, here));
  SparseAttention out;
  SparseConfig& c = out.config;
  c.heads = model.heads, c.kv_heads = model.kv_heads, c.head_dim = model.head_dim;
  c.layers = model.layers;
  c.skip = std::min(kUsualSkip, model.layers - 1);
  std::int64_t power = 1;
  while (power < model.head_dim) power *= 2;
  c.sketch = std::min<std::int64_t>(c.sketch, power);
  PS_TRY_VOID(read_sparse_fields(object, here, SparseFieldsUse::kModel, c));
  if (!out.walks()) PS_TRY_VOID(check_gate(object, here, c));
  if (object.find("seed") != nullptr) {
    PS_TRY(out.seed, whole(object, here, "seed", 0, std::int64_t{1} << 53));
  }
  if (object.find("gate_dim") != nullptr) {
    PS_TRY(out.gate_dim, whole(object, here, "gate_dim", 1, 1 << 16));
  }
  if (out.walks() && out.seed && c.sketch > power) {
    return bad_input(here + "/r", "a sketch with more columns than it can have",
                     "at most " + std::to_string(power), std::to_string(c.sketch));
  }
  if (c.skip >= model.layers) {
    return bad_input(here + "/skip", "leaves no layer that is sparse",
                     "less than " + std::to_string(model.layers), std::to_string(c.skip));
  }
  // What these layers would mean over blocks is written nowhere.
  if (any(model.cross_kv_layer)) {
    return bad_input(here, "cannot be used with layers that attend over all replicas",
                     "a model without cross-KV layers");
  }
  if (model.sliding_window > 0 && any(model.sliding_layer)) {
    return bad_input(here, "cannot be used with sliding windows", "layers of full attention");
  }
  return out;
}

// Option text as JSON: a number or true/false as it stands, a word in quotes.
std::string as_json(const std::string& text) {
  const Result<Json> plain = parse_json(text, "");
  const bool number = plain.ok() && !plain->is(Json::Kind::kString) &&
                      !plain->is(Json::Kind::kArray) && !plain->is(Json::Kind::kObject);
  return number ? text : json_quoted(text);
}

}  // namespace

std::int64_t SparseAttention::pools() const {
  return std::count(config.pool.begin(), config.pool.end(), '+') + 1;
}

Result<std::optional<SparseAttention>> read_sparse_attention(const ModelConfig& config) {
  const std::string quoted = '"' + std::string(kField) + '"';
  if (config.json.find(quoted) == std::string::npos) return std::optional<SparseAttention>();
  PS_TRY(const Json root, parse_json(config.json, "config.json"));
  const Json* object = root.find(kField);
  if (object == nullptr || object->is(Json::Kind::kNull)) return std::optional<SparseAttention>();
  PS_TRY(SparseAttention out, read(*object, config));
  return std::optional(std::move(out));
}

std::optional<SparseAttention> sparse_attention(const ModelConfig& config) {
  Result<std::optional<SparseAttention>> read = read_sparse_attention(config);
  return read.ok() ? std::move(read).value() : std::nullopt;
}

std::string sketch_name() { return "model.sparse_attention.sketch"; }
std::string gate_name(std::int64_t layer, char side) {
  return "model.layers." + std::to_string(layer) + ".self_attn.gate_" + side;
}

SparseWeights seeded_sparse_weights(const SparseAttention& a, std::int64_t layer) {
  const auto seed = static_cast<std::uint64_t>(a.seed.value_or(0));
  SparseWeights out;
  if (a.walks()) {
    out.sketch = srht_sketch(a.config.head_dim, a.config.sketch, seed);
    return out;
  }
  const std::int64_t channels = a.pools() * a.config.head_dim;
  const double scale = 1 / std::sqrt(static_cast<double>(channels));
  const auto made = [&](std::uint64_t stream) {
    const Rng rng(seed, 2 * static_cast<std::uint64_t>(layer) + stream);
    Tensor t(DType::kF32, {a.config.heads, channels, a.gate_dim});
    for (std::int64_t i = 0; i < t.view().count(); ++i) {
      t.as<float>()[static_cast<std::size_t>(i)] =
          static_cast<float>(scale * rng.normal(static_cast<std::uint64_t>(i)));
    }
    return t;
  };
  out.gate_wq = made(0);
  out.gate_wk = made(1);
  return out;
}

Result<SparseWeights> sparse_weights(const SparseAttention& a, const Checkpoint* checkpoint,
                                     std::int64_t layer) {
  if (a.seed) return seeded_sparse_weights(a, layer);
  const auto stored = [&](const std::string& name, const Shape& shape) -> Result<Tensor> {
    const TensorView* view = checkpoint == nullptr ? nullptr : checkpoint->find(name);
    if (view == nullptr) {
      return bad_input(name, "the checkpoint has no such tensor, and sparse_attention no seed",
                       to_string(shape));
    }
    if (view->shape != shape || !is_floating(view->dtype)) {
      return bad_input(name, "wrong shape or type", to_string(shape), to_string(view->shape));
    }
    return Tensor::copy_of(*view);
  };
  SparseWeights out;
  const SparseConfig& c = a.config;
  if (a.walks()) {
    PS_TRY(out.sketch, stored(sketch_name(), {c.head_dim, c.sketch}));
    return out;
  }
  const Shape shape = {c.heads, a.pools() * c.head_dim, a.gate_dim};
  PS_TRY(out.gate_wq, stored(gate_name(layer, 'q'), shape));
  PS_TRY(out.gate_wk, stored(gate_name(layer, 'k'), shape));
  return out;
}

Result<std::string> with_attention(const std::string& config_json, std::string_view kind,
                                   const Checkpoint& checkpoint) {
  constexpr const char* kWanted = "dense, walk or gate, with options as in walk:bs=16,tau=4,skip=0";
  PS_TRY(Json root, parse_json(config_json, "config.json"));
  const std::string_view word = kind.substr(0, kind.find(':'));
  if (word != "dense" && word != "walk" && word != "gate") {
    return bad_input("--attention", "unknown kind", kWanted, "'" + std::string(kind) + "'");
  }
  for (std::size_t i = 0; i < root.names.size(); ++i) {
    if (root.names[i] != kField) continue;
    root.names.erase(root.names.begin() + static_cast<std::ptrdiff_t>(i));
    root.items.erase(root.items.begin() + static_cast<std::ptrdiff_t>(i));
    break;
  }
  std::string options(kind.size() > word.size() ? kind.substr(word.size() + 1) : "");
  if (word == "dense") {
    if (options.empty()) return root.dump();
    return bad_input("--attention", "dense attention has no options", "dense", options);
  }
  std::string object = "{\"selector\":" + json_quoted(word);
  bool seeded = false;
  while (!options.empty()) {
    const std::string option = options.substr(0, options.find(','));
    options.erase(0, std::min(options.size(), option.size() + 1));
    const std::size_t equals = option.find('=');
    if (equals == std::string::npos || equals == 0) {
      return bad_input("--attention", "an option without a value", kWanted, "'" + option + "'");
    }
    const std::string name = option.substr(0, equals);
    seeded = seeded || name == "seed";
    object += "," + json_quoted(name) + ":" + as_json(option.substr(equals + 1));
  }
  const std::string wanted = word == "walk" ? sketch_name() : gate_name(0, 'q');
  bool stored = checkpoint.peek(wanted) != nullptr;
  for (const std::string& name : checkpoint.names()) {
    stored = stored || (word == "gate" && name.ends_with(".self_attn.gate_q"));
  }
  if (!seeded && !stored) object += ",\"seed\":1";
  const Result<Json> parsed = parse_json(object + "}", "--attention");
  if (!parsed.ok()) return bad_input("--attention", "options that cannot be read", kWanted, object);
  root.names.emplace_back(kField);
  root.items.push_back(*parsed);
  return root.dump();
}

}  // namespace ps
