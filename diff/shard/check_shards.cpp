#include "diff/shard/check_shards.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "diff/shard/hypotheses.h"
#include "diff/shard/loader_ledger.h"
#include "diff/shard/same_bits.h"
#include "diff/shard/vocabulary.h"

namespace ps {

namespace {

std::string numbers_text(const std::set<std::int64_t>& numbers) {
  std::string out;
  for (auto it = numbers.begin(); it != numbers.end();) {
    const std::int64_t first = *it;
    std::int64_t last = first;
    while (++it != numbers.end() && *it == last + 1) ++last;
    out += (out.empty() ? "" : ", ") + std::to_string(first);
    if (last > first) out += (last == first + 1 ? ", " : "-") + std::to_string(last);
  }
  return out;
}

std::string numbers_json(const std::set<std::int64_t>& numbers) {
  std::string out = "[";
  for (const std::int64_t n : numbers) out += (out.size() > 1 ? "," : "") + std::to_string(n);
  return out + "]";
}

std::int64_t layer_of(const std::string& dest) {
  const auto [at, length] = layer_in_name(dest);
  return at == std::string::npos ? -1 : std::stoll(dest.substr(at, length));
}

std::string fix_for(const std::string& code, const PlanRecord& record) {
  if (code == "TP001") return "compare the loader's shapes with parscope shard plan";
  if (code == "TP002") {
    return "Linear.weight is [out, in]: column-parallel tensors are cut on dim 0, row-parallel "
           "ones (o_proj, down_proj) on dim 1";
  }
  if (code == "TP003") return "rank r starts at r times its share";
  if (code == "TP004") {
    return "cut each of q, k, v (gate, up) by itself and put the pieces behind each other; the "
           "bias too";
  }
  if (code == "TP005") return "the order within a rank is q, k, v and gate, up";
  if (code == "TP006") return "rank r holds key/value head (r / copies) * heads per rank";
  if (code == "TP008") return "load the q, k, v biases (Qwen2 has them) in the weight's order";
  if (code == "TP009") return "add a row-parallel bias once: on rank 0, or after the reduce";
  if (code == "TP010") return "lm_head is the embedding only where tie_word_embeddings says so";
  if (code == "TP011") return "fill the padding with zeros, and drop its columns before sampling";
  return record.dest == "lm_head.weight"
             ? "load with a causal-LM class: a headless model has no lm_head"
             : "a loader that skips missing names leaves such tensors at their initial values";
}

// One mistake at one kind of tensor, whatever ranks and layers show it.
struct Group {
  const PlanRecord* first = nullptr;
  std::set<std::int64_t> ranks, layers;
  std::set<std::string> words;
  std::int64_t tensors = 0;
};

class Check {
 public:
  Check(const ShardModel& model, const ShardSet& shards, const Plan& fused, const Plan& unfused)
      : model_(model),
        shards_(shards),
        fused_(fused),
        unfused_(unfused),
        sources_(model.sources()) {}

  void run() {
    for (const PlanRecord& record : fused_.records) check_record(record);
    for (const auto& [pattern, questions] : wrong_) note_moved(questions);
    for (const auto& [pattern, questions] : wrong_) name(questions);
    report_groups();
    report_unread();
  }
  Report take() { return std::move(report_); }

 private:
  // A fused record, or the records of its parts where the rank holds those.
  void check_record(const PlanRecord& record) {
    if (shards_.find(record.rank, record.dest) != nullptr) {
      check(fused_, record);
      return;
    }
    bool split = false;
    for (const char* part : {"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"}) {
      const bool qkv = part[0] == 'q' || part[0] == 'k' || part[0] == 'v';
      const std::string_view fused_name = qkv ? "qkv_proj" : "gate_up_proj";
      const std::size_t at = record.dest.find(fused_name);
      if (at == std::string::npos) continue;
      std::string dest = record.dest;
      dest.replace(at, fused_name.size(), part);
      const PlanRecord* unfused = unfused_.find(record.rank, dest);
      if (unfused == nullptr) continue;
      if (shards_.find(record.rank, dest) != nullptr) {
        check(unfused_, *unfused);
        split = true;
      } else {
        missing_if_split_.push_back(unfused);
      }
    }
    if (split) {
      for (const PlanRecord* r : missing_if_split_) missing(*r);
    } else {
      missing(record);
    }
    missing_if_split_.clear();
  }

  bool in_any_file(const PlanRecord& record) const {
    for (std::int64_t r = 0; r < fused_.share.tp; ++r) {
      if (shards_.find(r, record.dest) != nullptr) return true;
    }
    return false;
  }

  bool is_vocabulary(const PlanRecord& record) const {
    const std::string& source = record.parts[0].source;
    return source == fused_.embedding || source == fused_.head;
  }

  // Files that hold nothing of what every rank copies are a part that was given on purpose (the
  // norms stand elsewhere). Where they hold some of it, the rest is missing. A whole vocabulary
  // says nothing about the norms.
  bool copies_are_given(const PlanRecord& record) {
    if (!copies_given_) {
      copies_given_.emplace(false, false);
      for (const PlanRecord& r : fused_.records) {
        if (r.kind != ShardKind::kReplicated || !in_any_file(r)) continue;
        (is_vocabulary(r) ? copies_given_->first : copies_given_->second) = true;
      }
    }
    return copies_given_->second || (is_vocabulary(record) && copies_given_->first);
  }

  void missing(const PlanRecord& record) {
    const bool tied_head = record.dest == fused_.head && model_.config.tie_word_embeddings;
    const bool bias = record.dest.ends_with(".bias");
    const bool by_row = record.kind == ShardKind::kRowBias;
    if (tied_head || (by_row && in_any_file(record))) return;  // one rank alone adds a row's bias
    if (by_row) {
      add("TP009", record, "is lost: no rank has such a tensor");
    } else if (record.kind == ShardKind::kReplicated && !copies_are_given(record)) {
      not_checked_.insert(layer_pattern(record.dest));
    } else {
      const bool by_column = bias && record.kind != ShardKind::kReplicated;
      add(by_column ? "TP008" : "TP007", record, "is missing: this rank has no such tensor");
    }
  }

  void check(const Plan& plan, const PlanRecord& record) {
    const TensorView& actual = *shards_.find(record.rank, record.dest);
    read_.insert({record.rank, record.dest});
    ShardQuestion q{&plan, &model_.config, &sources_, &record, actual};
    if (record.kind == ShardKind::kRowBias && record.rank > 0 && is_zero(actual)) return;
    const TensorView* source = sources_(record.parts[0].source);
    if (actual.shape != record.shape) {
      wrong_shape(q);
    } else if (equals_plan(q)) {
      if (source != nullptr && source->dtype != actual.dtype) other_types_.insert(actual.dtype);
    } else if (in_files_order(q)) {
      grouped_.insert(layer_pattern(record.dest));
    } else {
      wrong_[layer_pattern(record.dest)].push_back(q);
      return;
    }
    ++checked_;
  }

  // The rows that the plan asks for, by key/value head as the file has them: right for an engine
  // that reads them so. Possible where no head is copied.
  static bool in_files_order(const ShardQuestion& q) {
    const CheckpointLayout layout = q.plan->options.layout;
    const bool by_head = layout == CheckpointLayout::kMegatronGrouped ||
                         layout == CheckpointLayout::kPerHeadInterleaved;
    if (!by_head || q.record->kind != ShardKind::kQkv || q.plan->share.kv_replicas != 1 ||
        !q.plan->options.fused || q.actual.shape != q.record->shape) {
      return false;
    }
    ShardPart piece = q.record->parts[0];
    piece.length = q.record->shape[0];
    piece.start = q.record->rank * piece.length;
    return same_elements(q, {piece});
  }

  static bool is_zero(const TensorView& view) {
    for (std::int64_t i = 0; i < view.count(); ++i) {
      if (value_at(view, i) != 0) return false;
    }
    return true;
  }

  void wrong_shape(const ShardQuestion& q) {
    std::string words =
        "has shape " + to_string(q.actual.shape) + " instead of " + to_string(q.record->shape);
    const ShardPart& part = q.record->parts[0];
    const TensorView* source = sources_(part.source);
    const bool alone = q.record->parts.size() == 1 && source != nullptr;
    if (alone && q.actual.shape == shape_for(part, *source)) words += ": it was never cut";
    const auto dims = axis_words(q);
    add("TP001", *q.record, words + dims);
    // The axis that was cut instead is known when the bytes say so.
    for (std::size_t h = 0; h < hypothesis_count(); ++h) {
      const auto answer = try_hypothesis(h, q);
      if (!answer || answer->code != "TP002") continue;
      add(answer->code, *q.record, answer->words);
      break;
    }
  }

  static std::string axis_words(const ShardQuestion& q) {
    if (q.actual.shape.size() != q.record->shape.size()) return "";
    std::string out;
    for (std::size_t a = 0; a < q.actual.shape.size(); ++a) {
      if (q.actual.shape[a] == q.record->shape[a]) continue;
      out += "; axis " + std::to_string(a) + ": " + std::to_string(q.record->shape[a]) +
             " expected, " + std::to_string(q.actual.shape[a]) + " found";
    }
    return out;
  }

  // Ranks that hold another rank's columns: their heads too may be that rank's.
  void note_moved(const std::vector<ShardQuestion>& questions) {
    for (const ShardQuestion& q : questions) {
      const bool by_row = q.record->kind == ShardKind::kRow;
      if (by_row && slice_of_other_rank(q)) moved_.insert(q.record->rank);
    }
  }

  void name(const std::vector<ShardQuestion>& questions) {
    const std::vector<Hypothesis> names = name_shards(questions, moved_);
    for (std::size_t i = 0; i < names.size(); ++i) {
      const PlanRecord& record = *questions[i].record;
      add(names[i].code, record, names[i].words, names[i].loss_only);
      for (const Hypothesis& h : names[i].also) add(h.code, record, h.words, h.loss_only);
    }
  }

  void add(const std::string& code, const PlanRecord& record, const std::string& words,
           bool warning = false) {
    Group& group = groups_[{layer_pattern(record.dest), code, warning}];
    if (group.first == nullptr) group.first = &record;
    group.ranks.insert(record.rank);
    group.layers.insert(layer_of(record.dest));
    group.words.insert(words);
    ++group.tensors;
  }

  void report_groups() {
    for (const auto& [key, group] : groups_) {
      const auto& [pattern, code, warning] = key;
      Finding f;
      f.id = code;
      f.fault_class = "shard";
      f.severity = warning ? Severity::kWarning : Severity::kError;
      f.point = group.first->dest;
      f.rank = group.first->rank;
      f.where = "ranks " + numbers_text(group.ranks);
      if (!group.layers.contains(-1)) f.where += ", layers " + numbers_text(group.layers);
      std::size_t shown = 0;
      for (const std::string& words : group.words) {
        if (++shown > 4) break;
        f.message += (shown == 1 ? "" : "; ") + words;
      }
      if (group.words.size() > 4) {
        f.message += "; and " + std::to_string(group.words.size() - 4) + " more such";
      }
      f.evidence = {{"kind", json_string(to_string(group.first->kind))},
                    {"ranks", numbers_json(group.ranks)},
                    {"tensors", std::to_string(group.tensors)}};
      if (!group.layers.contains(-1)) f.evidence.emplace_back("layers", numbers_json(group.layers));
      if (!warning) f.fix = fix_for(code, *group.first);
      report_.findings.push_back(std::move(f));
    }
    std::stable_sort(report_.findings.begin(), report_.findings.end(),
                     [](const Finding& a, const Finding& b) { return a.severity < b.severity; });
    for (const DType type : other_types_) {
      note("shard-dtype", Severity::kInfo,
           "shards of type " + std::string(torch_name(type)) +
               " are compared after the checkpoint was rounded to it");
    }
    for (const std::string& pattern : grouped_) {
      note("shard-order", Severity::kInfo,
           pattern +
               " holds the right rows, head by head as in the checkpoint and not as q, k, v: right "
               "for an engine that reads them so");
    }
    for (const std::string& pattern : not_checked_) {
      note("shard-not-checked", Severity::kInfo,
           pattern + " is in no rank's file, as nothing is that each rank copies: not checked");
    }
  }

  // Tensors that no record asked for.
  void report_unread() {
    std::map<std::string, std::set<std::int64_t>> unread;
    for (const auto& [rank, tensors] : shards_.ranks) {
      for (const auto& [dest, view] : tensors) {
        const bool frequencies = dest.ends_with("rotary_emb.inv_freq");
        if (!frequencies && !read_.contains({rank, dest})) unread[layer_pattern(dest)].insert(rank);
      }
    }
    for (const auto& [pattern, ranks] : unread) {
      note("weights-unexpected", Severity::kWarning,
           pattern + " (ranks " + numbers_text(ranks) + ") is nothing that the plan asks for");
    }
  }

  void note(const char* id, Severity severity, std::string message) {
    Finding f;
    f.id = id;
    f.fault_class = "shard";
    f.severity = severity;
    f.message = std::move(message);
    report_.findings.push_back(std::move(f));
  }

  const ShardModel& model_;
  const ShardSet& shards_;
  const Plan& fused_;
  const Plan& unfused_;
  SourceLookup sources_;
  Report report_;
  std::map<std::string, std::vector<ShardQuestion>> wrong_;
  std::map<std::tuple<std::string, std::string, bool>, Group> groups_;
  std::set<std::pair<std::int64_t, std::string>> read_;
  std::vector<const PlanRecord*> missing_if_split_;
  std::set<std::string> not_checked_, grouped_;
  std::set<std::int64_t> moved_;
  std::optional<std::pair<bool, bool>> copies_given_;  // of the vocabulary, of all else
  std::set<DType> other_types_;
  std::int64_t checked_ = 0;
};

}  // namespace

Result<Report> check_shards(const ShardModel& model, std::int64_t tp, const ShardSet& shards,
                            ShardCheckOptions options) {
  if (model.checkpoint == nullptr) {
    return bad_input("checkpoint", "there are no weights to compare the shards with",
                     "model.safetensors beside config.json");
  }
  std::set<std::int64_t> found;
  for (const auto& [rank, tensors] : shards.ranks) found.insert(rank);
  for (std::int64_t r = 0; r < tp; ++r) {
    if (!found.contains(r)) {
      return bad_input("shards", "rank " + std::to_string(r) + " is missing",
                       "ranks 0 to " + std::to_string(tp - 1), "ranks " + numbers_text(found));
    }
  }
  if (static_cast<std::int64_t>(found.size()) > tp) {
    return bad_input("shards", "there are more ranks than --tp says", std::to_string(tp),
                     std::to_string(found.size()));
  }
  if (!options.vocab_given) vocabulary_from(shards, model.config, tp, options.plan);
  options.plan.fused = true;
  PS_TRY(const Plan fused, make_plan(model.config, tp, options.plan));
  options.plan.fused = false;
  PS_TRY(const Plan unfused, make_plan(model.config, tp, options.plan));
  Check check(model, shards, fused, unfused);
  check.run();
  Report report = check.take();
  for (Finding& f : ledger_findings_of(fused, model)) {
    auto& all = report.findings;
    all.insert(f.id == "TP010" ? all.begin() : all.end(), std::move(f));  // it explains others
  }
  return report;
}

}  // namespace ps
