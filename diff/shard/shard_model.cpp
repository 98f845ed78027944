#include "diff/shard/shard_model.h"

#include "core/file.h"
#include "core/json.h"
#include "diff/shard/families.h"

namespace ps {

namespace {

namespace fs = std::filesystem;

std::int64_t number(const Json& json, std::string_view name, std::int64_t otherwise) {
  const Json* found = json.find(name);
  return found != nullptr && found->is(Json::Kind::kInteger) ? found->integer : otherwise;
}

// The sizes that legality is about; 0 where the file does not say.
HeadSizes raw_sizes(const Json& json, std::string_view model_type) {
  HeadSizes s;
  s.heads = number(json, "num_attention_heads", 0);
  s.kv_heads = number(json, "num_key_value_heads", s.heads);
  s.intermediate = number(json, "intermediate_size", 0);
  const std::int64_t hidden = number(json, "hidden_size", 0);
  s.head_dim = number(json, "head_dim", s.heads > 0 ? hidden / s.heads : 0);
  s.wide_qk_norm = model_type == "olmo2" || model_type == "olmo3";
  return s;
}

// What the file puts before its names: some leave the family's root out.
std::string root_of(const Family& family, const Checkpoint* checkpoint) {
  const std::string root(family.root);
  if (checkpoint == nullptr || root.empty()) return root;
  const std::string embedding = family_tensor(family, root, "model.embed_tokens.weight");
  return checkpoint->peek(embedding) != nullptr ? root : "";
}

}  // namespace

SourceLookup ShardModel::sources() const {
  return [checkpoint = checkpoint](std::string_view name) -> const TensorView* {
    return checkpoint == nullptr ? nullptr : checkpoint->peek(name);
  };
}

PlanOptions ShardModel::options() const {
  PlanOptions out;
  out.layout = layout;
  out.family = family;
  out.root = root;
  if (family == nullptr) return out;
  out.mlp = family->mlp;
  out.norm_bias = family->norm_bias;
  return out;
}

Result<ShardModel> open_shard_model(const fs::path& dir, std::int64_t tp) {
  if (tp < 1) return bad_input("--tp", "wrong number of ranks", "1 or more", std::to_string(tp));
  const fs::path file = dir / "config.json";
  PS_TRY(const std::string text, read_text(file));
  PS_TRY(const Json json, parse_json(text, file.string()));
  const Json* type = json.find("model_type");
  const std::string model_type = type != nullptr ? type->text : "";
  ShardModel out;
  const HeadSizes sizes = raw_sizes(json, model_type);
  if (sizes.heads > 0 && sizes.kv_heads > 0) out.rejected = rejections(sizes, tp);
  if (!out.rejected.empty()) return out;

  const Result<std::shared_ptr<Checkpoint>> opened = Checkpoint::open(dir);
  if (opened.ok()) {
    out.checkpoint = opened.value();
  } else if (opened.error().what != "has no weights" || opened.error().found != "none of them") {
    return opened.error();  // only a directory without any weights is a config alone
  }
  out.family = family_of(json, [&](std::string_view name) {
    return out.checkpoint != nullptr && out.checkpoint->peek(name) != nullptr;
  });
  const bool own_config = out.family != nullptr && !out.family->model_type.empty();
  PS_TRY(ParsedConfig parsed, own_config ? family_config(json, *out.family, file.string())
                                         : parse_config(text, file.string()));
  PS_TRY(out.config, first_error_or_config(std::move(parsed), file.string()));
  if (out.family != nullptr) {
    out.layout = out.family->layout;
    out.root = root_of(*out.family, out.checkpoint.get());
    out.rejected = rejections(head_sizes(out.config), tp);
  }
  if (out.checkpoint == nullptr) return out;
  const TensorView* norm = out.checkpoint->peek("model.layers.0.self_attn.q_norm.weight");
  if (norm != nullptr && out.config.heads > 1 &&
      norm->shape == Shape{out.config.heads * out.config.head_dim}) {
    HeadSizes wide = head_sizes(out.config);
    wide.wide_qk_norm = true;
    out.rejected = rejections(wide, tp);
  }
  if (out.family == nullptr &&
      out.checkpoint->peek("model.layers.0.self_attn.qkv_proj.weight") != nullptr) {
    out.layout = CheckpointLayout::kConcat;  // what all that use this name do; --layout for others
  }
  return out;
}

}  // namespace ps
