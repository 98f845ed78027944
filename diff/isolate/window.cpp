#include "diff/isolate/window.h"

#include <algorithm>

#include "core/own_run.h"
#include "core/points.h"
#include "diff/diagnose/power.h"
#include "diff/isolate/check_progress.h"
#include "diff/run/phases.h"

namespace ps {

bool is_cache_point(std::string_view point) {
  return point.ends_with(":k_cache") || point.ends_with(":v_cache") ||
         point.ends_with(":q_mean_cache");
}

void Votes::keep(std::string_view point, const TensorView& value) {
  if (!wanted_) return;
  if (point == "model.norm") norm_ = Tensor::copy_of(value);
  if (point == "model:aggregate_weights") weights_ = Tensor::copy_of(value);
}

Window::Window(const LockstepStep& step)
    : votes(step.options.count_votes), at_(step), ops_(step.truth.ops()) {
  for (std::size_t i = 0; i < ops_.size(); ++i) index_[ops_[i].point] = i;
  for (std::size_t i = 0; i < ops_.size(); ++i) {
    if (!at_.options.sample.judges(ops_[i].point)) continue;
    auto& last = last_reader_[ops_[i].point];
    last = std::max(last, i);
    note_readers(i, ops_[i]);
  }
}

// What no judged op reads is not asked for.
bool Window::wants(std::string_view point) {
  return last_reader_.contains(std::string(point)) || point == "lm_head";
}

void Window::take(std::string_view point, const TensorView& value) {
  const Phase phase(Work::kKeep);
  if (point == "lm_head") logits = Tensor::copy_of(value);
  votes.keep(point, value);
  const std::string name(point);
  if (!status.ok() || stopped_ || !last_reader_.contains(name)) return;
  if (is_cache_point(point)) caches.insert_or_assign(name, Tensor::copy_of(value));
  values_.insert_or_assign(name, Tensor::copy_of(value));
  judge_what_is_ready(false);
}

void Window::finish() {
  if (status.ok()) judge_what_is_ready(true);
}

// An op whose point no candidate hands out (it is not in the table) is read through.
void Window::note_readers(std::size_t reader, const OpInfo& op) {
  for (const std::string& input : op.inputs) {
    const auto it = index_.find(input);
    if (it == index_.end()) continue;
    auto& last = last_reader_[input];
    last = std::max(last, reader);
    if (!find_point(input)) note_readers(reader, ops_[it->second]);
  }
}

void Window::judge_what_is_ready(bool all) {
  const PointLookup lookup = [this](std::string_view name) -> std::optional<TensorView> {
    if (name.starts_with("past:")) {
      const auto it = at_.past.find(std::string(name.substr(5)));
      return it == at_.past.end() ? std::nullopt : std::optional(it->second.view());
    }
    const auto it = values_.find(std::string(name));
    return it == values_.end() ? std::nullopt : std::optional(it->second.view());
  };
  while (next_ < ops_.size() && !stopped_) {
    const OpInfo& op = ops_[next_];
    const bool judged = at_.options.sample.judges(op.point);
    const bool never_comes = !find_point(op.point);
    if (judged && !values_.contains(op.point) && !never_comes && !all) return;
    if (at_.options.progress) {
      at_.options.progress(at_.step, at_.steps, static_cast<std::int64_t>(next_),
                           static_cast<std::int64_t>(ops_.size()));
    }
    if (judged) {
      status = judge(op, lookup);
      if (!status.ok()) return;
      keep_own_run(op);
    } else if (!never_comes) {
      left_out.push_back(op.point);
      if (at_.measured) at_.power.left_out(op, at_.past_tokens);
    }
    stopped_ = at_.options.stop_at_first && at_.judge.first().has_value();
    forget(next_++);
  }
}

// A point that an earlier process judged is taken over where nothing followed from it but its row.
Result<void> Window::judge(const OpInfo& op, const PointLookup& lookup) {
  at_.judge.use_own_run(static_cast<std::int64_t>(next_) >= at_.own_from);
  CheckProgress* progress = at_.options.progress_file;
  const std::optional<TensorView> captured = lookup(op.point);
  if (progress == nullptr || !captured) return at_.judge.judge(op, lookup);
  PS_TRY(const std::optional<JudgedRecord> known, progress->next(at_.step, op.point, *captured));
  if (known && known->note.plain) {
    if (!known->power.place.empty()) at_.power.take_over(known->power);
    return at_.judge.take_over(op, known->row, known->note);
  }
  at_.power.forget_news();
  PS_TRY_VOID(at_.judge.judge(op, lookup));
  if (known) return {};
  return progress->append({0, at_.judge.rows().back(), at_.judge.note(), at_.power.news(), 0},
                          *captured);
}

void Window::keep_own_run(const OpInfo& op) {
  CheckProgress* progress = at_.options.progress_file;
  if (progress == nullptr || !at_.keeps_own_run || !progress->wants_own_run()) return;
  const std::optional<PointRef> ref = find_point(op.point);
  if (!ref || ref->spec->name != "model.layers.N") return;
  const auto* own = dynamic_cast<const OwnRun*>(&at_.truth);
  if (own == nullptr) return;
  // It only saves time: where it cannot be written the check goes on without.
  (void)progress->keep_own_run(at_.step, op.point, own->put_down(at_.step + 1 == at_.steps));
}

void Window::forget(std::size_t judged) {
  std::erase_if(values_, [&](const auto& entry) {
    return last_reader_.at(entry.first) <= judged && index_.at(entry.first) <= judged;
  });
}

}  // namespace ps
