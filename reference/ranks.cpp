#include "reference/ranks.h"

#include "reference/bridge.h"

namespace ps::reference {

namespace {

bool is_cache(std::string_view point) {
  return point.ends_with(":k_cache") || point.ends_with(":v_cache");
}

bool is_row_parallel(std::string_view point) {
  return point.ends_with("_attn.o_proj") || point.ends_with(".mlp.down_proj");
}

void hand_out(Tap& tap, const std::string& point, const at::Tensor& value) {
  if (!tap.wants(point)) return;
  const at::Tensor whole = value.contiguous();
  tap.take(point, view_of(whole));
}

// Rows of a rank's part of the embedding; zeros for tokens that other ranks have.
at::Tensor own_rows(const at::Tensor& w, const at::Tensor& ids, std::int64_t first) {
  const at::Tensor local = ids - first;
  const at::Tensor mine = local.ge(0).logical_and(local.lt(w.size(0)));
  const at::Tensor rows = w.index({at::where(mine, local, at::zeros_like(local))});
  return at::where(mine.unsqueeze(-1), rows, at::zeros_like(rows));
}

}  // namespace

SimulatedRanks::SimulatedRanks(const RankModel& model, const ReferenceOptions& options)
    : model_(model),
      options_(options),
      types_(types_of(scalar_type(options.dtype))),
      caches_(static_cast<std::size_t>(model.tp)) {
  if (options.threads > 0) at::set_num_threads(options.threads);
}

// The local model's ops, but for those that know of other ranks.
SimulatedRanks::Rank SimulatedRanks::make_rank(const StepInputs& inputs, std::int64_t r) const {
  StepContext c;
  c.config = &model_.local;
  c.inputs = &inputs;
  c.past = past_;
  c.cache_empty = past_ == 0;
  c.types = types_;
  c.empty_rows = options_.empty_rows;
  c.pinned_rope = options_.pinned_rope ? &*options_.pinned_rope : nullptr;
  Rank rank{Net(c), {}, {}, {}};
  build(rank.net);
  for (Op& op : rank.net.ops()) {
    // A row-parallel bias is part of the sum once.
    if (is_row_parallel(op.point) && r > 0) op.weights.resize(1);
    if (op.point == "lm_head") op.weights = {"lm_head.weight"};  // a tied one has its own part
    if (op.point == "model.embed_tokens" && !model_.replicate_vocab) {
      const std::int64_t first = r * model_.vocab_rows;
      op.run = [&inputs, first](const Tensors&, const Tensors& w) {
        return own_rows(w[0], from_int64(inputs.input_ids, {inputs.batch, inputs.length}), first);
      };
    }
    for (const Point& input : op.inputs) ++rank.readers_left[input];
  }
  return rank;
}

Result<at::Tensor> SimulatedRanks::compute(const Op& op, Rank& rank, std::int64_t r) {
  Tensors in, w;
  std::vector<Tensor> kept;  // what `w` borrows from
  kept.reserve(op.weights.size());
  for (const Point& name : op.inputs) {
    in.push_back(is_past(name) ? caches_[static_cast<std::size_t>(r)].at(name.substr(5))
                               : rank.points.at(name));
  }
  for (const std::string& name : op.weights) {
    PS_TRY(Tensor part, model_.weight(r, name));
    kept.push_back(std::move(part));
    at::Tensor weight = borrow(kept.back().view());
    if (options_.weights_through) weight = weight.to(scalar_type(*options_.weights_through));
    w.push_back(weight.to(types_.model));
  }
  return op.run(in, w);
}

void SimulatedRanks::combine(const std::string& point, std::vector<at::Tensor>& values,
                             const std::vector<Tap*>& taps) {
  const auto note = [&](const char* op, const at::Tensor& value) {
    ledger_.push_back({op, value.sizes().vec(), dtype_of(value.scalar_type()), point});
  };
  const bool embeds = point == "model.embed_tokens" && !model_.replicate_vocab;
  if (is_row_parallel(point) || embeds) {
    note("all_reduce", values[0]);
    at::Tensor sum;
    for (std::size_t r = 0; r < values.size(); ++r) {
      if (!embeds) hand_out(*taps[r], point + ":partial", values[r]);
      sum = r == 0 ? values[0] : sum + values[r];  // in the run's type, in rank order
    }
    for (at::Tensor& value : values) value = sum;
  } else if (point == "lm_head" && !model_.replicate_vocab) {
    note("all_gather", values[0]);
    // Columns beyond the vocabulary would win where all real logits are negative.
    const at::Tensor whole = at::cat(values, -1).slice(-1, 0, model_.whole.vocab_size);
    for (at::Tensor& value : values) value = whole;
  }
}

Result<void> SimulatedRanks::run(const StepInputs& inputs, const std::vector<Tap*>& taps) {
  std::vector<Rank> ranks;
  std::vector<StepInputs> given;  // outlives the nets, which read it
  for (std::int64_t r = 0; r < model_.tp; ++r) {
    given.push_back(inputs_of_rank(inputs, model_.whole, past_, model_.tp, r));
  }
  for (std::int64_t r = 0; r < model_.tp; ++r) {
    ranks.push_back(make_rank(given[static_cast<std::size_t>(r)], r));
  }
  ledger_.clear();
  for (std::size_t i = 0; i < ranks[0].net.ops().size(); ++i) {
    const std::string point = ranks[0].net.ops()[i].point;
    std::vector<at::Tensor> values;
    for (std::size_t r = 0; r < ranks.size(); ++r) {
      PS_TRY(at::Tensor value,
             compute(ranks[r].net.ops()[i], ranks[r], static_cast<std::int64_t>(r)));
      values.push_back(std::move(value));
    }
    combine(point, values, taps);
    for (std::size_t r = 0; r < ranks.size(); ++r) {
      Rank& rank = ranks[r];
      hand_out(*taps[r], point, values[r]);
      if (is_cache(point)) rank.next_cache[point] = values[r];
      for (const Point& name : rank.net.ops()[i].inputs) {
        if (--rank.readers_left[name] == 0) rank.points.erase(name);
      }
      if (rank.readers_left[point] > 0) rank.points[point] = values[r];
    }
  }
  for (std::size_t r = 0; r < ranks.size(); ++r) caches_[r] = std::move(ranks[r].next_cache);
  return {};
}

Result<void> SimulatedRanks::forward(const StepInputs& inputs, const std::vector<Tap*>& taps) {
  PS_CHECK(static_cast<std::int64_t>(taps.size()) == model_.tp, "one tap a rank");
  PS_TRY_VOID(check_inputs(inputs, model_.whole, past_, batch_));
  try {
    const at::NoGradGuard no_grad;
    PS_TRY_VOID(run(inputs, taps));
  } catch (const std::exception& e) {
    return torch_error("reference ranks", e);
  }
  past_ += inputs.length;
  batch_ = inputs.batch;
  return {};
}

// Row p*B + b becomes row p*B + beam_idx[b] (engine.cpp says why), on every rank alike.
Result<void> SimulatedRanks::reorder_cache(const std::vector<std::int64_t>& beam_idx,
                                           const std::vector<Tap*>& taps) {
  if (past_ == 0) return bad_input("reorder_cache", "there is no cache to reorder");
  for (const std::int64_t b : beam_idx) {
    if (b >= 0 && b < batch_) continue;
    return bad_input("beam_idx", "a beam outside the batch", "0 to " + std::to_string(batch_ - 1),
                     std::to_string(b));
  }
  try {
    const at::NoGradGuard no_grad;
    const auto beams = static_cast<std::int64_t>(beam_idx.size());
    const at::Tensor base = at::arange(model_.local.replicas, at::kLong).unsqueeze(1) * batch_;
    const at::Tensor rows = (base + from_int64(beam_idx, {beams})).flatten();
    for (std::size_t r = 0; r < caches_.size(); ++r) {
      for (auto& [name, value] : caches_[r]) {
        value = value.index_select(0, rows);
        hand_out(*taps[r], name, value);
      }
    }
    batch_ = beams;
  } catch (const std::exception& e) {
    return torch_error("reference reorder_cache", e);
  }
  return {};
}

void SimulatedRanks::reset() {
  for (Cache& cache : caches_) cache.clear();
  past_ = 0;
  batch_ = 0;
}

}  // namespace ps::reference
