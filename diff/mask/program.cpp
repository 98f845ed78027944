#include "diff/mask/program.h"

#include <algorithm>

namespace ps::mask {

const std::vector<OpInfo>& op_table() {
  using enum ParamKind;
  static const std::vector<OpInfo> kTable = {
#define PS_MASK_OP(op, name, ...) {Op::op, name, std::vector<Param> __VA_ARGS__},
#include "diff/mask/ops.def"
#undef PS_MASK_OP
  };
  return kTable;
}

std::string to_string(const Dims& d) {
  return "[" + std::to_string(d.B) + "," + std::to_string(d.H) + "," + std::to_string(d.Q) + "," +
         std::to_string(d.KV) + "]";
}

const Node& resolved(const Program& program, const Node& node) {
  const Node* n = &node;
  while (n->op == Op::kRef) n = &program.defs[static_cast<std::size_t>(n->def)].node;
  return *n;
}

Varies varies(const Program& program, const Node& node) {
  Varies out;
  out.h = node.op == Op::kHeads;
  out.b = node.op == Op::kBatches ||
          std::any_of(program.q_offset.begin(), program.q_offset.end(),
                      [&](std::int64_t o) { return o != program.q_offset.front(); });
  for (const Scalar& s : node.scalars) {
    if (s.kind != Scalar::Kind::kArray) continue;
    out.b = out.b || program.arrays[static_cast<std::size_t>(s.value)].data.size() > 1;
  }
  const bool maps = node.op == Op::kRemap;
  const bool four = node.op == Op::kBlocks || node.op == Op::kDense;
  for (const int index : node.arrays) {
    if (index < 0) continue;
    const auto& shape = program.arrays[static_cast<std::size_t>(index)].shape;
    const bool square = node.op == Op::kRole && index == node.arrays[1] && node.arrays[0] != index;
    if (square || (maps && shape.size() == 1)) continue;
    out.b = out.b || shape[0] > 1;
    out.h = out.h || (four && shape[1] > 1);
  }
  const auto merge = [&](const Varies& v) {
    out.b = out.b || v.b;
    out.h = out.h || v.h;
  };
  for (const Node& arg : node.args) merge(varies(program, arg));
  if (node.op == Op::kRef) merge(varies(program, resolved(program, node)));
  return out;
}

namespace {

std::string scalar_json(const Scalar& s, const Program& program) {
  if (s.kind == Scalar::Kind::kUnbounded) return "null";
  if (s.kind == Scalar::Kind::kInteger) return std::to_string(s.value);
  return "{\"array\":" + json_quoted(program.arrays[static_cast<std::size_t>(s.value)].name) + "}";
}

bool is_default(const Scalar& s, const Param& p) {
  if (s.kind == Scalar::Kind::kUnbounded) return p.otherwise == kUnboundedDefault;
  return s.kind == Scalar::Kind::kInteger && p.otherwise > kNullDefault && s.value == p.otherwise;
}

std::string list_json(const std::vector<std::int64_t>& values) {
  std::string out = "[";
  for (const std::int64_t v : values) out += (out.size() > 1 ? "," : "") + std::to_string(v);
  return out + "]";
}

std::string node_json(const Node& node, const Program& program) {
  const OpInfo& info = info_of(node.op);
  std::string out = "{\"op\":" + json_quoted(info.name);
  std::size_t scalar = 0, array = 0, arg = 0;
  for (const Param& p : info.params) {
    const std::string name = "," + json_quoted(p.name) + ":";
    if (p.is_scalar()) {
      const Scalar& s = node.scalars[scalar++];
      if (!is_default(s, p)) out += name + scalar_json(s, program);
    } else if (p.is_array()) {
      const int index = node.arrays[array++];
      if (index < 0) continue;
      out += name + json_quoted(program.arrays[static_cast<std::size_t>(index)].name);
    } else if (p.kind == ParamKind::kBounds) {
      std::string list;
      for (const auto& [s, e] : node.bounds) {
        list += (list.empty() ? "" : ",") + list_json({s, e});
      }
      out += name + "[" + list + "]";
    } else if (p.kind == ParamKind::kSet) {
      out += name + list_json(node.set);
    } else if (p.kind == ParamKind::kName) {
      out += name + json_quoted(program.defs[static_cast<std::size_t>(node.def)].name);
    } else if (p.kind == ParamKind::kNode) {
      out += name + node_json(node.args[arg++], program);
    } else {
      std::string list;
      for (const Node& n : node.args) list += (list.empty() ? "" : ",") + node_json(n, program);
      out += name + "[" + list + "]";
    }
  }
  if (!node.tag.empty()) out += ",\"tag\":" + json_quoted(node.tag);
  return out + "}";
}

}  // namespace

std::string program_json(const Program& p) {
  std::string out = "{\"schema\":\"parscope.mask/1\",\"B\":" + std::to_string(p.dims.B) +
                    ",\"H\":" + std::to_string(p.dims.H) + ",\"Q\":" + std::to_string(p.dims.Q) +
                    ",\"KV\":" + std::to_string(p.dims.KV);
  if (p.q_offset.size() > 1) {
    out += ",\"q_offset\":" + list_json(p.q_offset);
  } else if (p.q_offset[0] != 0) {
    out += ",\"q_offset\":" + std::to_string(p.q_offset[0]);
  }
  if (p.kv_offset != 0) out += ",\"kv_offset\":" + std::to_string(p.kv_offset);
  if (!p.arrays.empty()) {
    std::string list;
    for (const Array& a : p.arrays) {
      list += (list.empty() ? "" : ",") + json_quoted(a.name) +
              ":{\"dtype\":\"i64\",\"shape\":" + list_json(a.shape) +
              ",\"data\":" + list_json(a.data) + "}";
    }
    out += ",\"arrays\":{" + list + "}";
  }
  if (!p.defs.empty()) {
    std::string list;
    for (const Def& d : p.defs) {
      list += (list.empty() ? "" : ",") + json_quoted(d.name) + ":" + node_json(d.node, p);
    }
    out += ",\"defs\":{" + list + "}";
  }
  return out + ",\"expr\":" + node_json(p.expr, p) + "}";
}

}  // namespace ps::mask
