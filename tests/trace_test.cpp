#include "core/trace.h"

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "core/crc32.h"
#include "core/trace_extras.h"
#include "tests/support/fixtures.h"
#include "tests/support/raw_safetensors.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

std::string manifest(const std::string& steps, const std::string& more = "") {
  return R"({"format":"parscope-trace/1",)" + more + R"("steps":[)" + steps + "]}";
}
std::string manifest_error(const std::string& text) {
  const Result<Trace> trace = Trace::parse_manifest(text, "trace.json");
  return trace.ok() ? "no error" : trace.error().line();
}

// A step file with input_ids [2,3] and one more tensor.
void put_step(const std::filesystem::path& file, const std::string& metadata = "") {
  const std::vector<std::int64_t> ids = {1, 2, 3, 4, 5, 6};
  const std::vector<std::uint16_t> cells = {7, 8};
  const Tensor a = Tensor::of<std::int64_t>(DType::kI64, {2, 3}, ids);
  const Tensor b = Tensor::of<std::uint16_t>(DType::kBF16, {2}, cells);
  Result<SafetensorsWriter> writer = SafetensorsWriter::create(file);
  ASSERT_TRUE(writer.ok()) << writer.error().line();
  if (!metadata.empty()) writer->set_metadata("parscope", metadata);
  ASSERT_TRUE(writer->add("input_ids", a.view()).ok());
  ASSERT_TRUE(writer->add("model.norm", b.view()).ok());
  ASSERT_TRUE(writer->close().ok());
}

TEST(TraceManifest, FieldsAreRead) {
  const Result<Trace> trace = Trace::parse_manifest(
      manifest(R"({"step":1,"rank":0,"file":"b","greedy":true,"use_cache":false},)"
               R"({"step":0,"rank":1,"file":"a1"},{"step":0,"rank":0,"file":"a0"},)"
               R"({"step":2,"op":"reorder_cache","beam_idx":[1,0]},)"
               R"({"step":3,"file":"c","op":"generate","num_beams":3,"max_new_tokens":5})",
               R"("producer":"p","model":{"a":[1.50]},"dtype":"torch.bfloat16","device":"cuda:1",)"
               R"("world_size":2,"tensor_parallel":2,"unknown":[{}],)"
               R"("shards":{"model.layers.*.self_attn.q_proj":{"dim":2}},)"),
      "trace.json");
  ASSERT_TRUE(trace.ok()) << trace.error().line();
  const TraceManifest& m = trace->manifest();
  EXPECT_EQ(m.producer, "p");
  EXPECT_EQ(m.model_json, R"({"a":[1.50]})");
  EXPECT_EQ(m.dtype, DType::kBF16);
  EXPECT_EQ(m.device, "cuda:1");
  EXPECT_EQ(m.world_size, 2);
  EXPECT_EQ(m.tensor_parallel, 2);
  ASSERT_EQ(m.shards.size(), 1u);
  EXPECT_EQ(m.shards[0].pattern, "model.layers.*.self_attn.q_proj");
  EXPECT_EQ(m.shards[0].dim, 2);
  ASSERT_EQ(trace->steps().size(), 5u);
  EXPECT_EQ(trace->steps()[0].file, "a0");
  EXPECT_EQ(trace->steps()[1].file, "a1");
  EXPECT_TRUE(trace->steps()[2].greedy);
  EXPECT_FALSE(trace->steps()[2].use_cache);
  EXPECT_EQ(trace->steps()[3].op, StepOp::kReorderCache);
  EXPECT_EQ(trace->steps()[3].beam_idx, (std::vector<std::int64_t>{1, 0}));
  EXPECT_EQ(trace->steps()[4].op, StepOp::kGenerate);
  EXPECT_EQ(trace->steps()[4].num_beams, 3);
  EXPECT_EQ(trace->steps()[4].max_new_tokens, 5);
}

TEST(TraceExtras, SurviveTheWriter) {
  const TempDir dir;
  Result<TraceWriter> writer = TraceWriter::create(dir.path(), {});
  ASSERT_TRUE(writer.ok() && writer->close().ok());
  const Result<Trace> before = Trace::open(dir.path());
  ASSERT_TRUE(before.ok()) << before.error().line();
  EXPECT_TRUE(trace_extras(*before)->backends.empty());
  TraceExtras m;
  m.backends.resize(2);
  m.backends[0].requested = "flash \"2\"";
  m.backends[0].executed = "math";
  m.backends[0].reason = "head_dim 80";
  m.backends[0].layer = 3;
  m.backends[1] = {"gemm", "auto", "loops", "", "cpu", "", "", 0, -1};
  m.weights = {{"a.weight", DType::kBF16, {2, 3}, 0xffu}, {"b", DType::kF32, {}, 0xdeadbeefu}};
  ASSERT_TRUE(write_trace_extras(dir.path(), m).ok());
  const Result<Trace> trace = Trace::open(dir.path());
  ASSERT_TRUE(trace.ok()) << trace.error().line();
  const Result<TraceExtras> read = trace_extras(*trace);
  ASSERT_TRUE(read.ok()) << read.error().line();
  ASSERT_EQ(read->backends.size(), 2u);
  EXPECT_EQ(read->backends[0].op, "attention");
  EXPECT_EQ(read->backends[0].requested, m.backends[0].requested);
  EXPECT_EQ(read->backends[0].reason, "head_dim 80");
  EXPECT_EQ(read->backends[0].layer, 3);
  EXPECT_EQ(read->backends[0].step, -1);
  EXPECT_TRUE(read->backends[0].fell_back());
  EXPECT_EQ(read->backends[1].op, "gemm");
  EXPECT_EQ(read->backends[1].step, 0);
  EXPECT_FALSE(read->backends[1].fell_back());  // auto: whatever there is
  ASSERT_EQ(read->weights.size(), 2u);
  EXPECT_EQ(read->weights[0].name, "a.weight");
  EXPECT_EQ(read->weights[0].dtype, DType::kBF16);
  EXPECT_EQ(read->weights[0].shape, (Shape{2, 3}));
  EXPECT_EQ(read->weights[1].crc32, 0xdeadbeefu);
}

TEST(TraceExtras, BrokenOnesNameThePlace) {
  const auto error = [](const std::string& fields) {
    const Result<TraceExtras> extras = parse_trace_extras("{" + fields + "}", "t");
    return extras.ok() ? "no error" : extras.error().line();
  };
  EXPECT_EQ(error(R"("backends": null, "weights": null)"), "no error");
  EXPECT_EQ(error(R"("backends": [{"requested": "a", "executed": "b", "step": null}])"),
            "no error");
  EXPECT_EQ(error(R"("weights": {"w": {"dtype": "float32", "shape": [2], "crc32": "0357c450"}})"),
            "no error");
  const std::pair<const char*, const char*> broken[] = {
      {R"("backends": {})", "/backends: must be a list"},
      {R"("backends": [{"requested": "a"}])", "/backends/0: lacks"},
      {R"("backends": [{"requested": "a", "executed": "b", "layer": 1.5}])", "/backends/0/layer"},
      {R"("backends": [{"requested": "a", "executed": 1}])", "/backends/0/executed"},
      {R"("weights": [])", "/weights: must be an object"},
      {R"("weights": {"w": {"dtype": "float32", "shape": [2], "crc32": "357c450"}})",
       "/weights/w/crc32: is no CRC-32"},
      {R"("weights": {"w": {"dtype": "float33", "shape": [2], "crc32": "0357c450"}})",
       "/weights/w/dtype"},
      {R"("weights": {"w": {"dtype": "float32", "shape": [-1], "crc32": "0357c450"}})",
       "/weights/w/shape"},
      {R"("weights": {"w": 7})", "/weights/w: is no checksum"},
  };
  for (const auto& [fields, message] : broken) {
    EXPECT_NE(error(fields).find(message), std::string::npos) << error(fields);
  }
}

TEST(Crc32, IsTheOneOfZlib) {
  const auto crc = [](std::string_view text) { return crc32_of(std::as_bytes(std::span(text))); };
  EXPECT_EQ(crc32_text(crc("")), "00000000");
  EXPECT_EQ(crc32_text(crc("123456789")), "cbf43926");  // the check value that every list gives
  EXPECT_EQ(crc32_text(crc("The quick brown fox jumps over the lazy dog")), "414fa339");
  Crc32 pieces;
  for (const std::string_view part : {"123", "4567", "89"}) {
    pieces.bytes(std::as_bytes(std::span(part)));
  }
  EXPECT_EQ(pieces.value(), 0xcbf43926u);
  Crc32 words;
  words.word(0x34333231u);
  words.word(0x38373635u);
  words.bytes(std::as_bytes(std::span(std::string_view("9"))));
  EXPECT_EQ(words.value(), 0xcbf43926u);
}

TEST(TraceManifest, BrokenManifestsNameThePlace) {
  struct Case {
    std::string text;
    std::string message;
  };
  const std::vector<Case> cases = {
      {"", "not JSON"},
      {"[]", "a trace manifest is a JSON object"},
      {"{}", "/format: is a version that this program does not read"},
      {R"({"format":"parscope-trace/2","steps":[]})", "found \"parscope-trace/2\""},
      {R"({"format":1,"steps":[]})", "/format"},
      {R"({"format":"parscope-trace/1"})", "/steps: is missing"},
      {R"({"format":"parscope-trace/1","steps":{}})", "/steps: must be a list"},
      {manifest("3"), "/steps/0: must be an object"},
      {manifest(R"({"step":0})"), "/steps/0/file: is missing"},
      {manifest(R"({"step":-1,"file":"a"})"), "/steps/0/step: must be between 0"},
      {manifest(R"({"step":1.5,"file":"a"})"), "/steps/0/step: must be a whole number"},
      {manifest(R"({"rank":"0","file":"a"})"), "/steps/0/rank: must be a whole number"},
      {manifest(R"({"file":7})"), "/steps/0/file: must be a string"},
      {manifest(R"({"file":"../a"})"), "/steps/0/file: leads out of the trace's directory"},
      {manifest(R"({"file":"/etc/passwd"})"), "leads out of the trace's directory"},
      {manifest(R"({"file":"a/../../b"})"), "leads out of the trace's directory"},
      {manifest(R"({"file":"a\u0000b"})"), "leads out of the trace's directory"},
      {manifest(R"({"file":"a","op":"backward"})"), "/steps/0/op: is unknown"},
      {manifest(R"({"op":"reorder_cache"})"), "/steps/0/beam_idx: is missing"},
      {manifest(R"({"op":"reorder_cache","beam_idx":[-1]})"), "/steps/0/beam_idx: must hold"},
      {manifest(R"({"file":"a","op":"generate","num_beams":0})"), "/steps/0/num_beams"},
      {manifest(R"({"file":"a","greedy":1})"), "/steps/0/greedy: must be a boolean"},
      {manifest(R"({"step":4,"file":"a"},{"step":4,"file":"b"})"),
       "step 4 of rank 0 stands there twice"},
      {manifest(R"({"file":"a","rank":2})", R"("world_size":2,)"), "rank is outside world_size"},
      {manifest("", R"("dtype":"int8",)"), "/dtype: is no floating dtype"},
      {manifest("", R"("model":"x",)"), "/model: must be an object"},
      {manifest("", R"("world_size":0,)"), "/world_size: must be between 1"},
      {manifest("", R"("shards":{"a":{}},)"), "/shards: each entry is"},
      {manifest("", R"("shards":{"a":3},)"), "/shards: each entry is"},
      {manifest("", R"("shards":[],)"), "/shards: must be an object"},
      {manifest("", R"("steps":[],)"), "stands there twice"},
      {"{\"format\":" + std::string(200'000, '['), "nested deeper"},
  };
  for (const Case& c : cases) {
    const std::string line = manifest_error(c.text);
    EXPECT_NE(line.find(c.message), std::string::npos) << c.text.substr(0, 99) << "\n" << line;
  }
}

TEST(TraceManifest, WorldSizeFollowsTheRanksWhereItIsNotGiven) {
  const Result<Trace> trace = Trace::parse_manifest(
      manifest(R"({"file":"a","step":0},{"file":"b","step":0,"rank":3})"), "t");
  ASSERT_TRUE(trace.ok()) << trace.error().line();
  EXPECT_EQ(trace->manifest().world_size, 4);
}

TEST(Trace, DirectoryWithManifestIsRead) {
  const TempDir dir;
  put_step(dir / "s.safetensors");
  put_file(dir / "trace.json", manifest(R"({"step":5,"file":"s.safetensors"})"));
  const Result<Trace> trace = Trace::open(dir.path());
  ASSERT_TRUE(trace.ok()) << trace.error().line();
  ASSERT_EQ(trace->steps().size(), 1u);
  EXPECT_EQ(trace->steps()[0].step, 5);
  EXPECT_NE(trace->steps()[0].tensors->find("model.norm"), nullptr);
  EXPECT_EQ(trace->run_dtype(), DType::kBF16);
  EXPECT_EQ(trace->path(), dir.path());
}

TEST(Trace, StepThatIsListedAndNotThereIsAnError) {
  const TempDir dir;
  put_file(dir / "trace.json", manifest(R"({"step":5,"file":"s.safetensors"})"));
  const Result<Trace> trace = Trace::open(dir.path());
  ASSERT_FALSE(trace.ok());
  EXPECT_NE(trace.error().line().find("s.safetensors: cannot be opened"), std::string::npos);
}

TEST(Trace, StepFilesWithoutManifestAreReadByTheirNames) {
  const TempDir dir;
  put_step(dir / "step-00010.rank-00000.safetensors");
  put_step(dir / "step-00002.rank-00001.safetensors", manifest("", R"("producer":"p",)"));
  put_step(dir / "step-00002.rank-00000.safetensors");
  put_file(dir / "step-x.rank-0.safetensors", "no step");
  put_file(dir / "notes.txt", "");
  const Result<Trace> trace = Trace::open(dir.path());
  ASSERT_TRUE(trace.ok()) << trace.error().line();
  ASSERT_EQ(trace->steps().size(), 3u);
  EXPECT_EQ(trace->steps()[0].step, 2);
  EXPECT_EQ(trace->steps()[1].rank, 1);
  EXPECT_EQ(trace->steps()[2].step, 10);
  EXPECT_EQ(trace->manifest().world_size, 2);
  EXPECT_EQ(trace->manifest().producer, "p");
}

TEST(Trace, SameStepUnderTwoNamesIsAnError) {
  const TempDir dir;
  put_step(dir / "step-00001.rank-00000.safetensors");
  put_step(dir / "step-1.rank-0.safetensors");
  EXPECT_FALSE(Trace::open(dir.path()).ok());
}

TEST(Trace, BareFileIsOneStepOfOneRank) {
  const TempDir dir;
  put_step(dir / "anything.safetensors");
  const Result<Trace> trace = Trace::open(dir / "anything.safetensors");
  ASSERT_TRUE(trace.ok()) << trace.error().line();
  ASSERT_EQ(trace->steps().size(), 1u);
  EXPECT_EQ(trace->steps()[0].step, 0);
  EXPECT_EQ(trace->steps()[0].rank, 0);
  EXPECT_TRUE(trace->manifest().model_json.empty());
  EXPECT_EQ(trace->run_dtype(), DType::kBF16);  // its most frequent floating dtype
}

TEST(Trace, BareFileMayCarryItsManifest) {
  const TempDir dir;
  put_step(dir / "one.safetensors",
           R"({"format":"parscope-trace/1","model":{"x":1},"dtype":"float16"})");
  const Result<Trace> one = Trace::open(dir / "one.safetensors");
  ASSERT_TRUE(one.ok()) << one.error().line();
  EXPECT_EQ(one->manifest().model_json, R"({"x":1})");
  EXPECT_EQ(one->run_dtype(), DType::kF16);
  put_step(dir / "two.safetensors", manifest(R"({"step":0,"file":"one.safetensors"},)"
                                             R"({"step":1,"file":"two.safetensors"})"));
  EXPECT_EQ(Trace::open(dir / "two.safetensors")->steps()[0].step, 1);
  put_step(dir / "bad.safetensors", "{");
  EXPECT_FALSE(Trace::open(dir / "bad.safetensors").ok());
}

TEST(Trace, PlacesThatAreNoTraceAreErrors) {
  const TempDir dir;
  EXPECT_FALSE(Trace::open(dir / "absent").ok());
  const Result<Trace> empty = Trace::open(dir.path());
  ASSERT_FALSE(empty.ok());
  EXPECT_NE(empty.error().line().find("is no trace"), std::string::npos);
  put_file(dir / "trace.json", "{}");
  EXPECT_FALSE(Trace::open(dir.path()).ok());
}

class StepInputsTest : public testing::Test {
 protected:
  template <class T>
  void add(const std::string& name, DType dtype, Shape shape, const std::vector<T>& values) {
    tensors.emplace_back(name, Tensor::of<T>(dtype, std::move(shape), values));
  }
  Result<StepInputs> read(std::int64_t past) {
    Result<SafetensorsWriter> writer = SafetensorsWriter::create(dir / "f");
    for (const auto& [name, tensor] : tensors) EXPECT_TRUE(writer->add(name, tensor.view()).ok());
    EXPECT_TRUE(writer->close().ok());
    Result<SafetensorsFile> file = SafetensorsFile::open(dir / "f");
    TraceStep step;
    step.tensors = std::make_shared<const SafetensorsFile>(std::move(file).value());
    return step_inputs(step, past);
  }
  const TempDir dir;
  std::vector<std::pair<std::string, Tensor>> tensors;
};

TEST_F(StepInputsTest, InputsAreReadWhateverTheirIntegerType) {
  add<std::int32_t>("input_ids", DType::kI32, {2, 3}, {1, 2, 3, -4, 5, 6});
  add<std::uint8_t>("attention_mask", DType::kBool, {2, 4}, {1, 1, 1, 1, 0, 1, 1, 1});
  add<std::int64_t>("position_ids", DType::kI64, {1, 3}, {1, 2, 3});
  const Result<StepInputs> inputs = read(1);
  ASSERT_TRUE(inputs.ok()) << inputs.error().line();
  EXPECT_EQ(inputs->batch, 2);
  EXPECT_EQ(inputs->length, 3);
  EXPECT_EQ(inputs->input_ids, (std::vector<std::int64_t>{1, 2, 3, -4, 5, 6}));
  EXPECT_EQ(*inputs->attention_mask, (std::vector<std::int64_t>{1, 1, 1, 1, 0, 1, 1, 1}));
  EXPECT_EQ(*inputs->position_ids, (std::vector<std::int64_t>{1, 2, 3, 1, 2, 3}));
}

TEST_F(StepInputsTest, AbsentMaskAndPositionsStayAbsent) {
  add<std::int64_t>("input_ids", DType::kI64, {1, 2}, {1, 2});
  const Result<StepInputs> inputs = read(5);
  ASSERT_TRUE(inputs.ok());
  EXPECT_FALSE(inputs->attention_mask.has_value());
  EXPECT_FALSE(inputs->position_ids.has_value());
}

TEST_F(StepInputsTest, MaskOfAnotherLengthIsAnError) {
  add<std::int64_t>("input_ids", DType::kI64, {1, 2}, {1, 2});
  add<std::int64_t>("attention_mask", DType::kI64, {1, 2}, {1, 1});
  EXPECT_TRUE(read(0).ok());
  const Result<StepInputs> later = read(3);
  ASSERT_FALSE(later.ok());
  EXPECT_NE(later.error().line().find("expected [1,5], found [1,2]"), std::string::npos);
}

TEST_F(StepInputsTest, MaskOfSegmentNumbersIsAnError) {
  add<std::int64_t>("input_ids", DType::kI64, {1, 2}, {1, 2});
  add<std::int64_t>("attention_mask", DType::kI64, {1, 2}, {1, 2});
  EXPECT_FALSE(read(0).ok());
}

TEST_F(StepInputsTest, MissingOrMisshapenIdsAreAnError) {
  EXPECT_FALSE(read(0).ok());
  add<std::int64_t>("input_ids", DType::kI64, {2}, {1, 2});
  EXPECT_FALSE(read(0).ok());
  tensors.clear();
  add<float>("input_ids", DType::kF32, {1, 2}, {1.0f, 2.0f});
  EXPECT_FALSE(read(0).ok());
  tensors.clear();
  add<std::int64_t>("input_ids", DType::kI64, {1, 0}, {});
  EXPECT_FALSE(read(0).ok());
  tensors.clear();
  add<std::int64_t>("input_ids", DType::kI64, {1, 2}, {1, 2});
  add<std::int64_t>("position_ids", DType::kI64, {2, 1}, {1, 2});
  EXPECT_FALSE(read(0).ok());
}

TEST(TraceWriter, WhatWasWrittenIsReadBack) {
  const TempDir dir;
  TraceManifest manifest;
  manifest.producer = "a \"test\"";
  manifest.model_json = "{\n \"model_type\": \"qwen2\",\n \"rms_norm_eps\": 1e-06\n}";
  manifest.dtype = DType::kBF16;
  manifest.device = "host";
  manifest.shards = {{"model.layers.*.mlp.up_proj", 2}};
  StepInputs inputs;
  inputs.batch = 2;
  inputs.length = 3;
  inputs.input_ids = {1, 2, 3, 4, 5, 6};
  inputs.attention_mask = {0, 1, 1, 1, 1, 1};
  inputs.position_ids = {1, 0, 1, 0, 1, 2};
  const Tensor value(DType::kBF16, {2, 3, 5});
  {
    Result<TraceWriter> writer = TraceWriter::create(dir / "new/trace", manifest);
    ASSERT_TRUE(writer.ok()) << writer.error().line();
    TraceStep step;
    step.greedy = true;
    ASSERT_TRUE(writer->begin_step(step, &inputs).ok());
    ASSERT_TRUE(writer->add("model.norm", value.view()).ok());
    EXPECT_FALSE(writer->add("model.norm", value.view()).ok());
    EXPECT_FALSE(writer->add("input_ids", value.view()).ok());
    ASSERT_TRUE(writer->end_step().ok());
    step.step = 1;
    step.op = StepOp::kReorderCache;
    step.beam_idx = {1, 0};
    ASSERT_TRUE(writer->begin_step(step, nullptr).ok());
    ASSERT_TRUE(writer->end_step().ok());
    step.step = 2;
    step.op = StepOp::kGenerate;
    step.num_beams = 3;
    step.max_new_tokens = 7;
    ASSERT_TRUE(writer->begin_step(step, &inputs).ok());
    ASSERT_TRUE(writer->end_step().ok());
    EXPECT_FALSE(std::filesystem::exists(dir / "new/trace/trace.json"));  // it comes last
    ASSERT_TRUE(writer->close().ok());
  }
  const Result<Trace> trace = Trace::open(dir / "new/trace");
  ASSERT_TRUE(trace.ok()) << trace.error().line();
  EXPECT_EQ(trace->manifest().producer, manifest.producer);
  EXPECT_EQ(trace->manifest().model_json, R"({"model_type":"qwen2","rms_norm_eps":1e-06})");
  EXPECT_EQ(trace->manifest().dtype, DType::kBF16);
  EXPECT_EQ(trace->manifest().shards.at(0).dim, 2);
  ASSERT_EQ(trace->steps().size(), 3u);
  EXPECT_EQ(trace->steps()[0].file, "step-00000.rank-00000.safetensors");
  EXPECT_TRUE(trace->steps()[0].greedy);
  EXPECT_EQ(trace->steps()[1].beam_idx, (std::vector<std::int64_t>{1, 0}));
  EXPECT_EQ(trace->steps()[2].num_beams, 3);
  EXPECT_EQ(trace->steps()[2].max_new_tokens, 7);
  const Result<StepInputs> read = step_inputs(trace->steps()[0], 0);
  ASSERT_TRUE(read.ok()) << read.error().line();
  EXPECT_EQ(read->input_ids, inputs.input_ids);
  EXPECT_EQ(read->attention_mask, inputs.attention_mask);
  EXPECT_EQ(read->position_ids, inputs.position_ids);
  EXPECT_EQ(trace->steps()[0].tensors->find("model.norm")->shape, (Shape{2, 3, 5}));
}

TEST(TraceWriter, UnfinishedTraceLeavesWholeStepsAndNoManifest) {
  const TempDir dir;
  put_file(dir / "trace.json", "an older run's");
  {
    Result<TraceWriter> writer = TraceWriter::create(dir.path(), {});
    ASSERT_TRUE(writer.ok());
    const Tensor value(DType::kF32, {3});
    TraceStep step;
    ASSERT_TRUE(writer->begin_step(step, nullptr).ok());
    ASSERT_TRUE(writer->add("a", value.view()).ok());
    ASSERT_TRUE(writer->end_step().ok());
    step.step = 1;
    ASSERT_TRUE(writer->begin_step(step, nullptr).ok());
    ASSERT_TRUE(writer->add("a", value.view()).ok());
  }
  EXPECT_EQ(dir.names(), std::vector<std::string>{"step-00000.rank-00000.safetensors"});
  EXPECT_TRUE(Trace::open(dir.path()).ok());
}

TEST(TraceWriter, ModelThatIsNoJsonIsAnErrorBeforeTheRun) {
  const TempDir dir;
  TraceManifest manifest;
  manifest.model_json = "{";
  EXPECT_FALSE(TraceWriter::create(dir / "trace", manifest).ok());
}

TEST(Trace, EveryGoldenTraceOpensAndItsInputsFit) {
  int traces = 0;
  for (const auto& dir : model_dirs()) {
    for (const char* name : {"expected", "expected-f64"}) {
      if (!std::filesystem::exists(dir / name)) continue;
      const Result<Trace> trace = Trace::open(dir / name);
      ASSERT_TRUE(trace.ok()) << trace.error().line();
      std::int64_t past = 0;
      for (const TraceStep& step : trace->steps()) {
        if (step.op == StepOp::kReorderCache) continue;
        const Result<StepInputs> inputs = step_inputs(step, past);
        ASSERT_TRUE(inputs.ok()) << inputs.error().line();
        if (step.op == StepOp::kForward) past += inputs->length;
      }
      ++traces;
    }
  }
  EXPECT_GE(traces, 62);
}

}  // namespace
}  // namespace ps
