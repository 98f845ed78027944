// Mask programs as people write them:
//
//   causal #future & (generated(48) | segments(0-11,11-20)) #segment
//
// Operators by strength: ! (not), & (and), ^ (xor), | (or). `#tag` labels what stands before it.
// Leaves are calls with the parameters of masks.md 2.1 in order or by name: window(4),
// window(left=4, right=0), kv_range(lo=starts); `inf` is unbounded; an array is named, or given:
// kv_range([0,6]). parscale_prefix(P) and cross_replica(rep, pos) are ParScale's two masks; $name
// is a def. Statements before the expression, ended by a line's end or `;`, give sizes, arrays and
// defs:
//
//   B=2 H=1 Q=5 KV=29 q_offset=24; array starts[2] = 0 6; def pad = kv_range(lo=starts)
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "diff/mask/program.h"

namespace ps::mask {

// `sizes` hold where the text gives none. Errors say line and column.
Result<Program> parse_text(std::string_view text, const std::string& where,
                           const std::optional<Dims>& sizes = std::nullopt);

std::string text_of(const Program& program);                    // parse_text gives it back
std::string text_of(const Node& node, const Program& program);  // the expression alone

}  // namespace ps::mask
