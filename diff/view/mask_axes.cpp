// The stretches of a mask's axes: prefix, padding, past, new, segments.
#include <algorithm>
#include <set>

#include "diff/view/mask_planes.h"

namespace ps::view {

namespace {

void push(std::vector<AxisBand>& out, AxisBand::Kind kind, std::int64_t begin, std::int64_t end) {
  if (begin >= end) return;
  if (!out.empty() && out.back().kind == kind && out.back().end == begin) {
    out.back().end = end;
    return;
  }
  out.push_back({kind, begin, end, std::string(to_string(kind))});
}

bool is_real(const StepInputs& inputs, std::int64_t batch, std::int64_t token, std::int64_t all) {
  return !inputs.attention_mask ||
         (*inputs.attention_mask)[static_cast<std::size_t>(batch * all + token)] != 0;
}

void collect(const mask::Program& p, const mask::Node& node,
             std::set<std::pair<std::int64_t, std::int64_t>>& out, int depth) {
  if (depth > 64) return;
  if (node.op == mask::Op::kShift || node.op == mask::Op::kRemap) return;  // other coordinates
  for (const auto& s : node.bounds) {
    if (s.first < s.second) out.insert(s);
  }
  if (node.op == mask::Op::kRef) return collect(p, resolved(p, node), out, depth + 1);
  for (const mask::Node& arg : node.args) collect(p, arg, out, depth + 1);
}

}  // namespace

std::string_view to_string(AxisBand::Kind kind) {
  switch (kind) {
    case AxisBand::Kind::kPrefix:
      return "prefix";
    case AxisBand::Kind::kPadding:
      return "padding";
    case AxisBand::Kind::kPast:
      return "past";
    case AxisBand::Kind::kNew:
      return "new";
    case AxisBand::Kind::kSegment:
      return "segment";
  }
  return "";
}

std::vector<AxisBand> key_bands(const StepInputs& inputs, std::int64_t prefix, std::int64_t past,
                                std::int64_t batch) {
  std::vector<AxisBand> out;
  push(out, AxisBand::Kind::kPrefix, 0, prefix);
  const std::int64_t all = past + inputs.length;
  for (std::int64_t t = 0; t < all; ++t) {
    const auto kind = !is_real(inputs, batch, t, all) ? AxisBand::Kind::kPadding
                      : t < past                      ? AxisBand::Kind::kPast
                                                      : AxisBand::Kind::kNew;
    push(out, kind, prefix + t, prefix + t + 1);
  }
  return out;
}

std::vector<AxisBand> query_bands(const StepInputs& inputs, std::int64_t past, std::int64_t batch) {
  std::vector<AxisBand> out;
  for (std::int64_t t = 0; t < inputs.length; ++t) {
    const bool real = is_real(inputs, batch, past + t, past + inputs.length);
    push(out, real ? AxisBand::Kind::kNew : AxisBand::Kind::kPadding, t, t + 1);
  }
  return out;
}

std::vector<AxisBand> segment_bands(const mask::Program& program, std::int64_t offset,
                                    std::int64_t size) {
  std::set<std::pair<std::int64_t, std::int64_t>> found;
  collect(program, program.expr, found, 0);
  std::vector<AxisBand> out;
  for (const auto& [from, to] : found) {
    const std::int64_t begin = std::max<std::int64_t>(from - offset, 0);
    const std::int64_t end = std::min(to - offset, size);
    if (begin >= end) continue;
    out.push_back({AxisBand::Kind::kSegment, begin, end,
                   std::to_string(from) + "-" + std::to_string(to - 1)});
  }
  return out;
}

}  // namespace ps::view
