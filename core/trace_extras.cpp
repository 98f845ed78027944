#include "core/trace_extras.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "core/crc32.h"
#include "core/file.h"

namespace ps {

namespace {

struct Word {
  std::string_view name;
  std::string BackendEvent::* field;
};
constexpr Word kWords[] = {
    {"op", &BackendEvent::op},
    {"requested", &BackendEvent::requested},
    {"executed", &BackendEvent::executed},
    {"reason", &BackendEvent::reason},
    {"device", &BackendEvent::device},
    {"mask_device", &BackendEvent::mask_device},
    {"mask_dtype", &BackendEvent::mask_dtype},
};
struct Number {
  std::string_view name;
  std::int64_t BackendEvent::* field;
};
constexpr Number kNumbers[] = {{"step", &BackendEvent::step}, {"layer", &BackendEvent::layer}};

// Null is as good as absent.
const Json* field_of(const Json& object, std::string_view name) {
  const Json* value = object.find(name);
  return value == nullptr || value->is(Json::Kind::kNull) ? nullptr : value;
}

Result<BackendEvent> read_event(const Json& call, const std::string& at) {
  if (!call.is(Json::Kind::kObject)) return bad_input(at, "not a call", "an object", call.brief());
  BackendEvent event;
  for (const auto& [name, field] : kWords) {
    const Json* value = field_of(call, name);
    if (value == nullptr) continue;
    if (!value->is(Json::Kind::kString)) {
      return bad_input(at + "/" + std::string(name), "not a string", "a string", value->brief());
    }
    event.*field = value->text;
  }
  for (const auto& [name, field] : kNumbers) {
    const Json* value = field_of(call, name);
    if (value == nullptr) continue;
    if (!value->is(Json::Kind::kInteger) || value->integer < 0) {
      return bad_input(at + "/" + std::string(name), "not an integer", "an integer, 0 or more",
                       value->brief());
    }
    event.*field = value->integer;
  }
  if (event.requested.empty() || event.executed.empty()) {
    return bad_input(at, "lacks \"requested\" or \"executed\"");
  }
  return event;
}

Result<WeightSum> read_sum(const std::string& name, const Json& json, const std::string& at) {
  WeightSum sum;
  sum.name = name;
  const Json* dtype = field_of(json, "dtype");
  const Json* crc = field_of(json, "crc32");
  const Json* shape = field_of(json, "shape");
  if (dtype == nullptr || crc == nullptr || shape == nullptr || !dtype->is(Json::Kind::kString) ||
      !crc->is(Json::Kind::kString) || !shape->is(Json::Kind::kArray)) {
    return bad_input(at, "is no checksum of a weight",
                     R"({"dtype": "bfloat16", "shape": [2,3], "crc32": "0357c450"})", json.brief());
  }
  const std::optional<DType> type = dtype_from_torch(dtype->text);
  if (!type) {
    return bad_input(at + "/dtype", "is no dtype of PyTorch", "bfloat16 or the like", dtype->text);
  }
  sum.dtype = *type;
  for (const Json& size : shape->items) {
    if (!size.is(Json::Kind::kInteger) || size.integer < 0) {
      return bad_input(at + "/shape", "is no shape", "a list of sizes", shape->brief());
    }
    sum.shape.push_back(size.integer);
  }
  PS_TRY(sum.crc32, parse_crc(crc->text, at + "/crc32"));
  return sum;
}

Result<std::vector<WeightSum>> read_weight_sums(const Json& object, const std::string& where) {
  std::vector<WeightSum> out;
  for (std::size_t i = 0; i < object.items.size(); ++i) {
    PS_TRY(WeightSum sum,
           read_sum(object.names[i], object.items[i], where + "/" + object.names[i]));
    out.push_back(std::move(sum));
  }
  std::sort(out.begin(), out.end(),
            [](const WeightSum& a, const WeightSum& b) { return a.name < b.name; });
  return out;
}

std::string backends_text(const std::vector<BackendEvent>& backends) {
  std::string out;
  for (const BackendEvent& event : backends) {
    std::string fields;
    const auto add = [&](std::string_view name, const std::string& value) {
      fields += (fields.empty() ? "" : ", ") + json_quoted(name) + ": " + value;
    };
    for (const auto& [name, field] : kNumbers) {
      if (event.*field >= 0) add(name, std::to_string(event.*field));
    }
    for (const auto& [name, field] : kWords) {
      if (!(event.*field).empty()) add(name, json_quoted(event.*field));
    }
    out += (out.empty() ? "\n  {" : ",\n  {") + fields + "}";
  }
  return "[" + out + "\n ]";
}

std::string weight_sums_text(const std::vector<WeightSum>& weights) {
  std::string out;
  for (const WeightSum& sum : weights) {
    out += (out.empty() ? "\n  " : ",\n  ") + json_quoted(sum.name) +
           ": {\"dtype\": " + json_quoted(torch_name(sum.dtype)) +
           ", \"shape\": " + to_string(sum.shape) +
           ", \"crc32\": " + json_quoted(crc32_text(sum.crc32)) + "}";
  }
  return "{" + out + "\n }";
}

constexpr std::string_view kManifest = "trace.json";
constexpr std::string_view kMetadataKey = "parscope";

// What TraceManifest holds; the rest of a manifest is extras.
constexpr std::string_view kOwnFields[] = {"format",          "producer", "model",
                                           "dtype",           "device",   "world_size",
                                           "tensor_parallel", "steps",    "shards"};

struct ManifestSource {
  std::string text, where;
};
// A trace's manifest as it was read: trace.json, or what a bare file carries.
Result<std::optional<ManifestSource>> manifest_source(const Trace& trace) {
  std::error_code error;
  const std::filesystem::path manifest = trace.path() / kManifest;
  if (std::filesystem::is_regular_file(manifest, error)) {
    PS_TRY(std::string text, read_text(manifest));
    return std::optional(ManifestSource{std::move(text), manifest.string()});
  }
  for (const TraceStep& step : trace.steps()) {
    if (step.tensors == nullptr) continue;
    const auto carried = step.tensors->metadata().find(std::string(kMetadataKey));
    if (carried == step.tensors->metadata().end()) continue;
    return std::optional(
        ManifestSource{carried->second, step.tensors->where() + ": metadata parscope"});
  }
  return std::optional<ManifestSource>();
}

// Fields, each after a comma, at the end of a written trace.json.
Result<void> add_fields(const std::filesystem::path& dir, const std::string& fields) {
  if (fields.empty()) return {};
  PS_TRY(std::string text, read_text(dir / kManifest));
  const std::size_t end = text.rfind('}');
  PS_CHECK(end != std::string::npos, "a manifest that is no object");
  text.resize(text.find_last_not_of(" \n", end - 1) + 1);
  return write_text(dir / kManifest, text + fields + "\n}\n");
}

// A field that is there and not null, of the right kind.
Result<const Json*> field_of_kind(const Json& root, std::string_view name, Json::Kind kind,
                                  const std::string& where) {
  const Json* json = field_of(root, name);
  if (json != nullptr && !json->is(kind)) {
    return bad_input(where + ": /" + std::string(name), "must be " + std::string(to_string(kind)),
                     "", json->brief());
  }
  return json;
}

}  // namespace

Result<std::vector<BackendEvent>> read_backends(const Json& list, const std::string& where) {
  std::vector<BackendEvent> out;
  for (std::size_t i = 0; i < list.items.size(); ++i) {
    PS_TRY(BackendEvent event, read_event(list.items[i], where + "/" + std::to_string(i)));
    out.push_back(std::move(event));
  }
  return out;
}

Result<TraceExtras> parse_trace_extras(std::string_view json, const std::string& where) {
  PS_TRY(const Json root, parse_json(json, where));
  TraceExtras out;
  PS_TRY(const Json* backends, field_of_kind(root, "backends", Json::Kind::kArray, where));
  PS_TRY(const Json* weights, field_of_kind(root, "weights", Json::Kind::kObject, where));
  if (backends != nullptr) {
    PS_TRY(out.backends, read_backends(*backends, where + ": /backends"));
  }
  PS_TRY(const Json* autocast, field_of_kind(root, "autocast", Json::Kind::kString, where));
  if (autocast != nullptr) {
    out.autocast = dtype_from_torch(autocast->text);
    if (!out.autocast || !is_floating(*out.autocast)) {
      return bad_input(where + ": /autocast", "is no floating dtype of PyTorch", "float16",
                       autocast->text);
    }
  }
  PS_TRY(const Json* ended, field_of_kind(root, "ended", Json::Kind::kString, where));
  if (ended != nullptr) out.ended = ended->text;
  if (weights != nullptr) {
    PS_TRY(out.weights, read_weight_sums(*weights, where + ": /weights"));
  }
  return out;
}

Result<TraceExtras> trace_extras(const Trace& trace) {
  PS_TRY(const std::optional<ManifestSource> found, manifest_source(trace));
  return found ? parse_trace_extras(found->text, found->where) : TraceExtras();
}

Result<void> write_trace_extras(const std::filesystem::path& dir, const TraceExtras& extras) {
  std::string fields;
  if (!extras.backends.empty()) fields += ",\n \"backends\": " + backends_text(extras.backends);
  if (!extras.weights.empty()) fields += ",\n \"weights\": " + weight_sums_text(extras.weights);
  return add_fields(dir, fields);
}

Result<void> carry_manifest(const Trace& from, const std::filesystem::path& dir) {
  PS_TRY(const std::optional<ManifestSource> found, manifest_source(from));
  if (!found) return {};
  PS_TRY(const Json root, parse_json(found->text, found->where));
  std::string fields;
  for (std::size_t i = 0; i < root.items.size(); ++i) {
    if (std::find(std::begin(kOwnFields), std::end(kOwnFields), root.names[i]) !=
        std::end(kOwnFields)) {
      continue;
    }
    fields += ",\n " + json_quoted(root.names[i]) + ": " + root.items[i].dump();
  }
  return add_fields(dir, fields);
}

}  // namespace ps
