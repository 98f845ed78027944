#include "core/json.h"

#include <string>

#include <gtest/gtest.h>

namespace ps {
namespace {

TEST(Json, ValuesKeepTheirKindAndOrder) {
  const Result<Json> parsed =
      parse_json(R"({"b": [1, 2.50, "x\n"], "a": null, "c": {"d": true}})", "text");
  ASSERT_TRUE(parsed.ok()) << parsed.error().line();
  EXPECT_EQ(parsed->dump(), R"({"b":[1,2.50,"x\u000a"],"a":null,"c":{"d":true}})");
  const Json& list = *parsed->find("b");
  EXPECT_EQ(list.items[0].integer, 1);
  EXPECT_EQ(list.items[1].kind, Json::Kind::kNumber);
  EXPECT_EQ(list.items[1].number, 2.5);
  EXPECT_EQ(parsed->find("absent"), nullptr);
  EXPECT_EQ(list.find("b"), nullptr);
}

TEST(Json, NumbersBeyondSixtyFourBitsAreNoIntegers) {
  EXPECT_EQ(parse_json("9223372036854775807", "t")->kind, Json::Kind::kInteger);
  EXPECT_EQ(parse_json("9223372036854775808", "t")->kind, Json::Kind::kNumber);
  EXPECT_EQ(parse_json("18446744073709551616", "t")->kind, Json::Kind::kNumber);
  EXPECT_EQ(parse_json("-9223372036854775808", "t")->kind, Json::Kind::kInteger);
  EXPECT_EQ(parse_json("1e3", "t")->kind, Json::Kind::kNumber);
  EXPECT_FALSE(parse_json("1e999", "t").ok());
}

TEST(Json, DeepNestingIsAnErrorAndNoCrash) {
  for (const char* bracket : {"[", "{\"a\":"}) {
    std::string text;
    for (int i = 0; i < 200'000; ++i) text += bracket;
    const Result<Json> parsed = parse_json(text, "deep");
    ASSERT_FALSE(parsed.ok());
    EXPECT_EQ(parsed.error().line(), "deep: JSON is nested deeper than 64");
  }
  EXPECT_TRUE(parse_json(std::string(64, '[') + std::string(64, ']'), "deep").ok());
  EXPECT_FALSE(parse_json(std::string(65, '[') + std::string(65, ']'), "deep").ok());
}

TEST(Json, RepeatedNamesAreAnErrorAtAnyDepth) {
  const Result<Json> parsed = parse_json(R"([{"x": {"a": 1, "b": 2, "a": 3}}])", "text");
  ASSERT_FALSE(parsed.ok());
  EXPECT_EQ(parsed.error().line(), R"(text: the name "a" stands there twice)");
}

TEST(Json, TooManyValuesAreAnError) {
  EXPECT_FALSE(parse_json("[1,2,3,4]", "text", {.depth = 4, .values = 4}).ok());
  EXPECT_TRUE(parse_json("[1,2,3]", "text", {.depth = 4, .values = 4}).ok());
}

TEST(Json, BadTextIsOneErrorLine) {
  for (const std::string text :
       {"", " ", "{", "[1,]", "{\"a\"}", "nul", "1 2", "{'a': 1}", "\"\xff\"", "NaN", "\"\n\""}) {
    const Result<Json> parsed = parse_json(text, "text");
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_TRUE(parsed.error().line().starts_with("text: not JSON at byte ")) << text;
    EXPECT_EQ(parsed.error().line().find('\n'), std::string::npos) << text;
    EXPECT_LT(parsed.error().line().size(), 260u) << text;
  }
  EXPECT_LT(parse_json("[" + std::string(100'000, 'x'), "text").error().line().size(), 260u);
}

TEST(Json, QuotedTextComesBackAndIsAlwaysUtf8) {
  const std::string text("a\"b\\c\n\x01\x7f\xc3\xa9\xf0\x9f\x98\x80\0z", 17);
  const std::string quoted = json_quoted(text);
  EXPECT_EQ(parse_json(quoted, "text")->text, text);
  EXPECT_EQ(json_quoted("a\xff\xc3(\xed\xa0\x80"),
            "\"a\xef\xbf\xbd\xef\xbf\xbd(\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
  EXPECT_EQ(json_quoted("\xf0\x9f\x98"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
  EXPECT_TRUE(parse_json(json_quoted("\xe0\x80\x80\xf4\x90\x80\x80\xc0\xaf"), "text").ok());
}

TEST(Json, BriefTextIsCutBetweenCharacters) {
  const Result<Json> parsed = parse_json("\"\xc3\xa9\xc3\xa9\xc3\xa9\"", "text");
  EXPECT_EQ(parsed->brief(4), "\"\xc3\xa9...");
  EXPECT_EQ(parsed->brief(100), "\"\xc3\xa9\xc3\xa9\xc3\xa9\"");
}

}  // namespace
}  // namespace ps
