// What the replicas say about the next token, against the definition worked out by hand, and
// through the whole of a check.
#include "diff/isolate/replica_votes.h"

#include <cmath>

#include <gtest/gtest.h>

#include "core/json.h"
#include "diff/isolate/lockstep.h"
#include "diff/report/stored_votes.h"
#include "diff/run/inputs.h"
#include "model/candidate.h"
#include "tests/support/fixtures.h"
#include "tests/support/run.h"

namespace ps {
namespace {

const std::filesystem::path kTiny = fixtures_dir() / "models" / "parscale-bytes";

// Replica p's logits are `table[p]`, whatever row it is asked about: rows carry p in their first
// channel.
class TableHead final : public Reference {
 public:
  explicit TableHead(std::vector<std::vector<double>> table) : table_(std::move(table)) {}
  Result<Tensor> replay(const StepInputs&, std::int64_t, std::string_view point,
                        const PointLookup& lookup) override {
    EXPECT_EQ(point, "lm_head");
    const TensorView rows = *lookup("model:aggregated");
    const std::int64_t n = rows.shape[1], h = rows.shape[2];
    const auto v = static_cast<std::int64_t>(table_[0].size());
    Tensor out(DType::kF64, {1, n, v});
    for (std::int64_t r = 0; r < n; ++r) {
      const auto p = static_cast<std::size_t>(value_at(rows, r * h));
      std::copy(table_[p].begin(), table_[p].end(), out.as<double>().begin() + r * v);
    }
    return out;
  }
  Result<void> forward(const StepInputs&, Tap&) override { return {}; }
  Result<void> reorder_cache(const std::vector<std::int64_t>&, Tap&) override { return {}; }
  void reset() override {}
  std::int64_t past() const override { return 0; }
  Result<Generated> generate(const StepInputs&, std::int64_t, std::int64_t) override {
    return Generated{};
  }
  Result<std::vector<OpInfo>> ops(const StepInputs&, std::int64_t) override {
    return std::vector<OpInfo>{};
  }
  Result<std::unique_ptr<ReferenceStep>> step(const StepInputs&) override {
    return bad_input("", "");
  }
  std::vector<FaultInfo> faults(bool) const override { return {}; }
  Result<void> gradients(const StepInputs&, Loss, Tap&) override { return {}; }

 private:
  std::vector<std::vector<double>> table_;
};

TEST(ReplicaVotes, AreWhatTheDefinitionSays) {
  ModelConfig config;
  config.replicas = 3;
  config.hidden_size = 2;
  config.vocab_size = 4;
  TableHead head({{1, 2, 0, 0}, {5, 0, 0, 1}, {0, 3, 0, 0}});
  StepInputs inputs;
  inputs.batch = 2;
  inputs.length = 2;
  inputs.input_ids = {7, 8, 9, 10};
  inputs.attention_mask = std::vector<std::int64_t>{0, 1, 1, 1};
  Tensor norm(DType::kF32, {6, 2, 2}), weights(DType::kF64, {2, 2, 3});
  for (std::int64_t row = 0; row < 6; ++row) {
    for (std::int64_t t = 0; t < 2; ++t) {
      norm.as<float>()[static_cast<std::size_t>((row * 2 + t) * 2)] = static_cast<float>(row / 2);
    }
  }
  for (int i = 0; i < 4; ++i) {
    const double w[3] = {0.5, 0.3, 0.2};
    std::copy(w, w + 3, weights.as<double>().begin() + i * 3);
  }
  ReplicaVotes votes;
  const ReplicaOutputs both{norm.view(), weights.view()};
  ok_or_die(add_replica_votes(head, config, inputs, 4, 0, both, both, {}, votes));
  ASSERT_EQ(votes.tokens.size(), 3U);  // one is padding
  const ReplicaToken& t = votes.tokens[0];
  EXPECT_EQ(t.step, 4);
  EXPECT_EQ(t.token, 1);
  EXPECT_EQ(t.input_id, 8);
  // 0.5*1 + 0.3*5 = 2 against 0.5*2 + 0.2*3 = 1.6
  EXPECT_EQ(t.argmax, 0);
  EXPECT_NEAR(t.top[0].logit, 2.0, 1e-12);
  EXPECT_NEAR(t.top[1].logit, 1.6, 1e-12);
  EXPECT_EQ(t.replica_argmax, (std::vector<std::int64_t>{1, 0, 1}));
  // Without replica 1: (0.5*2 + 0.2*3) / 0.7 for token 1, 0.5 / 0.7 for token 0.
  EXPECT_EQ(t.without_argmax, (std::vector<std::int64_t>{0, 1, 0}));
  EXPECT_EQ(t.flips(), (std::vector<std::int64_t>{1}));
  EXPECT_NEAR(t.top[1].without[1], 1.6 / 0.7, 1e-12);
  EXPECT_TRUE(t.disagrees());
  EXPECT_GT(t.js, 0.1);
  EXPECT_LT(t.js, 1);
  EXPECT_EQ(t.expected_argmax, t.argmax);
}

TEST(ReplicaVotes, AlikeReplicasDoNotDisagreeAndFarOnesDoWholly) {
  ModelConfig config;
  config.replicas = 2;
  config.hidden_size = 1;
  config.vocab_size = 2;
  StepInputs inputs;
  inputs.batch = inputs.length = 1;
  inputs.input_ids = {0};
  Tensor norm(DType::kF32, {2, 1, 1}), weights(DType::kF32, {1, 1, 2});
  norm.as<float>()[1] = 1;
  weights.as<float>()[0] = weights.as<float>()[1] = 0.5F;
  const ReplicaOutputs both{norm.view(), weights.view()};
  const auto js = [&](std::vector<std::vector<double>> table) {
    TableHead head(std::move(table));
    ReplicaVotes votes;
    ok_or_die(add_replica_votes(head, config, inputs, 0, 0, both, both, {}, votes));
    return votes.tokens[0].js;
  };
  EXPECT_NEAR(js({{3, 1}, {3, 1}}), 0, 1e-12);
  EXPECT_NEAR(js({{100, 0}, {0, 100}}), 1, 1e-9);
}

TEST(ReplicaVotes, OfACheckAddUpToItsLogitsAndSurviveTheReport) {
  const Model model = value_or_die(open_model(kTiny));
  CandidateOptions options;
  options.device = Device::kHost;
  options.threads = 1;
  const auto candidate = value_or_die(open_candidate(model, options));
  const auto reference = make_reference(model, DType::kF64);
  RunPlan plan;
  plan.prompt = random_inputs(2, 5, 3, model.config);
  plan.decode_steps = 1;
  LockstepOptions how;
  how.measure_power = false;
  how.count_votes = true;
  const Report report = value_or_die(lockstep(*candidate, *reference, model.config, plan, how));
  EXPECT_EQ(report.verdict, Verdict::kEquivalent);
  ASSERT_TRUE(report.replicas.has_value());
  const ReplicaVotes& votes = *report.replicas;
  EXPECT_EQ(votes.replicas, model.config.replicas);
  KeepAll seen;
  candidate->reset();
  ok_or_die(candidate->forward(plan.prompt, seen));
  const TensorView logits = seen.at("lm_head").view();
  std::int64_t compared = 0;
  for (const ReplicaToken& t : votes.tokens) {
    EXPECT_EQ(t.argmax, t.expected_argmax);
    double sum = 0;
    for (const double w : t.weights) sum += w;
    EXPECT_NEAR(sum, 1, 1e-5);
    if (t.step != 0 || logits.shape[1] != plan.prompt.length) continue;
    for (const ReplicaToken::Choice& c : t.top) {
      const std::int64_t at = (t.batch * plan.prompt.length + t.token) * logits.shape[2] + c.id;
      EXPECT_NEAR(value_at(logits, at), c.logit, 1e-4);
      ++compared;
    }
  }
  EXPECT_GT(compared, 10);
  const Json json = value_or_die(parse_json(report_json(report), "report"));
  const ReplicaVotes again = value_or_die(read_votes(*json.find("replicas"), "report"));
  ASSERT_EQ(again.tokens.size(), votes.tokens.size());
  EXPECT_EQ(again.tokens[3].replica_argmax, votes.tokens[3].replica_argmax);
  EXPECT_EQ(again.tokens[3].flips(), votes.tokens[3].flips());
  EXPECT_NEAR(again.tokens[3].top[1].without[0], votes.tokens[3].top[1].without[0], 1e-4);
  Json broken = *json.find("replicas");
  broken.items[0].integer = 7;
  EXPECT_FALSE(read_votes(broken, "report").ok());
}

}  // namespace
}  // namespace ps
