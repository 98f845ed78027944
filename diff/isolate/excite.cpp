#include "diff/isolate/excite.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "core/float_bits.h"
#include "core/points.h"
#include "diff/diagnose/power.h"
#include "diff/run/phases.h"

namespace ps {

namespace {

constexpr std::int64_t kMostBytes = std::int64_t{4} << 30;
constexpr std::string_view kEmbedding = "model.embed_tokens.weight";

// Memory of zeros that costs nothing until it is written to, and the tensors that were changed.
struct Storage {
  std::shared_ptr<Checkpoint> kept;
  std::unique_ptr<void, decltype(&std::free)> zeros{nullptr, &std::free};
  std::vector<Tensor> changed;
};

bool writable(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16 ||
         dtype == DType::kF64;
}

void put(Tensor& tensor, std::int64_t i, double value) {
  const auto at = static_cast<std::size_t>(i);
  const auto narrow = static_cast<float>(value);
  switch (tensor.dtype()) {
    case DType::kF64:
      tensor.as<double>()[at] = value;
      return;
    case DType::kF32:
      tensor.as<float>()[at] = narrow;
      return;
    case DType::kBF16:
      tensor.as<std::uint16_t>()[at] = float_to_bf16(narrow);
      return;
    default:
      tensor.as<std::uint16_t>()[at] = float_to_f16(narrow);
  }
}

// What is added to the stream between the layers: without it each layer sees the embedding.
bool adds_to_stream(std::string_view name) {
  return name.find("o_proj.") != std::string_view::npos ||
         name.find("down_proj.") != std::string_view::npos;
}
// A norm of each head sees what these make; a hundredth brings it down to epsilon.
bool feeds_head_norm(std::string_view name, const ModelConfig& config) {
  return config.qk_norm && name.find(".self_attn.") != std::string_view::npos &&
         (name.find("q_proj.") != std::string_view::npos ||
          name.find("k_proj.") != std::string_view::npos);
}

struct Row {
  std::string words;
  std::vector<double> values;
};

double rms_of(const std::vector<double>& row) {
  double sum = 0;
  for (const double x : row) sum += x * x;
  return std::sqrt(sum / static_cast<double>(row.size()));
}

std::vector<Row> rows_for(const Model& model, DType run) {
  const ModelConfig& config = model.config;
  const TensorView& table = *model.checkpoint->peek(kEmbedding);
  const auto h = static_cast<std::size_t>(config.hidden_size);
  const double eps = config.rms_norm_eps > 0 ? config.rms_norm_eps : 1e-6;
  const double edge = std::sqrt(eps);
  // The last embedding's shape: of a natural row in all but its size.
  std::vector<double> natural(h);
  for (std::size_t i = 0; i < h; ++i) {
    natural[i] = value_at(
        table, (config.vocab_size - 1) * config.hidden_size + static_cast<std::int64_t>(i));
  }
  const double size = rms_of(natural);
  for (std::size_t i = 0; i < h; ++i) {
    natural[i] = size > 0 && std::isfinite(size) ? natural[i] / size : (i % 3 == 0 ? -1.25 : 0.85);
  }
  std::vector<Row> out;
  const auto add = [&](std::string words, const std::function<double(std::size_t)>& value) {
    Row row{std::move(words), std::vector<double>(h)};
    for (std::size_t i = 0; i < h; ++i) row.values[i] = value(i);
    out.push_back(std::move(row));
  };
  for (const double times : {1.0, 0.3, 4.0, 30.0}) {
    char words[64];
    std::snprintf(words, sizeof words, "an embedding of RMS %g sqrt(eps)", times);
    add(words, [&](std::size_t i) { return natural[i] * edge * times; });
  }
  add("a constant of sqrt(eps)", [&](std::size_t) { return edge; });
  add("zeros", [](std::size_t) { return 0.0; });
  add("a constant of 1", [](std::size_t) { return 1.0; });
  // A run in float16 may not hold them, nor a table that is stored in it.
  const bool half = run == DType::kF16 || table.dtype == DType::kF16;
  // In float16 a one-hot row may overflow behind the norm, and a large one in a tied head: rightly.
  if (!half) {
    const double one = std::sqrt(static_cast<double>(h));
    add("one-hot of RMS 1", [&](std::size_t i) { return i == 1 ? one : 0.0; });
    add("one-hot of RMS sqrt(eps)", [&](std::size_t i) { return i == h - 1 ? one * edge : 0.0; });
  }
  if (!half || !config.tie_word_embeddings) {
    const double large = half ? 256.0 : 0x1p40;
    char words[64];
    std::snprintf(words, sizeof words, "%g and -%g in turn", large, large);
    add(words, [&](std::size_t i) { return i % 2 == 0 ? large : -large; });
  }
  if (static_cast<std::int64_t>(out.size()) > config.vocab_size) {
    out.resize(static_cast<std::size_t>(config.vocab_size));
  }
  return out;
}

std::string_view op_of(const std::string& point) {
  const std::optional<PointRef> ref = find_point(canonical_point(point));
  return ref ? ref->spec->op : std::string_view();
}

std::string list_json(const std::vector<std::string>& items) {
  std::string out = "[";
  for (const std::string& item : items) out += (out.size() > 1 ? "," : "") + json_string(item);
  return out + "]";
}

// The report's own divergence has no name, and this finding names one of the same kind of op.
bool names_it(const Finding& own, const Finding& natural) {
  return natural.confidence == Confidence::kUnnamed && own.confidence == Confidence::kExact &&
         !op_of(own.point).empty() && op_of(own.point) == op_of(natural.point);
}

void take_name(const Report& own, Report& report) {
  for (Finding& natural : report.findings) {
    const auto named = std::find_if(own.findings.begin(), own.findings.end(),
                                    [&](const Finding& f) { return names_it(f, natural); });
    if (named == own.findings.end()) continue;
    Finding f = *named;
    f.evidence.emplace_back("named_at", json_string(f.point));
    f.step = natural.step;
    f.point = natural.point;
    f.where = natural.where;
    natural = std::move(f);
    return;
  }
}

void take_over(Report own, Report& report) {
  report.verdict = own.verdict;
  report.first_divergence = own.first_divergence;
  for (const PointRow& row : own.points) {
    if (row.status == PointStatus::kOk) continue;
    const auto same =
        std::find_if(report.points.begin(), report.points.end(),
                     [&](const PointRow& r) { return r.step == row.step && r.point == row.point; });
    if (same != report.points.end() && same->status == PointStatus::kOk) *same = row;
  }
  report.findings.insert(report.findings.begin(), own.findings.begin(), own.findings.end());
  report.power.reset();
  report.blind_spots.clear();
}

}  // namespace

Result<OwnInputs> own_inputs(const Model& model, DType run) {
  const Checkpoint& checkpoint = *model.checkpoint;
  const auto storage = std::make_shared<Storage>();
  storage->kept = model.checkpoint;
  std::int64_t bytes = 0;
  std::size_t largest = 0, changes = 0;
  for (const std::string& name : checkpoint.names()) {
    const TensorView& tensor = *checkpoint.peek(name);
    bytes += static_cast<std::int64_t>(tensor.bytes.size());
    if (adds_to_stream(name)) largest = std::max(largest, tensor.bytes.size());
    const bool changed = name == kEmbedding || feeds_head_norm(name, model.config);
    changes += changed ? 1 : 0;
    if (changed && !writable(tensor.dtype)) {
      return bad_input(name, "cannot be replaced", "a floating type of 16 bits or more",
                       std::string(torch_name(tensor.dtype)));
    }
  }
  if (bytes > kMostBytes) {
    return bad_input("checkpoint", "is too large to be run twice",
                     std::to_string(kMostBytes >> 20) + " MiB at most",
                     std::to_string(bytes >> 20) + " MiB");
  }
  if (checkpoint.peek(kEmbedding) == nullptr) {
    return bad_input(std::string(kEmbedding), "is missing");
  }
  storage->zeros.reset(std::calloc(std::max<std::size_t>(largest, 1), 1));
  if (storage->zeros == nullptr) return machine_error("own inputs", "out of memory");
  storage->changed.reserve(changes);  // views into it must not move
  const std::vector<Row> rows = rows_for(model, run);
  Checkpoint::Tensors tensors;
  for (const std::string& name : checkpoint.names()) {
    TensorView view = *checkpoint.peek(name);
    if (adds_to_stream(name)) {
      view.bytes = {static_cast<const std::byte*>(storage->zeros.get()), view.bytes.size()};
    } else if (name == kEmbedding) {
      Tensor& table = storage->changed.emplace_back(Tensor::copy_of(view));
      const std::int64_t h = model.config.hidden_size;
      for (std::size_t r = 0; r < rows.size(); ++r) {
        for (std::int64_t i = 0; i < h; ++i) {
          put(table, static_cast<std::int64_t>(r) * h + i,
              rows[r].values[static_cast<std::size_t>(i)]);
        }
      }
      view = table.view();
    } else if (feeds_head_norm(name, model.config)) {
      Tensor& small = storage->changed.emplace_back(Tensor::copy_of(view));
      for (std::int64_t i = 0; i < view.count(); ++i) put(small, i, value_at(view, i) * 0x1p-7);
      view = small.view();
    }
    tensors.emplace(name, view);
  }
  OwnInputs out;
  out.model.config = model.config;
  out.model.checkpoint = Checkpoint::of(std::move(tensors), storage);
  out.plan.prompt.batch = 1;
  out.plan.prompt.length = static_cast<std::int64_t>(rows.size());
  for (std::size_t r = 0; r < rows.size(); ++r) {
    out.plan.prompt.input_ids.push_back(static_cast<std::int64_t>(r));
    out.words.push_back(rows[r].words);
  }
  return out;
}

Result<void> excite(const Model& model, const ModelConfig& candidate_config, const Openers& open,
                    const LockstepOptions& options, Report& report) {
  const bool diverged = report.first_divergence.has_value();
  const bool named = std::none_of(report.findings.begin(), report.findings.end(),
                                  [](auto& f) { return f.confidence == Confidence::kUnnamed; });
  if (report.verdict == Verdict::kInvalid || (diverged && named)) return {};
  const auto note = [&](const std::string& what) {
    report.environment.emplace_back("own_inputs", what);
  };
  auto opening = std::make_optional<Phase>(Work::kOpen);
  const Result<OwnInputs> made = own_inputs(model, options.run);
  if (!made.ok()) {
    note(json_string("not run: " + made.error().line()));
    return {};
  }
  Model candidate_model = made->model;
  candidate_model.config = candidate_config;
  Result<std::unique_ptr<Engine>> candidate = open.candidate(candidate_model);
  if (!candidate.ok()) {  // a config of other sizes: that is the comparison's finding already
    note(json_string("not run: " + candidate.error().line()));
    return {};
  }
  PS_TRY(const std::unique_ptr<Reference> reference, open.reference(made->model));
  opening.reset();
  LockstepOptions how = options;
  how.divergence = nullptr;
  how.measure_power = false;
  if (options.power != nullptr && !diverged) {
    how.measure_power = options.measure_power;
    options.power->other_inputs();
  }
  PS_TRY(Report own, lockstep(**candidate, *reference, model.config, made->plan, how));
  note(list_json(made->words));
  if (own.verdict == Verdict::kDiverged) {
    for (Finding& f : own.findings) {
      f.where += (f.where.empty() ? "" : "; ") + std::string("on inputs of parscope's own");
      f.evidence.emplace_back("own_inputs", list_json(made->words));
    }
    own.first_divergence->where += "; on inputs of parscope's own";
    if (diverged) {
      take_name(own, report);
    } else {
      take_over(std::move(own), report);
    }
  } else if (own.power && !diverged) {
    report.power = own.power;
    report.blind_spots = own.blind_spots;
  }
  return {};
}

}  // namespace ps
