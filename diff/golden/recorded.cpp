#include "diff/golden/recorded.h"

#include <algorithm>
#include <cstdio>

#include "core/file.h"
#include "core/points.h"
#include "core/trace_extras.h"
#include "diff/align/ignored_cells.h"
#include "diff/align/pairing.h"
#include "diff/compare/compare.h"
#include "diff/mask/step_mask.h"

namespace ps {

namespace {

namespace fs = std::filesystem;

// What golden.json calls the metadata of that name.
const std::string kMaskProgram = "metadata:mask_program";

Digest digest_in(const IgnoredCells& ignored, const std::string& point, const TensorView& value) {
  const std::optional<Tensor> marks =
      is_step_input(point) ? std::nullopt : ignored.marks_for(point, value.shape);
  const TensorView view = marks ? marks->view() : TensorView();
  return digest_of(value, marks ? &view : nullptr);
}

std::int64_t layers_of(const std::map<RecordedKey, Digest>& points) {
  std::int64_t layers = 0;
  for (const auto& [key, digest] : points) {
    if (const auto ref = find_point(std::get<2>(key))) layers = std::max(layers, ref->layer + 1);
  }
  return layers;
}

std::string name_of(const RecordedKey& key) {
  return "step " + std::to_string(std::get<0>(key)) + " rank " + std::to_string(std::get<1>(key)) +
         " " + std::get<2>(key);
}

// What its numbers may differ by: integers by nothing, whatever type the run computes in.
DType bounded_as(DType stored, DType run) {
  return is_floating(stored) ? coarser(stored, run) : stored;
}

std::map<RecordedKey, Digest> digests_of(const Trace& trace) {
  std::map<RecordedKey, Digest> out;
  for (const TraceStep& step : trace.steps()) {
    const IgnoredCells ignored(step);
    for (const SafetensorsFile::Entry& e : step.tensors->entries()) {
      out[{step.step, step.rank, e.name}] = digest_in(ignored, e.name, e.view);
    }
    // The mask in words is an input like the mask as a tensor: its bytes are kept the same.
    const std::string program = mask::mask_program_of(step);
    if (program.empty()) continue;
    const TensorView bytes{
        DType::kU8, {static_cast<std::int64_t>(program.size())}, std::as_bytes(std::span(program))};
    out[{step.step, step.rank, kMaskProgram}] = digest_of(bytes, nullptr);
  }
  return out;
}

std::vector<GoldenChange> changes(const std::map<RecordedKey, Digest>& fresh, DType fresh_dtype,
                                  const RecordedGolden& old) {
  std::vector<GoldenChange> out;
  const std::int64_t layers = layers_of(old.points);
  for (const auto& [key, digest] : old.points) {
    const auto found = fresh.find(key);
    if (found == fresh.end()) {
      out.push_back({name_of(key), "is gone"});
      continue;
    }
    const DigestMatch match =
        match_digests(found->second, digest, bounded_as(found->second.dtype, fresh_dtype),
                      bounded_as(digest.dtype, old.dtype), layers);
    if (!match.ok) out.push_back({name_of(key), match.what});
  }
  for (const auto& [key, digest] : fresh) {
    if (!old.points.contains(key)) out.push_back({name_of(key), "is new"});
  }
  return out;
}

bool is_kept(const std::string& point, bool digests_only) {
  return !digests_only || is_step_input(point) || point == "model:mask" || point == kMaskProgram;
}

Result<void> write_trace(const Trace& trace, const fs::path& dir, const RecordRequest& request) {
  PS_TRY(TraceWriter writer, TraceWriter::create(dir, trace.manifest(), request.packing));
  for (const TraceStep& step : trace.steps()) {
    PS_TRY_VOID(writer.begin_step(step, nullptr));
    for (const SafetensorsFile::Entry& e : step.tensors->entries()) {
      if (is_kept(e.name, request.digests_only)) PS_TRY_VOID(writer.add(e.name, e.view));
    }
    PS_TRY_VOID(writer.end_step());
  }
  PS_TRY_VOID(writer.close());
  return carry_manifest(trace, dir);
}

// A run of an engine on the golden's inputs, point by point.
class Against final : public Tap {
 public:
  Against(const RecordedGolden& golden, const TraceStep& step, DType run)
      : golden_(golden),
        step_(step),
        ignored_(step),
        run_(run),
        layers_(layers_of(golden.points)) {}

  bool wants(std::string_view point) override {
    return golden_.points.contains({step_.step, step_.rank, std::string(point)});
  }
  void take(std::string_view point, const TensorView& value) override {
    const std::string name(point);
    const auto found = golden_.points.find({step_.step, step_.rank, name});
    if (found == golden_.points.end()) return;
    ++compared;
    const Digest& expected = found->second;
    const DType a = bounded_as(value.dtype, run_), b = bounded_as(expected.dtype, golden_.dtype);
    const TensorView* full = golden_.digests_only ? nullptr : step_.tensors->find(name);
    std::string what;
    if (full != nullptr && full->shape == value.shape) {
      const std::optional<Tensor> marks = ignored_.marks_for(name, value.shape);
      const TensorView view = marks ? marks->view() : TensorView();
      CompareOptions options;
      options.bound = default_bound(a, b, layers_);
      options.ignore = marks ? &view : nullptr;
      const Comparison c = compare(value, *full, options);
      if (!c.ok()) {
        char text[120];
        std::snprintf(text, sizeof text, "is off by %.3g of its size, %.3g times the bound",
                      c.rel_l2, c.ratio);
        what = c.class_mismatches > 0 ? "has cells of another class (NaN, infinity)" : text;
      }
    } else {
      const DigestMatch match =
          match_digests(digest_in(ignored_, name, value), expected, a, b, layers_);
      what = match.what;
    }
    if (what.empty()) return;
    wrong.push_back({name_of(found->first), what});
  }

  std::int64_t compared = 0;
  std::vector<GoldenChange> wrong;

 private:
  const RecordedGolden& golden_;
  const TraceStep& step_;
  IgnoredCells ignored_;
  DType run_;
  std::int64_t layers_;
};

// Nothing in the stored trace was changed, taken away or added.
Result<void> as_recorded(const fs::path& dir, const RecordedGolden& golden, const Trace& stored) {
  const std::string where = dir.filename().string();
  const std::map<RecordedKey, Digest> have = digests_of(stored);
  for (const auto& [key, digest] : have) {
    const auto found = golden.points.find(key);
    if (found == golden.points.end() || found->second.hash != digest.hash) {
      return bad_input(where, name_of(key) + " is not what was recorded");
    }
  }
  for (const auto& [key, digest] : golden.points) {
    if (is_kept(std::get<2>(key), golden.digests_only) && !have.contains(key)) {
      return bad_input(where, name_of(key) + " is missing from the stored trace");
    }
  }
  return {};
}

Error differs(const fs::path& dir, std::vector<GoldenChange> wrong) {
  std::stable_sort(wrong.begin(), wrong.end(), [](const GoldenChange& a, const GoldenChange& b) {
    const auto point = [](const GoldenChange& c) { return c.point.substr(c.point.rfind(' ') + 1); };
    return point_before(point(a), point(b));
  });
  const std::string more =
      wrong.size() > 1 ? " (and " + std::to_string(wrong.size() - 1) + " more)" : "";
  return bad_input(dir.filename().string(), wrong[0].point + " " + wrong[0].what + more);
}

}  // namespace

Result<RecordedResult> record_golden(const Trace& trace, const fs::path& dir,
                                     const RecordRequest& request) {
  RecordedGolden fresh;
  fresh.provenance = request.provenance;
  fresh.digests_only = request.digests_only;
  fresh.dtype = trace.run_dtype();
  fresh.points = digests_of(trace);
  if (!request.model.empty()) {
    std::error_code ec;  // absolute: of a folder that is not there yet nothing is known otherwise
    fresh.model =
        fs::relative(fs::absolute(request.model, ec), fs::absolute(dir, ec), ec).generic_string();
  }
  RecordedResult out;
  out.points = static_cast<std::int64_t>(fresh.points.size());
  std::error_code ec;
  if (fs::exists(dir / "golden.json", ec)) {
    PS_TRY(const RecordedGolden old, read_recorded(dir));
    out.existed = true;
    out.changes = changes(fresh.points, fresh.dtype, old);
    if (!out.changes.empty() && !request.update) return out;
    if (request.model.empty()) fresh.model = old.model;
  } else if (fs::is_directory(dir, ec) && !fs::is_empty(dir, ec)) {
    return bad_input(dir.string(), "is a folder with other things in it", "a new or empty folder");
  }
  PS_TRY_VOID(write_trace(trace, dir / "trace", request));
  PS_TRY_VOID(write_text(dir / "golden.json", recorded_text(fresh)));
  out.written = true;
  return out;
}

Result<std::string> verify_recorded(const fs::path& dir, const GoldenOptions& options) {
  PS_TRY(const RecordedGolden golden, read_recorded(dir));
  PS_TRY(const Trace stored, Trace::open(dir / "trace"));
  PS_TRY_VOID(as_recorded(dir, golden, stored));
  const std::string kind = golden.digests_only ? " digests" : " values";
  std::string said = std::to_string(golden.points.size()) + kind + " of " +
                     golden.provenance.producer + ", as recorded";
  std::error_code ec;
  if (golden.model.empty() || !fs::exists(dir / golden.model / "config.json", ec)) {
    return said + (golden.model.empty() ? "; no model to run (golden verify --against TRACE)"
                                        : "; its model " + golden.model + " is not here");
  }
  if (stored.manifest().tensor_parallel > 1) {
    return said + "; a run of several ranks is not run again (golden verify --against TRACE)";
  }
  PS_TRY(const Model model, open_model(dir / golden.model));
  EngineOptions engine_options;
  engine_options.dtype = options.is_reference     ? DType::kF64
                         : options.dtypes.empty() ? golden.dtype
                                                  : options.dtypes[0];
  PS_TRY(const std::unique_ptr<Engine> engine, options.open(model, engine_options));
  std::vector<GoldenChange> wrong;
  std::int64_t compared = 0;
  for (const TraceStep& step : stored.steps()) {
    if (step.rank != 0) continue;
    if (step.op == StepOp::kReorderCache) {
      NoTap none;
      PS_TRY_VOID(engine->reorder_cache(step.beam_idx, none));
    }
    if (step.op != StepOp::kForward) continue;
    PS_TRY(const StepInputs inputs,
           mask::step_inputs_with_mask(step, model.config, engine->past()));
    Against tap(golden, step, engine_options.dtype);
    PS_TRY_VOID(engine->forward(inputs, tap));
    wrong.insert(wrong.end(), tap.wrong.begin(), tap.wrong.end());
    compared += tap.compared;
  }
  if (!wrong.empty()) return differs(dir, std::move(wrong));
  if (compared == 0) return said + "; its model computes none of them";
  return said + "; " + std::to_string(compared) + " of them computed again and within bounds";
}

Result<std::string> verify_recorded_against(const fs::path& dir, const Trace& run) {
  PS_TRY(const RecordedGolden golden, read_recorded(dir));
  PS_TRY(const Trace stored, Trace::open(dir / "trace"));
  PS_TRY_VOID(as_recorded(dir, golden, stored));
  std::vector<GoldenChange> wrong;
  std::int64_t compared = 0;
  const auto step_of = [&](const TraceStep& want) -> const TraceStep* {
    for (const TraceStep& s : run.steps()) {
      if (s.step == want.step && s.rank == want.rank) return &s;
    }
    return nullptr;
  };
  for (const TraceStep& step : stored.steps()) {
    const TraceStep* mine = step_of(step);
    if (mine == nullptr) {
      wrong.push_back({"step " + std::to_string(step.step), "is not in the run"});
      continue;
    }
    Against tap(golden, step, run.run_dtype());
    std::vector<std::string> have;
    for (const SafetensorsFile::Entry& e : mine->tensors->entries()) {
      tap.take(e.name, e.view);
      have.push_back(e.name);
    }
    std::sort(have.begin(), have.end());
    for (const auto& [key, digest] : golden.points) {
      if (std::get<0>(key) != step.step || std::get<1>(key) != step.rank) continue;
      const std::string& name = std::get<2>(key);
      const bool input = is_step_input(name) || name == kMaskProgram;
      if (std::binary_search(have.begin(), have.end(), name) || input) continue;
      tap.wrong.push_back({name_of(key), "is not in the run"});
    }
    wrong.insert(wrong.end(), tap.wrong.begin(), tap.wrong.end());
    compared += tap.compared;
  }
  if (!wrong.empty()) return differs(dir, std::move(wrong));
  return std::to_string(compared) + " of " + std::to_string(golden.points.size()) +
         " points compared, all within bounds";
}

}  // namespace ps
