// The table of points (spec trace.md): every value of a run that has a name, its axes in symbols,
// the op that makes it. points.def is the list; what a point is called elsewhere is not known here.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/config.h"
#include "core/tensor.h"

namespace ps {

enum class PointScope : std::uint8_t {
  kAlways,
  kAggregated,   // P > 1
  kReplicaRope,  // replica RoPE and a cross layer
  kCrossKv,      // a cross-KV layer exists
  kCrossLayer,   // in layers with cross-replica attention
  kQkNorm,       // Qwen3
  kSliding,      // some layers have a sliding window and some do not
};

struct PointSpec {
  std::string_view name;  // "model.layers.N.self_attn:q_rope": N stands for the layer
  std::string_view axes;  // "R,H,S,D"; "1|B|R" = any of the three (points.cpp explains the symbols)
  std::string_view op;    // the kind of op that writes it: "rope"
  PointScope scope;
};

std::span<const PointSpec> point_table();

struct PointRef {
  const PointSpec* spec = nullptr;
  std::size_t row = 0;      // in the table
  std::int64_t layer = -1;  // -1: outside the layers
  bool partial = false;     // NAME:partial
};

// Null for names that the table does not have (legal in a trace: "unmatched").
std::optional<PointRef> find_point(std::string_view name);
// Reads aliases: model.layers.3.mlp is ...mlp.down_proj, .self_attn is .self_attn.o_proj.
std::string canonical_point(std::string_view name);
std::string point_name(const PointSpec& spec, std::int64_t layer);
bool applies(const PointRef& point, const ModelConfig& config);

// Order of a report: the table's rows outside the layers, then layer by layer, then the tail;
// unknown names last, by name.
bool point_before(std::string_view a, std::string_view b);

struct StepSizes {
  std::int64_t batch = 0;
  std::int64_t length = 0;  // S, new tokens
  std::int64_t past = 0;    // tokens in the cache, without the prefix
};

// Every shape that the table allows for this point, most usual first ("1|B|R" gives three).
std::vector<Shape> allowed_shapes(const PointRef& point, const ModelConfig& config,
                                  const StepSizes& sizes);
// "axis 1 is K (num_key_value_heads): 2 expected, 4 found"; empty when the shape is allowed.
std::string explain_shape(const PointRef& point, const ModelConfig& config, const StepSizes& sizes,
                          const Shape& found);

}  // namespace ps
