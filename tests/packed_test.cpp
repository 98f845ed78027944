// Packed files: what was packed comes back bit for bit, and whatever is wrong with such a file is
// one line that says what.
#include "core/packed.h"

#include <array>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <string>
#include <sys/resource.h>
#include <vector>

#include <gtest/gtest.h>

#include "core/crc32.h"
#include "core/packed_form.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "core/safetensors.h"
#include "core/zstd.h"
#include "tests/support/raw_packed.h"
#include "tests/support/raw_safetensors.h"
#include "tests/support/run.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

#define PS_NEEDS_ZSTD() \
  if (!has_zstd()) GTEST_SKIP() << "built without zstd"

constexpr std::array kEveryType = {DType::kF64,    DType::kF32,    DType::kF16, DType::kBF16,
                                   DType::kF8E4M3, DType::kF8E5M2, DType::kI64, DType::kI32,
                                   DType::kI16,    DType::kI8,     DType::kU64, DType::kU32,
                                   DType::kU16,    DType::kU8,     DType::kBool};

using Tensors = std::map<std::string, Tensor>;

// Half of it noise, half a ramp: some blocks become shorter, some do not.
Tensor mixed(DType dtype, Shape shape, std::uint64_t seed) {
  Tensor out(dtype, std::move(shape));
  const Rng rng(seed, 0);
  const std::span<std::byte> bytes = out.bytes();
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>(i < bytes.size() / 2 ? rng.bits(i) >> 56 : i / 1024);
  }
  return out;
}

void write(const std::filesystem::path& path, const Tensors& tensors, Packing packing) {
  SafetensorsWriter writer = value_or_die(SafetensorsWriter::create(path, packing));
  writer.set_metadata("note", "of the file");
  for (const auto& [name, tensor] : tensors) ASSERT_TRUE(writer.add(name, tensor.view()).ok());
  const Result<void> closed = writer.close();
  ASSERT_TRUE(closed.ok()) << closed.error().line();
}

Result<std::string> unpacked(const std::string& packed) {
  PS_TRY(const UnpackedFile file, UnpackedFile::of(bytes_of(packed), "file"));
  return std::string(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
}
std::string error_of(const std::string& packed) {
  const Result<std::string> plain = unpacked(packed);
  return plain.ok() ? "no error" : plain.error().line();
}

TEST(Packed, EveryTypeAndSizeComesBackAsTheSameFile) {
  PS_NEEDS_ZSTD();
  const TempDir dir;
  Tensors tensors;
  for (const DType dtype : kEveryType) {
    const std::string name(safetensors_name(dtype));
    const std::int64_t block = kPackedBlock / size_of(dtype);
    for (const Shape& shape : std::vector<Shape>{{},
                                                 {0},
                                                 {3, 0, 2},
                                                 {1},
                                                 {7, 3},
                                                 {block - 1},
                                                 {block},
                                                 {block + 1},
                                                 {1, 2 * block + 5}}) {
      tensors[name + to_string(shape)] = mixed(dtype, shape, tensors.size());
    }
  }
  write(dir / "plain", tensors, {});
  write(dir / "packed", tensors, {1});
  const std::string plain = get_file(dir / "plain"), packed = get_file(dir / "packed");
  EXPECT_LT(packed.size(), plain.size() * 2 / 3);
  const Result<std::string> back = unpacked(packed);
  ASSERT_TRUE(back.ok()) << back.error().line();
  EXPECT_TRUE(*back == plain);

  const SafetensorsFile opened = value_or_die(SafetensorsFile::open(dir / "packed"));
  EXPECT_EQ(opened.metadata().at("note"), "of the file");
  ASSERT_EQ(opened.entries().size(), tensors.size());
  const SafetensorsFile copy = opened;  // shares what was unpacked
  for (const auto& [name, tensor] : tensors) {
    const TensorView view = tensor.view(), *found = copy.find(name);
    ASSERT_NE(found, nullptr) << name;
    EXPECT_EQ(found->dtype, view.dtype) << name;
    EXPECT_EQ(found->shape, view.shape) << name;
    EXPECT_TRUE(
        std::equal(found->bytes.begin(), found->bytes.end(), view.bytes.begin(), view.bytes.end()))
        << name;
  }
}

TEST(Packed, AFileWithoutTensorsIsOne) {
  PS_NEEDS_ZSTD();
  const TempDir dir;
  write(dir / "plain", {}, {});
  write(dir / "packed", {}, {1});
  const Result<std::string> back = unpacked(get_file(dir / "packed"));
  ASSERT_TRUE(back.ok()) << back.error().line();
  EXPECT_EQ(*back, get_file(dir / "plain"));
}

TEST(Packed, NothingBecomesMuchLongerThanItWas) {
  PS_NEEDS_ZSTD();
  const TempDir dir;
  Tensor noise(DType::kBF16, {3, kPackedBlock / 2 + 11});
  const Rng rng(5, 0);
  for (std::size_t i = 0; i < noise.bytes().size(); ++i) {
    noise.bytes()[i] = static_cast<std::byte>(rng.bits(i) >> 56);
  }
  write(dir / "plain", {{"noise", noise}}, {});
  write(dir / "packed", {{"noise", noise}}, {1});
  const auto blocks = noise.bytes().size() / static_cast<std::size_t>(kPackedBlock) + 1;
  EXPECT_LE(std::filesystem::file_size(dir / "packed"),
            std::filesystem::file_size(dir / "plain") + 20 + blocks * packed::kTableEntry);
}

TEST(Packed, OneTensorIsReadWhateverHappenedToTheOthers) {
  PS_NEEDS_ZSTD();
  const TempDir dir;
  Tensors tensors;
  for (const char* name : {"a", "b", "c"}) {
    tensors[name] = mixed(DType::kF32, {2, kPackedBlock / 4 + 3}, 9 + tensors.size());
  }
  write(dir / "packed", tensors, {1});
  std::string bytes = get_file(dir / "packed");
  const std::size_t front =
      24 + static_cast<unsigned char>(bytes[16]) + 256 * static_cast<unsigned char>(bytes[17]);
  bytes[front + 100] ^= 1;  // in the first tensor
  const PackedFile file = value_or_die(PackedFile::parse(bytes_of(bytes), "file"));
  ASSERT_EQ(file.tensors().size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) {
    Tensor& expected = tensors[file.tensors()[i].name];
    std::vector<std::byte> out(expected.bytes().size());
    const Result<void> read = file.read(i, out);
    EXPECT_EQ(read.ok(), i > 0);
    if (i == 0) {
      EXPECT_NE(read.error().line().find("file: tensor \"a\", block 0 of 3: is damaged"),
                std::string::npos)
          << read.error().line();
    } else {
      EXPECT_TRUE(std::equal(out.begin(), out.end(), expected.bytes().begin()));
    }
  }
}

TEST(Packed, PlanesAreSplitAndJoinedByTheByte) {
  for (const std::int64_t cell : {2, 4, 8}) {
    for (const std::size_t count : {0u, 1u, 3u, 16u, 67u}) {
      std::vector<std::byte> cells(count * static_cast<std::size_t>(cell)), planes(cells.size()),
          back(cells.size());
      for (std::size_t i = 0; i < cells.size(); ++i) cells[i] = static_cast<std::byte>(i * 37 + 1);
      packed::split_planes(cells, cell, planes);
      for (std::size_t i = 0; i < cells.size(); ++i) {
        const std::size_t k = i % static_cast<std::size_t>(cell);
        EXPECT_EQ(planes[k * count + i / static_cast<std::size_t>(cell)], cells[i]);
      }
      packed::join_planes(planes, cell, back);
      EXPECT_EQ(back, cells);
    }
  }
}

// ---- damage -------------------------------------------------------------------------------------

class PackedDamage : public testing::Test {
 protected:
  void SetUp() override {
    PS_NEEDS_ZSTD();
    Tensor ramp(DType::kF32, {25});
    for (std::size_t i = 0; i < 25; ++i) ramp.as<float>()[i] = static_cast<float>(i % 3);
    const TempDir dir;
    write(dir / "packed", {{"ramp", ramp}, {"two", mixed(DType::kBF16, {2, 5}, 3)}}, {1});
    good_ = get_file(dir / "packed");
    ASSERT_EQ(error_of(good_), "no error");
  }
  std::string good_;
};

TEST_F(PackedDamage, EveryFlippedBitIsFound) {
  for (std::size_t i = 0; i < good_.size() * 8; ++i) {
    std::string bad = good_;
    bad[i / 8] = static_cast<char>(bad[i / 8] ^ (1 << (i % 8)));
    EXPECT_NE(error_of(bad), "no error") << "bit " << i % 8 << " of byte " << i / 8;
  }
}

TEST_F(PackedDamage, EveryCutIsFound) {
  for (std::size_t size = 0; size < good_.size(); ++size) {
    EXPECT_NE(error_of(good_.substr(0, size)), "no error") << size;
  }
  EXPECT_NE(error_of(good_ + '\0'), "no error");
}

// ---- what no writer would write -----------------------------------------------------------------

std::string header_of(std::string_view dtype, std::string_view shape, std::string_view offsets) {
  return "{\"x\":{\"dtype\":\"" + std::string(dtype) + "\",\"shape\":" + std::string(shape) +
         ",\"data_offsets\":" + std::string(offsets) + "}}";
}
std::string frame_of(const std::string& raw) {
  std::string out(raw.size() + 600, '\0');
  out.resize(
      zstd_pack(bytes_of(raw), 1, std::as_writable_bytes(std::span(out.data(), out.size()))));
  return out;
}

TEST(PackedHostile, AFileByHandIsRead) {
  PS_NEEDS_ZSTD();
  const std::string header = header_of("U8", "[200]", "[0,200]"), raw(200, 'x');
  const std::string plain = raw_safetensors(header, raw);
  EXPECT_EQ(value_or_die(unpacked(raw_packed(header, 200, {frame_of(raw)}))), plain);
  EXPECT_EQ(value_or_die(unpacked(raw_packed(header, 200, {raw}))), plain);  // as it is
}

TEST(PackedHostile, SizesAreHeldToEachOtherBeforeAnythingIsUnpacked) {
  PS_NEEDS_ZSTD();
  const std::string header = header_of("U8", "[200]", "[0,200]"),
                    frame = frame_of(std::string(200, 'x'));
  struct Case {
    std::string bytes, says;
  };
  const auto huge = std::numeric_limits<std::uint64_t>::max();
  const std::vector<Case> cases = {
      {raw_packed(header, 199, {frame}), "lies outside the file"},
      {raw_packed(header, 201, {frame}), "belong to no tensor"},
      {raw_packed(header, huge, {frame}), "larger than any file"},
      {raw_packed(header_of("U8", "[200]", "[0,100]"), 100, {frame}), "has shape [200] of U8"},
      {raw_packed(header_of("F64", "[1152921504606846976,64]", "[0,200]"), 200, {frame}),
       "size overflows"},
      // A tensor of 2^59 bytes: its table alone would be larger than the file.
      {raw_packed(header_of("U8", "[576460752303423488]", "[0,576460752303423488]"),
                  std::uint64_t{1} << 59, {frame}),
       "is too short for its tensors: expected 549755813888 blocks of at least 9 bytes"},
      {raw_packed(header_of("U8", "[1048577]", "[0,1048577]"), 1048577, {"x"}),
       "is too short for its tensors: expected 2 blocks of at least 9 bytes, found 9 bytes"},
      {raw_packed("{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
                  "\"y\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}",
                  6, {"aaaa", "bbbb"}),
       "tensor \"y\" overlaps the one before"},
      {raw_packed(header, 200, {frame}, {0u}), "block 0 of 1: has an impossible size"},
      {raw_packed(header, 200, {frame}, {201u}), "expected 1 to 200 bytes, found 201"},
      {raw_packed(header, 200, {frame}, {0xffffffffu}), "has an impossible size"},
      {raw_packed(header, 200, {frame}, {static_cast<std::uint32_t>(frame.size()) + 1}),
       "its blocks do not end where its table begins"},
      {raw_packed(header, 200, {frame + "x"}), "a frame that ends elsewhere"},
      {raw_packed(header, 200, {frame.substr(0, frame.size() - 1)}), "cannot be unpacked"},
      {raw_packed(header, 200, {frame_of(std::string(199, 'x'))}), "found a frame of 199 bytes"},
      {raw_packed(header, 200, {frame_of(std::string(1 << 20, 'x'))}),
       "found a frame of 1048576 bytes"},
      {raw_packed(header, 200, {std::string(40, 'x')}), "found no zstd frame"},
      {std::string("PSPACK/1"), "is cut off"},
      {raw_packed(header, 200, {frame}).replace(16, 8, 8, '\xff'), "does not fit into the file"},
  };
  for (const Case& c : cases) {
    EXPECT_NE(error_of(c.bytes).find(c.says), std::string::npos) << error_of(c.bytes);
    EXPECT_EQ(error_of(c.bytes).find('\n'), std::string::npos);
  }
}

// The system refuses more memory of our own; what is mapped from files does not count.
#if !defined(__SANITIZE_ADDRESS__)
TEST(Packed, UnpackingHoldsAFewBlocksHoweverLargeTheTensor) {
  PS_NEEDS_ZSTD();
  constexpr std::size_t kBlocks = 384;
  const std::uint64_t size = std::uint64_t{kBlocks} << 20;
  const std::string header =
      header_of("F32", "[" + std::to_string(size / 4) + "]", "[0," + std::to_string(size) + "]");
  const std::string bytes = raw_packed(
      header, size, std::vector<std::string>(kBlocks, frame_of(std::string(1 << 20, '\0'))));
  constexpr rlim_t kStack = 9 << 20, kHeld = 4 << 20;
  const rlim_t allowed = static_cast<rlim_t>(thread_count(0)) * (kStack + kHeld) + (16 << 20);
  if (allowed > size / 2) GTEST_SKIP() << "too many threads to tell";
  const std::string status = get_file("/proc/self/status");
  const rlim_t now = std::stoull(status.substr(status.find("VmData:") + 7)) << 10;
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_DATA, &before), 0);
  const rlimit less{now + allowed, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_DATA, &less), 0);
  const Result<UnpackedFile> file = UnpackedFile::of(bytes_of(bytes), "file");
  ASSERT_EQ(::setrlimit(RLIMIT_DATA, &before), 0);
  ASSERT_TRUE(file.ok()) << file.error().line();
  EXPECT_EQ(file->bytes().size(), 8 + header.size() + size);
}
#endif

TEST(PackedHostile, WhatDoesNotFitOnTheDiskIsSaidBeforeItIsFull) {
  PS_NEEDS_ZSTD();
  // 2^16 blocks of a MiB each, which all are the same few bytes.
  const std::size_t count = 1 << 16;
  const std::uint64_t size = std::uint64_t{count} << 20;
  const std::string header =
      header_of("U8", "[" + std::to_string(size) + "]", "[0," + std::to_string(size) + "]");
  const std::string frame = frame_of(std::string(1 << 20, '\0'));
  const std::string bytes = raw_packed(header, size, std::vector<std::string>(count, frame));
  std::error_code ec;
  const auto space = std::filesystem::space(std::filesystem::temp_directory_path(), ec);
  if (ec || space.available >= size) GTEST_SKIP() << "64 GiB are free";
  EXPECT_NE(error_of(bytes).find("does not fit unpacked into"), std::string::npos)
      << error_of(bytes);
}

}  // namespace
}  // namespace ps
