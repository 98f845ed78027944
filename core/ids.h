// Ids are types: swapped arguments do not compile. A tensor's number of axes is `ndim`, so that
// Rank is always a process.
#pragma once

#include <cstdint>

namespace ps {

enum class Replica : std::int32_t {};
enum class Rank : std::int32_t {};
enum class Layer : std::int32_t {};
enum class Head : std::int32_t {};
enum class Token : std::int32_t {};
enum class Step : std::int32_t {};

template <class Id>
constexpr std::int64_t to_index(Id id) {
  return static_cast<std::int64_t>(id);
}

}  // namespace ps
