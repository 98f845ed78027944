#include "core/ledger.h"

#include <optional>

#include "core/file.h"
#include "core/json.h"

namespace ps {

namespace {

constexpr std::string_view kField = "collectives";

// [op, shape, dtype, tag]
std::optional<Collective> collective_of(const Json& json) {
  constexpr std::size_t kFields = 4;
  if (!json.is(Json::Kind::kArray) || json.items.size() != kFields) return std::nullopt;
  const Json &op = json.items[0], &shape = json.items[1], &dtype = json.items[2],
             &tag = json.items[3];
  if (!op.is(Json::Kind::kString) || !shape.is(Json::Kind::kArray) ||
      !dtype.is(Json::Kind::kString) || !tag.is(Json::Kind::kString)) {
    return std::nullopt;
  }
  const std::optional<DType> type = dtype_from_torch(dtype.text);
  if (!type) return std::nullopt;
  Collective out{op.text, {}, *type, tag.text};
  for (const Json& size : shape.items) {
    if (!size.is(Json::Kind::kInteger) || size.integer < 0) return std::nullopt;
    out.shape.push_back(size.integer);
  }
  return out;
}

Result<StepLedger> step_ledger_of(const Json& json, const std::string& where) {
  const auto number = [&](std::string_view name) -> std::optional<std::int64_t> {
    const Json* found = json.find(name);
    const bool good = found != nullptr && found->is(Json::Kind::kInteger) && found->integer >= 0;
    return good ? std::optional(found->integer) : std::nullopt;
  };
  const bool object = json.is(Json::Kind::kObject);
  const std::optional<std::int64_t> step = object ? number("step") : std::nullopt;
  const std::optional<std::int64_t> rank = object ? number("rank") : std::nullopt;
  const Json* issued = object ? json.find("issued") : nullptr;
  if (!step || !rank || issued == nullptr || !issued->is(Json::Kind::kArray)) {
    return bad_input(where, "each entry is {\"step\", \"rank\", \"issued\": [...]}", "",
                     json.brief());
  }
  StepLedger out{*step, *rank, {}};
  for (std::size_t i = 0; i < issued->items.size(); ++i) {
    std::optional<Collective> entry = collective_of(issued->items[i]);
    if (!entry) {
      return bad_input(where + "/issued/" + std::to_string(i), "must be a collective",
                       "[op, [sizes], dtype, tag]", issued->items[i].brief());
    }
    out.issued.push_back(*std::move(entry));
  }
  return out;
}

std::string text_of(const StepLedger& ledger) {
  std::string out;
  for (const Collective& entry : ledger.issued) {
    out += (out.empty() ? "\n   [" : ",\n   [") + json_quoted(entry.op) + ", " +
           to_string(entry.shape) + ", " + json_quoted(torch_name(entry.dtype)) + ", " +
           json_quoted(entry.tag) + "]";
  }
  return "{\"step\": " + std::to_string(ledger.step) +
         ", \"rank\": " + std::to_string(ledger.rank) + ", \"issued\": [" + out + "]}";
}

}  // namespace

Result<std::vector<StepLedger>> parse_ledgers(std::string_view json, const std::string& where) {
  PS_TRY(const Json root, parse_json(json, where));
  const Json* list = root.is(Json::Kind::kObject) ? root.find(kField) : nullptr;
  std::vector<StepLedger> out;
  if (list == nullptr || list->is(Json::Kind::kNull)) return out;
  const std::string at = where + ": /" + std::string(kField);
  if (!list->is(Json::Kind::kArray)) return bad_input(at, "must be a list", "", list->brief());
  for (std::size_t i = 0; i < list->items.size(); ++i) {
    PS_TRY(StepLedger ledger, step_ledger_of(list->items[i], at + "/" + std::to_string(i)));
    out.push_back(std::move(ledger));
  }
  return out;
}

Result<std::vector<StepLedger>> read_ledgers(const std::filesystem::path& trace) {
  std::error_code error;
  const std::filesystem::path file = trace / "trace.json";
  if (!std::filesystem::is_regular_file(file, error)) return std::vector<StepLedger>();
  PS_TRY(const std::string text, read_text(file));
  return parse_ledgers(text, file.string());
}

std::string with_ledgers(const std::string& manifest, const std::vector<StepLedger>& ledgers) {
  if (ledgers.empty()) return manifest;
  std::string list;
  for (const StepLedger& ledger : ledgers) {
    list += (list.empty() ? "\n  " : ",\n  ") + text_of(ledger);
  }
  const std::size_t end = manifest.rfind('}');
  PS_CHECK(end != std::string::npos, "a manifest is a JSON object");
  std::size_t last = manifest.find_last_not_of(" \n", end - 1);
  return manifest.substr(0, last + 1) + ",\n " + json_quoted(kField) + ": [" + list + "\n ]\n}\n";
}

}  // namespace ps
