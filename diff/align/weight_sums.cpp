#include "diff/align/weight_sums.h"

#include <algorithm>
#include <array>
#include <map>
#include <span>

#include "core/crc32.h"
#include "core/float_bits.h"
#include "core/json.h"
#include "core/parallel.h"

namespace ps {

namespace {

constexpr std::size_t kMostNamed = 8;

// The CRC of a tensor's values rounded to `dtype`; nothing for types that are never converted.
std::optional<std::uint32_t> crc_as(const TensorView& tensor, DType dtype) {
  if (tensor.dtype == dtype) return crc32_of(tensor.bytes);
  const bool half = dtype == DType::kBF16 || dtype == DType::kF16;
  if (!is_floating(tensor.dtype) || (!half && dtype != DType::kF32)) return std::nullopt;
  Crc32 crc;
  std::array<float, 1024> wide{};
  std::array<std::uint16_t, 1024> narrow{};
  const std::int64_t count = tensor.count();
  for (std::int64_t begin = 0; begin < count; begin += 1024) {
    const auto n = static_cast<std::size_t>(std::min<std::int64_t>(1024, count - begin));
    for (std::size_t i = 0; i < n; ++i) {
      wide[i] = static_cast<float>(value_at(tensor, begin + static_cast<std::int64_t>(i)));
      narrow[i] = dtype == DType::kBF16 ? float_to_bf16(wide[i]) : float_to_f16(wide[i]);
    }
    crc.bytes(half ? std::as_bytes(std::span(narrow.data(), n))
                   : std::as_bytes(std::span(wide.data(), n)));
  }
  return crc.value();
}

// A tied head stands in some programs' list of weights and in no checkpoint.
const TensorView* stored(const Model& model, const std::string& name) {
  const TensorView* tensor = model.checkpoint->peek(name);
  if (tensor == nullptr && name == "lm_head.weight" && model.config.tie_word_embeddings) {
    tensor = model.checkpoint->peek("model.embed_tokens.weight");
  }
  return tensor;
}

Finding weights_finding(const std::vector<std::string>& names, std::size_t compared) {
  Finding f;
  f.id = "capture-weights";
  f.fault_class = "capture";
  f.point = names.front();
  std::string list;
  for (std::size_t i = 0; i < names.size() && i < kMostNamed; ++i) {
    list += (i == 0 ? "" : ",") + json_quoted(names[i]);
  }
  f.evidence = {{"weights", "[" + list + "]"},
                {"differing", std::to_string(names.size())},
                {"compared", std::to_string(compared)}};
  return f;
}

std::string count_of_them(std::size_t some, std::size_t all) {
  return std::to_string(some) + " of " + std::to_string(all) + (all == 1 ? " weight" : " weights") +
         (some == 1 ? " has" : " have") + " another checksum";
}

}  // namespace

std::vector<WeightSum> weight_sums(const Checkpoint& checkpoint, const ModelConfig& config,
                                   int threads) {
  std::vector<WeightSum> out;
  std::vector<const TensorView*> tensors;
  for (const WeightSpec& spec : expected_weights(config)) {
    const TensorView* tensor = checkpoint.peek(spec.name);
    if (tensor == nullptr) continue;
    out.push_back({spec.name, tensor->dtype, tensor->shape, 0});
    tensors.push_back(tensor);
  }
  parallel_for(static_cast<std::int64_t>(out.size()), threads, [&](std::int64_t i) {
    const auto k = static_cast<std::size_t>(i);
    out[k].crc32 = crc32_of(tensors[k]->bytes);
  });
  std::sort(out.begin(), out.end(),
            [](const WeightSum& a, const WeightSum& b) { return a.name < b.name; });
  return out;
}

std::optional<Finding> other_weights(const std::vector<WeightSum>& candidate,
                                     const std::vector<WeightSum>& expected) {
  std::map<std::string_view, const WeightSum*> theirs;
  for (const WeightSum& sum : expected) theirs[sum.name] = &sum;
  std::vector<std::string> differing;
  std::size_t compared = 0;
  for (const WeightSum& mine : candidate) {
    const auto it = theirs.find(mine.name);
    if (it == theirs.end() || it->second->dtype != mine.dtype) continue;
    ++compared;
    const bool same = it->second->crc32 == mine.crc32 && it->second->shape == mine.shape;
    if (!same) differing.push_back(mine.name);
  }
  if (differing.empty()) return std::nullopt;
  Finding f = weights_finding(differing, compared);
  f.message = "the runs have different weights: " + count_of_them(differing.size(), compared) +
              ", first " + differing.front();
  f.fix =
      "run both sides on one checkpoint; diagnose CANDIDATE --model DIR judges a trace against "
      "a checkpoint";
  return f;
}

std::optional<Finding> weights_unlike(const std::vector<WeightSum>& held, const Model& model,
                                      int threads) {
  std::vector<std::optional<std::uint32_t>> right(held.size());
  parallel_for(static_cast<std::int64_t>(held.size()), threads, [&](std::int64_t i) {
    const auto k = static_cast<std::size_t>(i);
    const TensorView* tensor = stored(model, held[k].name);
    if (tensor != nullptr) right[k] = crc_as(*tensor, held[k].dtype);
  });
  std::map<std::pair<DType, std::uint32_t>, std::string> owner;  // of what bytes
  std::vector<std::string> differing;
  std::size_t compared = 0, first = 0;
  for (std::size_t i = 0; i < held.size(); ++i) {
    if (!right[i]) continue;
    ++compared;
    owner.try_emplace({held[i].dtype, *right[i]}, held[i].name);
    const TensorView* tensor = stored(model, held[i].name);
    if (*right[i] == held[i].crc32 && tensor->shape == held[i].shape) continue;
    if (differing.empty()) first = i;
    differing.push_back(held[i].name);
  }
  if (differing.empty()) return std::nullopt;
  Finding f = weights_finding(differing, compared);
  f.severity = Severity::kWarning;
  f.confidence = Confidence::kConsistent;
  f.message = "the run did not hold this checkpoint's weights: " +
              count_of_them(differing.size(), compared) + ", first " + differing.front();
  const auto whose = owner.find({held[first].dtype, held[first].crc32});
  if (whose != owner.end() && whose->second != held[first].name) {
    f.message += ", which holds the bytes of " + whose->second;
    f.evidence.emplace_back("holds", json_quoted(whose->second));
  } else if (*right[first] == held[first].crc32) {
    f.message += ", the same bytes in another shape, " + to_string(held[first].shape);
  }
  f.fix = "look at how they were loaded, or name the checkpoint that the run really had";
  return f;
}

}  // namespace ps
