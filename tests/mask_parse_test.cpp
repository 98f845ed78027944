// Malformed mask programs: refused with a pointer to the spot (JSON) or line and column (text).
#include <functional>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "diff/mask/evaluate.h"
#include "diff/mask/mask.h"
#include "diff/mask/text.h"
#include "diff/mask/text_forms.h"
#include "tests/support/run.h"

namespace ps::mask {
namespace {

using nlohmann::json;

const char* kGood = R"({"schema":"parscope.mask/1","B":2,"H":3,"Q":4,"KV":6,"q_offset":[1,2],
  "arrays":{"s":{"dtype":"i64","shape":[2],"data":[0,3]},
            "m":{"dtype":"i64","shape":[1,6],"data":[1,1,1,1,1,0]},
            "k":{"dtype":"i64","shape":[1,3,2,2],"data":[1,0,1,1,1,0,1,1,1,0,1,1]},
            "far":{"dtype":"i64","shape":[2],"data":[0,9223372036854775807]}},
  "defs":{"pad":{"op":"key_valid","mask":"m"},"a~/b":{"op":"ref","name":"pad"}},
  "expr":{"op":"and","args":[{"op":"causal","tag":"future"},{"op":"ref","name":"a~/b"},
          {"op":"kv_range","lo":{"array":"s"}},{"op":"window","left":4,"right":null}]}})";

struct Bad {
  std::string pointer;  // to what is set, and usually to what the error names
  json value;
  std::string says;
};

TEST(MaskParse, EveryMalformedProgramIsPointedAt) {
  ASSERT_TRUE(parse_program_text(kGood, "good").ok());
  const std::vector<Bad> bads = {
      {"/schema", "parscope.mask/2", "#/schema: unknown schema"},
      {"/B", 0, "#/B: size out of range"},
      {"/Q", -1, "#/Q: size out of range"},
      {"/KV", 1.5, "#/KV: not an integer"},
      {"/extra", 1, "#/extra: unknown field"},
      {"/q_offset", {1}, "#/q_offset: wrong number of offsets"},
      {"/q_offset", {1, 2, 3}, "#/q_offset: wrong number of offsets"},
      {"/q_offset", "1", "#/q_offset: not an integer"},
      {"/q_offset", INT64_MAX, "#/q_offset: offset out of range"},
      {"/kv_offset", nullptr, "#/kv_offset: not an integer"},
      {"/arrays/s/dtype", "i32", "#/arrays/s/dtype: wrong type"},
      {"/arrays/s/shape", {3}, "#/arrays/s/data: wrong number of values"},
      {"/arrays/s/shape", {-2}, "#/arrays/s/data"},
      {"/arrays/s/shape", {4, 2}, "#/arrays/s/data"},
      {"/arrays/s/data/1", 0.5, "#/arrays/s/data/1: not an integer"},
      {"/arrays/s", json::array(), "#/arrays/s: not an array object"},
      {"/arrays/s", json{{"dtype", "i64"}, {"shape", {2}}}, "#/arrays/s: lacks \"data\""},
      {"/expr", json::array(), "#/expr: not an expression"},
      {"/expr", json::object(), "#/expr: lacks \"op\""},
      {"/expr/args/0/op", "casual", "#/expr/args/0/op: unknown op"},
      {"/expr/args/0/op", 7, "#/expr/args/0/op: unknown op"},
      {"/expr/args/0/shfit", 1, "#/expr/args/0/shfit: unknown parameter"},
      {"/expr/args/0/args", json::array(), "#/expr/args/0/args: unknown parameter"},
      {"/expr/args/0/shift", nullptr, "#/expr/args/0/shift: not a scalar"},
      {"/expr/args/0/tag", 1, "#/expr/args/0/tag: not a string"},
      {"/expr/args/1/name", "nobody", "#/expr/args/1/name: no def has this name"},
      {"/expr/args/2/lo/array", "nobody", "#/expr/args/2/lo/array: no array has this name"},
      {"/expr/args/2/lo/array", "m", "#/expr/args/2/lo/array: array \"m\" has the wrong shape"},
      {"/expr/args/2/lo/more", 1, "#/expr/args/2/lo: not a scalar"},
      {"/expr/args/3/left", "4", "#/expr/args/3/left: not a scalar"},
      {"/expr/args", 3, "#/expr/args: not a list"},
      {"/defs/pad/mask", "s", "#/defs/pad/mask: array \"s\" has the wrong shape"},
      {"/defs/pad", {{"op", "ref"}, {"name", "a~/b"}}, "the defs refer to each other in a circle"},
      {"/defs/pad", {{"op", "not"}, {"arg", {{"op", "ref"}, {"name", "pad"}}}}, "in a circle"},
      {"/expr", {{"op", "xor"}, {"args", {{{"op", "all"}}}}}, "#/expr/args: wrong number"},
      {"/expr", {{"op", "not"}}, "#/expr: lacks \"arg\""},
      {"/expr", {{"op", "not"}, {"arg", {{"op", "x"}}}}, "#/expr/arg/op: unknown op"},
      {"/expr",
       {{"op", "if"}, {"cond", {{"op", "all"}}}, {"then", {{"op", "all"}}}},
       "lacks \"else\""},
      {"/expr", {{"op", "chunk"}}, "#/expr: lacks \"size\""},
      {"/expr", {{"op", "chunk"}, {"size", 0}}, "#/expr/size: must be positive"},
      {"/expr", {{"op", "mod"}, {"m", -2}}, "#/expr/m: must be positive"},
      {"/expr", {{"op", "prefix"}}, "#/expr: lacks \"len\""},
      {"/expr",
       {{"op", "same_segment"}, {"bounds", {{0, 1, 2}}}},
       "#/expr/bounds/0: not an interval"},
      {"/expr",
       {{"op", "same_segment"}, {"bounds", {{0, "1"}}}},
       "#/expr/bounds/0/1: not an integer"},
      {"/expr", {{"op", "heads"}, {"set", {0, nullptr}}}, "#/expr/set/1: not an integer"},
      {"/expr", {{"op", "same_id"}, {"ids", "k"}}, "#/expr/ids: array \"k\" has the wrong shape"},
      {"/expr", {{"op", "role"}, {"ids", "m"}, {"allow", "m"}}, "#/expr/allow: array \"m\" has"},
      {"/expr", {{"op", "dense"}, {"mask", "k"}}, "#/expr/mask: array \"k\" has the wrong shape"},
      {"/expr",
       {{"op", "blocks"}, {"bq", 2}, {"bk", 3}, {"keep", "m"}},
       "#/expr/keep: array \"m\""},
      {"/expr",
       {{"op", "remap"}, {"q", "k"}, {"arg", {{"op", "all"}}}},
       "#/expr/q: array \"k\" has"},
      {"/expr",
       {{"op", "remap"}, {"q", "far"}, {"arg", {{"op", "all"}}}},
       "#/expr/q: maps to a position"},
      {"/expr",
       {{"op", "shift"}, {"dq", INT64_MIN}, {"arg", {{"op", "all"}}}},
       "#/expr/dq: shift out"}};
  for (const Bad& bad : bads) {
    json program = json::parse(kGood);
    program[json::json_pointer(bad.pointer)] = bad.value;
    const auto parsed = parse_program_text(program.dump(), "bad.json");
    ASSERT_FALSE(parsed.ok()) << bad.pointer << " " << bad.value;
    const std::string line = parsed.error().line();
    EXPECT_TRUE(line.starts_with("bad.json#/")) << line;
    EXPECT_NE(line.find(bad.says), std::string::npos) << line << "\nwanted " << bad.says;
    EXPECT_EQ(parsed.error().kind, Error::Kind::kInput);
  }
  for (const char* field : {"schema", "B", "H", "Q", "KV", "expr"}) {
    json program = json::parse(kGood);
    program.erase(field);
    const auto parsed = parse_program_text(program.dump(), "bad.json");
    ASSERT_FALSE(parsed.ok()) << field;
    EXPECT_NE(parsed.error().line().find("lacks \"" + std::string(field) + "\""),
              std::string::npos);
  }
}

TEST(MaskParse, RefsThatGrowWithoutEndAreRefused) {
  json program = json::parse(kGood);
  program["defs"] = json{{"d0", {{"op", "all"}}}};
  for (int i = 1; i < 60; ++i) {
    const json ref = {{"op", "ref"}, {"name", "d" + std::to_string(i - 1)}};
    program["defs"]["d" + std::to_string(i)] = {{"op", "and"}, {"args", {ref, ref}}};
  }
  program["expr"] = {{"op", "ref"}, {"name", "d59"}};
  const auto parsed = parse_program_text(program.dump(), "bad.json");
  ASSERT_FALSE(parsed.ok());
  EXPECT_NE(parsed.error().line().find("too large once its refs are followed"), std::string::npos);
}

TEST(MaskParse, ExtremeNumbersStayExact) {
  // Parameters at the ends of int64, positions far away: no overflow, and runs agree with cells.
  const std::string sizes = "Q=5 KV=6 q_offset=281474976710656 kv_offset=-281474976710656\n";
  for (const char* expr :
       {"causal(9223372036854775807)", "causal(-9223372036854775808)", "causal(-562949953421312)",
        "window(-9223372036854775808, 9223372036854775807)",
        "kv_range(-9223372036854775808, -281474976710653)",
        "affine(9223372036854775807, 9223372036854775807, -1)", "affine(1, 1, 3)",
        "affine(-1, -1, 3)", "mod(9223372036854775807, 3, 1, 9223372036854775807, 4)",
        "chunk(9223372036854775807, -9223372036854775808)",
        "q_range(281474976710658, 9223372036854775807)", "generated(281474976710659)",
        "shift(dq=-281474976710656, dk=281474976710656, causal)"}) {
    const Program p = value_or_die(parse_text(sizes + expr, "far"));
    const Mask m = value_or_die(evaluate(p));
    for (std::int64_t i = 0; i < 5; ++i) {
      for (std::int64_t j = 0; j < 6; ++j)
        EXPECT_EQ(m.at(0, 0, i, j), allowed(p, 0, 0, i, j)) << expr << i << j;
    }
  }
}

TEST(MaskText, PeoplesFormsMeanWhatTheySay) {
  const auto mask = [](const std::string& text) {
    return value_or_die(evaluate(value_or_die(parse_text(text, "t"))));
  };
  const std::string n = "Q=9 KV=9\n";
  EXPECT_TRUE(
      equal(mask(n + "causal | window(1) & !prefix(2) ^ generated(5)"),
            mask(n + "or(causal, xor(and(window(left=1), not(prefix(2))), generated(start=5)))")));
  EXPECT_TRUE(equal(mask("Q=4 KV=10 q_offset=3\nparscale_prefix(3)"),
                    mask("Q=4 KV=10 q_offset=3\nkv_range(0, 3) | shift(dk=-3, causal)")));
  EXPECT_TRUE(equal(
      mask("Q=6 KV=6\narray r[1,6] = 0 0 0 1 1 1\narray p[1,6] = 0 1 2 0 1 2\ncross_replica(r, p)"),
      mask("Q=6 KV=6\ncausal & segments(0-3, 3-6) | affine(1, -1, -3) & affine(-1, 1, 3) | "
           "affine(1, -1, 3) & affine(-1, 1, -3)")));
  EXPECT_TRUE(equal(mask("B=2 Q=5 KV=5\ncausal & kv_range([0, 2])"),
                    mask("B=2 Q=5 KV=5; array s[2] = 0 2; causal & kv_range(lo=s)")));
  const Program p = value_or_die(
      parse_text(n + "def x = (causal #a | none) #\"b c\" // a comment\n$x\n & !$x", "t"));
  EXPECT_EQ(p.defs[0].node.tag, "b c");
  EXPECT_EQ(p.defs[0].node.args[0].tag, "a");
  EXPECT_EQ(text_of(p.expr, p), "$x & !$x");
  EXPECT_EQ(text_of(parscale_prefix(8), p), "parscale_prefix(8)");
}

TEST(MaskText, MistakesHaveLineAndColumn) {
  const std::vector<std::pair<std::string, std::string>> mistakes = {
      {"causal", "t:1:1: no sizes"},
      {"Q=3 KV=3\ncausal &", "t:2:9: no expression"},
      {"Q=3 KV=3\ncausal causal", "t:2:8: something follows"},
      {"Q=3 KV=3\n(causal", "t:2:8: a parenthesis is open"},
      {"Q=3 KV=3\nwindow(4, 5, 6)", "t:2:14: too many parameters"},
      {"Q=3 KV=3\nwindow(up=4)", "unknown parameter 'up'"},
      {"Q=3 KV=3\nwindow(left=4, left=5)", "left is given twice"},
      {"Q=3 KV=3\ncausal(inf)", "no array is named \"inf\""},
      {"Q=3 KV=3\nchunk(0)", "must be positive"},
      {"Q=3 KV=3\nchunk()", "lacks its parameter 'size'"},
      {"Q=3 KV=3\nkey_valid(v)", "no array is named \"v\""},
      {"Q=3 KV=3\narray v[2] = 1 1\nkey_valid(v)", "has the wrong shape"},
      {"Q=3 KV=3\narray v[2] = 1\nall", "has 1 values"},
      {"Q=3 KV=3\n$x", "no def is named \"x\""},
      {"Q=3 KV=3\ndef x = $y\ndef y = $x\n$x", "in a circle"},
      {"Q=3 KV=3\nsegments(0-4", "a parenthesis is open"},
      {"Q=3 KV=3\ncausal #a #b", "a second tag"},
      {"Q=3 KV=99999999999999\ncausal", "KV is out of range"},
      {"Q=3 KV=3\n" + std::string(5000, '('), "nested too deeply"},
      {"Q=3 KV=3\n" + std::string(5000, '!'), "nested too deeply"}};
  for (const auto& [text, says] : mistakes) {
    const auto parsed = parse_text(text, "t");
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_NE(parsed.error().line().find(says), std::string::npos) << parsed.error().line();
  }
}

}  // namespace
}  // namespace ps::mask
