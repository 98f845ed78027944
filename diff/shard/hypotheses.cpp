#include "diff/shard/hypotheses.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "core/float_bits.h"
#include "diff/shard/part_groups.h"
#include "diff/shard/same_bits.h"

namespace ps {

namespace {

using Answer = std::optional<Hypothesis>;

Answer other_rank(const ShardQuestion& q) {
  for (std::int64_t r = 0; r < q.plan->share.tp; ++r) {
    const PlanRecord* other = q.plan->find(r, q.record->dest);
    if (r == q.record->rank || other == nullptr || same_parts(other->parts, q.record->parts)) {
      continue;
    }
    if (same_elements(q, other->parts)) {
      return Hypothesis{"TP003", false,
                        "rank " + std::to_string(q.record->rank) + " holds rank " +
                            std::to_string(r) + "'s slice"};
    }
  }
  return std::nullopt;
}

Answer all_zeros(const ShardQuestion& q) {
  for (std::int64_t i = 0; i < q.actual.count(); ++i) {
    if (value_at(q.actual, i) != 0) return std::nullopt;
  }
  if (q.record->kind == ShardKind::kRowBias)
    return Hypothesis{"TP009", false, "is lost: all zeros"};
  if (q.record->dest.ends_with(".bias")) return Hypothesis{"TP008", false, "is missing: all zeros"};
  return Hypothesis{"TP007", false, "was never loaded: all zeros"};
}

// Each source of the record, cut for this rank on the other axis.
std::vector<ShardPart> cut_on_other_axis(const ShardQuestion& q) {
  std::vector<ShardPart> out;
  for (const ShardPart& part : q.record->parts) {
    const TensorView* source = (*q.sources)(part.source);
    if (!part.dim || source == nullptr || source->shape.size() != 2) return {};
    const std::int64_t other = 1 - *part.dim;
    const std::int64_t size = shape_for(part, *source)[static_cast<std::size_t>(other)];
    if (size % q.plan->share.tp != 0) return {};
    const std::int64_t length = size / q.plan->share.tp;
    if (!out.empty() && out.back().source == part.source) continue;
    out.push_back({part.source, other, q.record->rank * length, length, 0, part.transposed});
    if (q.record->kind == ShardKind::kVocab) {
      out.back().pad = q.plan->share.padded_vocab - q.config->vocab_size;
    }
  }
  return out;
}

Answer wrong_dim(const ShardQuestion& q) {
  const std::vector<ShardPart> parts = cut_on_other_axis(q);
  if (parts.empty() || same_parts(parts, q.record->parts)) return std::nullopt;
  const std::int64_t right = *q.record->parts[0].dim;
  const std::string cut =
      "was cut on dim " + std::to_string(1 - right) + " instead of dim " + std::to_string(right);
  if (same_elements(q, parts)) {
    const bool viewed = q.actual.shape == q.record->shape;
    return Hypothesis{"TP002", false, cut + (viewed ? ", and viewed in the right shape" : "")};
  }
  if (same_transposed(q, parts)) return Hypothesis{"TP002", false, cut + ", and transposed"};
  return std::nullopt;
}

// All of the record's sources behind each other on dim 0, from row `start`.
std::vector<ShardPart> rows_of_concatenation(const ShardQuestion& q, std::int64_t start,
                                             std::int64_t length) {
  std::vector<ShardPart> out;
  std::int64_t at = 0;
  for (const ShardPart& part : q.record->parts) {
    const TensorView* source = (*q.sources)(part.source);
    if (source == nullptr || source->shape.empty()) return {};
    const std::int64_t size = source->shape[0];
    const std::int64_t from = std::max(start, at), to = std::min(start + length, at + size);
    if (from < to) out.push_back({part.source, 0, from - at, to - from, 0});
    at += size;
  }
  return start + length <= at ? out : std::vector<ShardPart>{};
}

bool is_fused(const PlanRecord& record) {
  return record.kind == ShardKind::kQkv || record.kind == ShardKind::kMergedCol;
}

Answer contiguous(const ShardQuestion& q) {
  const bool cut = q.plan->share.tp > 1 && q.plan->options.fused;
  if (!cut || !is_fused(*q.record)) return std::nullopt;
  const std::int64_t rows = q.record->shape[0];
  if (q.plan->options.layout != CheckpointLayout::kSeparate) {
    ShardPart chunk = q.record->parts[0];
    chunk.start = q.record->rank * rows;
    chunk.length = rows;
    if (!same_elements(q, {chunk})) return std::nullopt;
  } else {
    if (q.record->parts.size() < 2) return std::nullopt;
    const auto parts = rows_of_concatenation(q, q.record->rank * rows, rows);
    if (parts.empty() || !same_elements(q, parts)) return std::nullopt;
  }
  return Hypothesis{
      "TP004", false,
      "is one contiguous piece of the fused tensor, not a piece of each of its parts"};
}

std::string exchanged(std::string text, std::string_view a, std::string_view b) {
  const std::size_t at = text.find(a), other = text.find(b);
  if (at != std::string::npos) return text.replace(at, a.size(), b);
  if (other != std::string::npos) return text.replace(other, b.size(), a);
  return text;
}

// What stands apart: another tensor of the same shape in its place.
Answer exchanged_for(const ShardQuestion& q) {
  for (const auto& [a, b] : {std::pair{"k_proj", "v_proj"}, std::pair{"gate_proj", "up_proj"},
                             std::pair{"q_proj", "k_proj"}, std::pair{"q_proj", "v_proj"},
                             std::pair{"prefix_k", "prefix_v"}}) {
    const std::string dest = exchanged(q.record->dest, a, b);
    const PlanRecord* other = q.plan->find(q.record->rank, dest);
    if (other == nullptr || other == q.record || !same_elements(q, other->parts)) continue;
    return Hypothesis{"TP005", false, "holds " + short_name(dest) + "'s slice"};
  }
  return std::nullopt;
}

Answer permuted(const ShardQuestion& q) {
  const bool apart = q.record->parts.size() == 1 || !q.plan->options.fused;
  if (apart || q.record->kind == ShardKind::kKvHeads) return exchanged_for(q);
  if (!is_fused(*q.record)) return std::nullopt;
  const std::vector<PartGroup> groups = groups_of(q);
  std::vector<std::size_t> order(groups.size());
  std::iota(order.begin(), order.end(), 0);
  while (std::next_permutation(order.begin(), order.end())) {
    std::vector<ShardPart> tried;
    std::string names;
    for (const std::size_t i : order) {
      tried.insert(tried.end(), groups[i].parts.begin(), groups[i].parts.end());
      names += (names.empty() ? "" : ", ") + groups[i].name;
    }
    if (same_elements(q, tried)) {
      return Hypothesis{"TP005", false, "has its parts in the order " + names};
    }
  }
  return std::nullopt;
}

bool is_kv(const ShardPart& part) {
  return part.source.find("k_proj") != std::string::npos ||
         part.source.find("v_proj") != std::string::npos;
}

// The record with another key/value head, one head a rank; nothing where it holds none.
std::vector<ShardPart> parts_with_head(const ShardQuestion& q, std::int64_t head) {
  const RankShare& s = q.plan->share;
  const bool prefix = q.record->kind == ShardKind::kKvHeads;
  if ((!prefix && q.record->kind != ShardKind::kQkv) || s.kv_heads != 1) return {};
  if (prefix || !q.plan->options.fused) {
    const std::string name = short_name(q.record->dest);
    if (name == "q_proj") return {};
    const PlanRecord* holder = q.plan->find(head * s.kv_replicas, q.record->dest);
    return holder != nullptr ? holder->parts : std::vector<ShardPart>{};
  }
  if (q.plan->options.layout != CheckpointLayout::kSeparate) return with_kv_head(q, head);
  std::vector<ShardPart> parts = q.record->parts;
  for (ShardPart& part : parts) {
    if (is_kv(part)) part.start = head * part.length;
  }
  return parts;
}

Answer with_head(const ShardQuestion& q, std::int64_t head, const char* why) {
  const std::int64_t right = q.plan->share.first_kv_head(q.record->rank);
  if (head == right) return std::nullopt;
  const std::vector<ShardPart> parts = parts_with_head(q, head);
  if (parts.empty() || !same_elements(q, parts)) return std::nullopt;
  return Hypothesis{"TP006", false,
                    "holds key/value head " + std::to_string(head) + " instead of " +
                        std::to_string(right) + why};
}

Answer wrong_kv_head(const ShardQuestion& q) {
  const Answer modulo = kv_head_by_modulo(q);
  return modulo ? modulo : with_head(q, 0, "");
}

Answer multiple(const ShardQuestion& q) {
  const Result<Tensor> right = build_shard(*q.record, *q.sources);
  if (!right.ok() || right->view().count() != q.actual.count()) return std::nullopt;
  double factor = 0;
  for (std::int64_t i = 0; i < q.actual.count() && factor == 0; ++i) {
    const double x = value_at(right->view(), i);
    if (x != 0) factor = std::round(value_at(q.actual, i) / x);
  }
  if (!(factor >= 2 && factor <= 65536)) return std::nullopt;
  if (!same_elements(q, q.record->parts, [&](double x) { return x * factor; })) {
    return std::nullopt;
  }
  const std::string times = std::to_string(static_cast<std::int64_t>(factor));
  const bool by_tp = factor == static_cast<double>(q.plan->share.tp);
  return Hypothesis{
      "TP009", false,
      "is " + times + " times what it should be" + (by_tp ? ": added once on every rank" : "")};
}

Answer other_layer(const ShardQuestion& q) {
  for (std::int64_t layer = 0; layer < q.config->layers; ++layer) {
    std::vector<ShardPart> parts = q.record->parts;
    bool moved = false;
    for (ShardPart& part : parts) {
      const auto [at, length] = layer_in_name(part.source);
      if (at == std::string::npos) return std::nullopt;
      const std::string number = std::to_string(layer);
      moved = moved || part.source.substr(at, length) != number;
      part.source.replace(at, length, number);
    }
    if (moved && same_elements(q, parts)) {
      return Hypothesis{"TP007", false,
                        "was never loaded: holds layer " + std::to_string(layer) + "'s"};
    }
  }
  return std::nullopt;
}

// A Conv1D weight used as if it were a Linear's.
Answer never_transposed(const ShardQuestion& q) {
  std::vector<ShardPart> parts = q.record->parts;
  for (ShardPart& part : parts) part.transposed = false;
  bool found = same_elements(q, parts);
  // Cut on the right features, and left lying: the other axis of the file's tensor.
  for (ShardPart& part : parts) part.dim = 1 - part.dim.value_or(0);
  found = found || (parts.size() == 1 && same_elements(q, parts));
  if (!found) return std::nullopt;
  return Hypothesis{"TP002", false,
                    "was not transposed: Conv1D stores [in, out], a Linear is [out, in]"};
}

// The whole tensor transposed, then cut as planned (a Conv1D weight, or a square one).
Answer transposed_first(const ShardQuestion& q) {
  if (q.record->parts[0].transposed) return never_transposed(q);
  if (q.record->parts.size() != 1 || !q.record->parts[0].dim) return std::nullopt;
  ShardPart part = q.record->parts[0];
  const TensorView* source = (*q.sources)(part.source);
  if (source == nullptr || source->shape.size() != 2) return std::nullopt;
  part.dim = 1 - *part.dim;
  if (part.start + part.length > source->shape[static_cast<std::size_t>(*part.dim)]) {
    return std::nullopt;
  }
  if (!same_transposed(q, {part})) return std::nullopt;
  return Hypothesis{"TP002", false, "is a slice of the transposed tensor ([in,out] for [out,in])"};
}

// Embedding and head in each other's place.
Answer wrongly_tied(const ShardQuestion& q) {
  if (q.record->kind != ShardKind::kVocab && q.record->kind != ShardKind::kReplicated) {
    return std::nullopt;
  }
  std::vector<ShardPart> parts = q.record->parts;
  for (ShardPart& part : parts) {
    if (part.source == q.plan->head) {
      part.source = q.plan->embedding;
    } else if (part.source == q.plan->embedding) {
      part.source = q.plan->head;
    } else {
      return std::nullopt;
    }
  }
  if (!same_elements(q, parts)) return std::nullopt;
  return Hypothesis{"TP010", false, "holds the rows of " + parts[0].source};
}

// The right dim and length, from where no rank begins.
Answer other_start(const ShardQuestion& q) {
  if (q.record->parts.size() != 1) return std::nullopt;
  const ShardPart& part = q.record->parts[0];
  const auto start = start_in_source(q, part);
  if (!start) return std::nullopt;
  return Hypothesis{"TP003", false,
                    "rank " + std::to_string(q.record->rank) + " starts at " +
                        std::to_string(*start) + " instead of " + std::to_string(part.start) +
                        " on dim " + std::to_string(*part.dim)};
}

// Right where the vocabulary is; its padding is not zero.
Answer padding_not_zero(const ShardQuestion& q) {
  if (q.record->kind != ShardKind::kVocab || q.record->parts[0].pad == 0) return std::nullopt;
  ShardQuestion real = q;
  const std::int64_t rows = q.record->parts[0].length;
  if (q.actual.shape != q.record->shape || rows == 0) return std::nullopt;
  std::vector<ShardPart> parts = q.record->parts;
  parts[0].pad = 0;
  const std::int64_t width = q.actual.shape[1];
  real.actual.shape = {rows, width};
  real.actual.bytes =
      q.actual.bytes.first(static_cast<std::size_t>(rows * width * size_of(q.actual.dtype)));
  if (!same_elements(real, parts)) return std::nullopt;
  return Hypothesis{"TP011", false,
                    "has vocabulary padding that is not zero: it can win the argmax"};
}

Answer rounded(const ShardQuestion& q) {
  for (const DType type : {DType::kBF16, DType::kF16, DType::kF32}) {
    if (unit_roundoff(type) <= unit_roundoff(q.actual.dtype)) continue;
    const auto through = [type](double x) {
      const auto f = static_cast<float>(x);
      if (type == DType::kBF16) return static_cast<double>(bf16_to_float(float_to_bf16(f)));
      if (type == DType::kF16) return static_cast<double>(f16_to_float(float_to_f16(f)));
      return static_cast<double>(f);
    };
    if (!same_elements(q, q.record->parts, through)) continue;
    return Hypothesis{
        "TP007", true,
        "went through " + std::string(torch_name(type)) + " and lost precision; else it is right"};
  }
  return std::nullopt;
}

constexpr Answer (*kHypotheses[])(const ShardQuestion&) = {
    other_rank,    all_zeros,        wrong_dim,   contiguous,       permuted,
    wrong_kv_head, multiple,         other_layer, transposed_first, wrongly_tied,
    other_start,   padding_not_zero, rounded};

}  // namespace

std::size_t hypothesis_count() { return std::size(kHypotheses); }

std::optional<Hypothesis> try_hypothesis(std::size_t which, const ShardQuestion& question) {
  return kHypotheses[which](question);
}

std::optional<Hypothesis> kv_head_by_modulo(const ShardQuestion& q) {
  return with_head(q, q.record->rank % q.config->kv_heads,
                   " (rank % heads instead of rank / copies)");
}

std::optional<Hypothesis> slice_of_other_rank(const ShardQuestion& q) { return other_rank(q); }

}  // namespace ps
