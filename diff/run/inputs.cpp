#include "diff/run/inputs.h"

#include <nlohmann/json.hpp>

#include "core/file.h"
#include "core/rng.h"

namespace ps {

namespace {

using Json = nlohmann::json;

// A list of equally long lists of integers, row by row.
Result<void> read_rows(const Json& json, const std::string& where, std::int64_t& batch,
                       std::int64_t& length, std::vector<std::int64_t>& out) {
  const bool first = batch == 0;
  if (!json.is_array() || json.empty()) {
    return bad_input(where, "not a list of rows", "[[1,2,3], ...]", json.type_name());
  }
  if (!first && static_cast<std::int64_t>(json.size()) != batch) {
    return bad_input(where, "wrong number of rows", std::to_string(batch),
                     std::to_string(json.size()));
  }
  batch = static_cast<std::int64_t>(json.size());
  for (std::size_t b = 0; b < json.size(); ++b) {
    const std::string row = where + "/" + std::to_string(b);
    if (!json[b].is_array() || json[b].empty()) {
      return bad_input(row, "not a row of integers", "[1,2,3]", json[b].type_name());
    }
    if (first && b == 0) length = static_cast<std::int64_t>(json[b].size());
    if (static_cast<std::int64_t>(json[b].size()) != length) {
      return bad_input(row, "rows of unequal length; pad them and give an attention_mask",
                       std::to_string(length), std::to_string(json[b].size()));
    }
    for (std::size_t t = 0; t < json[b].size(); ++t) {
      if (!json[b][t].is_number_integer()) {
        return bad_input(row + "/" + std::to_string(t), "not an integer", "an integer",
                         json[b][t].dump());
      }
      out.push_back(json[b][t].get<std::int64_t>());
    }
  }
  return {};
}

Result<void> check_tokens(const StepInputs& in, const std::string& where,
                          const ModelConfig& config) {
  for (std::size_t i = 0; i < in.input_ids.size(); ++i) {
    if (in.input_ids[i] < 0 || in.input_ids[i] >= config.vocab_size) {
      const auto n = static_cast<std::size_t>(in.length);
      return bad_input(where + "/" + std::to_string(i / n) + "/" + std::to_string(i % n),
                       "token outside the vocabulary",
                       "0 to " + std::to_string(config.vocab_size - 1),
                       std::to_string(in.input_ids[i]));
    }
  }
  if (in.attention_mask) {
    for (const std::int64_t cell : *in.attention_mask) {
      if (cell != 0 && cell != 1) {
        return bad_input(where, "an attention_mask holds 1 for a real token and 0 for padding",
                         "0 or 1", std::to_string(cell));
      }
    }
  }
  return {};
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
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return bad_input(where, "not JSON");
  StepInputs in;
  const bool rows_only = json.is_array();
  if (!rows_only && !(json.is_object() && json.contains("input_ids"))) {
    return bad_input(where, "no tokens", "[[ids]] or {\"input_ids\": [[ids]], ...}",
                     json.type_name());
  }
  PS_TRY_VOID(read_rows(rows_only ? json : json["input_ids"],
                        rows_only ? where : where + "/input_ids", in.batch, in.length,
                        in.input_ids));
  if (!rows_only) {
    for (const auto& [name, value] : json.items()) {
      std::optional<std::vector<std::int64_t>>* target = nullptr;
      if (name == "attention_mask") target = &in.attention_mask;
      if (name == "position_ids") target = &in.position_ids;
      if (target == nullptr) {
        if (name == "input_ids") continue;
        return bad_input(where + "/" + name, "unknown field",
                         "input_ids, attention_mask or position_ids");
      }
      target->emplace();
      PS_TRY_VOID(read_rows(value, where + "/" + name, in.batch, in.length, target->value()));
    }
  }
  PS_TRY_VOID(check_tokens(in, where, config));
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
