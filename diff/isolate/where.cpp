#include "diff/isolate/where.h"

#include <map>
#include <vector>

#include "core/points.h"

namespace ps {

namespace {

std::string_view axis_word(std::string_view symbol, std::string_view op) {
  if (symbol == "B") return "batch";
  if (symbol == "S") return op == "embed" || op == "linear" ? "token" : "query";
  if (symbol == "P") return "replica";
  if (symbol == "H" || symbol == "1|H") return "head";
  if (symbol == "K") return "kv_head";
  if (symbol == "C") return op == "cache_append" ? "slot" : "key";
  if (symbol == "V") return "vocab";
  return "channel";
}

}  // namespace

std::string where_text(std::string_view point, const Shape& shape, std::int64_t flat_index,
                       std::int64_t batch) {
  Shape at(shape.size());
  for (std::size_t axis = shape.size(); axis-- > 0;) {
    at[axis] = shape[axis] == 0 ? 0 : flat_index % shape[axis];
    flat_index = shape[axis] == 0 ? 0 : flat_index / shape[axis];
  }
  std::string out;
  const auto say = [&](std::string_view word, std::int64_t value) {
    if (!out.empty()) out += ' ';
    out += std::string(word) + "=" + std::to_string(value);
  };
  const std::optional<PointRef> ref = find_point(canonical_point(point));
  std::vector<std::string_view> axes;
  if (ref) {
    std::string_view rest = ref->spec->axes;
    while (!rest.empty()) {
      const std::size_t comma = rest.find(',');
      axes.push_back(rest.substr(0, comma));
      rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
    }
  }
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    if (axes.size() != shape.size()) {
      say("axis" + std::to_string(axis), at[axis]);
    } else if (axes[axis].ends_with("R")) {
      const bool splits = batch > 0 && shape[axis] % batch == 0;
      if (splits && shape[axis] > batch) say("replica", at[axis] / batch);
      say("batch", splits ? at[axis] % batch : at[axis]);
    } else {
      say(axis_word(axes[axis], ref->spec->op), at[axis]);
    }
  }
  return out;
}

}  // namespace ps
