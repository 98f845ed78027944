// Tensors that are read from their files give the same comparison, cell by cell, as in memory; a
// file that is another one by now is not read.
#include "core/file_reader.h"

#include <algorithm>
#include <filesystem>
#include <vector>

#include <gtest/gtest.h>

#include "core/float_bits.h"
#include "core/rng.h"
#include "core/safetensors.h"
#include "diff/compare/compare.h"
#include "tests/support/run.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

constexpr std::int64_t kCells = 5 * 65536 + 1029;  // blocks, windows, chunks and a tail

Tensor drawn(DType dtype, std::uint64_t stream) {
  Tensor out(dtype, {kCells});
  const Rng rng(11, 1), noise(11, stream);
  for (std::int64_t i = 0; i < kCells; ++i) {
    const auto k = static_cast<std::size_t>(i);
    const double x = rng.normal(k) + (stream > 1 ? 1e-3 * noise.normal(k) : 0.0);
    if (dtype == DType::kF32) out.as<float>()[k] = static_cast<float>(x);
    if (dtype == DType::kF64) out.as<double>()[k] = x;
    if (dtype == DType::kBF16) out.as<std::uint16_t>()[k] = float_to_bf16(static_cast<float>(x));
    if (dtype == DType::kI64) out.as<std::int64_t>()[k] = static_cast<std::int64_t>(x * 0x1p58);
  }
  return out;
}

SafetensorsFile stored(const std::filesystem::path& path, const Tensor& value) {
  SafetensorsWriter writer = value_or_die(SafetensorsWriter::create(path));
  ok_or_die(writer.add("before", Tensor(DType::kF64, {3}).view()));
  ok_or_die(writer.add("x", value.view()));
  ok_or_die(writer.close());
  return value_or_die(SafetensorsFile::open(path));
}

void expect_same(const Comparison& x, const Comparison& y) {
  EXPECT_EQ(x.compared, y.compared);
  EXPECT_EQ(x.ignored, y.ignored);
  EXPECT_EQ(x.max_abs, y.max_abs);
  EXPECT_EQ(x.max_abs_at, y.max_abs_at);
  EXPECT_EQ(x.max_ulp, y.max_ulp);
  EXPECT_EQ(x.rel_l2, y.rel_l2);
  EXPECT_EQ(x.worst_at, y.worst_at);
  EXPECT_EQ(x.ratio, y.ratio);
  EXPECT_EQ(x.over, y.over);
  EXPECT_EQ(x.histogram, y.histogram);
  EXPECT_EQ(x.bit_equal, y.bit_equal);
}

TEST(FileReader, ComparesAsMemoryDoes) {
  const TempDir dir;
  Tensor marks(DType::kBool, {kCells});
  for (std::size_t i = 0; i < static_cast<std::size_t>(kCells); i += 977) marks.bytes()[i] = {};
  for (std::int64_t i = 70000; i < 71500; ++i) {
    marks.bytes()[static_cast<std::size_t>(i)] = std::byte{1};
  }
  const TensorView marks_view = marks.view();
  for (const auto& [a_type, b_type] : {std::pair{DType::kF32, DType::kF32},
                                       {DType::kBF16, DType::kF32},
                                       {DType::kF64, DType::kF64},
                                       {DType::kI64, DType::kI64},
                                       {DType::kBF16, DType::kBF16}}) {
    const Tensor a = drawn(a_type, 2), b = drawn(b_type, 1);
    const SafetensorsFile in_a = stored(dir.path() / "a", a), in_b = stored(dir.path() / "b", b);
    const FileReader read_a = in_a.reader(), read_b = in_b.reader();
    for (const TensorView* ignore : {static_cast<const TensorView*>(nullptr), &marks_view}) {
      for (const int threads : {1, 3}) {
        CompareOptions options;
        options.bound = default_bound(a_type, b_type, 1);
        options.ignore = ignore;
        options.threads = threads;
        const Comparison in_memory = compare(a.view(), b.view(), options);
        options.candidate_file = &read_a;
        options.expected_file = &read_b;
        expect_same(compare(*in_a.find("x"), *in_b.find("x"), options), in_memory);
        // One side is in no file.
        expect_same(compare(a.view(), *in_b.find("x"), options), in_memory);
      }
    }
  }
}

TEST(FileReader, GivesTheBytesOfItsFileAndNoOther) {
  const TempDir dir;
  const Tensor first = drawn(DType::kF32, 1), second = drawn(DType::kF32, 2);
  const SafetensorsFile file = stored(dir.path() / "x", first);
  const std::span<const std::byte> cells = file.find("x")->bytes.subspan(12, 5001);
  std::vector<std::byte> out(cells.size());
  const FileReader reader = file.reader();
  ASSERT_TRUE(reader.read(cells, out.data()));
  EXPECT_TRUE(std::equal(out.begin(), out.end(), cells.begin()));
  EXPECT_FALSE(reader.read(first.view().bytes.subspan(0, 8), out.data()));
  const std::span<const std::byte> all = file.find("x")->bytes;
  EXPECT_FALSE(reader.read({all.data() + all.size() - 4, 8}, out.data()));

  const SafetensorsFile other = stored(dir.path() / "x", second);  // takes the name
  EXPECT_FALSE(file.reader().read(cells, out.data()));
  ASSERT_TRUE(reader.read(cells, out.data()));  // was open before
  EXPECT_TRUE(std::equal(out.begin(), out.end(), cells.begin()));
  EXPECT_FALSE(FileReader().read(cells, out.data()));
}

}  // namespace
}  // namespace ps
