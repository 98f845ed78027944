// Random models: a configuration of any family drawn from a seed, and a directory with random
// weights for a configuration: norms near 1, everything else small, in the config's own type.
#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <string>
#include <string_view>

#include "core/checkpoint.h"
#include "core/rng.h"

namespace ps {

// Draws one after the other from a stream.
class Draw {
 public:
  Draw(std::uint64_t seed, std::uint64_t stream) : rng_(seed, stream) {}
  std::int64_t from(std::int64_t low, std::int64_t high) {  // both included
    return low + rng_.below(next_++, high - low + 1);
  }
  bool chance(int percent) { return from(0, 99) < percent; }
  template <class T>
  T one_of(std::initializer_list<T> list) {
    return *(list.begin() + from(0, static_cast<std::int64_t>(list.size()) - 1));
  }

 private:
  Rng rng_;
  std::uint64_t next_ = 0;
};

struct ModelDraw {
  std::string family{};  // a model_type, or "parscale_cross_kv"; empty: any
  // True: sizes that faults need to be seen (two key heads, two layers, replicas, prefixes).
  bool revealing = false;
};
std::string random_config(Draw& draw, const ModelDraw& how = {});  // config.json's text

Result<Model> write_random_model(const std::filesystem::path& dir, std::string_view config_json,
                                 std::uint64_t seed);

}  // namespace ps
