// A line of a progress file: a point's row and what is to be known of it.
#include <bit>
#include <cstdio>
#include <cstdlib>

#include "core/crc32.h"
#include "core/json.h"
#include "diff/isolate/check_progress.h"

namespace ps {

namespace {

// Bits, not digits: what is read back must be what was written, NaN included.
std::string bits(double x) {
  char text[24];
  std::snprintf(text, sizeof text, "\"%016llx\"",
                static_cast<unsigned long long>(std::bit_cast<std::uint64_t>(x)));
  return text;
}

std::string tri(const std::optional<bool>& value) {
  return !value ? "null" : *value ? "true" : "false";
}

// Reads fields and remembers the first that is not as it must be.
class Fields {
 public:
  Fields(const Json& json, std::string where) : json_(json), where_(std::move(where)) {}

  std::string text(std::string_view name) {
    const Json* value = of_kind(name, Json::Kind::kString);
    return value == nullptr ? "" : value->text;
  }
  std::int64_t integer(std::string_view name) {
    const Json* value = of_kind(name, Json::Kind::kInteger);
    return value == nullptr ? 0 : value->integer;
  }
  bool boolean(std::string_view name) {
    const Json* value = of_kind(name, Json::Kind::kBool);
    return value != nullptr && value->boolean;
  }
  std::optional<bool> maybe(std::string_view name) {
    const Json* value = json_.find(name);
    if (value != nullptr && value->is(Json::Kind::kNull)) return std::nullopt;
    return boolean(name);
  }
  double number(std::string_view name) {
    const std::string digits = text(name);
    char* end = nullptr;
    const std::uint64_t value = std::strtoull(digits.c_str(), &end, 16);
    if (digits.size() != 16 || *end != '\0') fail(name, "16 hexadecimal digits");
    return std::bit_cast<double>(value);
  }
  const std::vector<Json>& items(std::string_view name, Json::Kind kind) {
    static const std::vector<Json> kNone;
    const Json* value = of_kind(name, Json::Kind::kArray);
    if (value == nullptr) return kNone;
    for (const Json& item : value->items) {
      if (!item.is(kind)) fail(name, "only " + std::string(to_string(kind)));
    }
    return error_ ? kNone : value->items;
  }
  void fail(std::string_view name, const std::string& expected) {
    if (!error_) error_ = bad_input(where_ + "/" + std::string(name), "cannot be read", expected);
  }
  const std::optional<Error>& error() const { return error_; }

 private:
  const Json* of_kind(std::string_view name, Json::Kind kind) {
    const Json* value = json_.find(name);
    if (value != nullptr && value->is(kind)) return value;
    fail(name, std::string(to_string(kind)));
    return nullptr;
  }
  const Json& json_;
  std::string where_;
  std::optional<Error> error_;
};

std::optional<PointStatus> status_of(std::string_view word) {
  for (int i = 0; i <= static_cast<int>(PointStatus::kIgnored); ++i) {
    if (to_string(static_cast<PointStatus>(i)) == word) return static_cast<PointStatus>(i);
  }
  return std::nullopt;
}

}  // namespace

std::string record_line(const JudgedRecord& r) {
  const PointRow& row = r.row;
  std::string shape, seen;
  for (const std::int64_t n : row.shape) shape += (shape.empty() ? "" : ",") + std::to_string(n);
  for (const std::string& id : r.power.seen) seen += (seen.empty() ? "" : ",") + json_quoted(id);
  std::string out = "{\"run\":" + std::to_string(r.run) + ",\"step\":" + std::to_string(row.step) +
                    ",\"point\":" + json_quoted(row.point) + ",\"shape\":[" + shape +
                    "],\"dtype\":" + json_quoted(row.dtype) +
                    ",\"status\":" + json_quoted(to_string(row.status)) +
                    ",\"max_abs\":" + bits(row.max_abs) + ",\"rel_l2\":" + bits(row.rel_l2) +
                    ",\"ratio\":" + bits(row.ratio) + ",\"max_ulp\":" + std::to_string(row.max_ulp);
  out += ",\"compared\":" + std::to_string(row.compared) +
         ",\"ignored\":" + std::to_string(row.ignored);
  out += std::string(",\"plain\":") + (r.note.plain ? "true" : "false") +
         ",\"wrong\":" + (r.note.wrong ? "true" : "false") +
         ",\"nonfinite\":" + (r.note.nonfinite ? "true" : "false") +
         ",\"output_equal\":" + tri(r.note.output_equal) +
         ",\"replicas_differ\":" + tri(r.note.replicas_differ);
  out += ",\"power\":{\"place\":" + json_quoted(r.power.place) + ",\"seen\":[" + seen +
         "],\"seconds\":" + bits(r.power.seconds) +
         ",\"exhausted\":" + (r.power.exhausted ? "true" : "false") + "}";
  return out + ",\"candidate\":\"" + crc32_text(r.candidate) + "\"}";
}

Result<JudgedRecord> read_record(std::string_view line, const std::string& where) {
  PS_TRY(const Json json, parse_json(line, where, {8, 1 << 20}));
  Fields fields(json, where);
  JudgedRecord r;
  PointRow& row = r.row;
  r.run = fields.integer("run");
  row.step = fields.integer("step");
  row.point = fields.text("point");
  for (const Json& n : fields.items("shape", Json::Kind::kInteger)) row.shape.push_back(n.integer);
  row.dtype = fields.text("dtype");
  const std::optional<PointStatus> status = status_of(fields.text("status"));
  if (!status) fields.fail("status", "a status");
  row.status = status.value_or(PointStatus::kOk);
  row.max_abs = fields.number("max_abs");
  row.rel_l2 = fields.number("rel_l2");
  row.ratio = fields.number("ratio");
  row.max_ulp = fields.integer("max_ulp");
  row.compared = fields.integer("compared");
  row.ignored = fields.integer("ignored");
  r.note = {fields.boolean("plain"), fields.boolean("wrong"), fields.boolean("nonfinite"),
            fields.maybe("output_equal"), fields.maybe("replicas_differ")};
  const Json nothing;
  const Json* power = json.find("power");
  Fields of_power(power == nullptr ? nothing : *power, where + "/power");
  r.power.place = of_power.text("place");
  for (const Json& id : of_power.items("seen", Json::Kind::kString))
    r.power.seen.push_back(id.text);
  r.power.seconds = of_power.number("seconds");
  r.power.exhausted = of_power.boolean("exhausted");
  const std::string crc = fields.text("candidate");
  if (fields.error()) return *fields.error();
  if (of_power.error()) return *of_power.error();
  PS_TRY(r.candidate, parse_crc(crc, where + "/candidate"));
  return r;
}

}  // namespace ps
