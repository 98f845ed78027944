#include "core/safetensors.h"

#include <array>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include <gtest/gtest.h>

#include "core/rng.h"
#include "tests/support/fixtures.h"
#include "tests/support/raw_safetensors.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

Result<SafetensorsFile> parse(const std::string& bytes) {
  return SafetensorsFile::parse(bytes_of(bytes), "file");
}
std::string error_of(const std::string& bytes) {
  const Result<SafetensorsFile> file = parse(bytes);
  return file.ok() ? "no error" : file.error().line();
}

std::string entry(std::string_view name, std::string_view dtype, std::string_view shape,
                  std::string_view offsets) {
  return "\"" + std::string(name) + "\":{\"dtype\":\"" + std::string(dtype) +
         "\",\"shape\":" + std::string(shape) + ",\"data_offsets\":" + std::string(offsets) + "}";
}

TEST(Safetensors, TensorsAreFoundWithTheirBytesInOrderOfData) {
  // The header's own order is free.
  const std::string header = "{" + entry("b", "I32", "[1,2]", "[4,12]") + "," +
                             entry("a", "U8", "[4]", "[0,4]") +
                             ",\"__metadata__\":{\"k\":\"v\"}}  ";
  const std::string data("abcd\1\0\0\0\2\0\0\0", 12);
  const std::string bytes = raw_safetensors(header, data);
  const Result<SafetensorsFile> whole = parse(bytes);
  ASSERT_TRUE(whole.ok()) << whole.error().line();
  ASSERT_EQ(whole->entries().size(), 2u);
  EXPECT_EQ(whole->entries()[0].name, "a");
  EXPECT_EQ(whole->find("b")->shape, (Shape{1, 2}));
  EXPECT_EQ(whole->find("b")->as<std::int32_t>()[1], 2);
  EXPECT_EQ(whole->find("absent"), nullptr);
  EXPECT_EQ(whole->metadata().at("k"), "v");
}

TEST(Safetensors, EmptyFileOfTensorsIsLegal) {
  EXPECT_TRUE(parse(raw_safetensors("{}", "")).ok());
  EXPECT_TRUE(parse(raw_safetensors("{\"__metadata__\":null}", "")).ok());
  EXPECT_TRUE(parse(raw_safetensors("{\"__metadata__\":{}}   ", "")).ok());
}

TEST(Safetensors, ZeroSizedAndScalarTensorsAreLegal) {
  const std::string header = "{" + entry("none", "F32", "[2,0,3]", "[0,0]") + "," +
                             entry("one", "F64", "[]", "[0,8]") + "," +
                             entry("also", "U8", "[0]", "[8,8]") + "}";
  const std::string bytes = raw_safetensors(header, std::string(8, '\0'));
  const Result<SafetensorsFile> file = parse(bytes);
  ASSERT_TRUE(file.ok()) << file.error().line();
  EXPECT_EQ(file->find("none")->count(), 0);
  EXPECT_TRUE(file->find("none")->as<float>().empty());
  EXPECT_NE(file->find("none")->bytes.data(), nullptr);
  EXPECT_EQ(file->find("one")->count(), 1);
}

TEST(Safetensors, UnknownFieldsOfATensorArePassedOver) {
  const std::string header =
      R"({"a":{"extra":{"x":[1,{"y":2}]},"dtype":"U8","more":null,"shape":[1],"data_offsets":[0,1]}})";
  EXPECT_EQ(error_of(raw_safetensors(header, "x")), "no error");
}

TEST(Safetensors, ViewsAreAlignedWhereverTheDataBegin) {
  const std::string tensors =
      entry("flag", "BOOL", "[1]", "[0,1]") + "," + entry("d", "F64", "[2]", "[1,17]") + "," +
      entry("h", "BF16", "[3]", "[17,23]") + "," + entry("i", "I64", "[1]", "[23,31]");
  const std::array<double, 2> doubles = {1.5, -2.25};
  const std::array<std::uint16_t, 3> halves = {1, 2, 0x7f80};
  const std::int64_t whole = -5;
  std::string data(31, '\1');
  std::memcpy(&data[1], doubles.data(), 16);
  std::memcpy(&data[17], halves.data(), 6);
  std::memcpy(&data[23], &whole, 8);
  for (std::size_t padding = 0; padding < 8; ++padding) {
    const std::string bytes =
        raw_safetensors("{" + tensors + "}" + std::string(padding, ' '), data);
    const Result<SafetensorsFile> file = parse(bytes);
    ASSERT_TRUE(file.ok()) << file.error().line();
    for (const SafetensorsFile::Entry& e : file->entries()) {
      const auto address = reinterpret_cast<std::uintptr_t>(e.view.bytes.data());
      EXPECT_EQ(address % static_cast<std::uintptr_t>(size_of(e.view.dtype)), 0u) << e.name;
    }
    EXPECT_EQ(file->find("d")->as<double>()[1], -2.25);
    EXPECT_EQ(file->find("h")->as<std::uint16_t>()[2], 0x7f80);
    EXPECT_EQ(file->find("i")->as<std::int64_t>()[0], -5);
    EXPECT_EQ(file->find("flag")->as<std::uint8_t>()[0], 1);
  }
}

TEST(Safetensors, ViewsOutliveTheFileObjectTheyCameFromThroughItsCopies) {
  const TempDir dir;
  put_file(dir / "f", raw_safetensors("{" + entry("a", "U16", "[2]", "[0,4]") + "} ", "abcd"));
  SafetensorsFile copy;
  {
    Result<SafetensorsFile> file = SafetensorsFile::open(dir / "f");
    ASSERT_TRUE(file.ok()) << file.error().line();
    copy = *file;
  }
  EXPECT_EQ(copy.find("a")->as<std::uint16_t>()[0], 'a' + 256 * 'b');
}

struct HostileCase {
  const char* name;
  std::string header;
  std::string data;
  const char* message;
};

std::vector<HostileCase> hostile_headers() {
  const auto one = [](std::string_view dtype, std::string_view shape, std::string_view offsets) {
    return "{" + entry("a", dtype, shape, offsets) + "}";
  };
  const auto two = [](std::string_view first, std::string_view second) {
    return "{" + entry("a", "U8", "[4]", first) + "," + entry("b", "U8", "[4]", second) + "}";
  };
  return {
      {"overlap", two("[0,4]", "[3,7]"), "1234567", "overlaps the one before"},
      {"same range", two("[0,4]", "[0,4]"), "1234", "overlaps the one before"},
      {"hole", two("[0,4]", "[5,9]"), "123456789", "leaves a hole before it"},
      {"hole in front", one("U8", "[4]", "[1,5]"), "12345", "leaves a hole before it"},
      {"bytes behind", one("U8", "[4]", "[0,4]"), "12345", "belong to no tensor"},
      {"outside", one("U8", "[4]", "[0,4]"), "123", "lies outside the file"},
      {"far outside", one("U8", "[4]", "[9223372036854775803,9223372036854775807]"), "1234",
       "lies outside the file"},
      {"backwards", one("U8", "[4]", "[4,0]"), "1234", "ends before it begins"},
      {"negative offset", one("U8", "[4]", "[-4,0]"), "1234", "has -4 in its data_offsets"},
      {"float offset", one("U8", "[4]", "[0,4.0]"), "1234", "has 4.0 in its data_offsets"},
      {"huge offset", one("U8", "[4]", "[0,99999999999999999999]"), "1234", "in its data_offsets"},
      {"text offset", one("U8", "[4]", "[0,\"4\"]"), "1234", "in its data_offsets"},
      {"one offset", one("U8", "[4]", "[4]"), "1234", "two data_offsets"},
      {"three offsets", one("U8", "[4]", "[0,4,4]"), "1234", "more than two data_offsets"},
      {"offsets are no list", one("U8", "[4]", "4"), "1234", "where none belongs"},
      {"offsets nested", one("U8", "[4]", "[[0],4]"), "1234", "where none belongs"},
      {"size overflows", one("F64", "[2147483648,4294967296]", "[0,0]"), "", "size overflows"},
      {"size wraps to the right one", one("U8", "[4294967296,4294967296,4]", "[0,4]"), "1234",
       "size overflows"},
      {"empty but its strides overflow", one("U8", "[0,4294967296,4294967296]", "[0,0]"), "",
       "size overflows"},
      {"shape too large", one("F32", "[2]", "[0,4]"), "1234", "but its data_offsets span 4"},
      {"shape too small", one("U8", "[3]", "[0,4]"), "1234", "3 bytes, but its data_offsets"},
      {"negative axis", one("U8", "[-4]", "[0,4]"), "1234", "has -4 in its shape"},
      {"two negative axes", one("U8", "[-2,-2]", "[0,4]"), "1234", "has -2 in its shape"},
      {"float axis", one("U8", "[4.0]", "[0,4]"), "1234", "has 4.0 in its shape"},
      {"true axis", one("U8", "[true]", "[0,1]"), "1", "has true in its shape"},
      {"shape is an object", one("U8", "{}", "[0,4]"), "1234", "where none belongs"},
      {"unknown dtype", one("F7", "[4]", "[0,4]"), "1234", "unknown dtype \"F7\""},
      {"no dtype", R"({"a":{"shape":[4],"data_offsets":[0,4]}})", "1234", "needs dtype"},
      {"no shape", R"({"a":{"dtype":"U8","data_offsets":[0,4]}})", "1234", "needs dtype, shape"},
      {"dtype twice", R"({"a":{"dtype":"U8","dtype":"I8","shape":[4],"data_offsets":[0,4]}})",
       "1234", "has dtype twice"},
      {"name twice",
       "{" + entry("a", "U8", "[2]", "[0,2]") + "," + entry("a", "U8", "[2]", "[2,4]") + "}",
       "1234", "\"a\" stands in the header twice"},
      {"name twice, one escaped",
       "{" + entry("a", "U8", "[2]", "[0,2]") + "," + entry("\\u0061", "U8", "[2]", "[2,4]") + "}",
       "1234", "\"a\" stands in the header twice"},
      {"metadata twice", R"({"__metadata__":{},"__metadata__":{}})", "", "stands there twice"},
      {"metadata name twice", R"({"__metadata__":{"a":"1","a":"2"}})", "", "\"a\" twice"},
      {"metadata number", R"({"__metadata__":{"a":1}})", "", "must be a string"},
      {"metadata object", R"({"__metadata__":{"a":{}}})", "", "where none belongs"},
      {"metadata list", R"({"__metadata__":[]})", "", "where none belongs"},
      {"tensor is a number", R"({"a":1})", "", "where none belongs"},
      {"tensor is a list", R"({"a":[]})", "", "where none belongs"},
      {"text behind the header", "{} {}", "", "not JSON"},
      {"cut JSON", "{\"a\":{\"dtype\"", "", "not JSON"},
      {"a list", "[]", "", "must begin with '{'"},
      {"leading space", " {}", "", "must begin with '{'"},
      {"nothing", "", "", "must begin with '{'"},
      {"bad UTF-8", "{\"\xff\":1}", "", "not JSON"},
  };
}

TEST(Safetensors, HostileHeadersAreEachOneErrorLine) {
  for (const HostileCase& c : hostile_headers()) {
    const std::string line = error_of(raw_safetensors(c.header, c.data));
    EXPECT_NE(line.find(c.message), std::string::npos) << c.name << ": " << line;
    EXPECT_EQ(line.find('\n'), std::string::npos) << c.name;
  }
}

TEST(Safetensors, BracketsWithoutEndAreAnError) {
  for (const std::string open : {"[", "{\"a\":"}) {
    std::string header = "{\"a\":{\"skipped\":";
    for (int i = 0; i < 200'000; ++i) header += open;
    EXPECT_NE(error_of(raw_safetensors(header, "")).find("nested deeper"), std::string::npos);
  }
}

TEST(Safetensors, EveryCutOfAGoodFileIsAnError) {
  const std::string header =
      "{" + entry("a", "U8", "[3]", "[0,3]") + "," + entry("b", "F16", "[2]", "[3,7]") + "}";
  const std::string whole = raw_safetensors(header, "1234567");
  ASSERT_TRUE(parse(whole).ok());
  for (std::size_t length = 0; length < whole.size(); ++length) {
    EXPECT_FALSE(parse(whole.substr(0, length)).ok()) << length;
  }
  EXPECT_FALSE(parse(whole + "x").ok());
}

TEST(Safetensors, ImpossibleHeaderLengthsAreErrors) {
  for (const std::uint64_t length :
       {std::uint64_t{3}, std::uint64_t{100'000'000}, std::uint64_t{100'000'001}, ~std::uint64_t{0},
        std::uint64_t{1} << 63}) {
    EXPECT_FALSE(parse(raw_safetensors("{}", "", length)).ok()) << length;
  }
}

TEST(Safetensors, FlippedBytesNeverCrashTheReader) {
  const std::string header = "{\"__metadata__\":{\"k\":\"v\"}," + entry("a", "U8", "[3]", "[0,3]") +
                             "," + entry("b", "F16", "[2]", "[3,7]") + "}";
  const std::string whole = raw_safetensors(header, "1234567");
  const Rng rng(21, 1);
  for (std::uint64_t i = 0; i < 20'000; ++i) {
    std::string bytes = whole;
    for (std::uint64_t flips = 0; flips <= i % 3; ++flips) {
      const auto at = static_cast<std::size_t>(
          rng.below(4 * i + flips, static_cast<std::int64_t>(bytes.size())));
      bytes[at] = static_cast<char>(rng.bits(4 * i + flips + (1u << 20)));
    }
    const Result<SafetensorsFile> file = parse(bytes);
    if (!file.ok()) continue;
    for (const SafetensorsFile::Entry& e : file->entries()) {
      ASSERT_EQ(e.view.count() * size_of(e.view.dtype),
                static_cast<std::int64_t>(e.view.bytes.size()));
    }
  }
}

TEST(Safetensors, ThingsThatAreNoFileAreErrors) {
  const TempDir dir;
  put_file(dir / "empty", "");
  ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
  put_file(dir / "secret", raw_safetensors("{}", ""));
  std::filesystem::permissions(dir / "secret", std::filesystem::perms::none);
  EXPECT_FALSE(SafetensorsFile::open(dir / "absent").ok());
  EXPECT_FALSE(SafetensorsFile::open(dir / "empty").ok());
  EXPECT_FALSE(SafetensorsFile::open(dir / "pipe").ok());
  const Result<SafetensorsFile> directory = SafetensorsFile::open(dir.path());
  ASSERT_FALSE(directory.ok());
  EXPECT_NE(directory.error().line().find("a directory"), std::string::npos);
  if (::geteuid() != 0) {  // root may read everything
    EXPECT_FALSE(SafetensorsFile::open(dir / "secret").ok());
  }
}

TEST(SafetensorsWriter, WhatWasWrittenIsReadBack) {
  const TempDir dir;
  const std::vector<float> floats = {1.5f, -0.0f, 3e38f};
  const std::vector<std::uint8_t> flags = {1, 0, 1, 1, 0};
  const std::vector<std::int64_t> ids = {7, -7};
  const Tensor a = Tensor::of<float>(DType::kF32, {3, 1}, floats);
  const Tensor b = Tensor::of<std::uint8_t>(DType::kBool, {5}, flags);
  const Tensor c = Tensor::of<std::int64_t>(DType::kI64, {1, 2}, ids);
  const Tensor none(DType::kBF16, {2, 0, 3});
  {
    Result<SafetensorsWriter> writer = SafetensorsWriter::create(dir / "out.safetensors");
    ASSERT_TRUE(writer.ok()) << writer.error().line();
    writer->set_metadata("note \"1\"", "line\nline");
    ASSERT_TRUE(writer->add("flags \"\\", b.view()).ok());
    ASSERT_TRUE(writer->add("ids", c.view()).ok());
    ASSERT_TRUE(writer->add("floats", a.view()).ok());
    ASSERT_TRUE(writer->add("none", none.view()).ok());
    EXPECT_FALSE(writer->add("ids", c.view()).ok());
    EXPECT_FALSE(writer->add("__metadata__", c.view()).ok());
    ASSERT_TRUE(writer->close().ok());
  }
  EXPECT_EQ(dir.names(), std::vector<std::string>{"out.safetensors"});
  const Result<SafetensorsFile> file = SafetensorsFile::open(dir / "out.safetensors");
  ASSERT_TRUE(file.ok()) << file.error().line();
  ASSERT_EQ(file->entries().size(), 4u);
  EXPECT_EQ(file->entries().front().name, "ids");  // wide elements first: all are aligned
  EXPECT_EQ(file->entries().back().name, "flags \"\\");
  EXPECT_EQ(file->metadata().at("note \"1\""), "line\nline");
  EXPECT_EQ(file->find("floats")->as<float>()[2], 3e38f);
  EXPECT_EQ(file->find("ids")->as<std::int64_t>()[1], -7);
  EXPECT_EQ(file->find("flags \"\\")->as<std::uint8_t>()[3], 1);
  EXPECT_EQ(file->find("none")->shape, (Shape{2, 0, 3}));
  EXPECT_EQ(get_file(dir / "out.safetensors")[0] % 8, 0);
}

TEST(SafetensorsWriter, TensorsOfOneDtypeStayInTheOrderAdded) {
  const TempDir dir;
  const std::vector<float> values = {1.0f, 2.0f};
  const Tensor t = Tensor::of<float>(DType::kF32, {2}, values);
  Result<SafetensorsWriter> writer = SafetensorsWriter::create(dir / "f");
  for (const char* name : {"zebra", "ant", "mole"}) ASSERT_TRUE(writer->add(name, t.view()).ok());
  ASSERT_TRUE(writer->close().ok());
  const Result<SafetensorsFile> file = SafetensorsFile::open(dir / "f");
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(file->entries()[0].name, "zebra");
  EXPECT_EQ(file->entries()[1].name, "ant");
  EXPECT_EQ(file->entries()[2].name, "mole");
}

TEST(SafetensorsWriter, WithoutCloseNothingIsLeft) {
  const TempDir dir;
  {
    Result<SafetensorsWriter> writer = SafetensorsWriter::create(dir / "out");
    ASSERT_TRUE(writer.ok());
    const Tensor t(DType::kF32, {1000});
    ASSERT_TRUE(writer->add("t", t.view()).ok());
    SafetensorsWriter moved = std::move(writer).value();
    ASSERT_TRUE(moved.add("u", t.view()).ok());
  }
  EXPECT_TRUE(dir.names().empty());
}

TEST(SafetensorsWriter, PlacesThatCannotBeWrittenAreErrors) {
  const TempDir dir;
  EXPECT_FALSE(SafetensorsWriter::create(dir / "absent/out").ok());
  std::filesystem::create_directory(dir / "folder");
  Result<SafetensorsWriter> writer = SafetensorsWriter::create(dir / "folder");
  ASSERT_TRUE(writer.ok());
  EXPECT_FALSE(writer->close().ok());
  EXPECT_EQ(dir.names(), std::vector<std::string>{"folder"});
}

TEST(SafetensorsWriter, RewrittenGoldenHasTheSameTensors) {
  const TempDir dir;
  for (const auto& model : model_dirs()) {
    const auto path = model / "model.safetensors";
    if (!std::filesystem::exists(path)) continue;
    const Result<SafetensorsFile> original = SafetensorsFile::open(path);
    ASSERT_TRUE(original.ok()) << original.error().line();
    Result<SafetensorsWriter> writer = SafetensorsWriter::create(dir / "copy");
    for (const SafetensorsFile::Entry& e : original->entries()) {
      ASSERT_TRUE(writer->add(e.name, e.view).ok());
    }
    ASSERT_TRUE(writer->close().ok());
    const Result<SafetensorsFile> copy = SafetensorsFile::open(dir / "copy");
    ASSERT_TRUE(copy.ok()) << copy.error().line();
    ASSERT_EQ(copy->entries().size(), original->entries().size());
    for (const SafetensorsFile::Entry& e : original->entries()) {
      const TensorView* found = copy->find(e.name);
      ASSERT_NE(found, nullptr) << e.name;
      EXPECT_EQ(found->shape, e.view.shape);
      EXPECT_EQ(found->dtype, e.view.dtype);
      EXPECT_TRUE(std::equal(found->bytes.begin(), found->bytes.end(), e.view.bytes.begin(),
                             e.view.bytes.end()))
          << e.name;
    }
  }
}

}  // namespace
}  // namespace ps
