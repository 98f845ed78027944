// The stored mask cases of masks.md 9, and proof that the check can fail: every number of case.json
// outside of the programs, and the first element of every tensor, is changed in turn.
#include <cstring>
#include <filesystem>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "core/safetensors.h"
#include "diff/golden/golden.h"
#include "tests/support/fixtures.h"
#include "tests/support/run.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::vector<GoldenCase> all_cases() {
  return value_or_die(find_golden_cases(fixtures_dir() / "golden" / "masks"));
}

GoldenResult verify(const fs::path& dir) {
  const auto cases = value_or_die(find_golden_cases(dir));
  PS_CHECK(cases.size() == 1, "one case in " + dir.string());
  return verify_golden(cases[0], {});
}

TEST(MaskGolden, EveryCasePasses) {
  EXPECT_GE(all_cases().size(), 8U);
  for (const GoldenCase& golden : all_cases()) {
    const GoldenResult result = verify_golden(golden, {});
    EXPECT_TRUE(result.pass) << result.name << ": " << result.message;
    EXPECT_EQ(result.kind, "masks");
  }
}

// Pointers to the numbers that are results, not inputs that may be without effect (a block above
// the diagonal that the causal clause hides anyway).
void collect_numbers(const json& at, const std::string& pointer, std::vector<std::string>& out) {
  const bool input = pointer == "/program" || pointer.ends_with("/expr") || pointer == "/block" ||
                     pointer.ends_with("/extra_arrays");
  if (input || pointer == "/lazy_decided_fraction_reference") return;
  if (at.is_number()) out.push_back(pointer);
  if (at.is_structured()) {
    for (const auto& item : at.items())
      collect_numbers(item.value(), pointer + "/" + item.key(), out);
  }
}

TEST(MaskGolden, EveryChangedNumberMakesItsCaseFail) {
  for (const GoldenCase& golden : all_cases()) {
    TempDir temp;
    const fs::path dir = temp.path() / "case";
    fs::copy(golden.path, dir, fs::copy_options::recursive);
    const std::string text = value_or_die(read_text(dir / "case.json"));
    std::vector<std::string> numbers;
    collect_numbers(json::parse(text), "", numbers);
    EXPECT_GT(numbers.size(), 30U);
    for (const std::string& pointer : numbers) {
      json changed = json::parse(text);
      json& number = changed[json::json_pointer(pointer)];
      if (number.is_number_integer()) {
        number = number.get<std::int64_t>() + 1;
      } else {
        number = number.get<double>() * (1 + 1e-7) + 1e-12;
      }
      ok_or_die(write_text(dir / "case.json", changed.dump()));
      EXPECT_FALSE(verify(dir).pass) << golden.name << " " << pointer;
    }
  }
}

TEST(MaskGolden, AChangedElementOfAnyTensorMakesItsCaseFail) {
  for (const GoldenCase& golden : all_cases()) {
    TempDir temp;
    const fs::path dir = temp.path() / "case";
    fs::copy(golden.path, dir, fs::copy_options::recursive);
    const SafetensorsFile file =
        value_or_die(SafetensorsFile::open(golden.path / "data.safetensors"));
    for (const auto& target : file.entries()) {
      SafetensorsWriter writer = value_or_die(SafetensorsWriter::create(dir / "data.safetensors"));
      for (const auto& entry : file.entries()) {
        Tensor value = Tensor::copy_of(entry.view);
        if (entry.name == target.name) {
          if (value.dtype() == DType::kF32) value.as<float>()[0] += 0.01F;
          if (value.dtype() == DType::kF64) value.as<double>()[0] += 1e-9;
          if (!is_floating(value.dtype())) value.bytes()[0] ^= std::byte{1};
        }
        ok_or_die(writer.add(entry.name, value.view()));
      }
      ok_or_die(writer.close());
      const GoldenResult result = verify(dir);
      EXPECT_FALSE(result.pass) << golden.name << " " << target.name;
    }
  }
}

TEST(MaskGolden, APlantedProgramOrHypothesisIsNamedByItsPointer) {
  TempDir temp;
  const fs::path dir = temp.path() / "case";
  fs::copy(fixtures_dir() / "golden" / "masks" / "causal", dir, fs::copy_options::recursive);
  const std::string text = value_or_die(read_text(dir / "case.json"));
  const auto message = [&](const char* pointer, const json& value) {
    json changed = json::parse(text);
    changed[json::json_pointer(pointer)] = value;
    ok_or_die(write_text(dir / "case.json", changed.dump()));
    const GoldenResult result = verify(dir);
    EXPECT_FALSE(result.pass) << pointer;
    return result.message;
  };
  const auto has = [](const std::string& words, const char* part) {
    return words.find(part) != std::string::npos;
  };
  EXPECT_TRUE(has(message("/program/expr/op", "cauzal"), "#/program/expr/op: unknown op"));
  EXPECT_TRUE(has(message("/program/expr/shift", 1), "mask/bits"));
  EXPECT_TRUE(has(message("/variants/2/expect/hypotheses", json::array()), "#/variants/2"));
  EXPECT_TRUE(has(message("/variants/2/expect/hypotheses/0", "transposed"), "hypotheses"));
  EXPECT_TRUE(has(message("/row_policy", "nan"), "row_policy"));
  EXPECT_TRUE(has(message("/variants/0/expect/leak_by_tag/other", 1), "no such tag"));
}

}  // namespace
}  // namespace ps
