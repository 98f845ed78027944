// Of what the ranks say, who disagrees: nobody can tell which side is right, so most are believed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

namespace ps {

struct OddOne {
  std::int64_t rank = 0, other = 0;  // and one of those that agree; indices of what was said
};

// The first that says something else than most; of a tie, than the first. Nothing where all agree.
template <class T>
std::optional<OddOne> odd_one(const std::vector<T>& said) {
  std::int64_t best = 0;
  const T* most = nullptr;
  for (const T& one : said) {
    const std::int64_t votes = std::count(said.begin(), said.end(), one);
    if (votes <= best) continue;
    best = votes;
    most = &one;
  }
  const auto odd =
      std::find_if(said.begin(), said.end(), [&](const T& one) { return !(one == *most); });
  if (odd == said.end()) return std::nullopt;
  return OddOne{odd - said.begin(), most - said.data()};
}

}  // namespace ps
