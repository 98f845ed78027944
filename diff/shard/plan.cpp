#include "diff/shard/plan.h"

#include <algorithm>
#include <map>
#include <utility>

#include "core/checkpoint.h"
#include "diff/shard/families.h"

namespace ps {

namespace {

class PlanBuilder {
 public:
  PlanBuilder(const ModelConfig& config, const RankShare& share, const PlanOptions& options,
              std::vector<PlanRecord>& out)
      : c_(config), s_(share), o_(options), out_(out) {}

  void rank(std::int64_t r) {
    rank_ = r;
    vocabulary("embed_tokens.weight", "model.embed_tokens.weight");
    vocabulary("lm_head.weight",
               c_.tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight");
    norm("norm");
    if (c_.aggregates()) {
      whole("aggregate_layer.0.weight", {c_.hidden_size, c_.replicas * c_.hidden_size});
      whole("aggregate_layer.0.bias", {c_.hidden_size});
      whole("aggregate_layer.2.weight", {c_.replicas, c_.hidden_size});
      whole("aggregate_layer.2.bias", {c_.replicas});
    }
    for (std::int64_t i = 0; i < c_.layers; ++i) layer(i);
  }

 private:
  void add(std::string dest, ShardKind kind, Shape shape, std::vector<ShardPart> parts) {
    out_.push_back({rank_, std::move(dest), kind, std::move(shape), std::move(parts)});
  }

  void vocabulary(const std::string& dest, const std::string& source) {
    const std::int64_t v = c_.vocab_size;
    if (o_.replicate_vocab) {
      add(dest, ShardKind::kReplicated, {v, c_.hidden_size}, {{source, std::nullopt, 0, v, 0}});
      return;
    }
    const std::int64_t start = std::min(rank_ * s_.vocab, v);
    const std::int64_t length = std::min(s_.vocab, v - start);
    add(dest, ShardKind::kVocab, {s_.vocab, c_.hidden_size},
        {{source, 0, start, length, s_.vocab - length}});
  }

  void whole(const std::string& dest, Shape shape, ShardKind kind = ShardKind::kReplicated) {
    const std::int64_t rows = shape[0];
    add(dest, kind, std::move(shape), {{"model." + dest, std::nullopt, 0, rows, 0}});
  }

  void norm(const std::string& dest) {
    whole(dest + ".weight", {c_.hidden_size});
    if (o_.norm_bias) whole(dest + ".bias", {c_.hidden_size});
  }

  // q, k, v of a self attention or (X = head size of cross attention) a cross-replica attention.
  void qkv(const std::string& attn, std::int64_t dim, const char* what) {
    const bool matrix = std::string_view(what) == ".weight";
    const auto shape = [&](std::int64_t rows) {
      return matrix ? Shape{rows, c_.hidden_size} : Shape{rows};
    };
    std::vector<ShardPart> q, k, v;
    if (o_.layout == CheckpointLayout::kSeparate || dim != c_.head_dim) {
      const std::int64_t at = s_.first_kv_head(rank_) * dim, size = s_.kv_heads * dim;
      q.push_back(
          {"model." + attn + "q_proj" + what, 0, s_.first_head(rank_) * dim, s_.heads * dim, 0});
      k.push_back({"model." + attn + "k_proj" + what, 0, at, size, 0});
      v.push_back({"model." + attn + "v_proj" + what, 0, at, size, 0});
    } else {
      const FusedRows rows = fused_rows(c_, s_, o_.layout, rank_);
      const auto parts = [&](const std::vector<RowRange>& ranges) {
        std::vector<ShardPart> out;
        for (const RowRange& r : ranges) {
          out.push_back({"model." + attn + "qkv_proj" + what, 0, r.start, r.length, 0});
        }
        return out;
      };
      q = parts(rows.q), k = parts(rows.k), v = parts(rows.v);
    }
    if (!o_.fused) {
      add(attn + "q_proj" + what, ShardKind::kQkv, shape(s_.heads * dim), std::move(q));
      add(attn + "k_proj" + what, ShardKind::kQkv, shape(s_.kv_heads * dim), std::move(k));
      add(attn + "v_proj" + what, ShardKind::kQkv, shape(s_.kv_heads * dim), std::move(v));
      return;
    }
    q.insert(q.end(), k.begin(), k.end());
    q.insert(q.end(), v.begin(), v.end());
    add(attn + "qkv_proj" + what, ShardKind::kQkv, shape((s_.heads + 2 * s_.kv_heads) * dim),
        std::move(q));
  }

  void row(const std::string& name, std::int64_t in) {
    add(name + ".weight", ShardKind::kRow, {c_.hidden_size, in},
        {{"model." + name + ".weight", 1, rank_ * in, in, 0}});
  }

  void gate_up(const std::string& mlp, const char* what) {
    const bool matrix = std::string_view(what) == ".weight";
    const std::int64_t n = s_.intermediate, at = rank_ * n;
    const auto shape = [&](std::int64_t rows) {
      return matrix ? Shape{rows, c_.hidden_size} : Shape{rows};
    };
    ShardPart gate{"model." + mlp + "gate_proj" + what, 0, at, n, 0};
    ShardPart up{"model." + mlp + "up_proj" + what, 0, at, n, 0};
    const MlpLayout stored = o_.mlp.value_or(
        o_.layout == CheckpointLayout::kConcat ? MlpLayout::kFused : MlpLayout::kGated);
    if (stored == MlpLayout::kPlain) {
      add(mlp + "up_proj" + what, ShardKind::kMergedCol, shape(n), {up});
      return;
    }
    if (stored == MlpLayout::kFused) {
      gate.source = up.source = "model." + mlp + "gate_up_proj" + what;
      up.start += c_.intermediate_size;
    }
    if (o_.fused) {
      add(mlp + "gate_up_proj" + what, ShardKind::kMergedCol, shape(2 * n), {gate, up});
      return;
    }
    add(mlp + "gate_proj" + what, ShardKind::kMergedCol, shape(n), {gate});
    add(mlp + "up_proj" + what, ShardKind::kMergedCol, shape(n), {up});
  }

  void prefix(const std::string& name) {
    add(name, ShardKind::kKvHeads, {c_.replicas, s_.kv_heads, c_.prefix_tokens, c_.head_dim},
        {{"model." + name, 1, s_.first_kv_head(rank_), s_.kv_heads, 0}});
  }

  void layer(std::int64_t i) {
    const auto at = static_cast<std::size_t>(i);
    const std::string name = "layers." + std::to_string(i) + ".";
    const std::string attn = name + "self_attn.", mlp = name + "mlp.";
    if (c_.cross_layer[at]) {
      const std::string cross = name + "cross_replica_attn.";
      qkv(cross, c_.cross_head_dim(), ".weight");
      qkv(cross, c_.cross_head_dim(), ".bias");
      row(cross + "o_proj", s_.heads * c_.cross_head_dim());
      whole(name + "cross_replica_layernorm.weight", {c_.hidden_size});
    }
    qkv(attn, c_.head_dim, ".weight");
    if (c_.qkv_bias) qkv(attn, c_.head_dim, ".bias");
    row(attn + "o_proj", s_.heads * c_.head_dim);
    if (c_.o_bias) whole(attn + "o_proj.bias", {c_.hidden_size}, ShardKind::kRowBias);
    if (c_.qk_norm) {
      whole(attn + "q_norm.weight", {c_.head_dim});
      whole(attn + "k_norm.weight", {c_.head_dim});
    }
    if (c_.prefix_tokens > 0 && !c_.cross_kv_layer[at]) {
      prefix(attn + "prefix_k");
      prefix(attn + "prefix_v");
    }
    gate_up(mlp, ".weight");
    row(mlp + "down_proj", s_.intermediate);
    if (c_.mlp_bias) {
      gate_up(mlp, ".bias");
      whole(mlp + "down_proj.bias", {c_.hidden_size}, ShardKind::kRowBias);
    }
    norm(name + "input_layernorm");
    norm(name + "post_attention_layernorm");
  }

  const ModelConfig& c_;
  const RankShare& s_;
  const PlanOptions& o_;
  std::vector<PlanRecord>& out_;
  std::int64_t rank_ = 0;
};

struct LayoutName {
  CheckpointLayout layout;
  std::string_view name;
};
constexpr LayoutName kLayouts[] = {
    {CheckpointLayout::kSeparate, "separate"},
    {CheckpointLayout::kConcat, "concat"},
    {CheckpointLayout::kMegatronGrouped, "megatron_grouped"},
    {CheckpointLayout::kPerHeadInterleaved, "per_head_interleaved"},
};

}  // namespace

std::string_view to_string(ShardKind kind) {
  switch (kind) {
    case ShardKind::kVocab:
      return "vocab";
    case ShardKind::kQkv:
      return "qkv";
    case ShardKind::kMergedCol:
      return "merged_col";
    case ShardKind::kRow:
      return "row";
    case ShardKind::kRowBias:
      return "row_bias";
    case ShardKind::kReplicated:
      return "replicated";
    case ShardKind::kKvHeads:
      return "kv_heads";
  }
  return "replicated";
}

std::string_view to_string(CheckpointLayout layout) {
  for (const LayoutName& l : kLayouts) {
    if (l.layout == layout) return l.name;
  }
  return "separate";
}

std::optional<CheckpointLayout> layout_from(std::string_view name) {
  for (const LayoutName& l : kLayouts) {
    if (l.name == name) return l.layout;
  }
  return std::nullopt;
}

bool same_parts(const std::vector<ShardPart>& a, const std::vector<ShardPart>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.source == y.source && x.dim == y.dim && x.start == y.start && x.length == y.length &&
           x.pad == y.pad && x.transposed == y.transposed;
  });
}

const PlanRecord* Plan::find(std::int64_t rank, std::string_view dest) const {
  for (const PlanRecord& r : records) {
    if (r.rank == rank && r.dest == dest) return &r;
  }
  return nullptr;
}

namespace {

// The records under the file's names; those of tensors that the family lacks go, its own come.
void rename(Plan& plan, const ModelConfig& config) {
  const Family& family = *plan.options.family;
  const std::string& root = plan.options.root;
  std::vector<PlanRecord> out;
  for (PlanRecord& record : plan.records) {
    bool absent = false;
    for (ShardPart& part : record.parts) {
      part.transposed = is_transposed(family, part.source);
      part.source = family_tensor(family, root, part.source);
      absent = absent || part.source.empty();
    }
    if (absent) continue;
    const std::string file = family_tensor(family, "", record.dest);
    if (!file.empty()) record.dest = file;
    out.push_back(std::move(record));
  }
  for (std::int64_t r = 0; r < plan.share.tp; ++r) {
    for (const FamilyExtra& extra : family.extras) {
      const std::string name(extra.file);
      const std::int64_t rows =
          extra.positions ? config.max_position_embeddings : config.hidden_size;
      const Shape shape = extra.positions ? Shape{rows, config.hidden_size} : Shape{rows};
      out.push_back(
          {r, name, ShardKind::kReplicated, shape, {{root + name, std::nullopt, 0, rows, 0}}});
    }
  }
  std::stable_sort(out.begin(), out.end(),
                   [](const PlanRecord& a, const PlanRecord& b) { return a.rank < b.rank; });
  plan.records = std::move(out);
  plan.embedding = family_tensor(family, root, plan.embedding);
  plan.head = family_tensor(family, root, plan.head);
}

}  // namespace

Result<Plan> make_plan(const ModelConfig& config, std::int64_t tp, const PlanOptions& options) {
  if (tp < 1) return bad_input("--tp", "wrong number of ranks", "1 or more", std::to_string(tp));
  const std::vector<Rejection> wrong = rejections(head_sizes(config), tp);
  if (!wrong.empty()) {
    return bad_input("tp " + std::to_string(tp), wrong[0].code + ": " + wrong[0].rule);
  }
  if (options.layout == CheckpointLayout::kPerHeadInterleaved && config.group() != 1) {
    return bad_input("layout", "per_head_interleaved stores a k and a v for each query head",
                     "as many key/value heads as query heads",
                     std::to_string(config.kv_heads) + " of " + std::to_string(config.heads));
  }
  Plan plan;
  plan.options = options;
  plan.share = rank_share(config, tp, options.vocab_multiple);
  PlanBuilder builder(config, plan.share, options, plan.records);
  for (std::int64_t r = 0; r < tp; ++r) builder.rank(r);
  if (options.family != nullptr) rename(plan, config);
  return plan;
}

FusedRows fused_rows(const ModelConfig& config, const RankShare& share, CheckpointLayout layout,
                     std::int64_t rank) {
  const std::int64_t d = config.head_dim, g = config.group();
  FusedRows out;
  const auto add = [](std::vector<RowRange>& rows, std::int64_t start, std::int64_t length) {
    if (!rows.empty() && rows.back().start + rows.back().length == start) {
      rows.back().length += length;
    } else {
      rows.push_back({start, length});
    }
  };
  const bool grouped = layout == CheckpointLayout::kMegatronGrouped ||
                       layout == CheckpointLayout::kPerHeadInterleaved;
  const std::int64_t block = (g + 2) * d;  // rows of one key/value head and its query heads
  for (std::int64_t i = 0; i < share.heads; ++i) {
    const std::int64_t h = share.first_head(rank) + i;
    add(out.q, grouped ? h / g * block + h % g * d : h * d, d);
  }
  for (std::int64_t i = 0; i < share.kv_heads; ++i) {
    const std::int64_t h = share.first_kv_head(rank) + i;
    add(out.k, grouped ? h * block + g * d : (config.heads + h) * d, d);
    add(out.v, grouped ? h * block + (g + 1) * d : (config.heads + config.kv_heads + h) * d, d);
  }
  return out;
}

Shape source_shape(const ModelConfig& config, const PlanOptions& options, std::string_view name) {
  const bool matrix = name.ends_with(".weight");
  const auto shape = [&](std::int64_t rows) {
    return matrix ? Shape{rows, config.hidden_size} : Shape{rows};
  };
  if (options.layout != CheckpointLayout::kSeparate &&
      name.find(".self_attn.qkv_proj.") != name.npos) {
    return shape((config.heads + 2 * config.kv_heads) * config.head_dim);
  }
  if (name.find(".mlp.gate_up_proj.") != name.npos) return shape(2 * config.intermediate_size);
  if (options.norm_bias && name.ends_with("norm.bias")) return {config.hidden_size};
  for (const WeightSpec& spec : expected_weights(config)) {
    if (spec.name == name) return spec.shape;
  }
  return {};
}

std::pair<std::size_t, std::size_t> layer_in_name(std::string_view name) {
  for (const std::string_view folder : {"layers.", "h."}) {
    std::size_t at = name.starts_with(folder) ? 0 : name.find("." + std::string(folder));
    if (at == name.npos) continue;
    at = name.find('.', at == 0 ? 0 : at + 1) + 1;
    std::size_t end = at;
    while (end < name.size() && name[end] >= '0' && name[end] <= '9') ++end;
    if (end > at && end < name.size() && name[end] == '.') return {at, end - at};
  }
  return {std::string_view::npos, 0};
}

std::string layer_pattern(const std::string& name) {
  const auto [at, length] = layer_in_name(name);
  std::string out = name;
  if (at != std::string::npos) out.replace(at, length, "*");
  return out;
}

Shape shape_for(const ShardPart& part, const TensorView& source) {
  Shape shape = source.shape;
  if (part.transposed && shape.size() == 2) std::swap(shape[0], shape[1]);
  return shape;
}

}  // namespace ps
