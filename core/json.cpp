#include "core/json.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include <nlohmann/json.hpp>

namespace ps {

namespace {

// nlohmann's parser keeps its own stack on the heap, so depth is ours to bound, not the C++
// stack's.
class Adapter {
 public:
  Adapter(JsonEvents& events, int depth_limit) : events_(events), depth_limit_(depth_limit) {}

  bool null() { return pass(events_.on_scalar(Json{})); }
  bool boolean(bool value) {
    Json json;
    json.kind = Json::Kind::kBool;
    json.boolean = value;
    return pass(events_.on_scalar(std::move(json)));
  }
  bool number_integer(std::int64_t value) { return integer(value); }
  bool number_unsigned(std::uint64_t value) {
    constexpr auto kMax = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    if (value > kMax) return number_float(static_cast<double>(value), std::to_string(value));
    return integer(static_cast<std::int64_t>(value));
  }
  bool number_float(double value, const std::string& text) {
    Json json;
    json.kind = Json::Kind::kNumber;
    json.number = value;
    json.text = text;
    return pass(events_.on_scalar(std::move(json)));
  }
  bool string(std::string& value) {
    Json json;
    json.kind = Json::Kind::kString;
    json.text = std::move(value);
    return pass(events_.on_scalar(std::move(json)));
  }
  bool binary(nlohmann::json::binary_t&) { return pass("binary values are not JSON"); }
  bool key(std::string& name) { return pass(events_.on_name(std::move(name))); }
  bool start_object(std::size_t) { return begin(Json::Kind::kObject); }
  bool start_array(std::size_t) { return begin(Json::Kind::kArray); }
  bool end_object() { return end(Json::Kind::kObject); }
  bool end_array() { return end(Json::Kind::kArray); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception& e) {
    std::string message = e.what();  // "[json.exception.parse_error.101] parse error at line ..."
    if (const auto bracket = message.find("] "); bracket != std::string::npos) {
      message.erase(0, bracket + 2);
    }
    constexpr std::size_t kLongest = 160;  // the text quotes the file's last token, however long
    if (message.size() > kLongest) message = message.substr(0, kLongest) + "...";
    return pass("not JSON at byte " + std::to_string(position) + ": " + message);
  }

  const std::string& problem() const { return problem_; }

 private:
  bool pass(std::string problem) {
    if (!problem.empty() && problem_.empty()) problem_ = std::move(problem);
    return problem_.empty();
  }
  bool integer(std::int64_t value) {
    Json json;
    json.kind = Json::Kind::kInteger;
    json.integer = value;
    json.number = static_cast<double>(value);
    return pass(events_.on_scalar(std::move(json)));
  }
  bool begin(Json::Kind kind) {
    if (++depth_ > depth_limit_) {
      return pass("JSON is nested deeper than " + std::to_string(depth_limit_));
    }
    return pass(events_.on_begin(kind));
  }
  bool end(Json::Kind kind) {
    --depth_;
    return pass(events_.on_end(kind));
  }

  JsonEvents& events_;
  int depth_limit_;
  int depth_ = 0;
  std::string problem_;
};

std::string repeated_name(const Json& object) {
  std::vector<std::string_view> names(object.names.begin(), object.names.end());
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  return twice == names.end() ? std::string() : std::string(*twice);
}

class TreeBuilder final : public JsonEvents {
 public:
  explicit TreeBuilder(std::int64_t values) : values_left_(values) {}

  std::string on_scalar(Json&& value) override { return place(std::move(value)); }
  std::string on_name(std::string&& name) override {
    open_.back().names.push_back(std::move(name));
    return {};
  }
  std::string on_begin(Json::Kind kind) override {
    Json json;
    json.kind = kind;
    open_.push_back(std::move(json));
    return {};
  }
  std::string on_end(Json::Kind kind) override {
    Json json = std::move(open_.back());
    open_.pop_back();
    if (kind == Json::Kind::kObject) {
      const std::string twice = repeated_name(json);
      if (!twice.empty()) return "the name " + json_quoted(twice) + " stands there twice";
    }
    return place(std::move(json));
  }
  Json take() { return std::move(root_); }

 private:
  std::string place(Json&& value) {
    if (--values_left_ < 0) return "too many values";
    if (open_.empty()) {
      root_ = std::move(value);
    } else {
      open_.back().items.push_back(std::move(value));
    }
    return {};
  }

  std::int64_t values_left_;
  std::vector<Json> open_;
  Json root_;
};

// Length of the UTF-8 sequence that starts here; 0 when there is none.
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  const unsigned second = byte(1);
  const bool overlong = (lead == 0xe0 && second < 0xa0) || (lead == 0xf0 && second < 0x90);
  const bool outside = (lead == 0xed && second > 0x9f) || (lead == 0xf4 && second > 0x8f);
  return overlong || outside ? 0 : length;
}

void dump_to(const Json& json, std::string& out) {
  switch (json.kind) {
    case Json::Kind::kNull:
      out += "null";
      return;
    case Json::Kind::kBool:
      out += json.boolean ? "true" : "false";
      return;
    case Json::Kind::kInteger:
      out += std::to_string(json.integer);
      return;
    case Json::Kind::kNumber:
      out += json.text;
      return;
    case Json::Kind::kString:
      out += json_quoted(json.text);
      return;
    case Json::Kind::kArray:
    case Json::Kind::kObject:
      break;
  }
  const bool object = json.kind == Json::Kind::kObject;
  out += object ? '{' : '[';
  for (std::size_t i = 0; i < json.items.size(); ++i) {
    if (i != 0) out += ',';
    if (object) out += json_quoted(json.names[i]) + ":";
    dump_to(json.items[i], out);
  }
  out += object ? '}' : ']';
}

}  // namespace

const Json* Json::find(std::string_view name) const {
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i] == name) return &items[i];
  }
  return nullptr;
}

std::string Json::dump() const {
  std::string out;
  dump_to(*this, out);
  return out;
}

std::string Json::brief(std::size_t limit) const {
  std::string out = dump();
  if (out.size() > limit) {
    while (limit > 0 && (static_cast<unsigned char>(out[limit]) & 0xc0) == 0x80) --limit;
    out.resize(limit);
    out += "...";
  }
  return out;
}

std::string_view to_string(Json::Kind kind) {
  constexpr std::array<std::string_view, 7> kNames = {
      "null", "a boolean", "a whole number", "a number", "a string", "a list", "an object"};
  return kNames[static_cast<std::size_t>(kind)];
}

std::string json_quoted(std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string out = "\"";
  while (!text.empty()) {
    const char c = text.front();
    const auto byte = static_cast<unsigned char>(c);
    const std::size_t length = utf8_length(text);
    if (length == 0) {
      out += "\xef\xbf\xbd";
    } else if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      out += "\\u00";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += text.substr(0, length);
    }
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return out + '"';
}

Result<void> parse_json_events(std::string_view text, const std::string& where, int depth_limit,
                               JsonEvents& events) {
  Adapter adapter(events, depth_limit);
  const bool done = nlohmann::json::sax_parse(text.begin(), text.end(), &adapter);
  if (!done || !adapter.problem().empty()) return bad_input(where, adapter.problem());
  return {};
}

Result<Json> parse_json(std::string_view text, const std::string& where, JsonLimits limits) {
  TreeBuilder builder(limits.values);
  PS_TRY_VOID(parse_json_events(text, where, limits.depth, builder));
  return builder.take();
}

}  // namespace ps
