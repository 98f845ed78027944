// Block-sparse attention as a model's kind of attention: candidate and reference agree point by
// point, with prefixes, padding, grouped heads, chunks, decode steps and beams; a selection that
// was done wrong is found at its own point with its code, and told from a kernel that attends
// something else.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>

#include <gtest/gtest.h>

#include "core/sparse_attention.h"
#include "diff/isolate/lockstep.h"
#include "diff/run/inputs.h"
#include "diff/run/random_model.h"
#include "model/block/checked_block.h"
#include "model/block/launch.h"
#include "model/candidate.h"
#include "tests/support/config_text.h"
#include "tests/support/engine_around.h"
#include "tests/support/program.h"
#include "tests/support/run.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWalk = "walk:bs=4,tau=3,r=16,skip=0,s=3";
constexpr const char* kBudget = "gate:bs=4,gate=token_budget,token_budget=8,pool=avg+max,skip=1";

Model with(const Model& model, const std::string& kind) {
  Model out = model;
  out.config.json = value_or_die(with_attention(model.config.json, kind, *model.checkpoint));
  return out;
}
Model bytes(const std::string& kind) {
  return with(value_or_die(open_model(fixtures_dir() / "models" / "parscale-bytes")), kind);
}

std::unique_ptr<Engine> candidate_of(const Model& model, DType dtype,
                                     const Launch* launch = nullptr) {
  CandidateOptions options;
  options.dtype = dtype;
  options.device = Device::kHost;
  options.threads = 1;
  options.host_launch = launch;
  return value_or_die(open_candidate(model, options));
}

Report checked(Engine& candidate, const Model& model, DType dtype, const RunPlan& plan,
               bool power = false) {
  ReferenceOptions truth;
  truth.dtype = DType::kF64;
  truth.weights_through = dtype;
  truth.threads = 1;
  const auto reference = value_or_die(open_reference(model, truth));
  LockstepOptions options;
  options.run = dtype;
  options.measure_power = power;
  return value_or_die(lockstep(candidate, *reference, model.config, plan, options));
}

RunPlan plan_of(const Model& model, std::int64_t tokens, std::int64_t steps, std::int64_t chunk = 0,
                std::int64_t beams = 1) {
  RunPlan plan;
  plan.prompt = random_inputs(2, tokens, 5, model.config);  // padded on the left
  plan.decode_steps = steps;
  plan.chunk = chunk;
  plan.beams = beams;
  return plan;
}

std::string wrong_of(const Report& report) {
  std::string out;
  for (const PointRow& row : report.points) {
    if (row.status == PointStatus::kOk) continue;
    out += row.point + " step " + std::to_string(row.step) + " " +
           std::string(to_string(row.status)) + " ratio " + std::to_string(row.ratio) + "\n";
  }
  return out;
}

std::int64_t points_called(const Report& report, std::string_view suffix) {
  return std::count_if(report.points.begin(), report.points.end(),
                       [&](const PointRow& row) { return row.point.ends_with(suffix); });
}

class SparseModel : public ::testing::Test {
 protected:
  void SetUp() override { PS_NEEDS_REFERENCE(); }
  TempDir temp_;
};

TEST_F(SparseModel, AgreesWithTheReferencePointByPoint) {
  for (const char* kind :
       {kWalk, "walk:bs=4,tau=2,r=8,skip=1,depth=2,damping=0.25,decode_window=3,n_local=2", kBudget,
        "gate:bs=4,thr=0.3,n_sink=0,n_local=0,skip=0", "gate:bs=8,gate=nz_ratio,nz_ratio=0.5"}) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      const Model model = bytes(kind);
      const auto engine = candidate_of(model, dtype);
      const Report report = checked(*engine, model, dtype, plan_of(model, 23, 3));
      EXPECT_EQ(wrong_of(report), "") << kind;
      EXPECT_EQ(report.verdict, Verdict::kEquivalent);
      EXPECT_GT(points_called(report, ":block_mask"), 0) << kind;
    }
  }
}

TEST_F(SparseModel, AgreesInOneReplicaOfEveryFamily) {
  for (const char* family : {"qwen2", "qwen3", "llama"}) {
    Draw draw(11, 3);
    const std::string config = random_config(draw, {.family = family, .revealing = true});
    const Model dense = value_or_die(write_random_model(temp_.path() / family, config, 9));
    if (dense.config.sliding_window > 0) continue;
    for (const char* kind : {"walk:bs=4,tau=2,r=4,skip=0", "gate:bs=4,thr=0.2,skip=0"}) {
      const Model model = with(dense, kind);
      const auto engine = candidate_of(model, DType::kF32);
      const Report report = checked(*engine, model, DType::kF32, plan_of(model, 19, 2));
      EXPECT_EQ(wrong_of(report), "") << family << " " << kind;
    }
  }
}

TEST_F(SparseModel, GoesOnFromItsCacheInChunksAndBeams) {
  const Model model = bytes(kWalk);
  const auto engine = candidate_of(model, DType::kF32);
  EXPECT_EQ(wrong_of(checked(*engine, model, DType::kF32, plan_of(model, 21, 2, 8))), "");
  EXPECT_EQ(wrong_of(checked(*engine, model, DType::kF32, plan_of(model, 13, 3, 0, 2))), "");
}

// A budget that takes every block is dense attention.
TEST_F(SparseModel, IsDenseWhereEveryBlockIsTaken) {
  const Model dense = bytes("dense"), sparse = bytes("walk:bs=4,tau=99,r=8,skip=0");
  const StepInputs in = random_inputs(2, 23, 5, dense.config);
  KeepAll a, b;
  ok_or_die(candidate_of(dense, DType::kF32)->forward(in, a));
  ok_or_die(candidate_of(sparse, DType::kF32)->forward(in, b));
  const auto x = a.at("lm_head").view().as<float>(), y = b.at("lm_head").view().as<float>();
  for (std::size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(x[i], y[i], 2e-4) << i;
  EXPECT_TRUE(a.points.contains("model.layers.0.self_attn:scores"));
  EXPECT_FALSE(b.points.contains("model.layers.0.self_attn:scores"));
}

TEST_F(SparseModel, DependsOnNoOrderOfThreads) {
  for (const char* kind : {kWalk, kBudget}) {
    const Model model = bytes(kind);
    const StepInputs in = random_inputs(2, 11, 5, model.config);
    KeepAll plain;
    ok_or_die(candidate_of(model, DType::kF32)->forward(in, plain));
    CheckLog log;
    Launch permuted, watched;
    permuted.runner = Launch::Runner::kPermuted;
    watched.runner = Launch::Runner::kChecked;
    watched.log = &log;
    for (const Launch* launch : {&permuted, &watched}) {
      KeepAll other;
      ok_or_die(candidate_of(model, DType::kF32, launch)->forward(in, other));
      for (const auto& [name, value] : plain.points) {
        const auto& again = other.at(name);
        EXPECT_TRUE(std::ranges::equal(value.view().bytes, again.view().bytes)) << name;
      }
    }
    EXPECT_TRUE(log.clean()) << log.first;
  }
}

TEST_F(SparseModel, SaysWhatItCannotDo) {
  const std::string model = bytes_model().string();
  const auto asked = [&](const std::string& kind) {
    return run_parscope({"check", model, "--attention", kind, "--random", "1x5"});
  };
  expect_bad_input(asked("sparse"), "dense, walk or gate");
  expect_bad_input(asked("walk:tua=3"), "unknown option");
  expect_bad_input(asked("walk:tau"), "an option without a value");
  expect_bad_input(asked("walk:tau=x"), "wrong number");
  expect_bad_input(asked("walk:skip=9"), "leaves no layer");
  expect_bad_input(asked("gate:gate=token_budget"), "token_budget");
  expect_bad_input(asked("dense:bs=4"), "dense attention has no options");
  expect_bad_input(
      run_parscope({"check", model, "--attention", kWalk, "--mask", "causal", "--random", "1x5"}),
      "takes no mask from outside");
  expect_bad_input(run_parscope({"check", model, "--attention", kWalk, "--tp", "2"}), "one rank");
  Draw draw(3, 1);
  const std::string config = random_config(draw, {.family = "parscale_cross_kv"});
  const Model cross = value_or_die(write_random_model(temp_.path() / "cross", config, 9));
  expect_bad_input(run_parscope({"check", (temp_.path() / "cross").string(), "--attention", kWalk}),
                   "cross-KV");
}

// ---- deviations -------------------------------------------------------------------------------

using Points = std::map<std::string, Tensor>;
using Deviation = std::function<void(const std::string& point, Tensor& value, const Points& points,
                                     const StepInputs& inputs)>;

// An engine one of whose ops is wrong: what it hands out is changed on the way.
class Deviant final : public EngineAround {
 public:
  Deviant(std::unique_ptr<Engine> inner, Deviation deviation)
      : EngineAround(std::move(inner)), deviation_(std::move(deviation)) {}
  Result<void> forward(const StepInputs& inputs, Tap& tap) override {
    class Changed final : public Tap {
     public:
      Changed(Tap& tap, const Deviation& deviation, const StepInputs& inputs)
          : tap_(tap), deviation_(deviation), inputs_(inputs) {}
      bool wants(std::string_view point) override { return tap_.wants(point); }
      void take(std::string_view point, const TensorView& value) override {
        Tensor copy = Tensor::copy_of(value);
        deviation_(std::string(point), copy, points_, inputs_);
        tap_.take(point, copy.view());
        points_.insert_or_assign(std::string(point), std::move(copy));
      }

     private:
      Tap& tap_;
      const Deviation& deviation_;
      const StepInputs& inputs_;
      Points points_;
    } changed(tap, deviation_, inputs);
    return inner_->forward(inputs, changed);
  }

 private:
  Deviation deviation_;
};

constexpr const char* kHere = "model.layers.1.self_attn";

struct Planted {
  const char* code;
  const char* point;  // of layer 1
  Deviation deviation;
  const char* kind = kWalk;
};

double at(const Tensor& t, std::int64_t i) { return value_at(t.view(), i); }

std::vector<Planted> planted() {
  const std::int64_t bs = 4;
  const std::string here = kHere;
  const auto only = [here](const char* suffix, auto change) -> Deviation {
    const std::string wanted = here + suffix;
    return [wanted, change](const std::string& point, Tensor& value, const Points& points,
                            const StepInputs& in) {
      if (point == wanted) change(value, points, in);
    };
  };
  const auto real = [](const StepInputs& in, std::int64_t row, std::int64_t t) {
    const std::int64_t b = row % in.batch;
    return !in.attention_mask ||
           (*in.attention_mask)[static_cast<std::size_t>(b * in.length + t)] != 0;
  };
  std::vector<Planted> out;
  out.push_back({"SP018", ":key_blocks",
                 only(":key_blocks", [=](Tensor& v, const Points&, const StepInputs& in) {
                   const Shape s = v.shape();
                   for (std::int64_t i = 0; i < v.view().count(); ++i) {
                     const std::int64_t row = i / (s[1] * s[2]), block = i / s[2] % s[1];
                     double n = 0;
                     for (std::int64_t t = block * bs; t < std::min(in.length, block * bs + bs);
                          ++t)
                       n += real(in, row, t) ? 1 : 0;
                     v.as<float>()[static_cast<std::size_t>(i)] *= static_cast<float>(n / bs);
                   }
                 })});
  out.push_back({"SP013", ":block_transition",
                 only(":block_transition", [=](Tensor& v, const Points& points, const StepInputs&) {
                   const Tensor& scores = points.at(here + ":block_scores");
                   const Tensor& open = points.at("model:block_allowed");
                   const std::int64_t n = v.shape()[2], samples = open.shape()[0];
                   for (std::int64_t line = 0; line < v.view().count() / n; ++line) {
                     double sum = 0;
                     for (std::int64_t j = 0; j < n; ++j) sum += std::exp(at(scores, line * n + j));
                     for (std::int64_t j = 0; j < n; ++j) {
                       float& cell = v.as<float>()[static_cast<std::size_t>(line * n + j)];
                       if (at(open, (line / n % samples * n + line % n) * n + j) != 0) {
                         cell = static_cast<float>(3 * (at(scores, line * n + j) - std::log(sum)));
                       }
                     }
                   }
                 })});
  out.push_back({"SP015", ":block_walk",
                 only(":block_walk", [=](Tensor& v, const Points& points, const StepInputs&) {
                   const Tensor& w = points.at(here + ":block_transition");
                   const Tensor& open = points.at("model:block_allowed");
                   const std::int64_t n = v.shape()[2], samples = open.shape()[0];
                   for (std::int64_t line = 0; line < v.view().count() / n; ++line) {
                     const std::int64_t from = (line / n % samples * n + line % n) * n;
                     double sum = 0;
                     for (std::int64_t j = 0; j < n; ++j)
                       sum += at(open, from + j) != 0 ? std::exp(at(w, line * n + j)) : 0;
                     for (std::int64_t j = 0; j < n; ++j) {
                       const bool seen = at(open, from + j) != 0;
                       v.as<float>()[static_cast<std::size_t>(line * n + j)] =
                           seen ? static_cast<float>(at(w, line * n + j) - std::log(sum)) : 0.f;
                     }
                   }
                 })});
  // Lists, from the walk by plain sorting.
  const auto listed = [=](std::int64_t sinks, std::int64_t locals, std::int64_t tau, bool future) {
    return only(":block_mask", [=](Tensor& v, const Points& points, const StepInputs&) {
      const Tensor& walk = points.at(here + ":block_walk");
      const Tensor& open = points.at("model:block_allowed");
      const std::int64_t n = v.shape()[3], samples = open.shape()[0];
      for (std::int64_t line = 0; line < v.view().count() / n; ++line) {
        const std::int64_t own = line % n;
        const std::int64_t from = (line / n % samples * n + own) * n;
        std::vector<std::int64_t> order, taken;
        for (std::int64_t j = 0; j < n; ++j) {
          const bool allowed = at(open, from + j) != 0;
          if (allowed || future) order.push_back(j);
          const bool forced = j < sinks || (own - locals < j && j <= own);
          if (allowed && forced) taken.push_back(j);
        }
        const auto score = [&](std::int64_t j) {
          return at(open, from + j) != 0 ? std::exp(at(walk, line * n + j)) : 0.0;
        };
        std::ranges::stable_sort(order, [&](auto a, auto b) { return score(a) > score(b); });
        for (const std::int64_t j : order) {
          if (static_cast<std::int64_t>(taken.size()) >= tau) break;
          if (std::ranges::find(taken, j) == taken.end()) taken.push_back(j);
        }
        for (std::int64_t j = 0; j < n; ++j) {
          v.as<std::uint8_t>()[static_cast<std::size_t>(line * n + j)] =
              std::ranges::find(taken, j) != taken.end() ? 1 : 0;
        }
      }
    });
  };
  out.push_back({"SP002", ":block_mask", listed(1, 1, 3, true)});
  out.push_back({"SP003", ":block_mask", listed(1, 0, 3, false)});
  out.push_back({"SP007", ":block_mask", listed(0, 1, 3, false),
                 "walk:bs=4,tau=3,n_sink=2,r=16,skip=0,s=3"});  // a walk ends in block 0 by itself
  out.push_back({"SP006", ":block_mask", listed(1, 1, 4, false)});
  // The kernel: attention over the right lists, without the mask, or with a block counted twice.
  const auto attended = [=](bool masked, bool twice, double scale = 1.0) {
    return only(":probs", [=](Tensor& v, const Points& points, const StepInputs&) {
      const Tensor& q = points.at(here + ":q_rope");
      const Tensor& k = points.at(here + ":k_cache");
      const Tensor& mask = points.at("model:mask");
      const Tensor& blocks = points.at(here + ":block_mask");
      const Shape s = v.shape();  // [R,H,S,C]
      const std::int64_t group = s[1] / k.shape()[1], dim = q.shape()[3], n = blocks.shape()[3];
      const std::int64_t prefix = s[3] - s[2];
      for (std::int64_t line = 0; line < s[0] * s[1] * s[2]; ++line) {
        const std::int64_t t = line % s[2], h = line / s[2] % s[1], row = line / s[2] / s[1];
        std::vector<double> p(static_cast<std::size_t>(s[3]), 0.0);
        double sum = 0;
        for (std::int64_t c = 0; c < s[3]; ++c) {
          const std::int64_t block = (c - prefix) / bs;
          if (c >= prefix && at(blocks, (row * n + t / bs) * n + block) == 0) continue;
          if (masked && at(mask, (row * s[2] + t) * s[3] + c) == 0) continue;
          double dot = 0;
          for (std::int64_t d = 0; d < dim; ++d) {
            dot += at(q, line * dim + d) *
                   at(k, ((row * k.shape()[1] + h / group) * s[3] + c) * dim + d);
          }
          const double weight = twice && c >= prefix && block == t / bs ? 2 : 1;
          p[static_cast<std::size_t>(c)] = weight * std::exp(scale * dot / std::sqrt(double(dim)));
          sum += p[static_cast<std::size_t>(c)];
        }
        for (std::int64_t c = 0; c < s[3]; ++c) {
          v.as<float>()[static_cast<std::size_t>(line * s[3] + c)] =
              static_cast<float>(sum > 0 ? p[static_cast<std::size_t>(c)] / sum : 0);
        }
      }
    });
  };
  out.push_back({"SP008", ":probs", attended(false, false)});
  out.push_back({"SP004", ":probs", attended(true, true)});
  // What dense attention gets wrong, block-sparse attention does as well.
  out.push_back({"attention-scale-wrong", ":probs", attended(true, false, 1 / std::sqrt(32.0))});
  return out;
}

TEST_F(SparseModel, DeviationsAreFoundWithTheirCodes) {
  for (const Planted& p : planted()) {
    const Model model = bytes(p.kind);
    Deviant engine(candidate_of(model, DType::kF32), p.deviation);
    const Report report = checked(engine, model, DType::kF32, plan_of(model, 23, 0));
    ASSERT_TRUE(report.first_divergence) << p.code;
    EXPECT_EQ(report.first_divergence->point, std::string(kHere) + p.point) << p.code;
    ASSERT_FALSE(report.findings.empty()) << p.code;
    EXPECT_EQ(report.findings[0].id, p.code);
    EXPECT_EQ(report.findings[0].confidence, Confidence::kExact) << p.code;
    const bool channels = std::string(p.point) == ":key_blocks";
    EXPECT_EQ(report.findings[0].where.find("channel") != std::string::npos, channels)
        << p.code << " " << report.findings[0].where;
  }
}

// The planting itself changes nothing where it does what is right.
TEST_F(SparseModel, PlantingWithoutAFaultFindsNothing) {
  const Model model = bytes(kWalk);
  Deviant engine(candidate_of(model, DType::kF32),
                 [](const std::string&, Tensor&, const Points&, const StepInputs&) {});
  EXPECT_EQ(wrong_of(checked(engine, model, DType::kF32, plan_of(model, 23, 0))), "");
}

TEST_F(SparseModel, TracesAreDiagnosedWithWhateverPointsTheyHave) {
  const std::string model = bytes_model().string(), all = temp_ / "all", some = temp_ / "some";
  const std::vector<std::string> run = {"--attention", kWalk, "--random", "2x19", "--steps", "2"};
  const auto traced = [&](const std::string& out, std::vector<std::string> more) {
    std::vector<std::string> words = {"trace", model, "-o", out, "--engine", "model"};
    words.insert(words.end(), run.begin(), run.end());
    words.insert(words.end(), more.begin(), more.end());
    const Ran ran = run_parscope(words);
    EXPECT_EQ(ran.code, 0) << ran.err;
  };
  traced(all, {});
  traced(some, {"--points", "model.layers.*.self_attn.*_proj", "--points", "*:block_mask",
                "--points", "*:context"});
  for (const std::string& trace : {all, some}) {
    const Ran ran = run_parscope({"diagnose", trace, "--model", model, "--attention", kWalk});
    EXPECT_EQ(ran.code, 0) << ran.out << ran.err;
  }
  // Dense attention is something else.
  EXPECT_EQ(run_parscope({"diagnose", some, "--model", model}).code, 1);
  const Ran lint = run_parscope({"lint", all});
  EXPECT_EQ(lint.code, 0) << lint.out;
  const Ran said = run_parscope(
      {"generate", model, "--attention", kWalk, "--prompt", "def f(x):", "--new", "5"});
  EXPECT_EQ(said.code, 0) << said.err;
}

}  // namespace
}  // namespace ps
