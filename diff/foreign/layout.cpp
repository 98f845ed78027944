// The letters in which a layout is written down; axes.cpp moves the values.
#include <algorithm>
#include <numeric>
#include <set>

#include "core/text.h"
#include "diff/foreign/axes.h"
#include "diff/shard/geometry.h"

namespace ps {

namespace {

const std::set<std::string, std::less<>>& letters() {
  static const std::set<std::string, std::less<>> kLetters = {
      "B", "S", "H", "K", "D", "J", "h", "I", "V", "C", "P", "R", "t", "n", "c", "page", "slot"};
  return kLetters;
}

}  // namespace

bool is_number(std::string_view s) {
  return !s.empty() && s.size() < 10 &&
         std::all_of(s.begin(), s.end(), [](char c) { return c >= '0' && c <= '9'; });
}

std::int64_t BatchMap::tokens() const {
  return std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0});
}

std::size_t Layout::split_axis() const {
  const auto found =
      std::find_if(axes.begin(), axes.end(), [](const auto& parts) { return parts.size() > 1; });
  return static_cast<std::size_t>(found - axes.begin());
}

std::size_t Layout::parts() const {
  const std::size_t at = split_axis();
  return at == axes.size() ? 1 : axes[at].size();
}

std::vector<Axis> Layout::part(std::size_t i) const {
  std::vector<Axis> out;
  for (const std::vector<Axis>& parts : axes) out.push_back(parts.size() > 1 ? parts[i] : parts[0]);
  return out;
}

Result<Layout> parse_layout(std::string_view text, const std::string& where) {
  Layout out;
  std::size_t cut = 0;
  for (const std::string& axis : split_at(text, ',')) {
    std::vector<Axis> parts;
    for (const std::string& part : split_at(axis, '|')) {
      Axis factors = split_at(part, '*');
      for (const std::string& letter : factors) {
        if (is_number(letter) || letters().contains(letter)) continue;
        return bad_input(where, "names an axis that is not known",
                         "B S H K D J h I V C t n c page slot or a number", letter);
      }
      parts.push_back(std::move(factors));
    }
    cut += parts.size() > 1 ? 1 : 0;
    out.axes.push_back(std::move(parts));
  }
  if (cut > 1) return bad_input(where, "cuts more than one axis", "one", std::string(text));
  return out;
}

Sizes sizes_of(const ModelConfig* config, std::int64_t tp) {
  Sizes out;
  if (config == nullptr) return out;
  out = {{"H", config->heads},        {"K", config->kv_heads},    {"D", config->head_dim},
         {"J", config->head_dim / 2}, {"h", config->hidden_size}, {"I", config->intermediate_size}};
  if (tp > 1 && rejections(head_sizes(*config), tp).empty()) {
    const RankShare share = rank_share(*config, tp);
    out["H"] = share.heads;
    out["K"] = share.kv_heads;
    out["I"] = share.intermediate;
  }
  return out;
}

}  // namespace ps
