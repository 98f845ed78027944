// layouts.json and fsdp.json: tables of row numbers that follow from a few sizes.
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "diff/golden/tensor_parallel_case.h"
#include "diff/golden/tp_case.h"
#include "diff/shard/fsdp.h"

namespace ps {

namespace {

using Tree = nlohmann::json;

// Text that core's parser has bounded, as a tree.
Result<Tree> read_tree(const std::filesystem::path& path, std::string_view schema) {
  PS_TRY(const Json json, read_json_file(path));
  const Json* name = json.find("schema");
  if (name == nullptr || name->text != schema) {
    return bad_input(path.string(), "has another schema", std::string(schema),
                     name == nullptr ? "none" : name->brief());
  }
  const Json* cases = json.find("cases");
  if (cases == nullptr || !cases->is(Json::Kind::kArray) || cases->items.empty()) {
    return bad_input(path.string(), "holds no cases");
  }
  return Tree::parse(json.dump(), nullptr, false);
}

std::optional<std::int64_t> size_of_field(const Tree& object, const char* name) {
  if (!object.is_object() || !object.contains(name)) return std::nullopt;
  const Tree& value = object[name];
  if (!value.is_number_integer() || value < 1 || value > 1'000'000) return std::nullopt;
  return value.get<std::int64_t>();
}

Tree indices(const std::vector<RowRange>& ranges) {
  Tree out = Tree::array();
  for (const RowRange& r : ranges) {
    for (std::int64_t i = r.start; i < r.start + r.length; ++i) out.push_back(i);
  }
  return out;
}

Result<Tree> layout_case(const Tree& given, const std::string& where) {
  ModelConfig config;
  const auto h = size_of_field(given, "H"), kv = size_of_field(given, "KV");
  const auto d = size_of_field(given, "D"), tp = size_of_field(given, "tp");
  const bool named = given.contains("layout") && given["layout"].is_string();
  const auto layout = layout_from(named ? given["layout"].get<std::string>() : std::string());
  if (!h || !kv || !d || !tp || !layout) {
    return bad_input(where, "needs H, KV, D, tp and a known layout");
  }
  config.heads = *h;
  config.kv_heads = *kv;
  config.head_dim = *d;
  config.intermediate_size = *tp;  // plays no part
  config.vocab_size = 1;
  // Odd head sizes stand in these tables: rows are dealt before anything is rotated.
  HeadSizes sizes = head_sizes(config);
  sizes.head_dim *= 2;
  const auto wrong = rejections(sizes, *tp);
  if (!wrong.empty()) return bad_input(where, wrong[0].code + ": " + wrong[0].rule);
  if (*layout == CheckpointLayout::kPerHeadInterleaved && config.group() != 1) {
    return bad_input(where, "per_head_interleaved has no grouped heads");
  }
  config.head_dim = 2 * *d;
  const RankShare share = rank_share(config, *tp);
  config.head_dim = *d;
  Tree out = {{"H", *h},
              {"KV", *kv},
              {"D", *d},
              {"tp", *tp},
              {"layout", given["layout"]},
              {"kv_local", share.kv_heads},
              {"replicas", share.kv_replicas},
              {"ranks", Tree::array()}};
  for (std::int64_t r = 0; r < *tp; ++r) {
    const FusedRows rows = fused_rows(config, share, *layout, r);
    out["ranks"].push_back(
        {{"q", indices(rows.q)}, {"k", indices(rows.k)}, {"v", indices(rows.v)}});
  }
  return out;
}

Result<Tree> fsdp_case(const Tree& given, const std::string& where) {
  const auto world = size_of_field(given, "world");
  const bool shaped = given.is_object() && given.contains("shape") && given["shape"].is_array() &&
                      !given["shape"].empty() && given.contains("local_repeat_after_shard") &&
                      given["local_repeat_after_shard"].is_array();
  Shape shape;
  std::int64_t numel = 1;
  for (const Tree& size : shaped ? given["shape"] : Tree::array()) {
    if (!size.is_number_integer() || size < 1 || size > 1'000'000) break;
    shape.push_back(size.get<std::int64_t>());
    numel *= shape.back();
    if (numel > 1'000'000'000) break;
  }
  if (!world || !shaped || shape.size() != given["shape"].size()) {
    return bad_input(where, "needs shape, world and local_repeat_after_shard");
  }
  const std::int64_t n = shape[0];
  Tree out = {{"shape", shape},
              {"world", *world},
              {"even", shards_evenly(n, *world)},
              {"dim0", Tree::array()},
              {"local_repeat_after_shard", Tree::array()}};
  for (std::int64_t r = 0; r < *world; ++r) {
    const RowsOfRank own = rows_of_rank(n, *world, r);
    Shape local = shape;
    local[0] = own.rows;
    out["dim0"].push_back(
        {{"rank", r}, {"offset", own.offset}, {"rows", own.rows}, {"local_shape", local}});
  }
  for (const Tree& entry : given["local_repeat_after_shard"]) {
    const auto b = size_of_field(entry, "b");
    if (!b) return bad_input(where, "a repeat needs b");
    const RepeatedRows rows = repeated_rows(n, *world, *b);
    Shape whole = shape;
    whole[0] *= *b;
    out["local_repeat_after_shard"].push_back({{"b", *b},
                                               {"global_out", whole},
                                               {"want_local_rows", rows.want},
                                               {"have_local_rows", rows.have},
                                               {"consistent", rows.consistent()}});
  }
  const FlatShard flat = flat_shard(numel, *world);
  out["flat_param"] = {{"per_rank", flat.per_rank}, {"padding", flat.padding}};
  return out;
}

Result<std::string> verify_tables(const std::filesystem::path& file, std::string_view schema,
                                  Result<Tree> (*expected)(const Tree&, const std::string&),
                                  const char* what) {
  PS_TRY(const Tree tree, read_tree(file, schema));
  const Tree& cases = tree["cases"];
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const std::string where = file.filename().string() + "/cases/" + std::to_string(i);
    PS_TRY(const Tree right, expected(cases[i], where));
    const std::string wrong = first_difference(right.dump(), cases[i].dump());
    if (!wrong.empty()) return bad_input(where + wrong, "differs from what the sizes give");
  }
  return std::to_string(cases.size()) + what;
}

}  // namespace

Result<std::string> verify_layouts(const std::filesystem::path& file) {
  return verify_tables(file, "parscope.tp.layouts/1", layout_case,
                       " fused layouts: every row of every rank");
}

Result<std::string> verify_fsdp(const std::filesystem::path& file) {
  return verify_tables(file, "parscope.fsdp/1", fsdp_case,
                       " tensors cut by FSDP: rows, repeats, flat parameters");
}

}  // namespace ps
