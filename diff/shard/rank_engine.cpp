#include "diff/shard/rank_engine.h"

#include <cstring>
#include <map>
#include <thread>

#include "core/float_bits.h"
#include "diff/shard/rank_model.h"

namespace ps {

Result<void> Meeting::all(const std::function<Result<void>()>& work) {
  std::unique_lock lock(mutex_);
  if (error_) return *error_;
  if (++waiting_ == ranks_) {
    const Result<void> done = work();
    if (!done.ok()) error_ = done.error();
    waiting_ = 0;
    ++round_;
    changed_.notify_all();
  } else {
    const std::int64_t round = round_;
    changed_.wait(lock, [&] { return round_ != round || error_.has_value(); });
  }
  if (error_) return *error_;
  return {};
}

void Meeting::fail(const Error& error) {
  const std::lock_guard lock(mutex_);
  if (!error_) error_ = error;
  changed_.notify_all();
}

void Meeting::start() {
  const std::lock_guard lock(mutex_);
  error_.reset();
  waiting_ = 0;
}

void add_into(Tensor& a, const TensorView& b) {
  const auto n = static_cast<std::size_t>(count_of(a.shape()));
  switch (a.dtype()) {
    case DType::kF64:
      for (std::size_t i = 0; i < n; ++i) a.as<double>()[i] += b.as<double>()[i];
      return;
    case DType::kF32: {
      const auto x = a.as<float>();
      const auto y = b.as<float>();
      for (std::size_t i = 0; i < n; ++i) x[i] += y[i];
      return;
    }
    case DType::kBF16:
    case DType::kF16: {
      const bool brain = a.dtype() == DType::kBF16;
      const auto x = a.as<std::uint16_t>();
      const auto y = b.as<std::uint16_t>();
      for (std::size_t i = 0; i < n; ++i) {
        x[i] = brain ? float_to_bf16(bf16_to_float(x[i]) + bf16_to_float(y[i]))
                     : float_to_f16(f16_to_float(x[i]) + f16_to_float(y[i]));
      }
      return;
    }
    default:
      PS_CHECK(false, "only floating numbers are summed");
  }
}

Result<void> ThreadCollectives::all_agree() const {
  for (std::size_t r = 1; r < deposits_.entries.size(); ++r) {
    if (deposits_.entries[r] == deposits_.entries[0]) continue;
    return machine_error("rank " + std::to_string(r),
                         "TP015: issues another collective than rank 0",
                         to_string(deposits_.entries[0]), to_string(deposits_.entries[r]));
  }
  return {};
}

Result<void> ThreadCollectives::all_reduce(Tensor& value, const std::string& tag) {
  const auto me = static_cast<std::size_t>(rank_);
  ledger_.push_back({"all_reduce", value.shape(), value.dtype(), tag});
  deposits_.values[me] = &value;
  deposits_.entries[me] = ledger_.back();
  return meeting_.all([&]() -> Result<void> {
    PS_TRY_VOID(all_agree());
    for (std::size_t r = 1; r < deposits_.values.size(); ++r) {
      add_into(*deposits_.values[0], deposits_.values[r]->view());
    }
    for (std::size_t r = 1; r < deposits_.values.size(); ++r) {
      const auto sum = deposits_.values[0]->view().bytes;
      std::memcpy(deposits_.values[r]->bytes().data(), sum.data(), sum.size());
    }
    return {};
  });
}

struct RankEngine::Waiting {
  RankEngine* engine;
  Tap* outside;
  std::mutex mutex;
  std::map<std::string, bool, std::less<>> wanted;
  std::vector<TensorView> parts;
  std::vector<std::string> points;
};

// A rank's values wait for those of the others; joined, they go to the tap outside.
class RankEngine::RankTap final : public Tap {
 public:
  RankTap(Waiting& shared, std::size_t rank) : shared_(shared), rank_(rank) {}

  bool wants(std::string_view point) override {
    if (point.ends_with(":partial")) return false;
    const std::lock_guard lock(shared_.mutex);
    const auto known = shared_.wanted.find(point);
    if (known != shared_.wanted.end()) return known->second;
    const bool wanted = shared_.outside->wants(point);
    shared_.wanted.emplace(point, wanted);
    return wanted;
  }
  void take(std::string_view point, const TensorView& value) override {
    if (!status.ok()) return;
    shared_.parts[rank_] = value;
    shared_.points[rank_] = point;
    status =
        shared_.engine->crew_->meeting().all([&] { return shared_.engine->hand_out(shared_); });
  }
  Result<void> status;

 private:
  Waiting& shared_;
  std::size_t rank_;
};

RankEngine::RankEngine(PointJoiner joiner, std::unique_ptr<RankCrew> crew)
    : joiner_(std::move(joiner)), crew_(std::move(crew)) {}

RankEngine::~RankEngine() = default;

RankCrew::RankCrew(std::int64_t tp) : meeting_(tp) {
  const auto ranks = static_cast<std::size_t>(tp);
  deposits_.values.resize(ranks);
  deposits_.entries.resize(ranks);
}

Result<void> legal_ranks(const ModelConfig& config, std::int64_t tp) {
  const auto wrong = rejections(head_sizes(config), tp);
  if (wrong.empty()) return {};
  return bad_input("--tp " + std::to_string(tp), wrong[0].code + ": " + wrong[0].rule);
}

Result<Model> rank_share_of(const Model& model, std::int64_t tp, std::int64_t rank) {
  PlanOptions options;
  options.fused = false;
  options.replicate_vocab = true;
  PS_TRY(const Plan plan, make_plan(model.config, tp, options));
  struct Kept {
    std::shared_ptr<Checkpoint> whole;
    std::vector<std::unique_ptr<Tensor>> copies;
  };
  const auto kept = std::make_shared<Kept>();
  kept->whole = model.checkpoint;
  const SourceLookup sources = [&](std::string_view name) { return model.checkpoint->find(name); };
  Checkpoint::Tensors tensors;
  for (const PlanRecord& record : plan.records) {
    if (record.rank != rank || count_of(record.shape) == 0) continue;
    const ShardPart& part = record.parts[0];
    if (record.dest == "lm_head.weight" && model.config.tie_word_embeddings) continue;
    const TensorView* source = sources(part.source);
    if (source == nullptr) return bad_input(part.source, "is not in the checkpoint");
    const std::string name = record.dest == "lm_head.weight" ? record.dest : "model." + record.dest;
    if (!part.dim || *part.dim == 0) {
      const auto row = source->bytes.size() / static_cast<std::size_t>(source->shape[0]);
      const auto start = static_cast<std::size_t>(part.start);
      const auto length = static_cast<std::size_t>(part.length);
      tensors.emplace(name, TensorView{source->dtype, record.shape,
                                       source->bytes.subspan(start * row, length * row)});
      continue;
    }
    PS_TRY(Tensor copy, build_shard(record, sources));
    kept->copies.push_back(std::make_unique<Tensor>(std::move(copy)));
    tensors.emplace(name, kept->copies.back()->view());
  }
  return Model{rank_config(model.config, plan.share), Checkpoint::of(std::move(tensors), kept)};
}

Result<std::unique_ptr<RankCrew>> RankCrew::open(const Model& model, std::int64_t tp,
                                                 const Open& open) {
  PS_TRY_VOID(legal_ranks(model.config, tp));
  std::unique_ptr<RankCrew> out(new RankCrew(tp));
  out->config_ = model.config;
  for (std::int64_t r = 0; r < tp; ++r) {
    out->collectives_.push_back(
        std::make_unique<ThreadCollectives>(r, tp, out->meeting_, out->deposits_));
    PS_TRY(const Model local, rank_share_of(model, tp, r));
    PS_TRY(std::unique_ptr<Engine> rank, open(local, *out->collectives_.back()));
    out->ranks_.push_back(std::move(rank));
  }
  return out;
}

StepInputs RankCrew::inputs(const StepInputs& whole, std::size_t r) const {
  return inputs_of_rank(whole, config_, ranks_[r]->past(), static_cast<std::int64_t>(size()),
                        static_cast<std::int64_t>(r));
}

Result<void> RankCrew::on_all(const std::function<Result<void>(std::size_t r, Engine&)>& call) {
  meeting_.start();
  std::vector<Result<void>> results(ranks_.size());
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < ranks_.size(); ++r) {
    threads.emplace_back([&, r] {
      results[r] = call(r, *ranks_[r]);
      if (!results[r].ok()) meeting_.fail(results[r].error());
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Result<void>& result : results) {
    if (!result.ok()) return result.error();
  }
  return {};
}

ThreadRanks::ThreadRanks(std::unique_ptr<RankCrew> crew)
    : crew_(std::move(crew)), before_(crew_->size()) {}

Result<void> ThreadRanks::on_all(const Call& call, const std::vector<Tap*>& taps) {
  PS_CHECK(taps.size() == crew_->size(), "one tap a rank");
  for (std::size_t r = 0; r < before_.size(); ++r) before_[r] = crew_->ledger(r).size();
  return crew_->on_all([&](std::size_t r, Engine& rank) { return call(r, rank, *taps[r]); });
}

Result<void> ThreadRanks::forward(const StepInputs& inputs, const std::vector<Tap*>& taps) {
  return on_all([&](std::size_t r, Engine& rank,
                    Tap& tap) { return rank.forward(crew_->inputs(inputs, r), tap); },
                taps);
}

Result<void> ThreadRanks::reorder_cache(const std::vector<std::int64_t>& beam_idx,
                                        const std::vector<Tap*>& taps) {
  return on_all(
      [&](std::size_t, Engine& rank, Tap& tap) { return rank.reorder_cache(beam_idx, tap); }, taps);
}

void ThreadRanks::reset() {
  for (std::size_t r = 0; r < crew_->size(); ++r) crew_->rank(r).reset();
}

Ledger ThreadRanks::ledger(std::int64_t rank) const {
  const auto r = static_cast<std::size_t>(rank);
  const Ledger& all = crew_->ledger(r);
  return {all.begin() + static_cast<std::ptrdiff_t>(before_[r]), all.end()};
}

Result<void> PointJoiner::hand_out(const std::string& point, const std::vector<TensorView>& parts,
                                   std::int64_t step, Tap& tap) {
  PS_TRY(const JoinedPoint joined, join_point(point, parts, config, share));
  if (joined.disagree) {
    Finding f;
    f.id = "TP012";
    f.fault_class = "shard";
    f.step = step;
    f.rank = joined.disagree->second;
    f.point = point;
    f.confidence = Confidence::kConsistent;
    f.message = "ranks " + std::to_string(joined.disagree->first) + " and " +
                std::to_string(joined.disagree->second) + " must hold the same and differ in " +
                std::to_string(joined.differing) + " cells";
    findings.push_back(std::move(f));
  }
  tap.take(point, joined.value.view());
  return {};
}

Result<std::unique_ptr<RankEngine>> RankEngine::open(const Model& model, std::int64_t tp,
                                                     const Open& open) {
  PS_TRY(std::unique_ptr<RankCrew> crew, RankCrew::open(model, tp, open));
  PointJoiner joiner{model.config, rank_share(model.config, tp), {}};
  return std::unique_ptr<RankEngine>(new RankEngine(std::move(joiner), std::move(crew)));
}

Result<void> RankEngine::hand_out(Waiting& shared) {
  const std::string& point = shared.points[0];
  for (std::size_t r = 1; r < shared.points.size(); ++r) {
    if (shared.points[r] == point) continue;
    return machine_error("rank " + std::to_string(r), "computes another point than rank 0", point,
                         shared.points[r]);
  }
  return joiner_.hand_out(point, shared.parts, steps_, *shared.outside);
}

Result<void> RankEngine::on_all(const Call& call, Tap& tap) {
  Waiting shared{this, &tap, {}, {}, {}, {}};
  shared.parts.resize(crew_->size());
  shared.points.resize(crew_->size());
  std::vector<RankTap> taps;
  taps.reserve(crew_->size());
  for (std::size_t r = 0; r < crew_->size(); ++r) taps.emplace_back(shared, r);
  PS_TRY_VOID(crew_->on_all([&](std::size_t r, Engine& rank) {
    const Result<void> done = call(r, rank, taps[r]);
    return done.ok() ? taps[r].status : done;
  }));
  ++steps_;
  return {};
}

Result<void> RankEngine::forward(const StepInputs& inputs, Tap& tap) {
  return on_all([&](std::size_t r, Engine& rank,
                    Tap& own) { return rank.forward(crew_->inputs(inputs, r), own); },
                tap);
}

Result<void> RankEngine::reorder_cache(const std::vector<std::int64_t>& beam_idx, Tap& tap) {
  return on_all(
      [&](std::size_t, Engine& rank, Tap& own) { return rank.reorder_cache(beam_idx, own); }, tap);
}

void RankEngine::reset() {
  for (std::size_t r = 0; r < crew_->size(); ++r) crew_->rank(r).reset();
  steps_ = 0;
}

Result<Generated> RankEngine::generate(const StepInputs& prompt, std::int64_t beams,
                                       std::int64_t new_tokens) {
  NoTap none;
  std::mutex mutex;
  std::optional<Generated> first;
  PS_TRY_VOID(on_all(
      [&](std::size_t, Engine& rank, Tap&) -> Result<void> {
        PS_TRY(Generated own, rank.generate(prompt, beams, new_tokens));
        const std::lock_guard lock(mutex);
        if (&rank == &crew_->rank(0)) first = std::move(own);
        return {};
      },
      none));
  return *std::move(first);
}

}  // namespace ps
