#include <map>
#include <set>

#include "diff/lint/cache.h"
#include "diff/lint/cache_cells.h"

namespace ps {

namespace {

class Values {
 public:
  Values(const Trace& trace, std::int64_t rank, const ModelConfig& config)
      : trace_(trace), rank_(rank), c_(config) {}

  std::vector<Finding> run() {
    for (const TraceStep& step : trace_.steps()) {
      if (step.rank != rank_ || step.op == StepOp::kGenerate) continue;
      ++ordinal_;
      if (step.op == StepOp::kReorderCache) reorders_[ordinal_] = &step.beam_idx;
      for (const auto& entry : step.tensors->entries()) {
        const auto cache = cache_name(entry.name);
        if (!cache || cache->layer >= c_.layers || entry.view.shape.size() != 4) continue;
        if (entry.view.shape[1] != c_.kv_heads || entry.view.shape[3] != c_.head_dim) continue;
        if (entry.view.count() == 0) continue;  // the shape says so; its rows may be any number
        check(step, entry.name, *cache, entry.view);
      }
    }
    return std::move(findings_);
  }

 private:
  void say(const TraceStep& step, std::string id, const std::string& name, std::string where,
           std::string message) {
    Finding f;
    f.id = std::move(id);
    f.fault_class = "cache";
    f.step = step.step;
    f.rank = step.rank;
    f.point = name;
    f.where = std::move(where);
    f.message = std::move(message);
    findings_.push_back(std::move(f));
  }

  void say(const TraceStep& step, const std::string& name, std::optional<CacheFault> fault) {
    if (fault) say(step, fault->id, name, fault->where, fault->message);
  }

  void check(const TraceStep& step, const std::string& name, const CacheName& cache,
             const TensorView& view) {
    const auto key = std::pair(cache.layer, cache.keys);
    const auto before = before_.find(key);
    const bool first = before == before_.end();
    const Cells now{&view};
    const bool cross_kv = c_.cross_kv_layer[static_cast<std::size_t>(cache.layer)];
    const bool forgets = cross_kv && !c_.cross_kv_causal;
    const auto from = first ? std::nullopt : rows_since(before->second, now.rows());
    if (step.op == StepOp::kReorderCache) {
      if (from && before->second.view->shape == view.shape) {
        say(step, name, reorder_fault(Cells{before->second.view}, now, *from, c_));
      }
    } else {
      const NewSlots own(*step.tensors, cache, now, c_);
      const auto fault = own.fault();
      say(step, name, fault);
      if (!first && !forgets) {
        if (from) check_past(step, name, Cells{before->second.view}, now, *from, own.tokens());
      } else if (!cross_kv && !fault) {
        check_prefix(step, name, now);
      }
    }
    before_[key] = {&view, ordinal_};
  }

  struct Stored {
    const TensorView* view = nullptr;
    std::int64_t ordinal = 0;  // of its step
  };

  // Where the rows stored then are by now: a reorder moves them whether or not its own file holds
  // the cache. Nothing where a step in between does not say (not every step stores every point).
  std::optional<RowsFrom> rows_since(const Stored& before, std::int64_t rows) const {
    RowsFrom from(rows, c_.replicas);
    for (std::int64_t o = before.ordinal + 1; o <= ordinal_; ++o) {
      const auto reorder = reorders_.find(o);
      if (reorder == reorders_.end()) {
        if (o < ordinal_) return std::nullopt;
      } else if (!from.reorder(*reorder->second)) {
        return std::nullopt;
      }
    }
    return from;
  }

  // What was in the cache is still there, bit for bit, and it grew by what is new.
  void check_past(const TraceStep& step, const std::string& name, const Cells& before,
                  const Cells& now, const RowsFrom& from, std::int64_t fresh) {
    if (now.view->dtype != before.view->dtype || now.rows() != before.rows()) return;
    if (fresh > 0 && now.slots() != before.slots() + fresh) {
      say(step, "TP040", name, "axis 2",
          "axis 2 is slots: " + std::to_string(before.slots() + fresh) + " expected (" +
              std::to_string(before.slots()) + " before and " + std::to_string(fresh) + " new), " +
              std::to_string(now.slots()) + " found");
      return;
    }
    if (now.slots() < before.slots()) return;
    say(step, name, past_fault(before, now, from, c_));
  }

  // Every sample of a replica starts with the same prefix, which is not zeros.
  void check_prefix(const TraceStep& step, const std::string& name, const Cells& now) {
    const std::int64_t prefix = c_.prefix_tokens, batch = now.rows() / c_.replicas;
    if (prefix == 0 || now.slots() <= prefix || batch == 0) return;
    bool zeros = true, rest_zero = true;
    for (std::int64_t row = 0; row < now.rows(); ++row) {
      for (std::int64_t h = 0; h < now.heads(); ++h) {
        zeros = zeros && all_zero(now.run(row, h, 0, prefix));
        rest_zero = rest_zero && all_zero(now.run(row, h, prefix, now.slots() - prefix));
        const std::int64_t first = row / batch * batch;
        if (same(now.run(row, h, 0, prefix), now.run(first, h, 0, prefix))) continue;
        say(step, "replica-prefix-order", name, cache_place(row, h, 0, c_, now.rows()),
            "rows " + std::to_string(first) + " and " + std::to_string(row) +
                " are samples of replica " + std::to_string(row / batch) +
                " and start with different prefixes: rows are replica-major, p*B + b");
        return;
      }
    }
    if (zeros && !rest_zero) {
      say(step, "cache-prefix-zero-placeholder", name, cache_place(0, 0, 0, c_, now.rows()),
          "the first " + std::to_string(prefix) +
              " slots are zeros: the prefix was never filled in");
    }
  }

  const Trace& trace_;
  std::int64_t rank_;
  const ModelConfig& c_;
  std::map<std::pair<std::int64_t, bool>, Stored> before_;
  std::map<std::int64_t, const std::vector<std::int64_t>*> reorders_;  // by ordinal
  std::int64_t ordinal_ = 0;                                           // of the step, on this rank
  std::vector<Finding> findings_;
};

}  // namespace

std::vector<Finding> cache_value_findings(const Trace& trace, const ModelConfig& config) {
  std::set<std::int64_t> ranks;
  for (const TraceStep& step : trace.steps()) ranks.insert(step.rank);
  std::vector<Finding> out;
  for (const std::int64_t rank : ranks) {
    for (Finding& f : Values(trace, rank, config).run()) out.push_back(std::move(f));
  }
  return out;
}

}  // namespace ps
