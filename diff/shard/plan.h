// Which bytes of a checkpoint each tensor-parallel rank must hold (tensor-parallel.md section 2).
// A plan is data: slices of named tensors, put behind each other. Everything that reads, checks or
// makes shards goes through it.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/config.h"
#include "core/result.h"
#include "core/tensor.h"
#include "diff/shard/geometry.h"

namespace ps {

enum class ShardKind : std::uint8_t {
  kVocab,      // rows of the vocabulary
  kQkv,        // rows of whole heads of q, k, v
  kMergedCol,  // rows of gate, then of up
  kRow,        // columns
  kRowBias,    // whole, added by one rank
  kReplicated,
  kKvHeads,  // prefixes [n, KV, tokens, D]: key/value heads, dim 1; the replica axis stays whole
};
std::string_view to_string(ShardKind kind);

// How a checkpoint stores q, k and v (section 2.2).
enum class CheckpointLayout : std::uint8_t {
  kSeparate,
  kConcat,              // one tensor, all of q, then k, then v; gate_up likewise (Phi-3)
  kMegatronGrouped,     // by key/value head: its query heads, its k, its v
  kPerHeadInterleaved,  // by head: q, k, v (GPT-NeoX, BLOOM); only without grouping
};
std::string_view to_string(CheckpointLayout layout);

enum class MlpLayout : std::uint8_t {
  kGated,  // gate_proj and up_proj
  kFused,  // one gate_up_proj: gate's rows, then up's
  kPlain,  // up_proj alone, an activation behind it
};
std::optional<CheckpointLayout> layout_from(std::string_view name);

// `length` indices from `start` on `dim` of a checkpoint tensor (no dim: all of it), then `pad`
// rows of zeros. A transposed one stands as [in, out] in the file; `dim` counts on [out, in].
struct ShardPart {
  std::string source;
  std::optional<std::int64_t> dim;
  std::int64_t start = 0;
  std::int64_t length = 0;
  std::int64_t pad = 0;
  bool transposed = false;
};

bool same_parts(const std::vector<ShardPart>& a, const std::vector<ShardPart>& b);

struct PlanRecord {
  std::int64_t rank = 0;
  std::string dest;  // "layers.0.self_attn.qkv_proj.weight"
  ShardKind kind = ShardKind::kReplicated;
  Shape shape;
  std::vector<ShardPart> parts;  // behind each other on dim 0
};

struct Family;

struct PlanOptions {
  bool replicate_vocab = false;     // embedding and head whole on every rank
  std::int64_t vocab_multiple = 1;  // Megatron pads to 128 * tp
  CheckpointLayout layout = CheckpointLayout::kSeparate;
  std::optional<MlpLayout> mlp{};  // nothing: fused where the layout is kConcat
  bool norm_bias = false;
  // The file's own names (families.h); null: Llama's. `root` stands before them.
  const Family* family = nullptr;
  std::string root{};
  bool fused = true;  // ranks hold qkv_proj and gate_up_proj; false: q_proj, k_proj, v_proj, ...
};

struct Plan {
  RankShare share;
  PlanOptions options;
  std::vector<PlanRecord> records;  // rank by rank
  // As the file calls them.
  std::string embedding = "model.embed_tokens.weight", head = "lm_head.weight";

  const PlanRecord* find(std::int64_t rank, std::string_view dest) const;
};

// An illegal tp is an Error that begins with its code.
Result<Plan> make_plan(const ModelConfig& config, std::int64_t tp, const PlanOptions& options);

// Rows of a fused [(H + 2 KV) D, hidden] tensor, in the order in which the rank holds them.
struct RowRange {
  std::int64_t start = 0, length = 0;
};
struct FusedRows {
  std::vector<RowRange> q, k, v;
};
FusedRows fused_rows(const ModelConfig& config, const RankShare& share, CheckpointLayout layout,
                     std::int64_t rank);

// Shape of a checkpoint tensor, by Llama's name; empty where the plan does not know it.
Shape source_shape(const ModelConfig& config, const PlanOptions& options, std::string_view name);
// Where a name holds its layer's number, and how long that is; npos: it is of no layer.
std::pair<std::size_t, std::size_t> layer_in_name(std::string_view name);
std::string layer_pattern(const std::string& name);  // "layers.*.mlp.down_proj.weight"

// A source's shape as the part's `dim` counts it.
Shape shape_for(const ShardPart& part, const TensorView& source);

// How often the plan reads each element of each source; a sentence for every element that is read
// more or less often than its kind allows (section 2.1). Empty: covered as it should be.
std::vector<std::string> coverage_problems(const Plan& plan, const ModelConfig& config);

}  // namespace ps
