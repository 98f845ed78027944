// The order in which an RMSNorm rounds: every legitimate one is left alone, whatever the input and
// the weights, and a scale that float32 statistics cannot give is found under each of them.
#include <cmath>
#include <functional>
#include <map>
#include <vector>

#include <gtest/gtest.h>

#include "core/engine.h"
#include "core/float_bits.h"
#include "core/rng.h"
#include "core/safetensors.h"
#include "diff/run/inputs.h"
#include "tests/support/random_model.h"
#include "tests/support/run.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

constexpr std::int64_t kBatch = 3, kLength = 17, kWidth = 96;
constexpr float kEps = 1e-6f;
using Row = std::vector<float>;

// One layer whose second norm is looked at: its input is a residual, a + b.
struct Norm {
  DType type;
  Row w;                  // [kWidth]
  std::vector<Row> a, b;  // the addends, of 16 bits
  std::uint16_t bits(float v) const {
    return type == DType::kBF16 ? float_to_bf16(v) : float_to_f16(v);
  }
  float rounded(float v) const {
    return type == DType::kBF16 ? bf16_to_float(bits(v)) : f16_to_float(bits(v));
  }
};

using Sum = std::function<float(const Row&)>;
float in_order(const Row& x) {
  float sum = 0;
  for (const float v : x) sum += v * v;
  return sum;
}
float backwards(const Row& x) { return in_order({x.rbegin(), x.rend()}); }
float by_lanes(const Row& x) {
  float lanes[32] = {};
  for (std::size_t i = 0; i < x.size(); ++i) lanes[i % 32] += x[i] * x[i];
  for (std::size_t step = 16; step > 0; step /= 2) {
    for (std::size_t i = 0; i < step; ++i) lanes[i] += lanes[i + step];
  }
  return lanes[0];
}
float in_double(const Row& x) {
  double sum = 0;
  for (const float v : x) sum += static_cast<double>(v) * v;
  return static_cast<float>(sum);
}
float without_the_last(const Row& x) { return in_order({x.begin(), x.end() - 1}); }

float scale(const Row& x, const Sum& sum, float eps = kEps) {
  return 1.f / std::sqrt(sum(x) / static_cast<float>(x.size()) + eps);
}

// What a program makes of one row: x as stored, and the sum that it was stored from.
using Program = std::function<Row(const Norm&, const Row& x, const Row& unstored)>;
using Cell = std::function<float(const Norm&, float x, float r, float w)>;

Row each(const Norm& m, const Row& x, float r, const Cell& cell) {
  Row y;
  for (std::size_t i = 0; i < x.size(); ++i) y.push_back(m.rounded(cell(m, x[i], r, m.w[i])));
  return y;
}
float once(const Norm&, float x, float r, float w) { return x * r * w; }
float once_weight_first(const Norm&, float x, float r, float w) { return x * (r * w); }
float once_scale_last(const Norm&, float x, float r, float w) { return (x * w) * r; }
float twice(const Norm& m, float x, float r, float w) { return m.rounded(x * r) * w; }
float other_twice(const Norm& m, float x, float r, float w) { return m.rounded(x * w) * r; }

const std::map<std::string, Program>& legitimate() {
  const auto plain = [](const Cell& cell, const Sum& sum) {
    return [=](const Norm& m, const Row& x, const Row&) { return each(m, x, scale(x, sum), cell); };
  };
  static const std::map<std::string, Program> programs = {
      {"published", plain(twice, in_order)},
      {"published, lanes", plain(twice, by_lanes)},
      {"once", plain(once, in_order)},
      {"once, backwards", plain(once_weight_first, backwards)},
      {"once, lanes", plain(once_scale_last, by_lanes)},
      {"once, double", plain(once, in_double)},
      {"weight before scale", plain(other_twice, in_order)},
      {"two last places off",
       [](const Norm& m, const Row& x, const Row&) {
         float r = scale(x, in_order);
         for (int k = 0; k < 2; ++k) r = std::nextafter(r, 0.f);
         return each(m, x, r, once);
       }},
      {"division",
       [](const Norm& m, const Row& x, const Row&) {
         return each(m, x, 1.f / scale(x, in_order),
                     [](const Norm&, float v, float s, float w) { return v / s * w; });
       }},
      {"scale of 16 bits",
       [](const Norm& m, const Row& x, const Row&) {
         return each(m, x, m.rounded(scale(x, in_order)), once);
       }},
      {"scale of 16 bits, twice",
       [](const Norm& m, const Row& x, const Row&) {
         return each(m, x, m.rounded(scale(x, in_order)), twice);
       }},
      {"mean of 16 bits",
       [](const Norm& m, const Row& x, const Row&) {
         const float mean = m.rounded(in_order(x) / static_cast<float>(x.size()));
         return each(m, x, 1.f / std::sqrt(mean + kEps), once);
       }},
      {"fused with the sum",
       [](const Norm& m, const Row&, const Row& sum) {
         return each(m, sum, scale(sum, by_lanes), once);
       }},
      {"fused with the sum, twice",
       [](const Norm& m, const Row&, const Row& sum) {
         return each(m, sum, scale(sum, by_lanes), twice);
       }},
      {"stream in float32",
       [](const Norm& m, const Row&, const Row& sum) {
         Row x = sum;  // with a trace of earlier updates that no 16-bit value shows
         for (std::size_t i = 0; i < x.size(); ++i) x[i] *= i % 3 == 0 ? 1.f - 1e-5f : 1.f;
         return each(m, x, scale(x, by_lanes), once);
       }},
      {"statistics of the sum",
       [](const Norm& m, const Row& x, const Row& sum) {
         return each(m, x, scale(sum, by_lanes), once);
       }},
  };
  return programs;
}

class Laws : public testing::TestWithParam<DType> {
 protected:
  // Weights: all ones, ones but for a few, or near one.
  void make(std::uint64_t seed, int ones_of_ten) {
    norm_.type = GetParam();
    const char* type = norm_.type == DType::kBF16 ? "bfloat16" : "float16";
    const auto dir = temp_.path() / (std::to_string(seed) + "-" + std::to_string(ones_of_ten));
    const Model first =
        random_model(dir,
                     std::string(R"({"model_type": "qwen2", "vocab_size": 11, "hidden_size": 96,
          "intermediate_size": 5, "num_hidden_layers": 1, "num_attention_heads": 3,
          "num_key_value_heads": 1, "head_dim": 4, "rms_norm_eps": 1e-6, "torch_dtype": ")") +
                         type + "\"}",
                     seed);
    const Rng rng(seed, 77);
    norm_.w.clear();
    for (std::uint64_t i = 0; i < kWidth; ++i) {
      const bool one = rng.below(2 * i, 10) < ones_of_ten;
      norm_.w.push_back(one ? 1.f
                            : norm_.rounded(static_cast<float>(1 + 0.2 * rng.normal(2 * i + 1))));
    }
    rewrite_weight(dir);
    model_ = value_or_die(open_model(dir));
    ReferenceOptions options;
    options.dtype = DType::kF64;
    options.threads = 1;
    truth_ = value_or_die(open_reference(model_, options));
    step_ = value_or_die(truth_->step(random_inputs(kBatch, kLength, seed, model_.config)));
  }

  // Each row has its own size; `update` is the size of b beside a, in a share of the rows.
  void draw(std::uint64_t seed, double size, double update, int updated_of_ten) {
    const Rng rng(seed, 5);
    std::uint64_t i = 0;
    norm_.a.clear();
    norm_.b.clear();
    for (std::int64_t row = 0; row < kBatch * kLength; ++row) {
      Row a, b;
      const double row_size = size * (0.6 + rng.uniform(i++));
      const bool updated = rng.below(i++, 10) < updated_of_ten;
      for (std::int64_t c = 0; c < kWidth; ++c) {
        const double x = row_size * rng.normal(i++), y = row_size * update * rng.normal(i++);
        a.push_back(norm_.rounded(static_cast<float>(x)));
        b.push_back(updated ? norm_.rounded(static_cast<float>(y)) : 0.f);
      }
      norm_.a.push_back(a);
      norm_.b.push_back(b);
    }
  }

  // Rows of one and the same size: what rounds their scale errs to one side in all of them.
  void draw_alike(std::uint64_t seed) {
    draw(seed, 1.0, 1e-3, 10);
    for (Row& a : norm_.a) {
      const float r = scale(a, in_double);
      for (float& x : a) x = norm_.rounded(x * r * 1.039383f);
    }
  }

  // The law that the reference says the program breaks, or nothing.
  std::string law_broken_by(const Program& program, bool addends_captured = true) {
    std::vector<Row> xs, ys;
    for (std::size_t row = 0; row < norm_.a.size(); ++row) {
      Row x, sum;
      for (std::size_t c = 0; c < norm_.w.size(); ++c) {
        sum.push_back(norm_.a[row][c] + norm_.b[row][c]);
        x.push_back(norm_.rounded(sum.back()));
      }
      ys.push_back(program(norm_, x, sum));
      xs.push_back(x);
    }
    std::map<std::string, Tensor> points;
    const std::string at = "model.layers.0:attn_residual";
    points.emplace("model.layers.0.post_attention_layernorm", stored(ys));
    points.emplace(at, stored(xs));
    for (const OpInfo& op : step_->ops()) {
      if (op.point != at || !addends_captured) continue;
      points.emplace(op.inputs[0], stored(norm_.a));
      points.emplace(op.inputs[1], stored(norm_.b));
    }
    const PointLookup lookup = [&](std::string_view name) -> std::optional<TensorView> {
      const auto it = points.find(std::string(name));
      return it == points.end() ? std::nullopt : std::optional(it->second.view());
    };
    Rounding rounding;
    rounding.run = rounding.captured = norm_.type;
    const Replayed replayed =
        value_or_die(step_->replay("model.layers.0.post_attention_layernorm", lookup, rounding));
    const bool broken = !replayed.law.empty();
    EXPECT_TRUE(!broken || cells_over(replayed, stored(ys)) > 0) << replayed.law;
    return replayed.law;
  }

  Norm norm_;

 private:
  Tensor stored(const std::vector<Row>& rows) const {
    Tensor out(norm_.type, {kBatch, kLength, kWidth});
    std::size_t i = 0;
    for (const Row& row : rows) {
      for (const float v : row) out.as<std::uint16_t>()[i++] = norm_.bits(v);
    }
    return out;
  }
  static std::int64_t cells_over(const Replayed& r, const Tensor& y) {
    std::int64_t over = 0;
    for (std::int64_t i = 0; i < y.view().count(); ++i) {
      const double error = std::fabs(value_at(y.view(), i) - value_at(r.value.view(), i));
      over += error > value_at(r.bound.view(), i) ? 1 : 0;
    }
    return over;
  }
  void rewrite_weight(const std::filesystem::path& dir) {
    const SafetensorsFile old = value_or_die(SafetensorsFile::open(dir / "model.safetensors"));
    SafetensorsWriter writer = value_or_die(SafetensorsWriter::create(dir / "model.safetensors"));
    for (const auto& entry : old.entries()) {
      Tensor value = Tensor::copy_of(entry.view);
      for (std::size_t i = 0; i < norm_.w.size(); ++i) {
        if (!entry.name.ends_with("post_attention_layernorm.weight")) break;
        value.as<std::uint16_t>()[i] = norm_.bits(norm_.w[i]);
      }
      ok_or_die(writer.add(entry.name, value.view()));
    }
    ok_or_die(writer.close());
  }

  TempDir temp_;
  Model model_;
  std::unique_ptr<Reference> truth_;
  std::unique_ptr<ReferenceStep> step_;
};

TEST_P(Laws, NoLegitimateOrderBreaksOne) {
  for (const int ones : {0, 8, 10}) {
    make(3, ones);
    std::uint64_t seed = 100;
    for (const double size : {1.0, 0.02}) {
      for (const double update : {1.0, 1e-2, 1e-4, 1e-6}) {
        for (const int updated_of_ten : {10, 1}) {
          for (int again = 0; again < 3; ++again) {
            draw(seed++, size, update, updated_of_ten);
            for (const auto& [name, program] : legitimate()) {
              for (const bool addends : {true, false}) {
                EXPECT_EQ(law_broken_by(program, addends), "")
                    << name << " seed " << seed - 1 << " ones " << ones << " size " << size
                    << " update " << update << " addends " << addends;
              }
            }
          }
        }
      }
    }
  }
}

TEST_P(Laws, NorWhereAllRowsErrToOneSide) {
  for (const int ones : {0, 10}) {
    make(5, ones);
    for (std::uint64_t seed = 1; seed < 6; ++seed) {
      draw_alike(seed);
      for (const auto& [name, program] : legitimate()) {
        EXPECT_EQ(law_broken_by(program), "") << name << " seed " << seed << " ones " << ones;
      }
    }
  }
}

TEST_P(Laws, EqualRowsAreOneWitnessAndExactSumsNone) {
  make(6, 0);
  draw(1, 1.0, 0.5, 10);
  const Program wrong = [](const Norm& m, const Row& x, const Row&) {
    return each(m, x, scale(x, in_order, 1e-3f), once);
  };
  EXPECT_NE(law_broken_by(wrong), "");
  norm_.a.assign(norm_.a.size(), norm_.a[0]);
  norm_.b.assign(norm_.b.size(), norm_.b[0]);
  EXPECT_EQ(law_broken_by(wrong), "");
  // Rows whose sum was stored without loss do not tell a stream of 16 bits from a finer one.
  draw(1, 1.0, 0.5, 0);
  EXPECT_EQ(law_broken_by(wrong), "");
}

TEST_P(Laws, AWrongScaleBreaksThem) {
  const auto with = [](const Cell& cell, const Sum& sum, float eps) {
    return [=](const Norm& m, const Row& x, const Row&) {
      return each(m, x, scale(x, sum, eps), cell);
    };
  };
  for (const int ones : {0, 8, 10}) {
    make(4, ones);
    for (std::uint64_t seed = 1; seed < 6; ++seed) {
      draw(seed, 1.0, 0.5, 10);
      for (const Cell& cell : {Cell(once), Cell(twice)}) {
        for (const bool addends : {true, false}) {
          const std::string what = law_broken_by(with(cell, in_order, 1e-3f), addends);
          EXPECT_NE(what, "") << seed << " " << ones << addends;
          EXPECT_NE(law_broken_by(with(cell, without_the_last, kEps), addends), "") << seed;
        }
        // A few cells of a few rows: seen only where the sum was captured.
        EXPECT_NE(law_broken_by(with(cell, in_order, 5e-5f)), "") << seed << " " << ones;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Laws, testing::Values(DType::kBF16, DType::kF16),
                         [](const auto& type) { return std::string(short_name(type.param)); });

}  // namespace
}  // namespace ps
