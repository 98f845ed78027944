#include "core/points.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <tuple>
#include <utility>

#include "core/result.h"
#include "core/sparse_attention.h"

namespace ps {

namespace {

constexpr std::array kTable = {
#define PS_POINT(name, axes, op, scope) PointSpec{name, axes, op, PointScope::scope},
#include "core/points.def"
#undef PS_POINT
};

constexpr std::string_view kLayers = "model.layers.";
constexpr std::string_view kLayerPattern = "model.layers.N";
constexpr std::string_view kPartial = ":partial";

bool in_layer(const PointSpec& spec) { return spec.name.starts_with(kLayerPattern); }

// "model.layers.12.mlp:act" is layer 12 and ".mlp:act"; -1 outside the layers.
struct NameParts {
  std::int64_t layer = -1;
  std::string_view rest;
  bool partial = false;
};

NameParts split(std::string_view name) {
  NameParts parts;
  if (name.ends_with(kPartial)) {
    parts.partial = true;
    name.remove_suffix(kPartial.size());
  }
  parts.rest = name;
  if (!name.starts_with(kLayers)) return parts;
  const std::string_view tail = name.substr(kLayers.size());
  std::int64_t layer = 0;
  const auto [end, error] = std::from_chars(tail.data(), tail.data() + tail.size(), layer);
  const auto digits = static_cast<std::size_t>(end - tail.data());
  // One spelling a layer: no sign, no leading zero.
  const bool plain =
      error == std::errc{} && layer >= 0 && tail[0] != '-' && (tail[0] != '0' || digits == 1);
  if (!plain) return parts;
  parts.layer = layer;
  parts.rest = tail.substr(digits);
  return parts;
}

std::optional<std::size_t> row_of(const NameParts& parts) {
  for (std::size_t row = 0; row < kTable.size(); ++row) {
    const PointSpec& spec = kTable[row];
    if (in_layer(spec) != (parts.layer >= 0)) continue;
    std::string_view name = spec.name;
    if (in_layer(spec)) name.remove_prefix(kLayerPattern.size());
    if (name == parts.rest) return row;
  }
  return std::nullopt;
}

// Before the layers, in them, after them, unknown; then layer, row, partial sum before the whole.
using Place = std::tuple<int, std::int64_t, std::size_t, int>;
Place place_of(const std::optional<PointRef>& point) {
  if (!point) return {3, 0, 0, 0};
  const int whole = point->partial ? 0 : 1;
  if (point->layer >= 0) return {1, point->layer, point->row, whole};
  const auto* first_layer_row = std::find_if(kTable.begin(), kTable.end(), in_layer);
  const bool before = point->row < static_cast<std::size_t>(first_layer_row - kTable.begin());
  return {before ? 0 : 2, 0, point->row, whole};
}

struct Symbol {
  char letter;
  std::int64_t value;
  std::string_view meaning;
};

bool is_cross_kv(const PointRef& point, const ModelConfig& config) {
  const auto layer = static_cast<std::size_t>(point.layer);
  return point.layer >= 0 && layer < config.cross_kv_layer.size() && config.cross_kv_layer[layer];
}

// The points of block-sparse attention, and the dense scores that it never computes.
bool of_sparse(const PointRef& point) {
  const std::string_view op = point.spec->op;
  return op.starts_with("block_") || op == "scores";
}
bool applies_to_attention(const PointRef& point, const ModelConfig& config) {
  const std::optional<SparseAttention> sparse = sparse_attention(config);
  const std::string_view op = point.spec->op, name = point.spec->name;
  const bool here = sparse && (point.layer < 0 || sparse->sparse(point.layer));
  if (op == "scores") return !here;
  if (!here || op == "block_allowed" || op == "block_scores" || op == "block_mask") return here;
  return name.ends_with("_pools") ? !sparse->walks() : sparse->walks();
}

std::vector<Symbol> symbols(const PointRef& point, const ModelConfig& c, const StepSizes& sizes) {
  const std::int64_t seen = sizes.past + sizes.length;
  // A cross-KV layer has no prefix: its cache is T shorter than the others'.
  const std::int64_t prefix = is_cross_kv(point, c) ? 0 : c.prefix_tokens;
  std::int64_t blocks = 0, query_blocks = 0, channels = 0;
  if (of_sparse(point)) {
    if (const std::optional<SparseAttention> sparse = sparse_attention(c)) {
      blocks = sparse->config.blocks(seen);
      query_blocks = blocks - sizes.past / sparse->config.block;
      channels = sparse->pools() * c.head_dim;
    }
  }
  return {
      {'1', 1, "one for all"},
      {'R', c.replicas * sizes.batch, "replicas * batch"},
      {'B', sizes.batch, "batch"},
      {'S', sizes.length, "new tokens"},
      {'P', c.replicas, "parscale_n"},
      {'C', prefix + seen, "columns: prefix, past and new tokens"},
      {'L', seen, "past and new tokens"},
      {'H', c.heads, "num_attention_heads"},
      {'K', c.kv_heads, "num_key_value_heads"},
      {'D', c.head_dim, "head_dim"},
      {'J', c.head_dim / 2, "head_dim / 2"},
      {'X', c.heads == 0 ? 0 : c.cross_head_dim(), "hidden_size / num_attention_heads"},
      {'h', c.hidden_size, "hidden_size"},
      {'I', c.intermediate_size, "intermediate_size"},
      {'V', c.vocab_size, "vocab_size"},
      {'n', blocks, "blocks of keys"},
      {'m', query_blocks, "blocks that hold new tokens"},
      {'G', channels, "channels that the gate pools"},
  };
}

std::vector<std::string_view> split_at(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const std::size_t at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

const Symbol& symbol_of(std::span<const Symbol> table, std::string_view letter) {
  const auto found = std::find_if(table.begin(), table.end(), [&](const Symbol& s) {
    return letter.size() == 1 && s.letter == letter[0];
  });
  PS_CHECK(found != table.end(), "points.def has the unknown axis " + std::string(letter));
  return *found;
}

std::int64_t value_of(std::span<const Symbol> table, std::string_view product) {
  std::int64_t value = 1;
  for (const std::string_view letter : split_at(product, '*')) {
    value *= symbol_of(table, letter).value;
  }
  return value;
}

// "K (num_key_value_heads)", "H*D (num_attention_heads * head_dim)"
std::string describe(std::span<const Symbol> table, std::string_view product) {
  std::string meaning;
  for (const std::string_view letter : split_at(product, '*')) {
    if (!meaning.empty()) meaning += " times ";
    meaning += symbol_of(table, letter).meaning;
  }
  return std::string(product) + " (" + meaning + ")";
}

std::string_view axes_of(const PointRef& point, const ModelConfig& config) {
  const std::string_view op = point.spec->op;
  // There the tokens of all replicas are one sequence, as in model:mask_cross_kv.
  if (is_cross_kv(point, config) && (op == "scores" || op == "probs")) return "B,H,P*S,P*L";
  if (op == "block_scores") {  // a gate's, of this step's queries, head by head
    const std::optional<SparseAttention> sparse = sparse_attention(config);
    if (sparse && !sparse->walks()) return "R,H,m,n";
  }
  return point.spec->axes;
}

}  // namespace

std::span<const PointSpec> point_table() { return kTable; }

std::optional<PointRef> find_point(std::string_view name) {
  const std::string canonical = canonical_point(name);
  const NameParts parts = split(canonical);
  const std::optional<std::size_t> row = row_of(parts);
  if (!row) return std::nullopt;
  return PointRef{&kTable[*row], *row, parts.layer, parts.partial};
}

std::string canonical_point(std::string_view name) {
  const NameParts parts = split(name);
  std::string_view inner;
  if (parts.layer >= 0 && parts.rest == ".mlp") inner = ".down_proj";
  if (parts.layer >= 0 && parts.rest == ".self_attn") inner = ".o_proj";
  if (inner.empty()) return std::string(name);
  std::string out(kLayers);
  out += std::to_string(parts.layer);
  out += parts.rest;
  out += inner;
  if (parts.partial) out += kPartial;
  return out;
}

std::string point_name(const PointSpec& spec, std::int64_t layer) {
  if (!in_layer(spec)) return std::string(spec.name);
  PS_CHECK(layer >= 0, std::string(spec.name) + " needs a layer");
  return std::string(kLayers) + std::to_string(layer) +
         std::string(spec.name.substr(kLayerPattern.size()));
}

bool applies(const PointRef& point, const ModelConfig& config) {
  if (point.layer >= config.layers) return false;
  const auto any = [](const std::vector<bool>& layers) {
    return std::find(layers.begin(), layers.end(), true) != layers.end();
  };
  const auto layer = static_cast<std::size_t>(point.layer);
  if (of_sparse(point)) return applies_to_attention(point, config);
  switch (point.spec->scope) {
    case PointScope::kAlways:
      return true;
    case PointScope::kAggregated:
      return config.aggregates();
    case PointScope::kReplicaRope:
      return config.replica_rope && any(config.cross_layer);
    case PointScope::kCrossKv:
      return any(config.cross_kv_layer);
    case PointScope::kCrossLayer:
      return config.cross_layer[layer];
    case PointScope::kQkNorm:
      return config.qk_norm;
    case PointScope::kSliding: {
      const auto& slides = config.sliding_layer;
      return any(slides) && std::find(slides.begin(), slides.end(), false) != slides.end();
    }
  }
  return false;
}

bool point_before(std::string_view a, std::string_view b) {
  const std::optional<PointRef> pa = find_point(a);
  const std::optional<PointRef> pb = find_point(b);
  const Place place_a = place_of(pa);
  const Place place_b = place_of(pb);
  return place_a != place_b ? place_a < place_b : a < b;
}

std::vector<Shape> allowed_shapes(const PointRef& point, const ModelConfig& config,
                                  const StepSizes& sizes) {
  const std::vector<Symbol> table = symbols(point, config, sizes);
  std::vector<Shape> shapes = {{}};
  for (const std::string_view axis : split_at(axes_of(point, config), ',')) {
    std::vector<Shape> longer;
    for (const Shape& shape : shapes) {
      for (const std::string_view choice : split_at(axis, '|')) {
        Shape next = shape;
        next.push_back(value_of(table, choice));
        if (std::find(longer.begin(), longer.end(), next) == longer.end()) {
          longer.push_back(std::move(next));
        }
      }
    }
    shapes = std::move(longer);
  }
  return shapes;
}

std::string explain_shape(const PointRef& point, const ModelConfig& config, const StepSizes& sizes,
                          const Shape& found) {
  const std::vector<Symbol> table = symbols(point, config, sizes);
  const std::string_view axes = axes_of(point, config);
  const std::vector<std::string_view> names = split_at(axes, ',');
  if (names.size() != found.size()) {
    return "has the axes " + std::string(axes) + ": " + std::to_string(names.size()) +
           " axes expected, " + std::to_string(found.size()) + " found";
  }
  for (std::size_t axis = 0; axis < found.size(); ++axis) {
    std::string meaning, expected;
    bool right = false;
    for (const std::string_view choice : split_at(names[axis], '|')) {
      const std::int64_t value = value_of(table, choice);
      right = right || value == found[axis];
      if (!meaning.empty()) meaning += " or ";
      if (!expected.empty()) expected += " or ";
      meaning += describe(table, choice);
      expected += std::to_string(value);
    }
    if (!right) {
      std::string text = "axis " + std::to_string(axis);
      text.append(" is ").append(meaning).append(": ").append(expected).append(" expected, ");
      return text.append(std::to_string(found[axis])).append(" found");
    }
  }
  return {};
}

}  // namespace ps
