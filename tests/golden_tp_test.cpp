// The tensor-parallel golden cases pass, and a changed number in any of their files makes them
// fail.
#include <fstream>

#include <gtest/gtest.h>

#include "diff/golden/golden.h"
#include "diff/golden/tensor_parallel_case.h"
#include "tests/support/fixtures.h"
#include "tests/support/paths.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

namespace fs = std::filesystem;

fs::path cases() { return fixtures_dir() / "golden" / "tensor-parallel"; }

class TpGolden : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!fs::exists(fs::path(binary_dir()) / "libparscope_reference.so")) {
      GTEST_SKIP() << "built without LibTorch";
    }
  }
  // A copy of a case with one edit in a text file, or one byte of a file's last numbers changed.
  std::string verify(const std::string& name) {
    const Result<std::string> verified = verify_tensor_parallel_case(dir_ / name);
    return verified.ok() ? "passed" : verified.error().line();
  }
  void copy(const std::string& name) {
    fs::remove_all(dir_ / name);
    fs::copy(cases() / name, dir_ / name, fs::copy_options::recursive);
  }
  std::string with(const std::string& name, const std::string& file, const std::string& from,
                   const std::string& to) {
    copy(name);
    const fs::path path = fs::is_directory(cases() / name) ? dir_ / name / file : dir_ / name;
    std::string text = get_file(path);
    const std::size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    if (at != std::string::npos) text.replace(at, from.size(), to);
    put_file(path, text);
    return verify(name);
  }
  std::string with_byte(const std::string& name, const std::string& file, std::size_t from_end) {
    copy(name);
    std::string bytes = get_file(dir_ / name / file);
    bytes[bytes.size() - from_end] = static_cast<char>(bytes[bytes.size() - from_end] ^ 0x11);
    put_file(dir_ / name / file, bytes);
    return verify(name);
  }
  static void expect_says(const std::string& verdict, const std::string& words) {
    EXPECT_NE(verdict.find(words), std::string::npos) << verdict;
  }
  TempDir dir_;
};

TEST_F(TpGolden, EveryCasePasses) {
  const auto found = find_golden_cases(cases());
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->size(), 10U);
  for (const GoldenCase& c : *found) {
    const Result<std::string> verified = verify_tensor_parallel_case(c.path);
    EXPECT_TRUE(verified.ok()) << c.name << ": " << (verified.ok() ? "" : verified.error().line());
  }
}

TEST_F(TpGolden, ChangedPlansAndCrcsFail) {
  const std::string name = "llama_gqa_kvrep4_padvocab";
  expect_says(with(name, "plan.json", "\"0357c450\"", "\"0357c451\""), "plan.json/1");
  expect_says(with(name, "plan.json", "0,56,5,3", "0,56,5,4"), "plan.json/8");
  expect_says(with(name, "case.json", "\"2\": 62", "\"2\": 64"), "padded_vocab");
  expect_says(with("llama_heads6_tp3", "case.json", "  3\n", "  3,\n  3\n"), "stands there twice");
  expect_says(with_byte(name, "shards.safetensors", 2), "bit for bit");
  expect_says(with_byte(name, "weights.safetensors", 2), "plan.json");
}

TEST_F(TpGolden, ChangedPointsAndInputsFail) {
  const std::string name = "llama_chunked_prefill";
  EXPECT_NE(with_byte(name, "acts.safetensors", 3), "passed");
  EXPECT_NE(with(name, "case.json", "\"theta\": 10000.0", "\"theta\": 10001.0"), "passed");
  EXPECT_NE(with(name, "case.json", "\"eps\": 1e-06", "\"eps\": 1.1e-06"), "passed");
  EXPECT_NE(with(name, "case.json", "   48,", "   47,"), "passed");
}

TEST_F(TpGolden, ChangedFaultsFail) {
  const std::string name = "qwen2_tied_leftpad";
  expect_says(with(name, "faults.json", "\"TP008\"", "\"TP007\""), "named otherwise");
  expect_says(with(name, "faults.json", "self_attn.k_proj\", \"rel_first",
                   "self_attn.v_proj\", \"rel_first"),
              "first_bad_tap");
  expect_says(with(name, "faults.json", "\"rel_logits\": 0.8389893", "\"rel_logits\": 0.8389894"),
              "rel_logits");
  expect_says(with(name, "faults.json", "baf465ae", "baf465af"), "CRC-32");
}

TEST_F(TpGolden, ChangedTablesFail) {
  expect_says(with("layouts.json", "", "[16,17]", "[16,18]"), "layouts.json/cases");
  expect_says(with("fsdp.json", "", "\"padding\": 2", "\"padding\": 3"), "fsdp.json/cases");
}

}  // namespace
}  // namespace ps
