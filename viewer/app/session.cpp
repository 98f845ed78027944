#include "viewer/app/session.h"

#include <algorithm>
#include <set>

#include "core/file.h"
#include "core/json.h"
#include "core/points.h"
#include "diff/report/link.h"
#include "diff/report/stored.h"

namespace ps::viewer {

namespace {

namespace fs = std::filesystem;

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}
bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

// The last part of the path; of "." and "a/.." what they stand for.
std::string name_of(const fs::path& path) {
  std::error_code ignored;
  const fs::path whole = fs::absolute(path, ignored).lexically_normal();
  const std::string last = whole.filename().string();
  return last.empty() ? whole.parent_path().filename().string() : last;
}

bool has_step_file(const fs::path& dir) {
  std::error_code ignored;
  for (fs::directory_iterator it(dir, ignored), end; it != end; it.increment(ignored)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with("step-") && is_safetensors_name(it->path())) return true;
    if (ignored) break;
  }
  return false;
}

constexpr std::string_view kWanted =
    "a trace, a .safetensors file, a report (report.json or its folder), a mask (a program, an "
    "expression, FILE.safetensors:NAME), a golden mask case or a model's folder";

Result<Kind> kind_of_json(const fs::path& path) {
  PS_TRY(const std::string text, read_text(path));
  PS_TRY(const Json json, parse_json(text, path.string(), {64, std::int64_t{1} << 25}));
  const Json* format = json.find("format");
  const std::string word = format != nullptr && format->is(Json::Kind::kString) ? format->text : "";
  if (word == "parscope-report/1") return Kind::kReport;
  if (word == "parscope-trace/1") return Kind::kTrace;
  if (json.find("expr") != nullptr || json.find("program") != nullptr) return Kind::kMask;
  if (json.find("model_type") != nullptr) return Kind::kModel;
  return bad_input(path.string(), "is nothing that can be shown", std::string(kWanted),
                   word.empty() ? json.brief(40) : "\"format\": \"" + word + "\"");
}

// The folder, where a file only describes it.
fs::path meant(const fs::path& path) {
  const std::string name = path.filename().string();
  if (name != "trace.json" && name != "config.json" && name != "report.json") return path;
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

}  // namespace

const TensorView* Run::find(std::int64_t step, std::int64_t rank, std::string_view point) const {
  for (std::size_t i = 0; i < trace.steps().size(); ++i) {
    const TraceStep& s = trace.steps()[i];
    if (s.step != step || s.rank != rank) continue;
    const auto found = points[i].find(point);
    if (found != points[i].end()) return found->second;
  }
  return nullptr;
}

std::int64_t Run::batch(std::int64_t step, std::int64_t rank) const {
  for (const std::int64_t r : {rank, std::int64_t{0}}) {
    if (const TensorView* ids = find(step, r, "input_ids");
        ids != nullptr && ids->shape.size() == 2) {
      return ids->shape[0];
    }
  }
  return 0;
}

Result<RunPtr> open_run(const fs::path& path) {
  PS_TRY(Trace trace, Trace::open(meant(path)));
  auto run = std::make_shared<Run>();
  run->name = name_of(meant(path));
  run->path = path;
  run->trace = std::move(trace);
  for (const TraceStep& step : run->trace.steps()) {
    auto& points = run->points.emplace_back();
    if (step.tensors == nullptr) continue;
    for (const SafetensorsFile::Entry& entry : step.tensors->entries()) {
      points.emplace(canonical_point(entry.name), &entry.view);
    }
  }
  const std::string& json = run->trace.manifest().model_json;
  if (!json.empty()) {
    Result<ParsedConfig> parsed = parse_config(json, path.string());
    if (parsed.ok()) {
      Result<ModelConfig> config = first_error_or_config(std::move(parsed).value(), path.string());
      if (config.ok()) run->config = std::move(config).value();
    }
  }
  return RunPtr(run);
}

Result<Kind> kind_of(const fs::path& path) {
  if (!is_there(path)) {
    // What `parscope mask` would read: FILE.json#/variants/0, FILE.safetensors:NAME, an expression.
    if (mask::open_source(path.string(), std::nullopt).ok()) return Kind::kMask;
    return bad_input(path.string(), "does not exist", std::string(kWanted));
  }
  if (is_folder(path)) {
    if (is_there(path / "report.json")) return Kind::kReport;
    if (is_there(path / "trace.json") || has_step_file(path)) return Kind::kTrace;
    if (is_there(path / "case.json")) return Kind::kMask;
    if (is_there(path / "config.json")) return Kind::kModel;
    return bad_input(path.string(), "holds nothing that can be shown", std::string(kWanted));
  }
  const std::string extension = path.extension().string();
  if (is_safetensors_name(path)) return Kind::kTrace;
  if (extension == ".json") return kind_of_json(path);
  if (extension == ".mask" || extension == ".txt") return Kind::kMask;
  return bad_input(path.string(), "is nothing that can be shown", std::string(kWanted),
                   extension.empty() ? "a file without an extension" : "a " + extension + " file");
}

Result<void> Session::open(const fs::path& path) {
  PS_TRY(const Kind kind, kind_of(path));
  const bool first = make_capture_ == nullptr;
  switch (kind) {
    case Kind::kTrace: {
      PS_TRY(RunPtr run, open_run(path));
      if (first) make_capture_ = [run] { return capture_of(run->trace); };
      runs_.push_back(std::move(run));
      break;
    }
    case Kind::kReport: {
      const fs::path file = is_folder(path) ? path / "report.json" : path;
      PS_TRY(Report report, read_report(file));
      reports_[0] = std::make_shared<const Report>(std::move(report));
      if (first) make_capture_ = [opened = reports_[0]] { return capture_of(*opened); };
      report_was_opened_ = true;
      report_name_ = name_of(is_folder(path) ? path : meant(path));
      break;
    }
    case Kind::kMask: {
      if (masks_.size() == 2) {
        return bad_input(path.string(), "cannot be opened beside two masks that are open",
                         "the expected and the actual mask");
      }
      PS_TRY(mask::Source source, mask::open_source(path.string(), std::nullopt));
      if (first) {
        Report report;  // a hash of the program, or of the name where it is a tensor
        report.findings.emplace_back().where =
            source.program ? mask::program_json(*source.program) : source.name;
        make_capture_ = [report] { return capture_of(report); };
      }
      // For titles: one line, and of a file its name.
      source.name = is_there(path) ? name_of(path) : source.name;
      for (char& c : source.name) c = c == '\n' ? ' ' : c;
      masks_.push_back(std::make_shared<const mask::Source>(std::move(source)));
      break;
    }
    case Kind::kModel:
      return open_model(path);
  }
  ++version_;
  return {};
}

Result<void> Session::open_reference(const fs::path& path) {
  PS_TRY(const Kind kind, kind_of(path));
  if (kind != Kind::kTrace) return bad_input(path.string(), "is no trace to compare with");
  PS_TRY(reference_, open_run(path));
  for (auto it = reports_.begin(); it != reports_.end();) {
    it = it->first == 0 && report_was_opened_ ? std::next(it) : reports_.erase(it);
  }
  ++version_;
  return {};
}

Result<void> Session::open_model(const fs::path& path) {
  PS_TRY(model_, load_config(path));
  ++version_;
  return {};
}

void Session::close() {
  const std::uint64_t version = version_ + 1;
  *this = Session();
  version_ = version;
}

const std::string& Session::capture() const {
  if (capture_.empty() && make_capture_) capture_ = make_capture_();
  return capture_;
}

bool Session::empty() const {
  return runs_.empty() && reference_ == nullptr && masks_.empty() && reports_.empty();
}

RunPtr Session::run(std::int64_t index) const {
  if (index < 0 || index >= static_cast<std::int64_t>(runs_.size())) return nullptr;
  return runs_[static_cast<std::size_t>(index)];
}

const ModelConfig* Session::config() const {
  if (model_) return &*model_;
  for (const RunPtr& run : runs_) {
    if (run->config) return &*run->config;
  }
  return reference_ != nullptr && reference_->config ? &*reference_->config : nullptr;
}

std::shared_ptr<const Report> Session::report(std::int64_t run) const {
  const auto found = reports_.find(run);
  return found == reports_.end() ? nullptr : found->second;
}
void Session::set_report(std::int64_t run, std::shared_ptr<const Report> report) {
  reports_[run] = std::move(report);
  ++version_;
}

const TensorView* Session::actual(std::int64_t run, std::int64_t step, std::int64_t rank,
                                  std::string_view point) const {
  const RunPtr found = this->run(run);
  return found == nullptr ? nullptr : found->find(step, rank, point);
}
const TensorView* Session::expected(std::int64_t step, std::int64_t rank,
                                    std::string_view point) const {
  return reference_ == nullptr ? nullptr : reference_->find(step, rank, point);
}

std::vector<NamedAxis> Session::axes(std::int64_t step, std::int64_t rank, std::string_view point,
                                     const Shape& shape) const {
  std::int64_t batch = 0;
  for (const RunPtr& run : runs_) batch = std::max(batch, run->batch(step, rank));
  if (batch == 0 && reference_ != nullptr) batch = reference_->batch(step, rank);
  if (batch == 0 && config() != nullptr && !shape.empty() && config()->replicas > 1) {
    const std::int64_t rows = shape[0], replicas = config()->replicas;
    if (rows % replicas == 0) batch = rows / replicas;
  }
  return named_axes(point, shape, batch);
}

std::vector<std::int64_t> Session::steps() const {
  std::set<std::int64_t> out;
  const auto add = [&](const Run& run) {
    for (const TraceStep& step : run.trace.steps()) out.insert(step.step);
  };
  for (const RunPtr& run : runs_) add(*run);
  if (reference_ != nullptr) add(*reference_);
  for (const auto& [run, report] : reports_) {
    for (const PointRow& row : report->points) out.insert(row.step);
  }
  return {out.begin(), out.end()};
}

std::vector<std::int64_t> Session::ranks() const {
  std::set<std::int64_t> out;
  const auto add = [&](const Run& run) {
    for (const TraceStep& step : run.trace.steps()) out.insert(step.rank);
  };
  for (const RunPtr& run : runs_) add(*run);
  for (const auto& [run, report] : reports_) {
    for (const PointRow& row : report->points) out.insert(row.rank);
  }
  return {out.begin(), out.end()};
}

std::vector<std::string> Session::points(std::int64_t run, std::int64_t step,
                                         std::int64_t rank) const {
  std::set<std::string> names;
  const auto add = [&](const Run& r) {
    for (std::size_t i = 0; i < r.trace.steps().size(); ++i) {
      if (r.trace.steps()[i].step != step || r.trace.steps()[i].rank != rank) continue;
      for (const auto& [name, view] : r.points[i]) names.insert(name);
    }
  };
  if (const RunPtr found = this->run(run)) add(*found);
  if (reference_ != nullptr) add(*reference_);
  if (const auto found = report(run)) {
    for (const PointRow& row : found->points) {
      if (row.step == step && row.rank == rank) names.insert(row.point);
    }
  }
  std::vector<std::string> out(names.begin(), names.end());
  std::stable_sort(out.begin(), out.end(), point_before);
  return out;
}

std::string Session::title() const {
  std::string out;
  const auto add = [&](const std::string& word, std::string_view between) {
    out += (out.empty() ? "" : std::string(between)) + word;
  };
  if (report_was_opened_) add(report_name_, "");
  for (const RunPtr& run : runs_) add(run->name, ", ");
  for (const auto& source : masks_) add(source->name, ", ");
  if (reference_ != nullptr) add(reference_->name, " against ");
  return out;
}

}  // namespace ps::viewer
