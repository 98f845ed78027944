#include "diff/run/inputs.h"

#include <algorithm>

#include "core/file.h"
#include "core/json.h"
#include "core/rng.h"

namespace ps {

namespace {

// A list of equally long lists of integers, row by row.
Result<void> read_rows(const Json& json, const std::string& where, std::int64_t& batch,
                       std::int64_t& length, std::vector<std::int64_t>& out) {
  const bool first = batch == 0;
  if (!json.is(Json::Kind::kArray) || json.items.empty()) {
    return bad_input(where, "not a list of rows", "[[1,2,3], ...]", json.brief());
  }
  const auto rows = static_cast<std::int64_t>(json.items.size());
  if (!first && rows != batch) {
    return bad_input(where, "needs as many rows as input_ids", std::to_string(batch),
                     std::to_string(rows));
  }
  batch = rows;
  for (std::size_t b = 0; b < json.items.size(); ++b) {
    const Json& row = json.items[b];
    const std::string row_where = where + "/" + std::to_string(b);
    if (!row.is(Json::Kind::kArray) || row.items.empty()) {
      return bad_input(row_where, "not a row of whole numbers", "[1,2,3]", row.brief());
    }
    const auto cells = static_cast<std::int64_t>(row.items.size());
    if (first && b == 0) length = cells;
    if (cells != length) {
      return bad_input(row_where,
                       first ? "rows differ in length; pad them and give an attention_mask"
                             : "needs rows as long as those of input_ids",
                       std::to_string(length) + " numbers", std::to_string(cells));
    }
    for (std::size_t t = 0; t < row.items.size(); ++t) {
      if (!row.items[t].is(Json::Kind::kInteger)) {
        return bad_input(row_where + "/" + std::to_string(t), "not a whole number", "",
                         row.items[t].brief());
      }
      out.push_back(row.items[t].integer);
    }
  }
  return {};
}

// The first of `values` that is outside [low, high], as an Error.
Result<void> check_range(const std::vector<std::int64_t>& values, std::int64_t length,
                         const std::string& where, const char* what, std::int64_t low,
                         std::int64_t high) {
  const auto wrong = std::find_if(values.begin(), values.end(),
                                  [&](std::int64_t value) { return value < low || value > high; });
  if (wrong == values.end()) return {};
  const std::int64_t i = wrong - values.begin();
  return bad_input(where + "/" + std::to_string(i / length) + "/" + std::to_string(i % length),
                   what, std::to_string(low) + " to " + std::to_string(high),
                   std::to_string(*wrong));
}

}  // namespace

Result<StepInputs> inputs_from_prompt(std::string_view text, const ModelConfig& config) {
  if (config.vocab_size != 256) {
    return bad_input("--prompt", "only for byte-level models; give --tokens instead",
                     "a vocabulary of 256", std::to_string(config.vocab_size));
  }
  if (text.empty()) return bad_input("--prompt", "empty", "at least one byte");
  StepInputs in;
  in.batch = 1;
  in.length = static_cast<std::int64_t>(text.size());
  for (const char c : text) in.input_ids.push_back(static_cast<unsigned char>(c));
  return in;
}

Result<StepInputs> inputs_from_json(std::string_view text, const std::string& where,
                                    const ModelConfig& config) {
  PS_TRY(const Json json, parse_json(text, where));
  StepInputs in;
  const bool rows_only = json.is(Json::Kind::kArray);
  const Json* ids = rows_only ? &json : json.find("input_ids");
  if (ids == nullptr) {
    return bad_input(where, "no tokens", "[[ids]] or {\"input_ids\": [[ids]], ...}", json.brief());
  }
  const std::string ids_where = rows_only ? where : where + "/input_ids";
  PS_TRY_VOID(read_rows(*ids, ids_where, in.batch, in.length, in.input_ids));
  PS_TRY_VOID(check_range(in.input_ids, in.length, ids_where, "token outside the vocabulary", 0,
                          config.vocab_size - 1));
  for (std::size_t i = 0; i < json.names.size(); ++i) {
    const std::string& name = json.names[i];
    const std::string field = where + "/" + name;
    if (name == "input_ids") continue;
    const bool mask = name == "attention_mask";
    if (!mask && name != "position_ids") {
      return bad_input(field, "unknown field", "input_ids, attention_mask or position_ids");
    }
    std::vector<std::int64_t> values;
    PS_TRY_VOID(read_rows(json.items[i], field, in.batch, in.length, values));
    // Negative positions are a number like any other; past 2^31 no rotation means anything.
    constexpr std::int64_t kFarthest = std::int64_t{1} << 31;
    PS_TRY_VOID(mask ? check_range(values, in.length, field,
                                   "an attention_mask has 1 for a real token, 0 for padding", 0, 1)
                     : check_range(values, in.length, field, "position out of range", -kFarthest,
                                   kFarthest));
    (mask ? in.attention_mask : in.position_ids) = std::move(values);
  }
  return in;
}

Result<StepInputs> inputs_from_file(const std::filesystem::path& path, const ModelConfig& config) {
  PS_TRY(const std::string text, read_text(path));
  return inputs_from_json(text, path.string(), config);
}

std::vector<std::int64_t> positions_of_mask(const std::vector<std::int64_t>& mask,
                                            std::int64_t batch, std::int64_t length) {
  std::vector<std::int64_t> out(mask.size());
  for (std::int64_t b = 0; b < batch; ++b) {
    std::int64_t seen = 0;
    for (std::int64_t t = 0; t < length; ++t) {
      const auto i = static_cast<std::size_t>(b * length + t);
      seen += mask[i];
      out[i] = mask[i] != 0 ? seen - 1 : 1;
    }
  }
  return out;
}

StepInputs random_inputs(std::int64_t batch, std::int64_t length, std::uint64_t seed,
                         const ModelConfig& config) {
  const Rng tokens(seed, 1), padding(seed, 2);
  StepInputs in;
  in.batch = batch;
  in.length = length;
  std::vector<std::int64_t> mask;
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::int64_t pads =
        b == 0 ? 0 : padding.below(static_cast<std::uint64_t>(b), length / 2 + 1);
    for (std::int64_t t = 0; t < length; ++t) {
      in.input_ids.push_back(
          tokens.below(static_cast<std::uint64_t>(b * length + t), config.vocab_size));
      mask.push_back(t >= pads ? 1 : 0);
    }
  }
  if (std::find(mask.begin(), mask.end(), 0) != mask.end()) {
    in.position_ids = positions_of_mask(mask, batch, length);
    in.attention_mask = std::move(mask);
  }
  return in;
}

}  // namespace ps
