#include "diff/golden/tp_case.h"

#include <algorithm>
#include <set>
#include <tuple>

#include <nlohmann/json.hpp>

#include "core/checkpoint.h"
#include "core/file.h"

namespace ps {

namespace {

namespace fs = std::filesystem;

Result<const Json*> member(const Json& json, std::string_view name, Json::Kind kind,
                           const std::string& where) {
  const Json* found = json.find(name);
  const bool number =
      kind == Json::Kind::kNumber && found != nullptr && found->is(Json::Kind::kInteger);
  if (found == nullptr || (!found->is(kind) && !number)) {
    return bad_input(where, "needs " + std::string(name), std::string(to_string(kind)),
                     found == nullptr ? "nothing" : found->brief());
  }
  return found;
}

// cfg in the case's own words, as a config.json.
Result<ModelConfig> config_of(const Json& cfg, const std::string& where) {
  nlohmann::json out = {{"max_position_embeddings", 4096}, {"torch_dtype", "float32"}};
  struct Field {
    const char *here, *there;
    Json::Kind kind;
  };
  for (const Field& f : {Field{"family", "model_type", Json::Kind::kString},
                         Field{"vocab", "vocab_size", Json::Kind::kInteger},
                         Field{"hidden", "hidden_size", Json::Kind::kInteger},
                         Field{"inter", "intermediate_size", Json::Kind::kInteger},
                         Field{"layers", "num_hidden_layers", Json::Kind::kInteger},
                         Field{"heads", "num_attention_heads", Json::Kind::kInteger},
                         Field{"kv", "num_key_value_heads", Json::Kind::kInteger},
                         Field{"head_dim", "head_dim", Json::Kind::kInteger},
                         Field{"eps", "rms_norm_eps", Json::Kind::kNumber},
                         Field{"theta", "rope_theta", Json::Kind::kNumber},
                         Field{"tie", "tie_word_embeddings", Json::Kind::kBool}}) {
    PS_TRY(const Json* value, member(cfg, f.here, f.kind, where));
    if (value->is(Json::Kind::kString)) out[f.there] = value->text;
    if (value->is(Json::Kind::kInteger)) out[f.there] = value->integer;
    if (value->is(Json::Kind::kNumber)) out[f.there] = value->number;
    if (value->is(Json::Kind::kBool)) out[f.there] = value->boolean;
  }
  PS_TRY(ParsedConfig parsed, parse_config(out.dump(), where));
  PS_TRY(ModelConfig config, first_error_or_config(std::move(parsed), where));
  // The family says where biases may be; the case says where they are.
  for (const auto& [name, flag] :
       {std::pair{"qkv_bias", &config.qkv_bias}, std::pair{"o_bias", &config.o_bias},
        std::pair{"mlp_bias", &config.mlp_bias}, std::pair{"qk_norm", &config.qk_norm}}) {
    PS_TRY(const Json* value, member(cfg, name, Json::Kind::kBool, where));
    *flag = value->boolean;
  }
  return config;
}

// [batch][tokens] integers, flat.
Result<std::vector<std::int64_t>> table(const Json& json, std::string_view name, std::int64_t batch,
                                        std::int64_t tokens, const std::string& where) {
  PS_TRY(const Json* rows, member(json, name, Json::Kind::kArray, where));
  std::vector<std::int64_t> out;
  for (const Json& row : rows->items) {
    for (const Json& cell : row.items) {
      if (cell.is(Json::Kind::kInteger)) out.push_back(cell.integer);
    }
    if (!row.is(Json::Kind::kArray) || static_cast<std::int64_t>(row.items.size()) != tokens) break;
  }
  if (static_cast<std::int64_t>(rows->items.size()) != batch ||
      static_cast<std::int64_t>(out.size()) != batch * tokens) {
    return bad_input(where + "/" + std::string(name), "has another size than steps and left_pad",
                     std::to_string(batch) + " rows of " + std::to_string(tokens) + " integers",
                     rows->brief());
  }
  return out;
}

// left_pad, valid and position_ids say the same thing three times.
Result<void> check_padding(const TpCase& c, const std::vector<std::int64_t>& left_pad,
                           const std::string& where) {
  for (std::int64_t b = 0; b < c.batch; ++b) {
    const std::int64_t pad = left_pad[static_cast<std::size_t>(b)];
    for (std::int64_t t = 0; t < c.tokens; ++t) {
      const auto at = static_cast<std::size_t>(b * c.tokens + t);
      const std::int64_t valid = t >= pad ? 1 : 0, position = std::max<std::int64_t>(t - pad, 0);
      const std::string cell = "[" + std::to_string(b) + "," + std::to_string(t) + "]";
      if (c.valid[at] != valid) {
        return bad_input(where + "/valid" + cell, "differs from left_pad", std::to_string(valid),
                         std::to_string(c.valid[at]));
      }
      if (c.position_ids[at] != position) {
        return bad_input(where + "/position_ids" + cell, "differs from left_pad",
                         std::to_string(position), std::to_string(c.position_ids[at]));
      }
    }
  }
  return {};
}

Result<void> read_inputs(TpCase& c, const std::string& where) {
  PS_TRY(c.steps, integers(c.json, "steps", where));
  PS_TRY(const std::vector<std::int64_t> left_pad, integers(c.json, "left_pad", where));
  for (const std::int64_t s : c.steps) {
    if (s < 1 || s > 1 << 16) {
      return bad_input(where + "/steps", "a step of " + std::to_string(s) + " tokens");
    }
    c.tokens += s;
  }
  c.batch = static_cast<std::int64_t>(left_pad.size());
  if (c.batch == 0 || c.steps.empty()) return bad_input(where, "has no rows or no steps");
  PS_TRY(c.input_ids, table(c.json, "input_ids", c.batch, c.tokens, where));
  PS_TRY(c.position_ids, table(c.json, "position_ids", c.batch, c.tokens, where));
  PS_TRY(c.valid, table(c.json, "valid", c.batch, c.tokens, where));
  return check_padding(c, left_pad, where);
}

Result<void> read_ranks(TpCase& c, const std::string& where) {
  PS_TRY(c.tps, integers(c.json, "tps", where));
  PS_TRY(c.rejected, integers(c.json, "rejected_tps", where));
  PS_TRY(const Json* full, member(c.json, "tp_full", Json::Kind::kInteger, where));
  c.tp_full = full->integer;
  if (std::find(c.tps.begin(), c.tps.end(), c.tp_full) == c.tps.end()) {
    return bad_input(where + "/tp_full", "is not among tps", "", full->brief());
  }
  std::set<std::int64_t> all;
  for (const auto* list : {&c.tps, &c.rejected}) {
    for (const std::int64_t tp : *list) {
      if (tp >= 1 && tp <= 4096 && all.insert(tp).second) continue;
      return bad_input(where, "a number of ranks that cannot be, or stands there twice",
                       "1 to 4096, in tps or in rejected_tps", std::to_string(tp));
    }
  }
  for (const std::int64_t tp : {1, 2, 4, 8}) {
    if (all.contains(tp)) continue;
    return bad_input(where, "tp " + std::to_string(tp) + " is neither in tps nor in rejected_tps",
                     "a case decides 1, 2, 4 and 8");
  }
  return {};
}

// The schema's own two numbers, which every case repeats.
Result<void> read_tolerance(TpCase& c, const std::string& where) {
  PS_TRY(const Json* tolerance, member(c.json, "tolerance", Json::Kind::kObject, where));
  for (const auto& [name, value, to] : {std::tuple{"fp64_rel", 1e-12, &c.f64_rel},
                                        std::tuple{"fp32_rel_logits", 2e-6, &c.f32_rel_logits}}) {
    PS_TRY(const Json* found, member(*tolerance, name, Json::Kind::kNumber, where));
    if (found->number != value) {
      return bad_input(where + "/tolerance/" + name, "is not the one that cases are held to",
                       value == 1e-12 ? "1e-12" : "2e-06", found->brief());
    }
    *to = value;
  }
  return {};
}

Result<void> check_weights(const TpCase& c) {
  std::size_t known = 0;
  for (const WeightSpec& spec : expected_weights(c.config)) {
    const TensorView* found = c.weights->find(spec.name);
    if (found == nullptr) return bad_input(c.weights->where(), "lacks " + spec.name);
    if (found->shape != spec.shape || found->dtype != DType::kF32) {
      return bad_input(c.weights->where() + "/" + spec.name, "has another shape or type",
                       to_string(spec.shape) + " F32",
                       to_string(found->shape) + " " + std::string(safetensors_name(found->dtype)));
    }
    ++known;
  }
  if (known != c.weights->entries().size()) {
    return bad_input(c.weights->where(), "holds tensors that the config does not ask for");
  }
  return {};
}

}  // namespace

Result<Json> read_json_file(const fs::path& path) {
  PS_TRY(const std::string text, read_text(path));
  return parse_json(text, path.string());
}

Result<std::vector<std::int64_t>> integers(const Json& json, std::string_view name,
                                           const std::string& where) {
  PS_TRY(const Json* list, member(json, name, Json::Kind::kArray, where));
  std::vector<std::int64_t> out;
  for (const Json& item : list->items) {
    if (!item.is(Json::Kind::kInteger)) {
      return bad_input(where + "/" + std::string(name), "needs integers", "", item.brief());
    }
    out.push_back(item.integer);
  }
  return out;
}

std::string first_difference(const std::string& expected, const std::string& found) {
  const auto a = nlohmann::json::parse(expected, nullptr, false);
  const auto b = nlohmann::json::parse(found, nullptr, false);
  if (a == b) return "";
  const auto patch = nlohmann::json::diff(b, a);
  if (patch.empty()) return "/";
  const std::string path = patch[0].value("path", "");
  const auto at = nlohmann::json::json_pointer(path);
  const auto shown = [&](const nlohmann::json& tree) {
    std::string text = tree.contains(at) ? tree.at(at).dump() : "nothing";
    if (text.size() > 60) text = text.substr(0, 57) + "...";
    return text;
  };
  return path + ": expected " + shown(a) + ", found " + shown(b);
}

SourceLookup TpCase::sources() const {
  return [this](std::string_view name) { return weights->find(name); };
}

PinnedRope TpCase::rope() const {
  const TensorView& cos = *acts->find("rope/model.rotary_emb:cos");
  const TensorView& sin = *acts->find("rope/model.rotary_emb:sin");
  const std::int64_t dim = config.head_dim;
  const std::int64_t longest = *std::max_element(position_ids.begin(), position_ids.end()) + 1;
  PinnedRope out{Tensor(DType::kF32, {longest, dim}), Tensor(DType::kF32, {longest, dim})};
  for (std::size_t i = 0; i < position_ids.size(); ++i) {
    for (const auto& [from, to] : {std::pair{&cos, &out.cos}, std::pair{&sin, &out.sin}}) {
      const auto row = from->as<float>().subspan(i * static_cast<std::size_t>(dim),
                                                 static_cast<std::size_t>(dim));
      std::copy(row.begin(), row.end(), to->as<float>().begin() + position_ids[i] * dim);
    }
  }
  return out;
}

std::int64_t TpCase::past(std::size_t i) const {
  std::int64_t out = 0;
  for (std::size_t s = 0; s < i; ++s) out += steps[s];
  return out;
}

StepInputs TpCase::step(std::size_t i) const {
  const std::int64_t begin = past(i), length = steps[i];
  const auto cut = [&](const std::vector<std::int64_t>& table, std::int64_t from) {
    std::vector<std::int64_t> out;
    for (std::int64_t b = 0; b < batch; ++b) {
      const auto row = table.begin() + b * tokens;
      out.insert(out.end(), row + from, row + begin + length);
    }
    return out;
  };
  StepInputs in;
  in.batch = batch;
  in.length = length;
  in.input_ids = cut(input_ids, begin);
  in.position_ids = cut(position_ids, begin);
  in.attention_mask = cut(valid, 0);
  return in;
}

bool TpCase::is_valid(std::size_t i, std::int64_t b, std::int64_t t) const {
  return valid[static_cast<std::size_t>(b * tokens + past(i) + t)] != 0;
}

Result<TpCase> read_tp_case(const fs::path& dir) {
  TpCase c;
  c.dir = dir;
  PS_TRY(c.json, read_json_file(dir / "case.json"));
  const std::string where = "case.json";
  PS_TRY(const Json* cfg, member(c.json, "cfg", Json::Kind::kObject, where));
  PS_TRY(c.config, config_of(*cfg, where + "/cfg"));
  PS_TRY(const Json* layout, member(c.json, "checkpoint_layout", Json::Kind::kString, where));
  if (layout->text != "separate") {
    return bad_input(where + "/checkpoint_layout", "cannot be verified", "separate",
                     layout->brief());
  }
  PS_TRY(const Json* empty, member(c.json, "fully_masked_row_policy", Json::Kind::kString, where));
  if (empty->text != "zero" && empty->text != "uniform") {
    return bad_input(where + "/fully_masked_row_policy", "is not known", "zero or uniform",
                     empty->brief());
  }
  c.empty_rows = empty->text == "zero" ? EmptyRows::kZeros : EmptyRows::kUniform;
  PS_TRY_VOID(read_inputs(c, where));
  PS_TRY_VOID(read_ranks(c, where));
  PS_TRY_VOID(read_tolerance(c, where));
  PS_TRY(c.weights, SafetensorsFile::open(dir / "weights.safetensors"));
  PS_TRY(c.acts, SafetensorsFile::open(dir / "acts.safetensors"));
  PS_TRY_VOID(check_weights(c));
  return c;
}

}  // namespace ps
