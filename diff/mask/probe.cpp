#include "diff/mask/probe.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <stdlib.h>

#include "core/file.h"
#include "core/json.h"
#include "core/rng.h"
#include "core/sparse_attention.h"

namespace ps::mask {

namespace fs = std::filesystem;

namespace {

// A folder of its own, gone at the end.
class Folder {
 public:
  static Result<Folder> create() {
    std::error_code ec;
    std::string name = (fs::temp_directory_path(ec) / "parscope-probe-XXXXXX").string();
    if (ec || ::mkdtemp(name.data()) == nullptr) {
      return machine_error(name, "no folder for the probe's weights can be made");
    }
    return Folder(name);
  }
  Folder(Folder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  Folder& operator=(Folder&&) = delete;
  ~Folder() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }

 private:
  explicit Folder(fs::path path) : path_(std::move(path)) {}
  fs::path path_;
};

void set_field(Json& object, const std::string& name, Json value) {
  const auto it = std::find(object.names.begin(), object.names.end(), name);
  if (it != object.names.end()) {
    object.items[static_cast<std::size_t>(it - object.names.begin())] = std::move(value);
    return;
  }
  object.names.push_back(name);
  object.items.push_back(std::move(value));
}

bool has_cross_kv(const ModelConfig& c) {
  return std::find(c.cross_kv_layer.begin(), c.cross_kv_layer.end(), true) !=
         c.cross_kv_layer.end();
}

// The layer that can tell replicas apart, by their prefixes; -1: none does.
std::int64_t telling_layer(const ModelConfig& c) {
  const auto first = std::find(c.cross_kv_layer.begin(), c.cross_kv_layer.end(), false);
  const bool none = c.prefix_tokens == 0 || first == c.cross_kv_layer.end();
  return none ? -1 : first - c.cross_kv_layer.begin();
}

// The same model with a vocabulary of head_dim one-hot tokens and one neutral token, and as little
// else as its heads allow.
Result<std::string> probe_config(const ModelConfig& c) {
  PS_TRY(Json json, parse_json(c.json, "config.json"));
  const auto number = [&](const char* name, std::int64_t x) {
    Json value;
    value.kind = Json::Kind::kInteger;
    value.integer = x;
    set_field(json, name, std::move(value));
  };
  const auto words = [&](const char* name, const char* text) {
    if (json.find(name) == nullptr) return;
    Json value;
    value.kind = Json::Kind::kString;
    value.text = text;
    set_field(json, name, std::move(value));
  };
  number("vocab_size", c.head_dim + 1);
  const bool constant = sparse_attention(c).has_value();  // a channel that every token has
  const std::int64_t per_head = (c.head_dim + (constant ? 2 : 1) + c.heads - 1) / c.heads;
  const std::int64_t wide = (2 * c.head_dim + 2 + c.heads - 1) / c.heads;  // with products
  const std::int64_t width = has_cross_kv(c) ? wide : per_head;
  number("hidden_size", c.heads * (width + width % 2));  // even: replica RoPE turns pairs
  number("intermediate_size", has_cross_kv(c) ? c.head_dim : 4);
  number("head_dim", c.head_dim);
  words("torch_dtype", "float32");
  words("dtype", "float32");
  return json.dump();
}

// Queries and keys of a model that selects blocks by them: the same for every token, so that every
// pass selects the same blocks, and no larger than to turn no weight into 0; positions, through the
// rotation, tell blocks apart.
void select_by_positions(const std::string& name, std::int64_t hidden, std::int64_t channel,
                         std::span<float> cells) {
  const bool queries = name.ends_with("self_attn.q_proj.weight");
  if (!queries && !name.ends_with("self_attn.k_proj.weight")) return;
  const auto layer = std::stoull(name.substr(std::string_view("model.layers.").size()));
  const Rng rng(29, 2 * layer + (queries ? 1 : 0));
  const double size = std::sqrt(2.0 / static_cast<double>(hidden));
  for (std::size_t row = 0; row < cells.size() / static_cast<std::size_t>(hidden); ++row) {
    cells[row * static_cast<std::size_t>(hidden) + static_cast<std::size_t>(channel)] =
        static_cast<float>(size * rng.normal(row));
  }
}

// What the model selects blocks with, where it is not made from a seed.
Result<void> copy_projections(const SparseAttention& sparse, const Model& model,
                              SafetensorsWriter& writer) {
  if (sparse.seed) return {};
  for (std::int64_t l = sparse.config.skip; l < model.config.layers; ++l) {
    PS_TRY(const SparseWeights w, sparse_weights(sparse, model.checkpoint.get(), l));
    if (sparse.walks()) return writer.add(sketch_name(), w.sketch.view());
    PS_TRY_VOID(writer.add(gate_name(l, 'q'), w.gate_wq.view()));
    PS_TRY_VOID(writer.add(gate_name(l, 'k'), w.gate_wk.view()));
  }
  return {};
}

// `slot` >= 0: prefix slots slot, slot + 1, ... have one-hot values; else none has.
// `replica` >= 0: what cross-KV layers attend to is one-hot for this replica's tokens and 0 for the
// others'. The telling layer's prefix marks the replica in the residual stream (channel dim + 1);
// its MLP multiplies that mark by the token's own channel, into channels from dim + 2 on.
Result<Model> write_probe(const Model& model, const fs::path& dir, const std::string& config_json,
                          std::int64_t slot, std::int64_t replica = -1) {
  PS_TRY_VOID(ensure_directory(dir));
  PS_TRY_VOID(write_text(dir / "config.json", config_json));
  PS_TRY(const ModelConfig config, load_config(dir));
  PS_TRY(SafetensorsWriter writer, SafetensorsWriter::create(dir / "model.safetensors"));
  const std::int64_t dim = config.head_dim, hidden = config.hidden_size;
  const std::int64_t mark = dim + 1, product = dim + 2;
  const std::optional<SparseAttention> sparse = sparse_attention(config);
  const std::string telling =
      "model.layers." + std::to_string(replica >= 0 ? telling_layer(config) : -1) + ".";
  for (const WeightSpec& spec : expected_weights(config)) {
    Tensor w(DType::kF32, spec.shape);
    const auto cells = w.as<float>();
    const auto set = [&](std::int64_t i) { cells[static_cast<std::size_t>(i)] = 1.F; };
    const auto ends = [&](const char* name) { return spec.name.ends_with(name); };
    if (spec.name.find("norm") != std::string::npos) std::fill(cells.begin(), cells.end(), 1.F);
    if (ends("embed_tokens.weight")) {
      for (std::int64_t t = 0; t <= dim; ++t) set(t * hidden + t);
      for (std::int64_t t = 0; t <= dim && sparse; ++t) set(t * hidden + mark);
    }
    if (sparse) select_by_positions(spec.name, hidden, mark, cells);
    const bool tells = spec.name.starts_with(telling);
    if (ends("self_attn.v_proj.weight") && !tells) {
      for (std::int64_t r = 0; r < config.kv_heads * dim; ++r) {
        set(r * hidden + r % dim + (replica >= 0 ? product : 0));
      }
    }
    if (tells && ends("prefix_v")) {
      const std::int64_t each = count_of(spec.shape) / spec.shape[0];
      for (std::int64_t i = replica * each; i < (replica + 1) * each; i += dim) set(i);
    }
    if (tells && ends("self_attn.o_proj.weight")) set(mark * config.heads * dim);
    for (std::int64_t d = 0; tells && d < dim; ++d) {
      if (ends("mlp.gate_proj.weight")) set(d * hidden + mark);
      if (ends("mlp.up_proj.weight")) set(d * hidden + d);
      if (ends("mlp.down_proj.weight")) set((product + d) * dim + d);
    }
    if (ends("prefix_v") && slot >= 0) {  // [replica, kv_head, slot, dim]
      const std::int64_t slots = spec.shape[2];
      for (std::int64_t head = 0; head < spec.shape[0] * spec.shape[1]; ++head) {
        for (std::int64_t d = 0; d < dim && slot + d < slots; ++d)
          set((head * slots + slot + d) * dim + d);
      }
    }
    PS_TRY_VOID(writer.add(spec.name, w.view()));
  }
  if (sparse) PS_TRY_VOID(copy_projections(*sparse, model, writer));
  PS_TRY_VOID(writer.close());
  return open_model(dir);
}

// What one column group of all steps showed: cells[step][layer] as [row, head, query, column].
struct Step {
  std::int64_t past = 0, length = 0;
  std::map<std::int64_t, std::vector<bool>> cells;
  // What a sparse layer says it selected.
  std::map<std::int64_t, std::pair<Shape, std::vector<std::uint8_t>>> blocks;
  // Of cross-KV layers: keys that a replica has to itself, or that of any replica.
  std::int64_t keys(const ModelConfig& c) const {
    return c.cross_kv_causal ? past + length : length;
  }
};

// What one pass shows in column `first` + d of a layer; replica >= 0: of that replica's keys alone.
struct Pass {
  std::int64_t slot = -1, token = -1, replica = -1;
};

// Reads visible columns off a step's contexts, head_dim of them a pass.
class ContextReader final : public Tap {
 public:
  ContextReader(const ModelConfig& config, std::int64_t rows, Step& step, Pass pass)
      : config_(config), rows_(rows), step_(step), pass_(pass) {}

  bool wants(std::string_view point) override {
    if (layer_of(point, kBlocks) >= 0) return true;
    const std::int64_t layer = layer_of(point);
    return layer >= 0 && (crosses(layer) ? reads_cross(layer) : pass_.replica < 0);
  }
  void take(std::string_view point, const TensorView& value) override {
    if (const std::int64_t sparse = layer_of(point, kBlocks); sparse >= 0) {
      keep_blocks(sparse, point, value);
      return;
    }
    const std::int64_t layer = layer_of(point);
    const std::int64_t heads = config_.heads, dim = config_.head_dim;
    const bool cross = crosses(layer);
    const std::int64_t telling = telling_layer(config_);
    const bool apart = cross && telling >= 0 && layer > telling;
    const std::int64_t keys = step_.keys(config_);
    const std::int64_t columns = !cross ? config_.prefix_tokens + step_.past + step_.length
                                        : keys * (apart ? config_.replicas : 1);
    std::vector<bool>& cells = step_.cells[layer];
    cells.resize(static_cast<std::size_t>(rows_ * heads * step_.length * columns));
    if (value.shape != Shape{rows_, step_.length, heads * dim}) {
      failed = bad_input(std::string(point), "has another shape than the probe expects", "",
                         ps::to_string(value.shape));
      return;
    }
    std::int64_t at = 0;
    for (std::int64_t r = 0; r < rows_; ++r) {
      for (std::int64_t q = 0; q < step_.length; ++q) {
        for (std::int64_t h = 0; h < heads; ++h) {
          for (std::int64_t d = 0; d < dim; ++d, ++at) {
            const std::int64_t column =
                cross ? cross_column(d, keys, apart)
                      : (pass_.slot >= 0 ? pass_.slot : config_.prefix_tokens + pass_.token) + d;
            // NaN is not 0: a row that gives NaN says nothing about its keys and counts as seen.
            if (column < 0 || column >= columns || value_at(value, at) == 0) continue;
            const std::int64_t line =
                cross ? cross_line(r, h, q) : (r * heads + h) * step_.length + q;
            cells[static_cast<std::size_t>(line * columns + column)] = true;
          }
        }
      }
    }
  }
  std::optional<Error> failed;

 private:
  bool crosses(std::int64_t layer) const {
    return config_.cross_kv_layer[static_cast<std::size_t>(layer)];
  }
  // Behind the telling layer replicas are read one by one; before it they are all alike.
  bool reads_cross(std::int64_t layer) const {
    const std::int64_t telling = telling_layer(config_);
    if (pass_.slot >= 0) return false;
    return telling >= 0 && layer > telling ? pass_.replica >= 0 : pass_.replica < 0;
  }
  // Of [sample, head, p * S + query].
  std::int64_t cross_line(std::int64_t row, std::int64_t head, std::int64_t query) const {
    const std::int64_t batch = rows_ / config_.replicas, p = row / batch;
    return ((row % batch * config_.heads + head) * config_.replicas + p) * step_.length + query;
  }
  std::int64_t cross_column(std::int64_t d, std::int64_t keys, bool apart) const {
    const std::int64_t key = pass_.token + d - (config_.cross_kv_causal ? 0 : step_.past);
    if (key < 0 || key >= keys) return -1;
    return (apart ? pass_.replica * keys : 0) + key;
  }
  static constexpr std::string_view kBlocks = ".self_attn:block_mask";
  // All passes show one mask only if they select alike, as their queries and keys are alike.
  void keep_blocks(std::int64_t layer, std::string_view point, const TensorView& value) {
    std::pair<Shape, std::vector<std::uint8_t>> now{value.shape, {}};
    for (std::int64_t i = 0; i < value.count(); ++i) {
      now.second.push_back(value_at(value, i) != 0 ? 1 : 0);
    }
    const bool same = step_.blocks.try_emplace(layer, now).first->second == now;
    if (!same) {
      failed = bad_input(std::string(point), "other blocks are selected from run to run",
                         "the same from equal queries and keys");
    }
  }
  static std::int64_t layer_of(std::string_view point,
                               std::string_view after = ".self_attn:context") {
    constexpr std::string_view kBefore = "model.layers.";
    if (!point.starts_with(kBefore) || !point.ends_with(after)) return -1;
    point.remove_prefix(kBefore.size());
    point.remove_suffix(after.size());
    std::int64_t layer = 0;
    for (const char c : point) layer = layer * 10 + (c - '0');
    return layer;
  }
  const ModelConfig& config_;
  std::int64_t rows_;
  Step& step_;
  Pass pass_;
};

// Tokens [past, past + length) of the run, of which those of the group [first, first + dim) are
// one-hot. Tokens after the prompt are real.
StepInputs inputs_of(const ProbePlan& plan, std::int64_t past, std::int64_t length,
                     std::int64_t first, std::int64_t dim) {
  const StepInputs& p = plan.prompt;
  StepInputs in;
  in.batch = p.batch;
  in.length = length;
  for (std::int64_t b = 0; b < p.batch; ++b) {
    for (std::int64_t t = past; t < past + length; ++t) {
      in.input_ids.push_back(first >= 0 && t >= first && t < first + dim ? t - first : dim);
    }
  }
  const auto at = [&](const std::vector<std::int64_t>& list, std::int64_t b, std::int64_t t) {
    return list[static_cast<std::size_t>(b * p.length + t)];
  };
  if (p.attention_mask) {
    in.attention_mask.emplace();
    for (std::int64_t b = 0; b < p.batch; ++b) {
      for (std::int64_t t = 0; t < past + length; ++t) {
        in.attention_mask->push_back(t < p.length ? at(*p.attention_mask, b, t) : 1);
      }
    }
  }
  if (p.position_ids) {
    in.position_ids.emplace();
    for (std::int64_t b = 0; b < p.batch; ++b) {
      for (std::int64_t t = past; t < past + length; ++t) {
        const std::int64_t beyond = std::max<std::int64_t>(0, t - p.length + 1);
        in.position_ids->push_back(at(*p.position_ids, b, t - beyond) + beyond);
      }
    }
  }
  return in;
}

}  // namespace

Result<std::vector<ProbedMask>> probe_masks(const Model& model, const ProbePlan& plan,
                                            const OpenProbe& open) {
  PS_TRY(const Folder folder, Folder::create());
  PS_TRY(const std::string config_json, probe_config(model.config));
  const ModelConfig& c = model.config;
  const std::int64_t dim = c.head_dim, rows = c.replicas * plan.prompt.batch;
  const std::int64_t chunk = plan.chunk > 0 ? plan.chunk : plan.prompt.length;
  const std::int64_t total = plan.prompt.length + plan.decode_steps;
  std::vector<Step> steps;
  for (std::int64_t past = 0; past < total;) {
    const bool decode = past >= plan.prompt.length;
    const std::int64_t length = decode ? 1 : std::min(chunk, plan.prompt.length - past);
    steps.push_back({past, length, {}, {}});
    past += length;
  }
  const std::int64_t columns = c.prefix_tokens + total;
  constexpr std::int64_t kMostCells = std::int64_t{1} << 31;
  if (rows * c.heads * c.layers > kMostCells / std::max<std::int64_t>(1, total * columns)) {
    return bad_input("mask probe", "too many pairs to hold", "a shorter prompt");
  }

  // One pass over all steps: which columns are one-hot, first of the prefix, then of the tokens.
  const auto pass = [&](Engine& engine, const Pass& what) -> Result<void> {
    engine.reset();
    for (Step& step : steps) {
      ContextReader reader(c, rows, step, what);
      PS_TRY_VOID(engine.forward(inputs_of(plan, step.past, step.length, what.token, dim), reader));
      if (reader.failed) return *reader.failed;
    }
    return {};
  };
  for (std::int64_t slot = 0; slot < c.prefix_tokens; slot += dim) {
    const fs::path dir = folder.path() / ("prefix" + std::to_string(slot));
    PS_TRY(const Model probe, write_probe(model, dir, config_json, slot));
    PS_TRY(const std::unique_ptr<Engine> engine, open(probe));
    PS_TRY_VOID(pass(*engine, {.slot = slot}));
  }
  PS_TRY(const Model probe, write_probe(model, folder.path() / "tokens", config_json, -1));
  PS_TRY(const std::unique_ptr<Engine> engine, open(probe));
  for (std::int64_t token = 0; token < total; token += dim) {
    PS_TRY_VOID(pass(*engine, {.token = token}));
  }
  const bool apart = has_cross_kv(c) && telling_layer(c) >= 0;
  for (std::int64_t p = 0; apart && p < c.replicas; ++p) {
    const fs::path dir = folder.path() / ("replica" + std::to_string(p));
    PS_TRY(const Model marked, write_probe(model, dir, config_json, -1, p));
    PS_TRY(const std::unique_ptr<Engine> marked_engine, open(marked));
    for (std::int64_t token = 0; token < total; token += dim) {
      PS_TRY_VOID(pass(*marked_engine, {.token = token, .replica = p}));
    }
  }

  const std::optional<SparseAttention> sparse = sparse_attention(c);
  std::vector<ProbedMask> out;
  for (std::size_t s = 0; s < steps.size(); ++s) {
    Step& step = steps[s];
    for (const auto& [layer, cells] : step.cells) {
      Dims dims{rows, c.heads, step.length, c.prefix_tokens + step.past + step.length};
      const bool cross = c.cross_kv_layer[static_cast<std::size_t>(layer)];
      const bool alike = cross && !(apart && layer > telling_layer(c));
      if (cross) {
        dims = {plan.prompt.batch, c.heads, c.replicas * step.length,
                step.keys(c) * (alike ? 1 : c.replicas)};
      }
      const auto bit = [&](std::int64_t i) { return cells[static_cast<std::size_t>(i)]; };
      out.push_back({static_cast<std::int64_t>(s),
                     layer,
                     step.past,
                     mask_from_cells(dims, bit),
                     cross,
                     alike,
                     {},
                     {},
                     0});
      if (!sparse || !sparse->sparse(layer)) continue;
      const auto found = step.blocks.find(layer);
      if (found == step.blocks.end()) {
        return bad_input("model.layers." + std::to_string(layer) + ".self_attn:block_mask",
                         "the engine does not say which blocks it selected");
      }
      out.back().blocks_shape = found->second.first;
      out.back().blocks = std::move(found->second.second);
      out.back().block_size = sparse->config.block;
    }
  }
  return out;
}

}  // namespace ps::mask
