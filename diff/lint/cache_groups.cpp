// What is wrong with the cache of one layer is mostly wrong with all: it is said once.
#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "diff/lint/cache.h"

namespace ps {

namespace {

// "0 to 5, 7"
std::string numbers_text(const std::set<std::int64_t>& numbers) {
  std::string out;
  for (auto it = numbers.begin(); it != numbers.end();) {
    auto last = it;
    while (std::next(last) != numbers.end() && *std::next(last) == *last + 1) ++last;
    out += (out.empty() ? "" : ", ") + std::to_string(*it);
    if (last != it) out += (*last == *it + 1 ? ", " : " to ") + std::to_string(*last);
    it = std::next(last);
  }
  return out;
}

}  // namespace

std::vector<Finding> one_for_all_layers(std::vector<Finding> findings) {
  using Said =
      std::tuple<std::string, Severity, std::int64_t, std::int64_t, std::string, std::string, bool>;
  std::map<Said, std::pair<std::size_t, std::set<std::int64_t>>> groups;  // where the first stands
  std::vector<Finding> out;
  for (Finding& f : findings) {
    const std::optional<CacheName> cache = cache_name(f.point);
    if (!cache) {
      out.push_back(std::move(f));
      continue;
    }
    const Said said{f.id, f.severity, f.step, f.rank, f.where, f.message, cache->keys};
    const auto [group, is_new] =
        groups.emplace(said, std::pair(out.size(), std::set<std::int64_t>()));
    group->second.second.insert(cache->layer);
    if (is_new) out.push_back(std::move(f));
  }
  for (const auto& [said, group] : groups) {
    const auto& [at, layers] = group;
    if (layers.size() < 2) continue;
    std::string list;
    for (const std::int64_t layer : layers) {
      list += (list.empty() ? "" : ", ") + std::to_string(layer);
    }
    out[at].message += "; so in layers " + numbers_text(layers);
    out[at].evidence.emplace_back("layers", "[" + list + "]");
  }
  return out;
}

}  // namespace ps
