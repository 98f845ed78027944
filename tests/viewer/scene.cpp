#include "tests/viewer/scene.h"

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <span>
#include <vector>

#include "core/points.h"
#include "core/trace.h"
#include "diff/align/diff_traces.h"
#include "diff/report/write.h"

namespace ps::viewer {

namespace {

constexpr const char* kConfig =
    R"({"model_type":"qwen2_parscale","vocab_size":61,"hidden_size":24,"intermediate_size":40,)"
    R"("num_hidden_layers":3,"num_attention_heads":6,"num_key_value_heads":2,"head_dim":4,)"
    R"("max_position_embeddings":64,"torch_dtype":"float32","parscale_n":3,"parscale_n_tokens":2})";

void must(const Result<void>& done) {
  if (done.ok()) return;
  std::cerr << done.error().line() << "\n";
  std::abort();
}

// A value that depends on the point and the cell alone.
float value_of(std::uint64_t seed, std::int64_t i) {
  std::uint64_t x =
      seed * 0x9E3779B97F4A7C15ull + static_cast<std::uint64_t>(i) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 30)) * 0x94D049BB133111EBull;
  x ^= x >> 31;
  return static_cast<float>(static_cast<double>(x >> 40) / static_cast<double>(1 << 24) * 2 - 1);
}

// Names of all points of a step, in order.
std::vector<std::string> names(const ModelConfig& config) {
  std::vector<std::string> out;
  const auto add = [&](const PointSpec& spec, std::int64_t layer, std::vector<std::string>& to) {
    std::string name = point_name(spec, layer);
    const std::optional<PointRef> ref = find_point(name);
    if (ref && applies(*ref, config)) to.push_back(std::move(name));
  };
  for (const PointSpec& spec : point_table()) {
    if (spec.name.find(".N") == std::string_view::npos) add(spec, -1, out);
  }
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    for (const PointSpec& spec : point_table()) {
      if (spec.name.find(".N") != std::string_view::npos) add(spec, layer, out);
    }
  }
  return out;
}

using Change =
    std::function<void(std::int64_t step, const std::string& point, std::vector<float>& values)>;

void write_trace(const std::filesystem::path& dir, const ModelConfig& config,
                 const Change& change) {
  TraceManifest manifest;
  manifest.producer = "the viewer's tests";
  manifest.model_json = kConfig;
  manifest.dtype = DType::kF32;
  manifest.device = "cpu";
  Result<TraceWriter> writer = TraceWriter::create(dir, manifest);
  if (!writer.ok()) must(writer.error());
  std::int64_t past = 0;
  for (std::int64_t step = 0; step < 3; ++step) {
    StepInputs inputs;
    inputs.batch = 2;
    inputs.length = step == 0 ? 9 : 1;
    for (std::int64_t i = 0; i < inputs.batch * inputs.length; ++i)
      inputs.input_ids.push_back((i * 7 + step * 3) % 61);
    TraceStep s;
    s.step = step;
    s.file = "step-0000" + std::to_string(step) + ".rank-00000.safetensors";
    must(writer->begin_step(s, &inputs));
    std::uint64_t seed = 1;
    for (const std::string& name : names(config)) {
      ++seed;
      const Shape shape =
          allowed_shapes(*find_point(name), config, {inputs.batch, inputs.length, past}).front();
      if (name.find(":mask") != std::string::npos) {
        std::vector<std::uint8_t> bits(static_cast<std::size_t>(count_of(shape)));
        const std::int64_t columns = shape.back(), rows = shape[shape.size() - 2];
        for (std::size_t i = 0; i < bits.size(); ++i) {
          const auto flat = static_cast<std::int64_t>(i);
          bits[i] = flat % columns <= flat / columns % rows + columns - rows ? 1 : 0;
        }
        must(writer->add(name, {DType::kBool, shape, std::as_bytes(std::span(bits))}));
        continue;
      }
      std::vector<float> values(static_cast<std::size_t>(count_of(shape)));
      for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] =
            value_of(seed + static_cast<std::uint64_t>(step) * 1000, static_cast<std::int64_t>(i));
      }
      if (name.ends_with(":probs") || name.ends_with("_weights")) {  // rows that sum to one
        const auto columns = static_cast<std::size_t>(shape.back());
        for (std::size_t row = 0; row < values.size(); row += columns) {
          float sum = 0;
          for (std::size_t c = 0; c < columns; ++c)
            sum += values[row + c] = (values[row + c] + 1.001f) / 2;
          for (std::size_t c = 0; c < columns; ++c) values[row + c] /= sum;
        }
      }
      change(step, name, values);
      must(writer->add(name, {DType::kF32, shape, std::as_bytes(std::span(values))}));
    }
    must(writer->end_step());
    past += inputs.length;
  }
  must(writer->close());
}

// Everything computed from `point` on is off by a little; `point` itself in one head by a lot.
Change wrong_from(const std::string& point, std::int64_t first_step) {
  return [=](std::int64_t step, const std::string& name, std::vector<float>& values) {
    if (step < first_step) return;
    if (name == point) {
      for (std::size_t i = values.size() / 3; i < values.size() / 3 + 20 && i < values.size(); ++i)
        values[i] += 0.25f;
    } else if (point_before(point, name) && name.find("proj") != std::string::npos) {
      for (std::size_t i = 0; i < values.size(); i += 3) values[i] *= 1.0005f;
    }
  };
}

void write_text_file(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

}  // namespace

void add_votes(Report& report) {
  report.replicas.emplace();
  report.replicas->replicas = 3;
  for (std::int64_t i = 0; i < 9; ++i) {
    ReplicaToken t;
    t.token = i;
    t.input_id = 7 * i;
    t.argmax = 4;
    t.expected_argmax = i == 5 ? 9 : 4;
    t.js = t.expected_js = 0.1 * static_cast<double>(i);
    t.weights = {0.5, 0.3, 0.2};
    t.expected_weights = {0.4, 0.35, 0.25};
    t.replica_argmax = t.expected_replica_argmax = {4, 9, 4};
    t.without_argmax = {9, 4, 4};
    t.top = {{4, 2.0, {1, 2, 3}, {1, 2, 3}}, {9, 1.5, {1, 2, NAN}, {1, 2, 3}}};
    report.replicas->tokens.push_back(t);
  }
}

Scene make_scene(const std::filesystem::path& dir) {
  Result<ParsedConfig> parsed = parse_config(kConfig, "scene");
  Result<ModelConfig> config = first_error_or_config(std::move(parsed).value(), "scene");
  if (!config.ok()) must(config.error());
  const Scene scene{dir / "reference", dir / "candidate",     dir / "second",
                    dir / "report",    dir / "expected.json", dir / "actual.json"};
  write_trace(scene.reference, *config,
              [](std::int64_t, const std::string&, std::vector<float>&) {});
  write_trace(scene.candidate, *config, wrong_from(kWrongPoint, 0));
  write_trace(scene.second, *config, wrong_from("model.layers.2.mlp.down_proj", 1));
  const Result<Trace> candidate = Trace::open(scene.candidate),
                      reference = Trace::open(scene.reference);
  if (!candidate.ok()) must(candidate.error());
  if (!reference.ok()) must(reference.error());
  Report report = diff_traces(*candidate, *reference, {});
  Finding finding;
  finding.id = "attention-scale-wrong";
  finding.fault_class = "attention";
  finding.point = kWrongPoint;
  finding.where = "replica=1 batch=0 head=0 query=3 key=2";
  finding.message = "the scores are divided by the head size and not by its root";
  finding.evidence = {{"factor", "0.5"}, {"cells", "20"}};
  finding.fix = "multiply by head_dim ** -0.5, once";
  report.findings.insert(report.findings.begin(), finding);
  add_votes(report);
  report.power = 0.97;
  report.blind_spots = {{"cache-beam-reorder-skipped", "no beam step was run"}};
  report.environment.clear();
  report.timing.clear();
  ReportOptions options;
  options.dir = scene.report;
  must(write_reports(report, "candidate", options));
  const std::string mask =
      R"({"schema":"parscope.mask/1","B":1,"H":1,"Q":24,"KV":24,"expr":{"op":"causal")";
  write_text_file(scene.expected_mask, mask + "}}");
  write_text_file(scene.actual_mask, mask + R"(,"shift":1}})");
  return scene;
}

}  // namespace ps::viewer
