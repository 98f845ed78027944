// A small random model of any family, and the few things that tests of engines do with one.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/rng.h"
#include "model/candidate.h"
#include "tests/support/config_text.h"
#include "tests/support/random_model.h"
#include "tests/support/temp_dir.h"

namespace ps {

// Keeps what the tap was given; of one point, or of all.
class Keep final : public Tap {
 public:
  bool wants(std::string_view point) override { return only.empty() || point == only; }
  void take(std::string_view point, const TensorView& value) override {
    points[std::string(point)] = Tensor::copy_of(value);
  }
  std::vector<double> values(const std::string& point) const {
    const TensorView view = points.at(point).view();
    std::vector<double> out(static_cast<std::size_t>(view.count()));
    to_doubles(view, out);
    return out;
  }
  std::string only;
  std::map<std::string, Tensor> points;
};

struct Subject {
  explicit Subject(std::string_view type, std::vector<ConfigChange> changes = {},
                   std::uint64_t seed = 3) {
    changes.emplace_back("torch_dtype", "\"float32\"");
    model = random_model(dir.path(), config_text(type, changes), seed);
  }
  std::unique_ptr<Engine> open(DType dtype = DType::kF32) const {
    CandidateOptions options;
    options.dtype = dtype;
    options.device = Device::kHost;
    auto engine = open_candidate(model, options);
    EXPECT_TRUE(engine.ok()) << engine.error().line();
    return std::move(engine).value();
  }
  TempDir dir;
  Model model;
};

inline StepInputs tokens(std::int64_t batch, std::int64_t length, std::uint64_t seed = 9) {
  StepInputs inputs{
      .batch = batch, .length = length, .input_ids = {}, .attention_mask = {}, .position_ids = {}};
  for (std::int64_t i = 0; i < batch * length; ++i)
    inputs.input_ids.push_back(Rng(seed, 1).below(static_cast<std::uint64_t>(i), 97));
  return inputs;
}

inline std::vector<double> logits(Engine& engine, const StepInputs& inputs) {
  Keep tap;
  tap.only = "lm_head";
  const auto ran = engine.forward(inputs, tap);
  EXPECT_TRUE(ran.ok()) << ran.error().line();
  return tap.values("lm_head");
}

// The largest difference of two vectors of one size.
inline double apart(const std::vector<double>& a, const std::vector<double>& b) {
  EXPECT_EQ(a.size(), b.size());
  double most = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    most = std::max(most, std::fabs(a[i] - b[i]));
  return most;
}

// Logits of tokens [begin, end) of a [batch, length, 97] result.
inline std::vector<double> span_of(const std::vector<double>& all, std::int64_t batch,
                                   std::int64_t length, std::int64_t begin, std::int64_t end) {
  std::vector<double> out;
  for (std::int64_t i = 0; i < batch; ++i) {
    out.insert(out.end(), all.begin() + (i * length + begin) * 97,
               all.begin() + (i * length + end) * 97);
  }
  return out;
}

}  // namespace ps
