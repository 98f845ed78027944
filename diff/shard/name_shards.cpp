// Names for several wrong shards together: of whole records first, then of the parts of fused ones.
#include <algorithm>
#include <map>

#include "diff/shard/hypotheses.h"
#include "diff/shard/part_groups.h"
#include "diff/shard/unexplained.h"

namespace ps {

namespace {

using Questions = std::vector<ShardQuestion>;
using Ranks = std::set<std::int64_t>;
using Names = std::vector<std::optional<Hypothesis>>;

// r % heads where it explains the shards of several ranks: those that it takes are some rank's own,
// so that each of them alone looks like another rank's. Ranks that exchanged all they hold look so
// too.
Names by_modulo(const Questions& questions, const Ranks& moved) {
  Names out;
  Ranks ranks;
  for (const ShardQuestion& q : questions) {
    out.push_back(kv_head_by_modulo(q));
    ranks.insert(q.record->rank);
    if (!out.back() || moved.contains(q.record->rank)) return {};
  }
  return ranks.size() > 1 ? out : Names{};
}

Names name_whole(const Questions& questions, const Ranks& moved) {
  if (Names modulo = by_modulo(questions, moved); !modulo.empty()) return modulo;
  Names first(questions.size());
  for (std::size_t h = 0; h < hypothesis_count(); ++h) {
    Names found(questions.size());
    bool all = true;
    for (std::size_t i = 0; i < questions.size(); ++i) {
      found[i] = try_hypothesis(h, questions[i]);
      if (!first[i]) first[i] = found[i];
      all = all && found[i];
    }
    if (all) return found;
  }
  return first;
}

// One part of a fused shard.
struct Piece {
  std::string name;  // "q"
  PlanRecord record;
  std::int64_t first_row = 0;
};

bool holds_parts(const PlanRecord& record) {
  return record.kind == ShardKind::kQkv || record.kind == ShardKind::kMergedCol;
}

// The record's parts as records of their own; none where it has but one.
std::vector<Piece> pieces_of(const ShardQuestion& q) {
  if (!holds_parts(*q.record) || !q.plan->options.fused) return {};
  const std::vector<PartGroup> groups = groups_of(q);
  const bool qkv = q.record->kind == ShardKind::kQkv;
  if (groups.size() != (qkv ? 3U : 2U)) return {};
  std::vector<Piece> out;
  std::int64_t row = 0;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    Piece piece;
    piece.name = qkv ? std::string(1, "qkv"[i]) : i == 0 ? "gate" : "up";
    piece.record = *q.record;
    piece.record.dest = piece.name + "_proj:" + q.record->dest;
    piece.record.parts = groups[i].parts;
    piece.record.shape[0] = 0;
    for (const ShardPart& part : groups[i].parts) piece.record.shape[0] += part.length + part.pad;
    piece.first_row = row;
    row += piece.record.shape[0];
    out.push_back(std::move(piece));
  }
  return row == q.record->shape[0] ? out : std::vector<Piece>{};
}

TensorView rows_of(const TensorView& view, const Piece& piece) {
  const std::size_t row = view.bytes.size() / static_cast<std::size_t>(view.shape[0]);
  TensorView out = view;
  out.shape[0] = piece.record.shape[0];
  out.bytes = view.bytes.subspan(static_cast<std::size_t>(piece.first_row) * row,
                                 static_cast<std::size_t>(out.shape[0]) * row);
  return out;
}

// Fused shards taken apart, as an engine would hold them that does not fuse.
class Parts {
 public:
  // `named`: questions that need no more names.
  Parts(const Questions& questions, const Names& named) : names_(questions.size()) {
    for (std::size_t i = 0; i < questions.size(); ++i) {
      if (!named[i] && questions[i].actual.shape == questions[i].record->shape) {
        add_plan(questions[i]);
      }
    }
    for (std::size_t i = 0; i < questions.size(); ++i) {
      if (!named[i] && questions[i].actual.shape == questions[i].record->shape) {
        add_questions(i, questions[i]);
      }
    }
  }

  Names names(const Ranks& moved) {
    for (auto& [part, asked] : wrong_) {
      const Names found = name_whole(asked.questions, moved);
      for (std::size_t i = 0; i < found.size(); ++i) {
        names_[asked.of[i]].push_back({part.second, found[i].has_value(),
                                       found[i] ? *found[i] : unexplained(asked.questions[i])});
      }
    }
    Names out(names_.size());
    for (std::size_t i = 0; i < names_.size(); ++i) out[i] = together(i);
    return out;
  }

 private:
  struct Asked {
    Questions questions;
    std::vector<std::size_t> of;  // the whole questions that they are parts of
  };
  struct Named {
    std::string part;
    bool known = false;
    Hypothesis name;
  };

  // The pieces of all ranks: hypotheses ask what others hold.
  void add_plan(const ShardQuestion& q) {
    plan_.share = q.plan->share;
    plan_.options = q.plan->options;
    plan_.options.fused = false;
    plan_.embedding = q.plan->embedding;
    plan_.head = q.plan->head;
    if (!planned_.insert(q.record->dest).second) return;
    for (std::int64_t r = 0; r < plan_.share.tp; ++r) {
      ShardQuestion other = q;
      other.record = q.plan->find(r, q.record->dest);
      if (other.record == nullptr) continue;
      for (Piece& piece : pieces_of(other)) plan_.records.push_back(std::move(piece.record));
    }
  }

  void add_questions(std::size_t i, const ShardQuestion& q) {
    const std::vector<Piece> pieces = pieces_of(q);
    for (std::size_t p = 0; p < pieces.size(); ++p) {
      ShardQuestion part{&plan_, q.config, q.sources,
                         plan_.find(q.record->rank, pieces[p].record.dest),
                         rows_of(q.actual, pieces[p])};
      if (part.record == nullptr) continue;
      if (equals_plan(part)) {
        right_.insert(i);
        continue;
      }
      Asked& asked = wrong_[{p, pieces[p].name}];
      asked.questions.push_back(part);
      asked.of.push_back(i);
    }
  }

  // Parts with the same code and words share them; further codes come along. Nothing where neither
  // a part is right nor one has a name: that is a matter of the whole.
  std::optional<Hypothesis> together(std::size_t i) const {
    const std::vector<Named>& parts = names_[i];
    const bool any = right_.contains(i) || std::any_of(parts.begin(), parts.end(),
                                                       [](const Named& n) { return n.known; });
    if (parts.empty() || !any) return std::nullopt;
    std::vector<Hypothesis> out;
    for (std::size_t p = 0; p < parts.size();) {
      std::string names = parts[p].part;
      Hypothesis name = parts[p].name;
      while (++p < parts.size() && parts[p].name.code == name.code &&
             parts[p].name.words == name.words) {
        names += ", " + parts[p].part;
      }
      name.words = names + " part: " + name.words;
      const auto same = std::find_if(out.begin(), out.end(), [&](const Hypothesis& h) {
        return h.code == name.code && h.loss_only == name.loss_only;
      });
      if (same == out.end()) {
        out.push_back(std::move(name));
      } else {
        same->words += "; " + name.words;
      }
    }
    Hypothesis first = std::move(out[0]);
    first.also.assign(std::make_move_iterator(out.begin() + 1), std::make_move_iterator(out.end()));
    return first;
  }

  Plan plan_;
  std::set<std::string> planned_;
  std::map<std::pair<std::size_t, std::string>, Asked> wrong_;  // by part, in its order
  std::set<std::size_t> right_;  // questions of which a part is right
  std::vector<std::vector<Named>> names_;
};

}  // namespace

std::vector<Hypothesis> name_shards(const std::vector<ShardQuestion>& questions,
                                    const std::set<std::int64_t>& moved) {
  const Names whole = name_whole(questions, moved);
  const Names parts = Parts(questions, whole).names(moved);
  std::vector<Hypothesis> out;
  for (std::size_t i = 0; i < questions.size(); ++i) {
    const std::optional<Hypothesis>& name = whole[i] ? whole[i] : parts[i];
    out.push_back(name ? *name : unexplained(questions[i]));
  }
  return out;
}

}  // namespace ps
