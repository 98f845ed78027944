#include "core/trace_manifest.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <tuple>
#include <utility>

#include "core/json.h"

namespace ps {

namespace {

constexpr std::string_view kFormat = "parscope-trace/1";
constexpr std::int64_t kMostSteps = std::int64_t{1} << 31;

struct OpName {
  std::string_view name;
  StepOp op;
};
constexpr std::array kOps = {
    OpName{"forward", StepOp::kForward},
    OpName{"reorder_cache", StepOp::kReorderCache},
    OpName{"generate", StepOp::kGenerate},
};

// One object of the manifest. The first wrong field is kept; reading goes on with defaults.
class Fields {
 public:
  Fields(const Json& object, std::string where, std::string pointer)
      : object_(object), where_(std::move(where)), pointer_(std::move(pointer)) {}

  const Json* find(std::string_view name, Json::Kind kind) {
    const Json* json = object_.find(name);
    if (json == nullptr || json->is(Json::Kind::kNull)) return nullptr;
    if (!json->is(kind)) {
      wrong(name, "must be " + std::string(to_string(kind)), json);
      return nullptr;
    }
    return json;
  }
  std::string text(std::string_view name) {
    const Json* json = find(name, Json::Kind::kString);
    return json == nullptr ? std::string() : json->text;
  }
  bool flag(std::string_view name, bool fallback) {
    const Json* json = find(name, Json::Kind::kBool);
    return json == nullptr ? fallback : json->boolean;
  }
  std::int64_t integer(std::string_view name, std::int64_t fallback, std::int64_t least,
                       std::int64_t most) {
    const Json* json = find(name, Json::Kind::kInteger);
    if (json == nullptr) return fallback;
    if (json->integer < least || json->integer > most) {
      wrong(name, "must be between " + std::to_string(least) + " and " + std::to_string(most),
            json);
      return fallback;
    }
    return json->integer;
  }
  void wrong(std::string_view name, std::string what, const Json* found = nullptr) {
    if (error_) return;
    error_ = bad_input(where_ + ": " + pointer_ + "/" + std::string(name), std::move(what), "",
                       found == nullptr ? "" : found->brief());
  }
  bool ok() const { return !error_.has_value(); }
  const Error& error() const { return *error_; }

 private:
  const Json& object_;
  std::string where_;
  std::string pointer_;
  std::optional<Error> error_;
};

bool stays_inside(const std::string& name) {
  const std::filesystem::path file(name);
  if (name.find('\0') != std::string::npos || file.is_absolute() || !file.has_filename()) {
    return false;
  }
  return std::none_of(file.begin(), file.end(),
                      [](const std::filesystem::path& part) { return part == ".."; });
}

void read_op(Fields& fields, TraceStep& step) {
  const std::string name = fields.text("op");
  if (!name.empty()) {
    const auto* found =
        std::find_if(kOps.begin(), kOps.end(), [&](const OpName& op) { return op.name == name; });
    if (found == kOps.end()) {
      fields.wrong("op", "is unknown; forward, reorder_cache and generate are known");
      return;
    }
    step.op = found->op;
  }
  if (step.op != StepOp::kReorderCache) return;
  const Json* list = fields.find("beam_idx", Json::Kind::kArray);
  if (list == nullptr) {
    fields.wrong("beam_idx", "is missing: reorder_cache needs it");
    return;
  }
  for (const Json& item : list->items) {
    if (!item.is(Json::Kind::kInteger) || item.integer < 0) {
      fields.wrong("beam_idx", "must hold sample numbers", &item);
      return;
    }
    step.beam_idx.push_back(item.integer);
  }
}

Result<TraceStep> read_step(const Json& json, const std::string& where, std::size_t index) {
  const std::string pointer = "/steps/" + std::to_string(index);
  if (!json.is(Json::Kind::kObject)) {
    return bad_input(where + ": " + pointer, "must be an object", "", json.brief());
  }
  Fields fields(json, where, pointer);
  TraceStep step;
  step.step = fields.integer("step", static_cast<std::int64_t>(index), 0, kMostSteps);
  step.rank = fields.integer("rank", 0, 0, kMostSteps);
  step.file = fields.text("file");
  read_op(fields, step);
  step.num_beams = fields.integer("num_beams", 1, 1, kMostSteps);
  step.max_new_tokens = fields.integer("max_new_tokens", 0, 0, kMostSteps);
  step.greedy = fields.flag("greedy", false);
  step.use_cache = fields.flag("use_cache", true);
  if (step.file.empty() ? step.op != StepOp::kReorderCache : !stays_inside(step.file)) {
    fields.wrong("file", step.file.empty() ? "is missing" : "leads out of the trace's directory",
                 json.find("file"));
  }
  if (!fields.ok()) return fields.error();
  return step;
}

Result<std::vector<TraceStep>> read_steps(const Json& list, const std::string& where) {
  std::vector<TraceStep> steps;
  for (std::size_t i = 0; i < list.items.size(); ++i) {
    PS_TRY(TraceStep step, read_step(list.items[i], where, i));
    steps.push_back(std::move(step));
  }
  const auto key = [](const TraceStep& s) { return std::tie(s.step, s.rank); };
  std::stable_sort(steps.begin(), steps.end(),
                   [&](const TraceStep& a, const TraceStep& b) { return key(a) < key(b); });
  const auto twice =
      std::adjacent_find(steps.begin(), steps.end(),
                         [&](const TraceStep& a, const TraceStep& b) { return key(a) == key(b); });
  if (twice != steps.end()) {
    return bad_input(where + ": /steps", "step " + std::to_string(twice->step) + " of rank " +
                                             std::to_string(twice->rank) + " stands there twice");
  }
  return steps;
}

void read_shards(Fields& fields, const std::string& where, TraceManifest& manifest) {
  const Json* shards = fields.find("shards", Json::Kind::kObject);
  if (shards == nullptr) return;
  for (std::size_t i = 0; i < shards->items.size(); ++i) {
    constexpr std::int64_t kMostAxes = 64;
    Fields entry(shards->items[i], where, "/shards/" + shards->names[i]);
    const bool given = entry.find("dim", Json::Kind::kInteger) != nullptr;
    const std::int64_t dim = entry.integer("dim", 0, -kMostAxes, kMostAxes);
    if (!given || !entry.ok()) {
      fields.wrong("shards", "each entry is {\"dim\": axis}", shards->items.data() + i);
      return;
    }
    manifest.shards.push_back({shards->names[i], dim});
  }
}

void read_dtype(Fields& fields, TraceManifest& manifest) {
  const Json* json = fields.find("dtype", Json::Kind::kString);
  if (json == nullptr) return;
  manifest.dtype = dtype_from_torch(json->text);
  if (!manifest.dtype) manifest.dtype = dtype_from_short(json->text);
  if (!manifest.dtype || !is_floating(*manifest.dtype)) {
    fields.wrong("dtype", "is no floating dtype of PyTorch", json);
  }
}

}  // namespace

Result<ManifestText> parse_manifest_text(std::string_view json, const std::string& where,
                                         StepsField steps_field) {
  PS_TRY(const Json root, parse_json(json, where));
  if (!root.is(Json::Kind::kObject)) {
    return bad_input(where, "a trace manifest is a JSON object", "",
                     std::string(to_string(root.kind)));
  }
  const Json* format = root.find("format");
  if (format == nullptr || !format->is(Json::Kind::kString) || format->text != kFormat) {
    return bad_input(where + ": /format", "is a version that this program does not read",
                     std::string(kFormat), format == nullptr ? "no format" : format->brief());
  }
  Fields fields(root, where, "");
  ManifestText text;
  TraceManifest& manifest = text.manifest;
  manifest.producer = fields.text("producer");
  if (const Json* model = fields.find("model", Json::Kind::kObject)) {
    manifest.model_json = model->dump();
  }
  read_dtype(fields, manifest);
  manifest.device = fields.text("device");
  const std::int64_t world_size = fields.integer("world_size", 0, 1, kMostSteps);
  manifest.tensor_parallel = fields.integer("tensor_parallel", 1, 1, kMostSteps);
  read_shards(fields, where, manifest);
  const Json* steps = fields.find("steps", Json::Kind::kArray);
  if (steps == nullptr && steps_field == StepsField::kRequired) {
    fields.wrong("steps", "is missing: a list of steps");
  }
  if (!fields.ok()) return fields.error();
  if (steps != nullptr) {
    PS_TRY(text.steps, read_steps(*steps, where));
  }
  std::int64_t ranks = 1;
  for (const TraceStep& step : text.steps) ranks = std::max(ranks, step.rank + 1);
  manifest.world_size = world_size == 0 ? ranks : world_size;
  if (ranks > manifest.world_size) {
    return bad_input(where + ": /steps", "a step's rank is outside world_size",
                     "below " + std::to_string(manifest.world_size), std::to_string(ranks - 1));
  }
  return text;
}

Result<std::string> manifest_text(const TraceManifest& manifest,
                                  const std::vector<TraceStep>& steps) {
  std::string out = "{\n \"format\": " + json_quoted(kFormat);
  const auto field = [&](std::string_view name, const std::string& value) {
    out += ",\n " + json_quoted(name) + ": " + value;
  };
  field("producer", json_quoted(manifest.producer));
  if (!manifest.model_json.empty()) {
    PS_TRY(const Json model, parse_json(manifest.model_json, "the model's config.json"));
    field("model", model.dump());
  }
  if (manifest.dtype) field("dtype", json_quoted(torch_name(*manifest.dtype)));
  field("device", json_quoted(manifest.device));
  field("world_size", std::to_string(manifest.world_size));
  field("tensor_parallel", std::to_string(manifest.tensor_parallel));
  std::string list;
  for (const TraceStep& step : steps) {
    list += (list.empty() ? "\n  {" : ",\n  {");
    list += "\"step\": " + std::to_string(step.step) + ", \"rank\": " + std::to_string(step.rank) +
            ", \"file\": " + json_quoted(step.file) +
            ", \"op\": " + json_quoted(kOps[static_cast<std::size_t>(step.op)].name);
    if (step.op == StepOp::kReorderCache) {
      list += ", \"beam_idx\": " + to_string(Shape(step.beam_idx));
    } else if (step.op == StepOp::kGenerate) {
      list += ", \"num_beams\": " + std::to_string(step.num_beams) +
              ", \"max_new_tokens\": " + std::to_string(step.max_new_tokens);
    } else {
      if (step.greedy) list += ", \"greedy\": true";
      list += std::string(", \"use_cache\": ") + (step.use_cache ? "true" : "false");
    }
    list += "}";
  }
  field("steps", "[" + list + "\n ]");
  if (!manifest.shards.empty()) {
    std::string shards;
    for (const ShardSpec& shard : manifest.shards) {
      shards += (shards.empty() ? "" : ", ") + json_quoted(shard.pattern) +
                ": {\"dim\": " + std::to_string(shard.dim) + "}";
    }
    field("shards", "{" + shards + "}");
  }
  return out + "\n}\n";
}

std::string step_file_name(std::int64_t step, std::int64_t rank, Packing packing) {
  std::array<char, 80> name{};
  const int length = std::snprintf(name.data(), name.size(), "step-%05lld.rank-%05lld.safetensors",
                                   static_cast<long long>(step), static_cast<long long>(rank));
  std::string out(name.data(), static_cast<std::size_t>(length));
  if (packing.on()) out += kPackedEnding;
  return out;
}

}  // namespace ps
