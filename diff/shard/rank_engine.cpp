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

Result<void> ThreadCollectives::all_reduce(Tensor& value, const std::string& tag) {
  ledger_.push_back({"all_reduce", value.shape(), value.dtype(), tag});
  const auto me = static_cast<std::size_t>(rank_);
  deposits_.values[me] = &value;
  deposits_.tags[me] = tag;
  return meeting_.all([&]() -> Result<void> {
    const Tensor& first = *deposits_.values[0];
    for (std::size_t r = 1; r < deposits_.values.size(); ++r) {
      const Tensor& other = *deposits_.values[r];
      if (deposits_.tags[r] == deposits_.tags[0] && other.shape() == first.shape() &&
          other.dtype() == first.dtype()) {
        continue;
      }
      return machine_error("rank " + std::to_string(r),
                           "TP015: issues another collective than rank 0",
                           deposits_.tags[0] + " " + to_string(first.shape()),
                           deposits_.tags[r] + " " + to_string(other.shape()));
    }
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
    status = shared_.engine->meeting_.all([&] { return shared_.engine->hand_out(shared_); });
  }
  Result<void> status;

 private:
  Waiting& shared_;
  std::size_t rank_;
};

RankEngine::RankEngine(ModelConfig config, RankShare share)
    : config_(std::move(config)), share_(share), meeting_(share.tp) {
  deposits_.values.resize(static_cast<std::size_t>(share.tp));
  deposits_.tags.resize(static_cast<std::size_t>(share.tp));
}

RankEngine::~RankEngine() = default;

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

Result<std::unique_ptr<RankEngine>> RankEngine::open(const Model& model, std::int64_t tp,
                                                     const Open& open) {
  const auto wrong = rejections(head_sizes(model.config), tp);
  if (!wrong.empty()) {
    return bad_input("--tp " + std::to_string(tp), wrong[0].code + ": " + wrong[0].rule);
  }
  std::unique_ptr<RankEngine> out(new RankEngine(model.config, rank_share(model.config, tp)));
  for (std::int64_t r = 0; r < tp; ++r) {
    out->collectives_.push_back(
        std::make_unique<ThreadCollectives>(r, tp, out->meeting_, out->deposits_));
    PS_TRY(const Model local, rank_share_of(model, tp, r));
    PS_TRY(std::unique_ptr<Engine> rank, open(local, *out->collectives_.back()));
    out->ranks_.push_back(std::move(rank));
  }
  return out;
}

Result<void> RankEngine::hand_out(Waiting& shared) {
  const std::string& point = shared.points[0];
  for (std::size_t r = 1; r < shared.points.size(); ++r) {
    if (shared.points[r] == point) continue;
    return machine_error("rank " + std::to_string(r), "computes another point than rank 0", point,
                         shared.points[r]);
  }
  PS_TRY(const JoinedPoint joined, join_point(point, shared.parts, config_, share_));
  if (joined.disagree) {
    Finding f;
    f.id = "TP012";
    f.fault_class = "shard";
    f.step = steps_;
    f.rank = joined.disagree->second;
    f.point = point;
    f.message = "ranks " + std::to_string(joined.disagree->first) + " and " +
                std::to_string(joined.disagree->second) + " must hold the same and differ in " +
                std::to_string(joined.differing) + " cells";
    findings_.push_back(std::move(f));
  }
  shared.outside->take(point, joined.value.view());
  return {};
}

Result<void> RankEngine::on_all(const std::function<Result<void>(Engine&, Tap&)>& call, Tap& tap) {
  meeting_.start();
  Waiting shared{this, &tap, {}, {}, {}, {}};
  shared.parts.resize(ranks_.size());
  shared.points.resize(ranks_.size());
  std::vector<RankTap> taps;
  taps.reserve(ranks_.size());
  for (std::size_t r = 0; r < ranks_.size(); ++r) taps.emplace_back(shared, r);
  std::vector<Result<void>> results(ranks_.size());
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < ranks_.size(); ++r) {
    threads.emplace_back([&, r] {
      results[r] = call(*ranks_[r], taps[r]);
      if (results[r].ok()) results[r] = taps[r].status;
      if (!results[r].ok()) meeting_.fail(results[r].error());
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Result<void>& result : results) {
    if (!result.ok()) return result.error();
  }
  ++steps_;
  return {};
}

Result<void> RankEngine::forward(const StepInputs& inputs, Tap& tap) {
  return on_all([&](Engine& rank, Tap& own) { return rank.forward(inputs, own); }, tap);
}

Result<void> RankEngine::reorder_cache(const std::vector<std::int64_t>& beam_idx, Tap& tap) {
  return on_all([&](Engine& rank, Tap& own) { return rank.reorder_cache(beam_idx, own); }, tap);
}

void RankEngine::reset() {
  for (const auto& rank : ranks_) rank->reset();
  steps_ = 0;
}

Result<Generated> RankEngine::generate(const StepInputs& prompt, std::int64_t beams,
                                       std::int64_t new_tokens) {
  NoTap none;
  std::mutex mutex;
  std::optional<Generated> first;
  PS_TRY_VOID(on_all(
      [&](Engine& rank, Tap&) -> Result<void> {
        PS_TRY(Generated own, rank.generate(prompt, beams, new_tokens));
        const std::lock_guard lock(mutex);
        if (&rank == ranks_[0].get()) first = std::move(own);
        return {};
      },
      none));
  return *std::move(first);
}

}  // namespace ps
