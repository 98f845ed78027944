// Traces of programs that are not ours: every golden trace is right op by op, whole or in parts,
// and a value changed in one is found at its op.
#include "diff/isolate/examine.h"

#include <filesystem>

#include <gtest/gtest.h>

#include "core/float_bits.h"
#include "core/safetensors.h"
#include "core/trace.h"
#include "tests/support/fixtures.h"
#include "tests/support/run.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

namespace fs = std::filesystem;

Report examine_trace(const fs::path& trace_path, const fs::path& model_dir) {
  const Trace trace = value_or_die(Trace::open(trace_path));
  const Model model = value_or_die(open_model(model_dir));
  ReferenceOptions options;
  options.dtype = DType::kF64;
  options.weights_through = trace.run_dtype();
  options.threads = 1;
  const auto reference = value_or_die(open_reference(model, options));
  return value_or_die(examine(trace, model, *reference, {}));
}

std::string trouble(const Report& report) {
  if (!report.first_divergence) return "";
  for (const PointRow& row : report.points) {
    if (row.point == report.first_divergence->point && row.step == report.first_divergence->step) {
      return row.point + " step " + std::to_string(row.step) + " " +
             report.first_divergence->where + " ratio " + std::to_string(row.ratio) + " max " +
             std::to_string(row.max_abs);
    }
  }
  return "?";
}

TEST(Examine, EveryGoldenTraceIsRightOpByOp) {
  for (const auto& entry : fs::directory_iterator(fixtures_dir() / "golden" / "parscale")) {
    for (const char* which : {"expected", "expected-f64"}) {
      const Report report = examine_trace(entry.path() / which, entry.path());
      EXPECT_EQ(report.verdict, Verdict::kEquivalent)
          << entry.path().filename() << "/" << which << ": " << trouble(report);
      for (const PointRow& row : report.points) {
        EXPECT_NE(row.status, PointStatus::kUnmatched) << entry.path().filename() << row.point;
      }
    }
  }
}

// A copy of a trace with one tensor edited in one step.
void copy_with(const fs::path& from, const fs::path& to, const std::string& file,
               const std::string& name, const std::function<void(Tensor&)>& edit) {
  fs::create_directories(to);
  fs::copy(from, to, fs::copy_options::recursive);
  const SafetensorsFile old = value_or_die(SafetensorsFile::open(to / file));
  SafetensorsWriter writer = value_or_die(SafetensorsWriter::create(to / file));
  for (const auto& entry : old.entries()) {
    Tensor value = Tensor::copy_of(entry.view);
    if (entry.name == name) edit(value);
    ok_or_die(writer.add(entry.name, value.view()));
  }
  ok_or_die(writer.close());
}

TEST(Examine, AChangedValueIsFoundAtItsOpAndItsPlace) {
  const fs::path source = fixtures_dir() / "golden" / "parscale" / "ps_n2_t3_bf16_eager";
  const struct {
    const char* point;
    std::size_t cell;
  } cases[] = {{"model.layers.0.self_attn.q_proj", 250},
               {"model.layers.0.self_attn:q_rope", 100},
               {"model.layers.1.self_attn:probs", 100},
               {"model.layers.1.mlp.up_proj", 300},
               {"model.layers.0.input_layernorm", 280},
               {"model:aggregated", 120},
               {"lm_head", 400},
               {"model.layers.1:attn_residual", 0}};
  for (const auto& c : cases) {
    const TempDir dir;
    bool there = false;
    copy_with(source / "expected", dir.path() / "t", "step-00000.rank-00000.safetensors", c.point,
              [&](Tensor& t) {
                there = true;
                const double old = value_at(t.view(), static_cast<std::int64_t>(c.cell));
                t.as<std::uint16_t>()[c.cell] = float_to_bf16(static_cast<float>(old + 1.0));
              });
    if (!there) continue;  // not every trace has every point
    const Report report = examine_trace(dir.path() / "t", source);
    ASSERT_EQ(report.verdict, Verdict::kDiverged) << c.point;
    EXPECT_EQ(report.first_divergence->point, c.point) << trouble(report);
    EXPECT_FALSE(report.first_divergence->where.empty());
  }
}

TEST(Examine, AStaleCacheIsFoundInTheDecodeStep) {
  const fs::path source = fixtures_dir() / "golden" / "parscale" / "ps_n2_t3_bf16_eager";
  const TempDir dir;
  copy_with(source / "expected", dir.path() / "t", "step-00001.rank-00000.safetensors",
            "model.layers.1.self_attn:k_cache", [](Tensor& t) {
              // Slot 4 of the past, a prefix of 3 and one token in, is another one's.
              auto cells = t.as<std::uint16_t>();
              for (std::size_t d = 0; d < 8; ++d) cells[4 * 8 + d] = cells[5 * 8 + d];
            });
  const Report report = examine_trace(dir.path() / "t", source);
  ASSERT_EQ(report.verdict, Verdict::kDiverged);
  EXPECT_EQ(report.first_divergence->step, 1);
  EXPECT_EQ(report.first_divergence->point, "model.layers.1.self_attn:k_cache");
}

TEST(Examine, ATraceOfAnotherModelIsAnErrorOrADivergenceNeverSilent) {
  const fs::path golden = fixtures_dir() / "golden" / "parscale";
  const Report report =
      examine_trace(golden / "ps_n2_t3_eager" / "expected", golden / "ps_n2_t3_decode8");
  EXPECT_EQ(report.verdict, Verdict::kDiverged);
}

// Ranks that each run the whole model on their own rows are judged one by one, none in silence.
TEST(Examine, EveryRankOfATraceIsJudged) {
  const fs::path source = fixtures_dir() / "golden" / "parscale" / "ps_n2_t3_eager";
  const fs::path file = source / "expected" / "step-00000.rank-00000.safetensors";
  const SafetensorsFile old = value_or_die(SafetensorsFile::open(file));
  const TempDir dir;
  fs::copy_file(file, dir.path() / "step-00000.rank-00000.safetensors");
  const auto other = [&](float spoil) {
    SafetensorsWriter writer =
        value_or_die(SafetensorsWriter::create(dir.path() / "step-00000.rank-00001.safetensors"));
    for (const auto& entry : old.entries()) {
      Tensor value = Tensor::copy_of(entry.view);
      if (entry.name == "model.layers.1.mlp.up_proj") value.as<float>()[5] += spoil;
      ok_or_die(writer.add(entry.name, value.view()));
    }
    ok_or_die(writer.close());
  };
  other(0);
  const Report fine = examine_trace(dir.path(), source);
  EXPECT_EQ(fine.verdict, Verdict::kEquivalent) << trouble(fine);
  EXPECT_EQ(std::count_if(fine.points.begin(), fine.points.end(),
                          [](const PointRow& row) { return row.point == "lm_head"; }),
            2);
  other(0.5F);
  const Report wrong = examine_trace(dir.path(), source);
  ASSERT_TRUE(wrong.first_divergence);
  EXPECT_EQ(wrong.first_divergence->rank, 1);
  EXPECT_EQ(wrong.first_divergence->point, "model.layers.1.mlp.up_proj");
  ASSERT_FALSE(wrong.findings.empty());
  EXPECT_EQ(wrong.findings[0].rank, 1);
}

// trace.md: model:mask is [1 or R, 1 or H, S, C], the tables have 1, B or R rows.
TEST(Examine, MasksAndTablesWrittenOutAreTheSame) {
  const fs::path source = fixtures_dir() / "golden" / "parscale" / "ps_n2_t3_eager";
  const SafetensorsFile old = value_or_die(
      SafetensorsFile::open(source / "expected" / "step-00000.rank-00000.safetensors"));
  const std::int64_t heads = 4;
  const auto write = [&](const fs::path& path, bool flip) {
    SafetensorsWriter writer = value_or_die(SafetensorsWriter::create(path));
    for (const auto& entry : old.entries()) {
      if (entry.name != "model:mask") {
        ok_or_die(writer.add(entry.name, entry.view));
        continue;
      }
      const Shape& s = entry.view.shape;  // [R,1,S,C]
      ASSERT_EQ(s[1], 1);
      const std::size_t plane = static_cast<std::size_t>(s[2] * s[3]);
      Tensor all(DType::kBool, {s[0], heads, s[2], s[3]});
      auto cells = all.as<std::uint8_t>();
      for (std::size_t i = 0; i < cells.size(); ++i) {
        const std::size_t from = i / plane / static_cast<std::size_t>(heads) * plane + i % plane;
        cells[i] = std::to_integer<std::uint8_t>(entry.view.bytes[from]);
      }
      // The last head of the first row hides its last key from the last query.
      if (flip) cells[static_cast<std::size_t>(heads) * plane - 1] ^= 1;
      ok_or_die(writer.add(entry.name, all.view()));
    }
    ok_or_die(writer.close());
  };
  const TempDir dir;
  write(dir.path() / "same.safetensors", false);
  const Report fine = examine_trace(dir.path() / "same.safetensors", source);
  EXPECT_EQ(fine.verdict, Verdict::kEquivalent) << trouble(fine);
  write(dir.path() / "flip.safetensors", true);
  const Report wrong = examine_trace(dir.path() / "flip.safetensors", source);
  ASSERT_TRUE(wrong.first_divergence);
  EXPECT_EQ(wrong.first_divergence->point, "model:mask");
  EXPECT_NE(wrong.first_divergence->where.find("head=3"), std::string::npos)
      << wrong.first_divergence->where;
}

// A trace that keeps the last token's logits, one RoPE row a sample, and bf16 of a float32 run.
TEST(Examine, ShorterFormsThatTracesMayHaveAreTheSameValues) {
  const fs::path source = fixtures_dir() / "golden" / "parscale" / "ps_n4_t5_leftpad_posids";
  const SafetensorsFile old = value_or_die(
      SafetensorsFile::open(source / "expected" / "step-00000.rank-00000.safetensors"));
  const auto write = [&](const fs::path& path, bool sixteen_bit, double spoil) {
    SafetensorsWriter writer = value_or_die(SafetensorsWriter::create(path));
    for (const auto& entry : old.entries()) {
      Tensor value = Tensor::copy_of(entry.view);
      const Shape& shape = entry.view.shape;
      if (entry.name == "lm_head") {
        Tensor last(DType::kF32, {shape[0], 1, shape[2]});
        for (std::int64_t b = 0; b < shape[0]; ++b) {
          for (std::int64_t v = 0; v < shape[2]; ++v) {
            last.as<float>()[static_cast<std::size_t>(b * shape[2] + v)] =
                static_cast<float>(value_at(entry.view, ((b + 1) * shape[1] - 1) * shape[2] + v) +
                                   (v == 7 ? spoil : 0));
          }
        }
        value = std::move(last);
      } else if (entry.name.starts_with("model.rotary_emb:") && shape.size() == 3) {
        const std::int64_t samples = old.find("input_ids")->shape[0];
        const std::size_t bytes =
            entry.view.bytes.size() / static_cast<std::size_t>(shape[0] / samples);
        value = Tensor::copy_of(
            {entry.view.dtype, {samples, shape[1], shape[2]}, entry.view.bytes.subspan(0, bytes)});
      }
      if (sixteen_bit && value.dtype() == DType::kF32) {
        Tensor rounded(DType::kBF16, value.shape());
        for (std::int64_t i = 0; i < value.view().count(); ++i) {
          rounded.as<std::uint16_t>()[static_cast<std::size_t>(i)] =
              float_to_bf16(static_cast<float>(value_at(value.view(), i)));
        }
        value = std::move(rounded);
      }
      ok_or_die(writer.add(entry.name, value.view()));
    }
    ok_or_die(writer.close());
  };
  const TempDir dir;
  write(dir.path() / "short.safetensors", false, 0);
  const Report fine = examine_trace(dir.path() / "short.safetensors", source);
  EXPECT_EQ(fine.verdict, Verdict::kEquivalent) << trouble(fine);
  // A float32 run whose values were stored as bf16 says so in its manifest.
  fs::create_directories(dir.path() / "bf16");
  fs::copy(source / "expected" / "trace.json", dir.path() / "bf16" / "trace.json");
  write(dir.path() / "bf16" / "step-00000.rank-00000.safetensors", true, 0);
  const Report rounded = examine_trace(dir.path() / "bf16", source);
  EXPECT_EQ(rounded.verdict, Verdict::kEquivalent) << trouble(rounded);
  write(dir.path() / "wrong.safetensors", false, 0.01);
  const Report wrong = examine_trace(dir.path() / "wrong.safetensors", source);
  ASSERT_TRUE(wrong.first_divergence);
  EXPECT_EQ(wrong.first_divergence->point, "lm_head");
}

}  // namespace
}  // namespace ps
