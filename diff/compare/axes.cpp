#include "diff/compare/axes.h"

#include "core/points.h"

namespace ps {

namespace {

std::string axis_name(std::string_view symbol, std::string_view op) {
  if (symbol == "B" || symbol.ends_with("|B")) return "batch";
  if (symbol == "S" || symbol == "1|S") {
    const bool attends = op == "mask" || op == "scores" || op == "probs" || op == "context" ||
                         op == "rope" || op == "cross_probs" || op == "cross_context";
    return attends ? "query" : "token";
  }
  if (symbol == "P") return "replica";
  if (symbol == "H" || symbol == "1|H") return "head";
  if (symbol == "K") return "kv_head";
  if (symbol == "C") return op == "cache_append" ? "slot" : "key";
  if (symbol == "V") return "vocab";
  if (symbol == "L") return "token";
  if (symbol == "m") return "query_block";
  if (symbol == "n") return "block";
  if (symbol == "P*S") return "query";
  if (symbol == "P*L") return "key";
  return "channel";
}

}  // namespace

std::vector<std::string_view> axis_symbols(std::string_view point, const Shape& shape) {
  const std::optional<PointRef> ref = find_point(point);
  std::vector<std::string_view> symbols;
  if (!ref) return symbols;
  std::string_view rest = ref->spec->axes;
  while (true) {
    const std::size_t comma = rest.find(',');
    symbols.push_back(rest.substr(0, comma));
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
  }
  if (symbols.size() != shape.size()) symbols.clear();
  return symbols;
}

std::vector<NamedAxis> named_axes(std::string_view point, const Shape& shape, std::int64_t batch) {
  const std::vector<std::string_view> symbols = axis_symbols(point, shape);
  std::vector<NamedAxis> axes;
  int replicas_seen = 0;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (symbols.empty()) {
      axes.push_back({"axis" + std::to_string(i), shape[i]});
    } else if (symbols[i].ends_with("R")) {
      const bool splits = batch > 0 && shape[i] % batch == 0 && shape[i] > batch;
      if (splits) axes.push_back({"replica", shape[i] / batch});
      axes.push_back({"batch", splits ? batch : shape[i]});
    } else {
      std::string name = axis_name(symbols[i], find_point(point)->spec->op);
      // [.., n, n]: blocks of queries by blocks of keys.
      if (name == "block" && i + 1 < shape.size() && symbols[i + 1] == "n") name = "query_block";
      // [.., P, P]: the second says which replica is looked at.
      if (name == "replica" && ++replicas_seen == 2) name = "key_replica";
      axes.push_back({std::move(name), shape[i]});
    }
  }
  return axes;
}

std::vector<std::int64_t> index_of(const std::vector<NamedAxis>& axes, std::int64_t flat) {
  std::vector<std::int64_t> at(axes.size());
  for (std::size_t i = axes.size(); i-- > 0;) {
    at[i] = axes[i].size == 0 ? 0 : flat % axes[i].size;
    flat = axes[i].size == 0 ? 0 : flat / axes[i].size;
  }
  return at;
}

std::string place_of(const std::vector<NamedAxis>& axes, std::int64_t flat) {
  const std::vector<std::int64_t> at = index_of(axes, flat);
  std::string out;
  for (std::size_t i = 0; i < axes.size(); ++i) {
    if (!out.empty()) out += ' ';
    out += axes[i].name + "=" + std::to_string(at[i]);
  }
  return out;
}

}  // namespace ps
