// Traces that hold right values in another form than the run had them: in a coarser type, with an
// axis more, with NaN where nobody looks. Nothing is wrong with them, and what is wrong in them is
// still found.
#include <cmath>
#include <limits>
#include <string>

#include <gtest/gtest.h>

#include "core/float_bits.h"
#include "core/safetensors.h"
#include "tests/support/program.h"
#include "tests/support/run.h"

namespace ps {
namespace {

const char* const kStep = "step-00000.rank-00000.safetensors";

// A value in 16 bits.
Tensor stored(const Tensor& value, DType dtype) {
  Tensor out(dtype, value.shape());
  for (std::int64_t i = 0; i < value.view().count(); ++i) {
    const auto x = static_cast<float>(value_at(value.view(), i));
    const std::uint16_t bits = dtype == DType::kBF16 ? float_to_bf16(x) : float_to_f16(x);
    out.as<std::uint16_t>()[static_cast<std::size_t>(i)] = bits;
  }
  return out;
}

class StoredTrace : public ::testing::Test {
 protected:
  void SetUp() override {
    PS_NEEDS_REFERENCE();
    const Ran ran = run_parscope({"trace", bytes_model().string(), "-o", dir_ / "whole", "--engine",
                                  "reference", "--dtype", "f32", "--random", "3x11"});
    ASSERT_EQ(ran.code, 0) << ran.err;
  }
  // What diagnose says of the trace after an edit.
  Ran diagnosed(const EditTensor& edit) {
    const std::filesystem::path to = dir_.path() / "edited";
    std::filesystem::remove_all(to);
    std::filesystem::copy(dir_ / "whole", to);
    edit_tensors(dir_.path() / "whole" / kStep, to / kStep, edit);
    return run_parscope({"diagnose", to.string(), "--model", bytes_model().string()});
  }
  TempDir dir_;
};

TEST_F(StoredTrace, CoarselyIsNoFaultAndHidesNone) {
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    const auto coarse = [&](const std::string&, Tensor& t) {
      if (t.dtype() == DType::kF32) t = stored(t, dtype);
      return true;
    };
    const Ran clean = diagnosed(coarse);
    EXPECT_EQ(clean.code, 0) << clean.out;
    const Ran wrong = diagnosed([&](const std::string& name, Tensor& t) {
      if (name == "model.layers.1.mlp:act") {
        for (float& x : t.as<float>()) x *= 1.3F;
      }
      return coarse(name, t);
    });
    EXPECT_EQ(wrong.code, 1) << wrong.out;
    EXPECT_NE(wrong.out.find("first divergence: model.layers.1.mlp:act"), std::string::npos)
        << wrong.out;
  }
}

TEST_F(StoredTrace, OnePointCoarselyIsNoFaultOfItsReaders) {
  for (const char* point : {"model.layers.1.self_attn.o_proj", "model.rotary_emb:cos",
                            "model.layers.0.self_attn:probs", "model.layers.2"}) {
    const Ran ran = diagnosed([&](const std::string& name, Tensor& t) {
      if (name == point) t = stored(t, DType::kF16);
      return true;
    });
    EXPECT_EQ(ran.code, 0) << point << ran.out;
  }
}

TEST_F(StoredTrace, AnAxisOfOneMoreIsTheSameValue) {
  for (const char* point :
       {"model.embed_tokens", "model.rotary_emb:cos", "model.layers.1.self_attn.q_proj",
        "model.layers.1.self_attn:probs", "model.norm"}) {
    const Ran ran = diagnosed([&](const std::string& name, Tensor& t) {
      if (name != point) return true;
      Shape shape = t.shape();
      shape.insert(shape.begin(), 1);
      Tensor longer(t.dtype(), shape);
      std::copy(t.bytes().begin(), t.bytes().end(), longer.bytes().begin());
      t = std::move(longer);
      return true;
    });
    EXPECT_EQ(ran.code, 0) << point << ran.out << ran.err;
  }
}

// Row 2 of each replica is padded on the left; what its values hold there, attention never reads.
TEST_F(StoredTrace, ValuesUnderTheMaskMayBeNoNumbers) {
  const auto spoil = [](const std::string& name, Tensor& t) {
    const bool proj = name == "model.layers.1.self_attn.v_proj";
    if (!proj && name != "model.layers.1.self_attn:v_cache") return true;
    // [R,S,K*D], and [R,K,T+S,D] with a prefix.
    const std::int64_t rows = t.shape()[0], heads = proj ? 1 : t.shape()[1];
    const std::int64_t slots = proj ? t.shape()[1] : t.shape()[2], width = t.shape().back();
    const std::int64_t slot = proj ? 0 : slots - 11;
    for (std::int64_t r = 2; r < rows; r += 3) {
      for (std::int64_t h = 0; h < heads; ++h) {
        for (std::int64_t d = 0; d < width; ++d) {
          const auto cell = static_cast<std::size_t>(((r * heads + h) * slots + slot) * width + d);
          t.as<float>()[cell] = std::numeric_limits<float>::quiet_NaN();
        }
      }
    }
    return true;
  };
  const Ran clean = diagnosed(spoil);
  EXPECT_EQ(clean.code, 0) << clean.out;
  const Ran wrong = diagnosed([&](const std::string& name, Tensor& t) {
    if (name == "model.layers.1.self_attn:context") t.as<float>()[5 * 11 * 128 + 10 * 128] += 3.0F;
    return spoil(name, t);
  });
  EXPECT_EQ(wrong.code, 1) << wrong.out;
  EXPECT_NE(wrong.out.find("first divergence: model.layers.1.self_attn:context"), std::string::npos)
      << wrong.out;
}

// A folder of which the first steps were deleted, and a run with a step left out.
TEST(LateTrace, IsJudgedFromWhatItsStepsSay) {
  PS_NEEDS_REFERENCE();
  const TempDir dir;
  const std::filesystem::path whole = dir.path() / "whole";
  const Ran ran = run_parscope({"trace", bytes_model().string(), "-o", whole.string(), "--engine",
                                "reference", "--dtype", "f32", "--random", "3x11", "--steps", "3"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const auto file = [](int step) {
    return "step-0000" + std::to_string(step) + ".rank-00000.safetensors";
  };
  for (const std::vector<int>& gone : {std::vector<int>{0}, {0, 1}, {1}}) {
    for (const bool masked : {true, false}) {
      const std::filesystem::path late = dir.path() / "late";
      std::filesystem::remove_all(late);
      std::filesystem::copy(whole, late);
      for (const int step : gone) std::filesystem::remove(late / file(step));
      std::filesystem::remove(late / "trace.json");
      const auto first = late / file(gone == std::vector<int>{0, 1} ? 2 : gone[0] + 1);
      const auto spoiled = [&](bool wrong) {
        const std::filesystem::path old = dir.path() / "old.safetensors";
        std::filesystem::rename(first, old);
        edit_tensors(old, first, [&](const std::string& name, Tensor& t) {
          if (wrong && name == "model.layers.2.mlp:act") t.as<float>()[5] += 1.0F;
          return masked || name != "attention_mask";
        });
        return run_parscope({"diagnose", late.string(), "--model", bytes_model().string()});
      };
      const std::string what = std::to_string(gone.size()) + " gone, first " +
                               std::to_string(gone[0]) + (masked ? ", masked" : "");
      if (masked) {  // without it padding is not known, and the first rows differ
        const Ran clean = spoiled(false);
        EXPECT_EQ(clean.code, 0) << what << clean.out << clean.err;
      }
      const Ran wrong = spoiled(true);
      EXPECT_EQ(wrong.code, 1) << what << wrong.out << wrong.err;
      if (masked) {
        EXPECT_NE(wrong.out.find("first divergence: model.layers.2.mlp:act"), std::string::npos)
            << what << wrong.out;
      }
    }
  }
}

}  // namespace
}  // namespace ps
