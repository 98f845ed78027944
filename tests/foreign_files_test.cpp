// Files of numpy and torch, made by them (fixtures/foreign/make.py), read without either.
#include <map>
#include <string>

#include <gtest/gtest.h>

#include "diff/foreign/npy.h"
#include "diff/foreign/read.h"
#include "diff/foreign/torch_file.h"
#include "diff/foreign/zip.h"
#include "tests/support/fixtures.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

std::filesystem::path file(const std::string& name) { return fixtures_dir() / "foreign" / name; }

std::map<std::string, NamedTensor> read(const std::string& name,
                                        std::vector<std::string>* notes = nullptr) {
  std::vector<std::string> own;
  const auto all = read_tensors(file(name), notes != nullptr ? *notes : own);
  EXPECT_TRUE(all.ok()) << name << ": " << (all.ok() ? "" : all.error().line());
  std::map<std::string, NamedTensor> out;
  if (all.ok()) {
    for (const NamedTensor& t : *all) out[t.name] = t;
  }
  return out;
}

void expect_counting(const TensorView& view, DType dtype, const Shape& shape, double first = 0) {
  ASSERT_EQ(view.dtype, dtype);
  ASSERT_EQ(view.shape, shape);
  for (std::int64_t i = 0; i < view.count(); ++i) {
    EXPECT_EQ(value_at(view, i), first + static_cast<double>(i)) << i;
  }
}

std::string refusal(const std::string& name) {
  std::vector<std::string> notes;
  const auto all = read_tensors(file(name), notes);
  EXPECT_FALSE(all.ok()) << name;
  return all.ok() ? "" : all.error().line();
}

TEST(ForeignFiles, EveryVersionOfNpyIsRead) {
  expect_counting(read("v1_f4.npy")["v1_f4"].view, DType::kF32, {2, 3, 5});
  expect_counting(read("v2_f8.npy")["v2_f8"].view, DType::kF64, {2, 3, 5});
  expect_counting(read("v3_i8.npy")["v3_i8"].view, DType::kI64, {2, 3, 5});
  expect_counting(read("f2.npy")["f2"].view, DType::kF16, {2, 3, 5});
}

TEST(ForeignFiles, FortranOrderAndBigEndianBecomeOurs) {
  expect_counting(read("fortran_f4.npy")["fortran_f4"].view, DType::kF32, {2, 3, 5});
  expect_counting(read("big_endian_f4.npy")["big_endian_f4"].view, DType::kF32, {2, 3, 5});
  expect_counting(read("big_endian_fortran_i2.npy")["big_endian_fortran_i2"].view, DType::kI16,
                  {2, 3, 5});
}

TEST(ForeignFiles, ScalarsEmptyArraysAndBooleansAreRead) {
  const auto scalars = read("scalar_f4.npy"), booleans = read("bool.npy");  // they own the values
  const TensorView& scalar = scalars.at("scalar_f4").view;
  EXPECT_EQ(scalar.shape, Shape{});
  EXPECT_EQ(value_at(scalar, 0), 7);
  EXPECT_EQ(read("empty_f4.npy")["empty_f4"].view.shape, (Shape{0, 3}));
  const TensorView& flags = booleans.at("bool").view;
  EXPECT_EQ(flags.dtype, DType::kBool);
  EXPECT_EQ(value_at(flags, 14), 0);
  EXPECT_EQ(value_at(flags, 15), 1);
}

TEST(ForeignFiles, WhatNumbersCannotSayIsRefusedByName) {
  EXPECT_NE(refusal("complex.npy").find("complex"), std::string::npos);
  EXPECT_NE(refusal("object.npy").find("Python objects"), std::string::npos);
  EXPECT_NE(refusal("structured.npy").find("structured"), std::string::npos);
}

TEST(ForeignFiles, NpzIsReadStoredAndPacked) {
  const auto stored = read("stored.npz");
  expect_counting(stored.at("model.embed_tokens").view, DType::kF32, {2, 3, 5});
  expect_counting(stored.at("input_ids").view, DType::kI64, {2, 3});
  const auto packed = read("packed.npz");
  for (std::int64_t i = 0; i < 3000; ++i) ASSERT_EQ(value_at(packed.at("zeros").view, i), 0);
  const TensorView ramp = packed.at("ramp").view;
  EXPECT_EQ(ramp.shape, (Shape{80, 3, 5}));
  for (std::int64_t i = 0; i < ramp.count(); ++i) ASSERT_EQ(value_at(ramp, i), i % 30);
  double sum = 0;
  for (std::int64_t i = 0; i < 5000; ++i) sum += value_at(packed.at("noise").view, i);
  EXPECT_NEAR(sum / 5000, 127, 3);  // and the archive's own check sum held
}

TEST(ForeignFiles, ADamagedNpzIsRefused) {
  const TempDir dir;
  std::string bytes = get_file(file("packed.npz"));
  const std::size_t at = bytes.find("noise.npy") + 600;
  bytes[at] = static_cast<char>(bytes[at] ^ 1);
  put_file(dir / "x.npz", bytes);
  std::vector<std::string> notes;
  const auto all = read_tensors(dir / "x.npz", notes);
  ASSERT_FALSE(all.ok());
  EXPECT_NE(all.error().line().find("damaged"), std::string::npos) << all.error().line();
  put_file(dir / "y.npz", bytes.substr(0, bytes.size() - 30));
  EXPECT_FALSE(read_tensors(dir / "y.npz", notes).ok());
}

TEST(ForeignFiles, TorchFilesAreReadWithStridesTypesAndNesting) {
  std::vector<std::string> notes;
  auto all = read("dict.pt", &notes);
  expect_counting(all["plain"].view, DType::kF32, {2, 3, 5});
  expect_counting(all["bf16"].view, DType::kBF16, {2, 3, 5});
  expect_counting(all["f16"].view, DType::kF16, {2, 3, 5});
  expect_counting(all["f64"].view, DType::kF64, {2, 3, 5});
  expect_counting(all["i64"].view, DType::kI64, {2, 3, 5});
  EXPECT_EQ(all["bool"].view.dtype, DType::kBool);
  EXPECT_EQ(all["f8"].view.dtype, DType::kF8E4M3);
  EXPECT_EQ(value_at(all["f8"].view, 8), 8);
  const TensorView transposed = all["transposed"].view;
  ASSERT_EQ(transposed.shape, (Shape{5, 3, 2}));
  EXPECT_EQ(value_at(transposed, (4 * 3 + 1) * 2 + 1), 15 + 5 + 4);  // [4,1,1] is t[1,1,4]
  const TensorView slice = all["slice"].view;
  ASSERT_EQ(slice.shape, (Shape{2, 2, 3}));
  EXPECT_EQ(value_at(slice, (1 * 2 + 1) * 3 + 2), 15 + 10 + 4);
  const TensorView expanded = all["expanded"].view;
  ASSERT_EQ(expanded.shape, (Shape{3, 4}));
  EXPECT_EQ(value_at(expanded, 2 * 4 + 3), 2);
  expect_counting(all["parameter"].view, DType::kF32, {4});
  expect_counting(all["hidden_states.1"].view, DType::kF32, {2, 3, 5}, 1);
  expect_counting(all["hidden_states.2.0"].view, DType::kF32, {2, 3, 5}, 2);
  expect_counting(all["nested.a.b"].view, DType::kF32, {2, 3, 5}, 3);
  expect_counting(all["7"].view, DType::kF32, {2, 3, 5});
  ASSERT_EQ(notes.size(), 1U);
  EXPECT_NE(notes[0].find("4 values that are no tensors"), std::string::npos) << notes[0];
  expect_counting(read("alone.pt")["alone"].view, DType::kF32, {2, 3, 5});
  expect_counting(read("state_dict.pt")["weight"].view, DType::kF32, {2, 3});
}

TEST(ForeignFiles, NothingInATorchFileIsRun) {
  EXPECT_NE(refusal("module.pt").find("torch.nn.modules.linear.Linear, which is not allowed"),
            std::string::npos)
      << refusal("module.pt");
  EXPECT_NE(refusal("callable.pt").find("_io.BytesIO"), std::string::npos);
  EXPECT_NE(refusal("numpy_inside.pt").find("numpy"), std::string::npos);
  EXPECT_NE(refusal("old_format.pt").find("zip format"), std::string::npos);
}

TEST(ForeignFiles, AListThatHoldsItselfIsRefused) {
  EXPECT_NE(refusal("holds_itself.pt").find("nested too deeply"), std::string::npos);
}

TEST(ForeignFiles, PathsSayStepRankAndName) {
  const auto place = [](const char* path) { return place_of(path); };
  FilePlace p = place("step-3/rank-1/model.layers.0.self_attn.q_proj.npy");
  EXPECT_EQ(p.step, 3);
  EXPECT_EQ(p.rank, 1);
  EXPECT_EQ(p.rest, "model.layers.0.self_attn.q_proj");
  p = place("TP1_PP0_Rank1_pid4711/Pass00002.pt");
  EXPECT_EQ(p.step, 2);
  EXPECT_EQ(p.rank, 1);
  p = place("iter_7/Qcur-0.npy");
  EXPECT_EQ(p.step, 7);
  EXPECT_EQ(p.rank, -1);
  EXPECT_EQ(p.rest, "Qcur-0");
  p = place("model/layers/0/mlp/up_proj.npy");
  EXPECT_EQ(p.step, -1);
  EXPECT_EQ(p.rest, "model.layers.0.mlp.up_proj");
}

TEST(ForeignFiles, AFolderBecomesStepsAndANameIsThereOnce) {
  const TempDir dir;
  for (const char* step : {"step-4", "step-5"}) {
    std::filesystem::create_directories(dir.path() / step);
    std::filesystem::copy(file("v1_f4.npy"), dir.path() / step / "model.norm.npy");
  }
  const auto run = read_foreign(dir.path());
  ASSERT_TRUE(run.ok()) << run.error().line();
  ASSERT_EQ(run->steps.size(), 2U);
  EXPECT_EQ(run->steps[1].meta.step, 1);  // numbered from 0
  EXPECT_EQ(run->steps[1].tensors[0].name, "model.norm");
  std::filesystem::copy(file("stored.npz"), dir.path() / "step-4" / "a.npz");
  std::filesystem::copy(file("stored.npz"), dir.path() / "step-4" / "b.npz");
  const auto twice = read_foreign(dir.path());
  ASSERT_FALSE(twice.ok());
  EXPECT_NE(twice.error().line().find("a.npz too"), std::string::npos) << twice.error().line();
}

}  // namespace
}  // namespace ps
