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
  if (!is_fused(*q.record) || q.plan->share.tp == 1) return std::nullopt;
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

Answer permuted(const ShardQuestion& q) {
  if (!is_fused(*q.record)) return std::nullopt;
  const std::vector<ShardPart>& parts = q.record->parts;
  if (parts.size() == 1) {  // unfused: another tensor of the same shape stands in its place
    for (const auto& [a, b] : {std::pair{"k_proj", "v_proj"}, std::pair{"gate_proj", "up_proj"},
                               std::pair{"q_proj", "k_proj"}, std::pair{"q_proj", "v_proj"}}) {
      ShardPart other = parts[0];
      other.source = exchanged(other.source, a, b);
      if (other.source == parts[0].source || !same_elements(q, {other})) continue;
      return Hypothesis{"TP005", false, "holds " + short_source(other) + "'s slice"};
    }
    return std::nullopt;
  }
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

Answer wrong_kv_head(const ShardQuestion& q) {
  const RankShare& s = q.plan->share;
  const bool prefix = q.record->kind == ShardKind::kKvHeads;
  if ((!prefix && q.record->kind != ShardKind::kQkv) || s.kv_heads != 1) return std::nullopt;
  const std::int64_t right = s.first_kv_head(q.record->rank);
  for (const std::int64_t head : {q.record->rank % q.config->kv_heads, std::int64_t{0}}) {
    if (head == right) continue;
    std::vector<ShardPart> parts = q.record->parts;
    for (ShardPart& part : parts) {
      if (prefix || is_kv(part)) part.start = head * part.length;
    }
    if (!prefix && q.plan->options.layout != CheckpointLayout::kSeparate) {
      parts = with_kv_head(q, head);
    }
    if (parts.empty() || !same_elements(q, parts)) continue;
    const bool modulo = head == q.record->rank % q.config->kv_heads;
    return Hypothesis{"TP006", false,
                      "holds key/value head " + std::to_string(head) + " instead of " +
                          std::to_string(right) +
                          (modulo ? " (rank % heads instead of rank / copies)" : "")};
  }
  return std::nullopt;
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
    other_rank, all_zeros,   wrong_dim,        contiguous,   permuted,         wrong_kv_head,
    multiple,   other_layer, transposed_first, wrongly_tied, padding_not_zero, rounded};

std::int64_t fill_pattern_count(const TensorView& view) {
  constexpr std::uint32_t kFill = 0x7FC0DEAD;  // tensor-parallel.md 2.3
  if (view.dtype != DType::kF32) return 0;
  const auto words = view.as<std::uint32_t>();
  return std::count(words.begin(), words.end(), kFill);
}

// Nothing fits: what the numbers look like.
Hypothesis unexplained(const ShardQuestion& q) {
  double sum = 0, largest = 0;
  std::int64_t finite = 0;
  for (std::int64_t i = 0; i < q.actual.count(); ++i) {
    const double x = value_at(q.actual, i);
    if (!std::isfinite(x)) continue;
    sum += x;
    largest = std::max(largest, std::fabs(x));
    ++finite;
  }
  const auto count = static_cast<double>(std::max<std::int64_t>(finite, 1));
  char text[200];
  const std::int64_t fan_in = q.actual.shape.size() == 2 ? q.actual.shape[1] : 0;
  const double kaiming = fan_in > 0 ? 1.0 / std::sqrt(static_cast<double>(fan_in)) : 0;
  const std::int64_t filled = fill_pattern_count(q.actual);
  if (filled > 0) {
    std::snprintf(
        text, sizeof text,
        "was never loaded: %lld of its %lld elements still hold 7fc0dead, the pattern that "
        "loaders fill memory with",
        static_cast<long long>(filled), static_cast<long long>(q.actual.count()));
  } else if (finite < q.actual.count()) {
    std::snprintf(text, sizeof text,
                  "matches nothing in the checkpoint: %lld of its elements are "
                  "not finite (memory that was never written?)",
                  static_cast<long long>(q.actual.count() - finite));
  } else if (kaiming > 0 && largest <= kaiming && largest > 0.95 * kaiming &&
             std::fabs(sum / count) < 0.1 * kaiming) {
    std::snprintf(text, sizeof text,
                  "was never loaded: uniform within 1/sqrt(%lld) = %.3g, as "
                  "torch initialises a Linear (largest %.3g, mean %.2g)",
                  static_cast<long long>(fan_in), kaiming, largest, sum / count);
  } else {
    std::snprintf(text, sizeof text, "matches nothing in the checkpoint (largest %.3g, mean %.2g)",
                  largest, sum / count);
  }
  return {"TP007", false, text};
}

}  // namespace

std::size_t hypothesis_count() { return std::size(kHypotheses); }

std::optional<Hypothesis> try_hypothesis(std::size_t which, const ShardQuestion& question) {
  return kHypotheses[which](question);
}

std::vector<Hypothesis> name_shards(const std::vector<ShardQuestion>& questions) {
  std::vector<std::optional<Hypothesis>> first(questions.size());
  for (std::size_t h = 0; h < hypothesis_count(); ++h) {
    std::vector<Hypothesis> found;
    for (std::size_t i = 0; i < questions.size(); ++i) {
      const auto answer = try_hypothesis(h, questions[i]);
      if (!answer) continue;
      found.push_back(*answer);
      if (!first[i]) first[i] = answer;
    }
    if (found.size() == questions.size()) return found;
  }
  std::vector<Hypothesis> out;
  for (std::size_t i = 0; i < questions.size(); ++i) {
    out.push_back(first[i] ? *first[i] : unexplained(questions[i]));
  }
  return out;
}

}  // namespace ps
