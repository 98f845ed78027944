// parscope.mask/1 from JSON. Every error points at its spot: FILE#/expr/args/1/op.
#include <algorithm>
#include <cstdlib>

#include "diff/mask/program.h"
#include "diff/mask/validate.h"

namespace ps::mask {

namespace {

using Kind = Json::Kind;

std::string names_of(const std::vector<Param>& params) {
  std::string out;
  for (const Param& p : params) out += (out.empty() ? "" : ", ") + std::string(p.name);
  return out.empty() ? "no parameters" : out;
}

class Parser {
 public:
  Parser(Program& program, std::string where) : program_(program), where_(std::move(where)) {}

  Error wrong(const std::string& at, std::string what, std::string expected = {},
              std::string found = {}) const {
    return bad_input(where_ + "#" + at, std::move(what), std::move(expected), std::move(found));
  }

  Result<std::int64_t> integer(const Json& json, const std::string& at) const {
    if (json.is(Kind::kInteger)) return json.integer;
    return wrong(at, "not an integer", "an integer of 64 bits", json.brief());
  }

  Result<std::vector<std::int64_t>> integers(const Json& json, const std::string& at) const {
    if (!json.is(Kind::kArray)) return wrong(at, "not a list", "a list of integers", json.brief());
    std::vector<std::int64_t> out;
    out.reserve(json.items.size());
    for (std::size_t i = 0; i < json.items.size(); ++i) {
      if (!json.items[i].is(Kind::kInteger)) {
        return wrong(at + "/" + std::to_string(i), "not an integer", "an integer of 64 bits",
                     json.items[i].brief());
      }
      out.push_back(json.items[i].integer);
    }
    return out;
  }

  Result<Array> array(std::string name, const Json& json, const std::string& at) const {
    if (!json.is(Kind::kObject)) {
      return wrong(at, "not an array object", "{\"dtype\", \"shape\", \"data\"}", json.brief());
    }
    for (const char* field : {"dtype", "shape", "data"}) {
      if (json.find(field) == nullptr) return wrong(at, "lacks \"" + std::string(field) + "\"");
    }
    const Json& dtype = *json.find("dtype");
    if (!dtype.is(Kind::kString) || dtype.text != "i64") {
      return wrong(at + "/dtype", "wrong type of array", "\"i64\"", dtype.brief());
    }
    Array out{std::move(name), {}, {}};
    PS_TRY(out.shape, integers(*json.find("shape"), at + "/shape"));
    PS_TRY(out.data, integers(*json.find("data"), at + "/data"));
    if (const auto problem = array_problem(out); !problem.empty()) {
      return wrong(at + "/data", "wrong number of values", problem,
                   std::to_string(out.data.size()));
    }
    return out;
  }

  Result<int> array_named(const Json& json, const std::string& at) const {
    if (!json.is(Kind::kString)) {
      return wrong(at, "not the name of an array", "a string", json.brief());
    }
    for (std::size_t i = 0; i < program_.arrays.size(); ++i) {
      if (program_.arrays[i].name == json.text) return static_cast<int>(i);
    }
    return wrong(at, "no array has this name", "a name in /arrays", json.brief());
  }

  Result<Scalar> scalar(const Json& json, const Param& p, const std::string& at) const {
    const bool literal = p.kind == ParamKind::kInteger || p.kind == ParamKind::kPositive;
    if (json.is(Kind::kNull) && (p.kind == ParamKind::kOpen || p.kind == ParamKind::kIgnore)) {
      return Scalar{Scalar::Kind::kUnbounded, 0};
    }
    if (json.is(Kind::kInteger)) {
      if (p.kind == ParamKind::kPositive && json.integer <= 0) {
        return wrong(at, "must be positive", "1 or more", json.brief());
      }
      return Scalar{Scalar::Kind::kInteger, json.integer};
    }
    if (json.is(Kind::kObject) && !literal && p.kind != ParamKind::kIgnore) {
      const Json* name = json.find("array");
      if (name == nullptr || json.items.size() != 1) {
        return wrong(at, "not a scalar", "an integer or {\"array\": name}", json.brief());
      }
      PS_TRY(const int index, array_named(*name, at + "/array"));
      return Scalar{Scalar::Kind::kArray, index};
    }
    const char* expected = literal                        ? "an integer"
                           : p.kind == ParamKind::kOpen   ? "an integer, null or {\"array\": name}"
                           : p.kind == ParamKind::kScalar ? "an integer or {\"array\": name}"
                                                          : "an integer or null";
    return wrong(at, "not a scalar", expected, json.brief());
  }

  Result<void> nodes(Node& node, const Json& json, const Param& p, const std::string& at) const {
    if (p.kind == ParamKind::kNode) {
      PS_TRY(Node arg, this->node(json, at));
      node.args.push_back(std::move(arg));
      return {};
    }
    if (!json.is(Kind::kArray)) {
      return wrong(at, "not a list", "a list of expressions", json.brief());
    }
    if (p.kind == ParamKind::kTwoNodes && json.items.size() != 2) {
      return wrong(at, "wrong number of arguments", "2", std::to_string(json.items.size()));
    }
    for (std::size_t i = 0; i < json.items.size(); ++i) {
      PS_TRY(Node arg, this->node(json.items[i], at + "/" + std::to_string(i)));
      node.args.push_back(std::move(arg));
    }
    return {};
  }

  Result<void> bounds(Node& node, const Json& json, const std::string& at) const {
    if (!json.is(Kind::kArray)) return wrong(at, "not a list", "[[start, end], ...]", json.brief());
    for (std::size_t i = 0; i < json.items.size(); ++i) {
      const std::string spot = at + "/" + std::to_string(i);
      PS_TRY(const std::vector<std::int64_t> pair, integers(json.items[i], spot));
      if (pair.size() != 2) {
        return wrong(spot, "not an interval", "[start, end]", json.items[i].brief());
      }
      node.bounds.emplace_back(pair[0], pair[1]);
    }
    return {};
  }

  Result<void> param(Node& node, const Json* json, const Param& p, const std::string& at) const {
    if (json == nullptr) {
      if (p.otherwise == kRequired) {
        return wrong(at, "lacks \"" + std::string(p.name) + "\"");
      }
      if (p.is_array()) {
        node.arrays.push_back(-1);
      } else if (p.otherwise == kUnboundedDefault) {
        node.scalars.push_back({Scalar::Kind::kUnbounded, 0});
      } else {
        node.scalars.push_back({Scalar::Kind::kInteger, p.otherwise});
      }
      return {};
    }
    const std::string spot = at + "/" + std::string(p.name);
    if (p.is_scalar()) {
      PS_TRY(const Scalar s, scalar(*json, p, spot));
      node.scalars.push_back(s);
      return {};
    }
    if (p.kind == ParamKind::kMap && json->is(Kind::kNull)) {
      node.arrays.push_back(-1);
      return {};
    }
    if (p.is_array()) {
      PS_TRY(const int index, array_named(*json, spot));
      const std::string problem = use_problem(program_, index, p.kind);
      if (!problem.empty()) {
        return wrong(spot, "array " + json->brief() + " has the wrong shape", problem,
                     shape_text(program_.arrays[static_cast<std::size_t>(index)].shape));
      }
      node.arrays.push_back(index);
      return {};
    }
    switch (p.kind) {
      case ParamKind::kBounds:
        return bounds(node, *json, spot);
      case ParamKind::kSet: {
        PS_TRY(node.set, integers(*json, spot));
        return {};
      }
      case ParamKind::kName: {
        if (!json->is(Kind::kString)) {
          return wrong(spot, "not the name of a def", "a string", json->brief());
        }
        for (std::size_t i = 0; i < program_.defs.size(); ++i) {
          if (program_.defs[i].name == json->text) node.def = static_cast<int>(i);
        }
        if (node.def < 0)
          return wrong(spot, "no def has this name", "a name in /defs", json->brief());
        return {};
      }
      default:
        return nodes(node, *json, p, spot);
    }
  }

  Result<Node> node(const Json& json, const std::string& at) const {
    if (!json.is(Kind::kObject)) {
      return wrong(at, "not an expression", "an object with \"op\"", json.brief());
    }
    const Json* op = json.find("op");
    if (op == nullptr) return wrong(at, "lacks \"op\"");
    const auto& table = op_table();
    const auto info = std::find_if(table.begin(), table.end(), [&](const OpInfo& i) {
      return op->is(Kind::kString) && i.name == op->text;
    });
    if (info == table.end()) {
      std::string names;
      for (const OpInfo& known : table) {
        names += (names.empty() ? "" : ", ") + std::string(known.name);
      }
      return wrong(at + "/op", "unknown op", "one of " + names, op->brief());
    }
    Node out;
    out.op = info->op;
    for (std::size_t i = 0; i < json.names.size(); ++i) {
      const std::string& name = json.names[i];
      if (name == "op") continue;
      if (name == "tag") {
        if (!json.items[i].is(Kind::kString)) {
          return wrong(at + "/tag", "not a string", "a string", json.items[i].brief());
        }
        out.tag = json.items[i].text;
        continue;
      }
      const bool known = std::any_of(info->params.begin(), info->params.end(),
                                     [&](const Param& p) { return p.name == name; });
      if (!known) {
        return wrong(at + "/" + pointer_part(name), "unknown parameter of " + op->brief(),
                     names_of(info->params), json_quoted(name));
      }
    }
    for (const Param& p : info->params) PS_TRY_VOID(param(out, json.find(p.name), p, at));
    return out;
  }

  Result<std::int64_t> dim(const Json& json, const char* name, std::int64_t low,
                           const std::string& base) const {
    const Json* value = json.find(name);
    if (value == nullptr) return wrong(base, "lacks \"" + std::string(name) + "\"");
    const std::string at = base + "/" + name;
    PS_TRY(const std::int64_t n, integer(*value, at));
    if (n < low || n > kMaxDim) {
      return wrong(at, "size out of range", std::to_string(low) + " to " + std::to_string(kMaxDim),
                   value->brief());
    }
    return n;
  }

  Result<void> offsets(const Json& json, const std::string& base) const {
    if (const Json* q = json.find("q_offset"); q != nullptr && q->is(Kind::kArray)) {
      PS_TRY(program_.q_offset, integers(*q, base + "/q_offset"));
      if (static_cast<std::int64_t>(program_.q_offset.size()) != program_.dims.B) {
        return wrong(base + "/q_offset", "wrong number of offsets",
                     "one number, or B = " + std::to_string(program_.dims.B) + " in a list",
                     std::to_string(program_.q_offset.size()));
      }
    } else if (q != nullptr) {
      PS_TRY(program_.q_offset[0], integer(*q, base + "/q_offset"));
    }
    if (const Json* k = json.find("kv_offset"); k != nullptr) {
      PS_TRY(program_.kv_offset, integer(*k, base + "/kv_offset"));
    }
    return {};
  }

  Result<void> defs(const Json& json, const std::string& at) const {
    if (!json.is(Kind::kObject)) {
      return wrong(at, "not an object", "{name: expression}", json.brief());
    }
    for (const std::string& name : json.names) program_.defs.push_back({name, {}});
    for (std::size_t i = 0; i < json.names.size(); ++i) {
      PS_TRY(program_.defs[i].node, node(json.items[i], at + "/" + pointer_part(json.names[i])));
    }
    return {};
  }

  Result<void> all(const Json& json, const std::string& base) const {
    if (!json.is(Kind::kObject)) {
      return wrong(base, "not a mask program", "an object with \"schema\"", json.brief());
    }
    const Json* schema = json.find("schema");
    if (schema == nullptr) return wrong(base, "lacks \"schema\"", "\"parscope.mask/1\"");
    if (!schema->is(Kind::kString) || schema->text != "parscope.mask/1") {
      return wrong(base + "/schema", "unknown schema", "\"parscope.mask/1\"", schema->brief());
    }
    for (const std::string& name : json.names) {
      static const std::vector<std::string> kKnown = {
          "schema", "B", "H", "Q", "KV", "q_offset", "kv_offset", "arrays", "defs", "expr"};
      if (std::find(kKnown.begin(), kKnown.end(), name) == kKnown.end()) {
        return wrong(base + "/" + pointer_part(name), "unknown field of a mask program",
                     "schema, B, H, Q, KV, q_offset, kv_offset, arrays, defs, expr");
      }
    }
    PS_TRY(program_.dims.B, dim(json, "B", 1, base));
    PS_TRY(program_.dims.H, dim(json, "H", 1, base));
    PS_TRY(program_.dims.Q, dim(json, "Q", 0, base));
    PS_TRY(program_.dims.KV, dim(json, "KV", 0, base));
    PS_TRY_VOID(offsets(json, base));
    if (const Json* arrays = json.find("arrays"); arrays != nullptr) {
      if (!arrays->is(Kind::kObject)) {
        return wrong(base + "/arrays", "not an object", "{name: array}", arrays->brief());
      }
      for (std::size_t i = 0; i < arrays->names.size(); ++i) {
        PS_TRY(Array a, array(arrays->names[i], arrays->items[i],
                              base + "/arrays/" + pointer_part(arrays->names[i])));
        program_.arrays.push_back(std::move(a));
      }
    }
    if (const Json* d = json.find("defs"); d != nullptr) PS_TRY_VOID(defs(*d, base + "/defs"));
    const Json* expr = json.find("expr");
    if (expr == nullptr) return wrong(base, "lacks \"expr\"");
    PS_TRY(program_.expr, node(*expr, base + "/expr"));
    return validate(program_, where_, base);
  }

 private:
  Program& program_;
  std::string where_;
};

}  // namespace

Result<Program> parse_program(const Json& json, const std::string& where, const std::string& base) {
  Program program;
  PS_TRY_VOID(Parser(program, where).all(json, base));
  return program;
}

Result<Program> parse_program_text(std::string_view text, const std::string& where) {
  PS_TRY(const Json json, parse_json(text, where, {128, 1 << 26}));
  return parse_program(json, where);
}

Json with_expression(const Json& program, const Json& expr, const Json* extra) {
  Json out = program;
  for (std::size_t i = 0; i < out.names.size(); ++i) {
    if (out.names[i] == "expr") out.items[i] = expr;
  }
  if (extra == nullptr || extra->items.empty()) return out;
  if (out.find("arrays") == nullptr) {
    out.names.emplace_back("arrays");
    out.items.emplace_back();
    out.items.back().kind = Kind::kObject;
  }
  for (std::size_t i = 0; i < out.names.size(); ++i) {
    if (out.names[i] != "arrays") continue;
    for (std::size_t n = 0; n < extra->names.size(); ++n) {
      Json& arrays = out.items[i];
      const auto old = std::find(arrays.names.begin(), arrays.names.end(), extra->names[n]);
      if (old != arrays.names.end()) {
        arrays.items[static_cast<std::size_t>(old - arrays.names.begin())] = extra->items[n];
      } else {
        arrays.names.push_back(extra->names[n]);
        arrays.items.push_back(extra->items[n]);
      }
    }
  }
  return out;
}

}  // namespace ps::mask
