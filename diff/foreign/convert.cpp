#include "diff/foreign/convert.h"

#include <algorithm>
#include <charconv>
#include <set>
#include <stdlib.h>

#include "core/points.h"
#include "core/trace_extras.h"
#include "core/trace_manifest.h"
#include "diff/align/pairing.h"
#include "diff/align/shape_match.h"
#include "diff/foreign/batch.h"
#include "diff/run/record_ranks.h"

namespace ps {

namespace {

namespace fs = std::filesystem;

std::vector<std::string> names_of(const ForeignRun& run) {
  std::set<std::string> out;
  for (const ForeignStep& step : run.steps) {
    for (const NamedTensor& t : step.tensors) out.insert(t.name);
  }
  return {out.begin(), out.end()};
}

bool is_own_name(std::string_view name) {
  return is_step_input(name) || name.starts_with("grad/") || find_point(name).has_value();
}

std::vector<std::string> foreign_names(const ForeignRun& run) {
  std::vector<std::string> out = names_of(run);
  out.erase(std::remove_if(out.begin(), out.end(), is_own_name), out.end());
  return out;
}

// Layers that the names show, for {L}: the highest number after "layers." or a dash, and one.
std::int64_t layers_of_names(const std::vector<std::string>& names) {
  static const std::regex kLayer(
      ".*(?:layers|layer|blk|h)\\.([0-9]{1,5})(?:[^0-9].*)?|.*-([0-9]{1,5})");
  std::int64_t most = 0;
  for (const std::string& name : names) {
    constexpr std::string_view kStates = "hidden_states.";  // the embedding, then each layer's
    if (name.starts_with(kStates)) {
      std::int64_t n = 0;
      std::from_chars(name.data() + kStates.size(), name.data() + name.size(), n);
      most = std::max(most, std::min<std::int64_t>(n, 99999));
      continue;
    }
    std::smatch m;
    if (name.size() > 512 || !std::regex_match(name, m, kLayer)) continue;
    most = std::max(most, std::int64_t{std::stoll(m[1].matched ? m[1] : m[2])} + 1);
  }
  return most;
}

class Converter {
 public:
  Converter(const ForeignRun& run, const ConvertOptions& options, const NameRules* rules,
            const ModelConfig* config, Conversion& out, TraceWriter& writer)
      : run_(run), options_(options), rules_(rules), config_(config), out_(out), writer_(writer) {
    tp_ = run.manifest.tensor_parallel;
    sizes_ = sizes_of(config, tp_);
    const std::int64_t layers = config != nullptr ? config->layers : layers_of_names(names_of(run));
    if (rules != nullptr) matcher_.emplace(*rules, layers);
  }

  Result<void> run() {
    std::map<std::int64_t, BatchTracker> trackers;  // by rank: each keeps its own cache
    std::int64_t last = -1;
    for (const ForeignStep& step : run_.steps) {
      PS_TRY_VOID(one_step(step, trackers[step.meta.rank]));
      out_.steps += step.meta.step != last ? 1 : 0;
      last = step.meta.step;
    }
    return {};
  }

 private:
  Result<void> one_step(const ForeignStep& step, BatchTracker& tracker) {
    RawInputs raw;
    std::vector<std::string> used;
    for (const NamedTensor& t : step.tensors) {
      const std::string input = is_step_input(t.name) ? t.name
                                : matcher_            ? matcher_->input(t.name)
                                                      : "";
      if (input.empty() || raw.contains(input)) continue;
      raw[input] = t.view;
      used.push_back(t.name);
    }
    StepBatch batch;
    std::optional<StepInputs> inputs;
    if (step.meta.op == StepOp::kForward) {
      Result<StepBatch> next = tracker.next(raw, tokens_shown(step));
      if (!next.ok()) {
        Error e = next.error();
        e.where = "step " + std::to_string(step.meta.step) + ": " + e.where;
        return e;
      }
      batch = std::move(next).value();
      if (config_ != nullptr) batch.map.prefix = config_->prefix_tokens;
      inputs = batch.inputs;
      if (!inputs && options_.tokens && step.meta.step == 0) inputs = options_.tokens;
    }
    PS_TRY_VOID(writer_.begin_step(step.meta, inputs ? &*inputs : nullptr));
    std::set<std::string> written;
    if (rules_ != nullptr && rules_->ggml_dims) reversed_ = mostly_reversed(step, batch.map);
    for (const NamedTensor& t : step.tensors) {
      if (std::find(used.begin(), used.end(), t.name) != used.end()) {
        // What StepInputs cannot hold goes as it came: a mask of every query and key.
        const bool mask = t.view.shape.size() == 4;
        if (is_step_input(t.name) && (!inputs || mask)) {
          PS_TRY_VOID(writer_.add(t.name, t.view));
        }
        continue;
      }
      PS_TRY_VOID(one_value(t, batch, written));
    }
    return writer_.end_step();
  }

  // How many tokens a flattened value of this step has: of the first rule that names "t".
  std::int64_t tokens_shown(const ForeignStep& step) const {
    if (!matcher_) return 0;
    for (const NamedTensor& t : step.tensors) {
      for (const NameMatch& match : matcher_->matches(t.name)) {
        const Result<Layout> layout = parse_layout(match.rule->axes, "");
        if (match.rule->axes.empty() || !layout.ok() || layout->axes[0][0] != Axis{"t"}) continue;
        if (t.view.shape.size() != layout->axes.size()) continue;
        const std::int64_t first = t.view.shape.front(), last = t.view.shape.back();
        const bool hidden = config_ != nullptr && first == config_->hidden_size && last != first;
        return rules_->ggml_dims && hidden ? last : first;
      }
    }
    return 0;
  }

  // Whether the shapes of this run stand the other way round: by those that fit one way only.
  bool mostly_reversed(const ForeignStep& step, const BatchMap& batch) const {
    std::int64_t votes = 0;
    for (const NamedTensor& t : step.tensors) {
      for (const NameMatch& match : matcher_->matches(t.name)) {
        const auto targets = targets_of(match);
        const Result<Layout> layout = parse_layout(match.rule->axes, "");
        if (match.rule->axes.empty() || !layout.ok() || targets.empty()) continue;
        const bool plain = fits_layout(t.view, *layout, targets, sizes_, batch, false).ok();
        const bool turned = fits_layout(t.view, *layout, targets, sizes_, batch, true).ok();
        votes += (turned ? 1 : 0) - (plain ? 1 : 0);
      }
    }
    return votes > 0;
  }

  static std::vector<std::string> targets_of(const NameMatch& match) {
    std::vector<std::string> out;
    for (const std::string& point : match.points) {
      const std::optional<PointRef> ref = find_point(canonical_point(point));
      if (!point.empty() && !ref) return {};
      out.emplace_back(ref ? ref->spec->axes : std::string_view("R,S,h"));
    }
    return out;
  }

  Result<void> one_value(const NamedTensor& t, const StepBatch& batch,
                         std::set<std::string>& written) {
    std::string why;
    if (matcher_) {
      const std::vector<NameMatch> matches = matcher_->matches(t.name);
      for (const NameMatch& match : matches) {
        if (match.points.empty()) {  // "drop"
          if (dropped(t, match, batch)) return {};
          continue;
        }
        if (match.rule->axes.empty()) return write(t, match.points[0], t.view, batch, written);
        PS_TRY(const bool done, arranged(t, match, batch, written, why));
        if (done) return {};
      }
      const auto named = std::find_if(matches.begin(), matches.end(),
                                      [](const NameMatch& m) { return !m.points.empty(); });
      if (named != matches.end()) {
        out_.misfits.emplace(t.name, why);
        const std::string& point = named->points[0];
        return write(t, named->points.size() > 1 || point.empty() ? t.name : point, t.view, batch,
                     written);
      }
    }
    if (!is_own_name(t.name)) out_.unmatched.push_back(t.name);
    return write(t, t.name, t.view, batch, written);
  }

  // A rule that drops only values of certain axes says so: they are a part of what a point holds.
  bool dropped(const NamedTensor& t, const NameMatch& match, const StepBatch& batch) {
    if (match.rule->axes.empty()) return true;
    const Result<Layout> layout = parse_layout(match.rule->axes, "");
    const std::vector<std::string> any = {""};
    // Where every token is the last, the value is whole.
    if (!layout.ok() || batch.map.tokens() == batch.map.batch) return false;
    for (const bool reverse : {false, true}) {
      if (reverse && !rules_->ggml_dims) break;
      if (!fits_layout(t.view, *layout, any, sizes_, batch.map, reverse).ok()) continue;
      out_.notes.push_back(t.name + " holds the last tokens alone, and was left out");
      return true;
    }
    return false;
  }

  // Cross-KV layers of a model with a prefix have none.
  bool without_prefix(const NameMatch& match) const {
    const std::optional<PointRef> ref = find_point(canonical_point(match.points[0]));
    if (!ref || config_ == nullptr || ref->layer < 0 || ref->layer >= config_->layers) return false;
    return config_->cross_kv_layer[static_cast<std::size_t>(ref->layer)];
  }

  Result<bool> arranged(const NamedTensor& t, const NameMatch& match, const StepBatch& batch,
                        std::set<std::string>& written, std::string& why) {
    PS_TRY(const Layout layout,
           parse_layout(match.rule->axes, "rule " + std::to_string(match.rule->line)));
    const std::vector<std::string> targets = targets_of(match);
    if (targets.size() != match.points.size()) {
      return bad_input(rules_->name + ":" + std::to_string(match.rule->line),
                       "gives axes to a point that is not in the table of points", "",
                       match.points[0]);
    }
    BatchMap map = batch.map;
    if (without_prefix(match)) map.prefix = 0;
    bool reverse = rules_->ggml_dims && reversed_;
    Result<void> fits = fits_layout(t.view, layout, targets, sizes_, map, reverse);
    if (!fits.ok() && rules_->ggml_dims) {
      reverse = !reverse;
      if (fits_layout(t.view, layout, targets, sizes_, map, reverse).ok()) fits = {};
    }
    Result<std::vector<Tensor>> parts = fits.ok()
                                            ? arrange(t.view, layout, targets, sizes_, map, reverse)
                                            : Result<std::vector<Tensor>>(fits.error());
    if (!parts.ok()) {
      if (parts.error().kind == Error::Kind::kMachine) return parts.error();
      why = match.rule->axes + ": " + parts.error().line();
      return false;
    }
    if (parts->size() > 1) ++out_.split;
    for (std::size_t i = 0; i < parts->size(); ++i) {
      const Tensor& part = (*parts)[i];
      if (match.points[i].empty()) continue;  // before the first layer
      if (part.shape() != t.view.shape && parts->size() == 1) ++out_.arranged;
      PS_TRY_VOID(write(t, match.points[i], part.view(), batch, written));
    }
    return true;
  }

  // The value under its name, in an order of axes that the table of points allows.
  Result<void> write(const NamedTensor& t, const std::string& point, const TensorView& value,
                     const StepBatch& batch, std::set<std::string>& written) {
    const std::string name = canonical_point(point);
    if (name.empty()) return {};
    if (!written.insert(name).second) {
      out_.notes.push_back(t.name + " would be " + name + " too, and was left out");
      return {};
    }
    out_.renamed += name != t.name ? 1 : 0;
    ++out_.points;
    const std::optional<PointRef> ref = find_point(name);
    if (ref && config_ != nullptr && tp_ == 1 && batch.map.batch > 0 && !ref->partial) {
      const StepSizes sizes{batch.map.batch, batch.map.length, batch.past};
      const std::vector<Shape> allowed = allowed_shapes(*ref, *config_, sizes);
      const bool good = std::find(allowed.begin(), allowed.end(), value.shape) != allowed.end();
      for (const Shape& shape : allowed) {
        if (good || count_of(shape) != value.count()) continue;
        const TensorView wanted{value.dtype, shape, value.bytes};
        const std::optional<ShapeMatch> match = match_shape(name, value, wanted);
        if (!match) continue;
        ++out_.arranged;
        return writer_.add(name, match->view);
      }
    }
    return writer_.add(name, value);
  }

  const ForeignRun& run_;
  const ConvertOptions& options_;
  const NameRules* rules_;
  const ModelConfig* config_;
  Conversion& out_;
  TraceWriter& writer_;
  std::optional<NameMatcher> matcher_;
  Sizes sizes_;
  std::int64_t tp_ = 1;
  bool reversed_ = false;
};

Result<std::optional<ModelConfig>> config_for(const ForeignRun& run,
                                              const ConvertOptions& options) {
  if (options.config) return options.config;
  if (run.manifest.model_json.empty()) return std::optional<ModelConfig>();
  PS_TRY(ParsedConfig parsed, parse_config(run.manifest.model_json, "trace.json/model"));
  const Result<ModelConfig> good = first_error_or_config(std::move(parsed), "trace.json/model");
  return good.ok() ? std::optional<ModelConfig>(good.value()) : std::optional<ModelConfig>();
}

Result<std::optional<NameRules>> rules_for(const ForeignRun& run, const ConvertOptions& options) {
  if (!options.names.empty()) {
    PS_TRY(NameRules rules, load_names(options.names));
    return std::optional<NameRules>(std::move(rules));
  }
  return recognise_names(foreign_names(run));
}

std::string plural(std::int64_t n, const std::string& one, const std::string& many) {
  return std::to_string(n) + " " + (n == 1 ? one : many);
}

}  // namespace

std::string Conversion::sentence() const {
  std::string out =
      names.empty() ? "" : "names of " + names + (recognised ? " (recognised)" : "") + ": ";
  out += plural(steps, "step", "steps") + ", " + plural(points, "point", "points");
  if (renamed > 0) out += ", " + std::to_string(renamed) + " renamed";
  if (split > 0) out += ", " + plural(split, "fused value", "fused values") + " cut";
  if (arranged > 0) out += ", " + std::to_string(arranged) + " with axes moved";
  if (!misfits.empty()) out += ", " + std::to_string(misfits.size()) + " whose axes do not fit";
  if (!unmatched.empty()) out += ", " + std::to_string(unmatched.size()) + " unknown";
  return out;
}

bool needs_conversion(const ForeignRun& run, const ConvertOptions& options) {
  if (!run.trace || !options.names.empty()) return true;
  // Engines share many names with Hugging Face: those that they do not share give them away.
  const std::vector<std::string> names = foreign_names(run);
  if (names.empty()) return false;
  const Result<std::optional<NameRules>> rules = recognise_names(names);
  return rules.ok() && rules->has_value();
}

Result<Conversion> convert(const ForeignRun& run, const std::string& source,
                           const ConvertOptions& options, const fs::path& dir) {
  Conversion out;
  out.notes = run.notes;
  PS_TRY(const std::optional<NameRules> rules, rules_for(run, options));
  PS_TRY(const std::optional<ModelConfig> config, config_for(run, options));
  if (rules) {
    out.names = rules->name;
    out.recognised = options.names.empty();
  }
  TraceManifest manifest = run.manifest;
  if (manifest.producer.empty()) {
    manifest.producer = (rules ? rules->name + ", " : std::string()) + "converted from " + source;
  }
  if (config && manifest.model_json.empty()) manifest.model_json = config->json;
  if (manifest.tensor_parallel > 1 && manifest.shards.empty()) manifest.shards = point_shards();
  PS_TRY(TraceWriter writer, TraceWriter::create(dir, std::move(manifest), options.packing));
  Converter converter(run, options, rules ? &*rules : nullptr, config ? &*config : nullptr, out,
                      writer);
  if (const Result<void> ran = converter.run(); !ran.ok()) {
    for (const ForeignStep& step : run.steps) {  // half a trace must not read as a whole one
      std::error_code ec;
      fs::remove(dir / step_file_name(step.meta.step, step.meta.rank, options.packing), ec);
    }
    return ran.error();
  }
  PS_TRY_VOID(writer.close());
  if (run.trace) PS_TRY_VOID(carry_manifest(*run.trace, dir));
  std::sort(out.unmatched.begin(), out.unmatched.end());
  out.unmatched.erase(std::unique(out.unmatched.begin(), out.unmatched.end()), out.unmatched.end());
  return out;
}

struct ForeignTrace::Folder {
  fs::path path;
  ~Folder() {
    std::error_code ignored;
    if (!path.empty()) fs::remove_all(path, ignored);
  }
};

Result<ForeignTrace> ForeignTrace::open(const fs::path& path, const ConvertOptions& options) {
  PS_TRY(ForeignRun run, read_foreign(path));
  ForeignTrace out;
  out.path_ = trace_folder(path);
  if (!needs_conversion(run, options)) {
    out.trace_ = *std::move(run.trace);
    return out;
  }
  std::string name = (fs::temp_directory_path() / "parscope-converted-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) {
    return machine_error(name, "a folder for the converted trace cannot be made");
  }
  out.folder_ = std::make_shared<Folder>(Folder{name});
  out.path_ = fs::path(name) / "trace";
  PS_TRY(out.conversion_, convert(run, path.string(), options, out.path_));
  PS_TRY(out.trace_, Trace::open(out.path_));
  return out;
}

}  // namespace ps
