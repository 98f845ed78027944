// A mask program (parscope.mask/1, spec masks.md 2): a tree that says for every cell (b,h,i,j)
// whether query i may attend key j. Parsing resolves names to indices, so a Program is always
// sound.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/json.h"
#include "core/result.h"

namespace ps::mask {

enum class Op : std::uint8_t {
#define PS_MASK_OP(op, ...) op,
#include "diff/mask/ops.def"
#undef PS_MASK_OP
};

enum class ParamKind : std::uint8_t {
  kInteger,   // literal
  kPositive,  // literal > 0
  kScalar,    // integer or {"array": name}
  kOpen,      // the same, or null = unbounded
  kIgnore,    // integer, or null = nothing is ignored
  kRows,      // array [1|B, n]
  kSquare,    // array [n, n]
  kBlockMap,  // array [1|B, 1|H, nq, nk]
  kCells,     // array [1|B, 1|H, Q, KV]
  kMap,       // array [n] or [1|B, n], or null = identity
  kBounds,    // [[s, e], ...]
  kSet,       // [n, ...]
  kName,      // of a def
  kNode,
  kTwoNodes,
  kNodes,
};

// What a parameter that is left out means.
constexpr std::int64_t kRequired = INT64_MIN;
constexpr std::int64_t kUnboundedDefault = INT64_MIN + 1;
constexpr std::int64_t kNullDefault = INT64_MIN + 2;

struct Param {
  std::string_view name;
  ParamKind kind = ParamKind::kInteger;
  std::int64_t otherwise = kRequired;
  bool is_scalar() const { return kind <= ParamKind::kIgnore; }
  bool is_array() const { return kind >= ParamKind::kRows && kind <= ParamKind::kMap; }
};

struct OpInfo {
  Op op;
  std::string_view name;
  std::vector<Param> params;
};
const std::vector<OpInfo>& op_table();
inline const OpInfo& info_of(Op op) { return op_table()[static_cast<std::size_t>(op)]; }

struct Scalar {
  enum class Kind : std::uint8_t { kInteger, kUnbounded, kArray };
  Kind kind = Kind::kInteger;
  std::int64_t value = 0;  // kArray: index into Program::arrays
  bool operator==(const Scalar&) const = default;
};

struct Node {
  Op op = Op::kAll;
  std::string tag;
  std::vector<Scalar> scalars;                                // in the order of ops.def
  std::vector<int> arrays;                                    // indices; -1 = null
  std::vector<std::pair<std::int64_t, std::int64_t>> bounds;  // same_segment
  std::vector<std::int64_t> set;                              // heads, batches
  int def = -1;                                               // ref
  std::vector<Node> args;                                     // if: cond, then, else
  bool operator==(const Node&) const = default;
};

struct Array {
  std::string name;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> data;
  bool operator==(const Array&) const = default;
};

struct Def {
  std::string name;
  Node node;
  bool operator==(const Def&) const = default;
};

struct Dims {
  std::int64_t B = 1, H = 1, Q = 0, KV = 0;
  bool operator==(const Dims&) const = default;
};
std::string to_string(const Dims& dims);  // "[2,1,5,29]"

struct Program {
  Dims dims;
  std::vector<std::int64_t> q_offset = {0};  // one, or one a batch
  std::int64_t kv_offset = 0;
  std::vector<Array> arrays;
  std::vector<Def> defs;
  Node expr;
  bool operator==(const Program&) const = default;

  std::int64_t q_offset_of(std::int64_t b) const {
    return q_offset[q_offset.size() == 1 ? 0 : static_cast<std::size_t>(b)];
  }
};

// Sizes and positions above these are refused, so that no sum of them can overflow.
constexpr std::int64_t kMaxDim = std::int64_t{1} << 40;
constexpr std::int64_t kMaxPosition = std::int64_t{1} << 48;

// `where` names the file; errors point into it: "mask.json#/expr/args/1/op". `base` is the pointer
// of `json` within the file.
Result<Program> parse_program(const Json& json, const std::string& where,
                              const std::string& base = {});
Result<Program> parse_program_text(std::string_view text, const std::string& where);
// The program with another expression and more arrays (or arrays anew), as JSON: the variants of a
// golden case are written so.
Json with_expression(const Json& program, const Json& expr, const Json* extra_arrays);

// Depth, size after refs are followed, shapes against B, H, Q, KV: what parsing ends with, and what
// a program made by other means has to pass.
Result<void> validate(const Program& program, const std::string& where,
                      const std::string& base = {});

// Canonical JSON: every parameter that is not at its default, in the order of ops.def.
std::string program_json(const Program& program);

// Whether the cells depend on b or h at all; planes are shared where they do not.
struct Varies {
  bool b = false, h = false;
};
Varies varies(const Program& program, const Node& node);

// Follows refs to the node that decides.
const Node& resolved(const Program& program, const Node& node);

}  // namespace ps::mask
