// The same things on a GPU, where there is one: every op against its oracle, products against the
// host's, golden cases against the host engine, and the same bits twice. `./dev gpu` runs these
// under compute-sanitizer as well. Without a device they are skipped.
#include <cmath>
#include <map>

#include <gtest/gtest.h>

#include "core/trace.h"
#include "model/backend.h"
#include "model/candidate.h"
#include "tests/mutants/op_trial.h"
#include "tests/support/fixtures.h"

namespace ps {
namespace {

class Cuda : public testing::Test {
 protected:
  void SetUp() override {
    if (cuda_devices() == 0) GTEST_SKIP() << "no CUDA device";
  }
  static std::unique_ptr<Backend> open() {
    auto backend = open_cuda_backend();
    EXPECT_TRUE(backend.ok()) << backend.error().line();
    return backend.ok() ? std::move(backend).value() : nullptr;
  }
};

const OpEntry& entry_of(std::size_t i) {
  static const OpEntry& (*const entries[])() = {
#define PS_OP(name) &cpu::name,
#include "model/ops/ops.def"
#undef PS_OP
  };
  return entries[i]();
}

Array moved(const Array& like, void* data) {
  switch (like.ndim()) {
    case 1:
      return {data, like.dtype(), {like.size(0)}};
    case 2:
      return {data, like.dtype(), {like.size(0), like.size(1)}};
    case 3:
      return {data, like.dtype(), {like.size(0), like.size(1), like.size(2)}};
    case 4:
      return {data, like.dtype(), {like.size(0), like.size(1), like.size(2), like.size(3)}};
    default:
      return {data,
              like.dtype(),
              {like.size(0), like.size(1), like.size(2), like.size(3), like.size(4)}};
  }
}

// Runs the trial's call on the device and brings the outputs back into the trial's memory.
std::string run_on(Backend& backend, std::size_t op, OpTrial& trial) {
  std::vector<Array> arrays;
  for (const Array& array : trial.call().arrays) {
    arrays.push_back(moved(array, backend.allocate(array.bytes(), "a test")));
    backend.upload(array.data(), arrays.back());  // outputs too: they start as NaN
  }
  const auto run = [&](std::initializer_list<Array> list) {
    const std::vector<double>& s = trial.call().scalars;
    switch (s.size()) {
      case 0:
        return backend.run(static_cast<Op>(op), list, {});
      case 1:
        return backend.run(static_cast<Op>(op), list, {s[0]});
      default:
        PS_CHECK(s.size() == 7, "an op with another number of scalars");
        return backend.run(static_cast<Op>(op), list, {s[0], s[1], s[2], s[3], s[4], s[5], s[6]});
    }
  };
  if (arrays.size() == 2) {
    run({arrays[0], arrays[1]});
  } else if (arrays.size() == 3) {
    run({arrays[0], arrays[1], arrays[2]});
  } else {
    PS_CHECK(arrays.size() == 4, "an op with another number of arrays");
    run({arrays[0], arrays[1], arrays[2], arrays[3]});
  }
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    if (trial.schema().operands[i].output)
      backend.download(arrays[i], trial.call().arrays[i].data());
  }
  for (const Array& array : arrays) backend.release(array.data());
  if (backend.error()) return backend.error()->line();
  return trial.against_oracle();
}

TEST_F(Cuda, EveryOpAgreesWithItsOracle) {
  const auto backend = open();
  ASSERT_NE(backend, nullptr);
  for (std::size_t op = 0; op < kOps; ++op) {
    EXPECT_EQ(
        first_fault(entry_of(op), [&](OpTrial& trial) { return run_on(*backend, op, trial); }), "")
        << entry_of(op).name;
  }
}

TEST_F(Cuda, ProductsAgreeWithTheHosts) {
  const auto device = open();
  const auto host = open_host_backend(0, Launch{});
  ASSERT_NE(device, nullptr);
  struct Sizes {
    std::int64_t rows, in, out;
  };
  for (const Sizes& s : {Sizes{5, 7, 3}, Sizes{1, 67, 129}, Sizes{33, 300, 257}, Sizes{64, 128, 96},
                         Sizes{2, 1, 5}}) {
    for (const DType type : {DType::kF32, DType::kBF16, DType::kF16}) {
      for (const bool with_bias : {false, true}) {
        std::vector<Tensor> tensors{Tensor(type, {s.rows, s.in}), Tensor(type, {s.out, s.in}),
                                    Tensor(type, {s.out}), Tensor(type, {s.rows, s.out}),
                                    Tensor(type, {s.rows, s.out})};
        for (std::size_t i = 0; i < 3; ++i) {
          const Rng rng(3, i);
          for (std::int64_t cell = 0; cell < count_of(tensors[i].shape()); ++cell) {
            const auto x = static_cast<float>(rng.normal(static_cast<std::uint64_t>(cell)));
            const auto at = static_cast<std::size_t>(cell);
            if (type == DType::kF32)
              tensors[i].as<float>()[at] = x;
            else
              tensors[i].as<std::uint16_t>()[at] =
                  type == DType::kBF16 ? float_to_bf16(x) : float_to_f16(x);
          }
        }
        const auto array = [&](std::size_t i, void* data) {
          const Shape shape = tensors[i].shape();
          return shape.size() == 1 ? Array(data, type, {shape[0]})
                                   : Array(data, type, {shape[0], shape[1]});
        };
        std::vector<Array> here, there;
        for (std::size_t i = 0; i < 5; ++i) {
          here.push_back(array(i, tensors[i].bytes().data()));
          there.push_back(array(i, device->allocate(here[i].bytes(), "a test")));
          device->upload(here[i].data(), there[i]);
        }
        host->gemm(plan_linear(here[0], here[1], with_bias, here[3]), here[1], here[0], here[2],
                   here[3]);
        device->gemm(plan_linear(there[0], there[1], with_bias, there[3]), there[1], there[0],
                     there[2], there[3]);
        device->download(there[3], here[4].data());
        for (const Array& x : there) device->release(x.data());
        ASSERT_FALSE(device->error().has_value()) << device->error()->line();
        double scale = 0;
        for (std::int64_t i = 0; i < here[3].count(); ++i)
          scale = std::max(scale, std::fabs(value_at(tensors[3].view(), i)));
        const double bound =
            scale * (2 * unit_roundoff(type) + 8 * 0x1p-24 * std::sqrt(static_cast<double>(s.in)));
        for (std::int64_t i = 0; i < here[3].count(); ++i)
          ASSERT_NEAR(value_at(tensors[3].view(), i), value_at(tensors[4].view(), i), bound)
              << s.rows << "x" << s.in << "x" << s.out << " " << short_name(type);
      }
    }
  }
}

class Keep final : public Tap {
 public:
  bool wants(std::string_view) override { return true; }
  void take(std::string_view point, const TensorView& value) override {
    order.emplace_back(point);
    points[std::string(point)] = Tensor::copy_of(value);
  }
  std::map<std::string, Tensor> points;
  std::vector<std::string> order;
};

// All points of all steps of a golden case.
std::vector<Keep> run_case(const std::filesystem::path& dir, Device device, DType dtype) {
  CandidateOptions options;
  options.device = device;
  options.dtype = dtype;
  const auto model = open_model(dir);
  auto engine = open_candidate(*model, options);
  EXPECT_TRUE(engine.ok()) << engine.error().line();
  const auto trace = Trace::open(dir / "expected-f64");
  std::vector<Keep> steps;
  for (const TraceStep& step : trace->steps()) {
    if (step.op == StepOp::kGenerate) continue;
    steps.emplace_back();
    const Result<void> ran =
        step.op == StepOp::kForward
            ? (*engine)->forward(*step_inputs(step, (*engine)->past()), steps.back())
            : (*engine)->reorder_cache(step.beam_idx, steps.back());
    EXPECT_TRUE(ran.ok()) << ran.error().line();
    if (!step.use_cache) (*engine)->reset();
  }
  return steps;
}

TEST_F(Cuda, GoldenCasesAgreeWithTheHostEngineInTheSameOrderAndTwiceToTheBit) {
  for (const std::filesystem::path& dir : model_dirs()) {
    if (!std::filesystem::exists(dir / "expected-f64")) continue;
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      const auto device = run_case(dir, Device::kCuda, dtype),
                 again = run_case(dir, Device::kCuda, dtype),
                 host = run_case(dir, Device::kHost, dtype);
      ASSERT_EQ(device.size(), host.size());
      const double bound = dtype == DType::kF32 ? 1e-5 : 24 * unit_roundoff(dtype);
      for (std::size_t step = 0; step < host.size(); ++step) {
        ASSERT_EQ(device[step].order, host[step].order);
        for (const auto& [point, want] : host[step].points) {
          const TensorView a = device[step].points.at(point).view(), b = want.view(),
                           twice = again[step].points.at(point).view();
          ASSERT_EQ(a.shape, b.shape) << point;
          ASSERT_TRUE(std::equal(a.bytes.begin(), a.bytes.end(), twice.bytes.begin()))
              << dir.filename() << " " << point << ": other bits the second time";
          double scale = 0, error = 0;
          for (std::int64_t i = 0; i < a.count(); ++i) {
            scale = std::max(scale, std::fabs(value_at(b, i)));
            error = std::max(error, std::fabs(value_at(a, i) - value_at(b, i)));
          }
          ASSERT_LE(error, bound * scale)
              << dir.filename() << " " << short_name(dtype) << " step " << step << " " << point;
        }
      }
    }
  }
}

TEST_F(Cuda, GeneratesWhatTheHostGenerates) {
  const auto dir = fixtures_dir() / "models" / "parscale-bytes";
  const auto model = open_model(dir);
  StepInputs prompt{.batch = 1,
                    .length = 4,
                    .input_ids = {100, 101, 102, 32},
                    .attention_mask = {},
                    .position_ids = {}};
  std::vector<std::vector<std::int64_t>> sequences;
  for (const Device device : {Device::kHost, Device::kCuda}) {
    CandidateOptions options;
    options.device = device;
    auto engine = open_candidate(*model, options);
    ASSERT_TRUE(engine.ok()) << engine.error().line();
    const auto out = (*engine)->generate(prompt, 3, 12);
    ASSERT_TRUE(out.ok()) << out.error().line();
    sequences.push_back(out->sequences);
  }
  EXPECT_EQ(sequences[0], sequences[1]);
}

TEST_F(Cuda, OutOfMemorySaysHowMuchWasNeeded) {
  const auto backend = open();
  ASSERT_NE(backend, nullptr);
  EXPECT_EQ(backend->allocate(std::int64_t{1} << 50, "a test"), nullptr);
  ASSERT_TRUE(backend->error().has_value());
  EXPECT_EQ(backend->error()->kind, Error::Kind::kMachine);
  EXPECT_NE(backend->error()->line().find(std::to_string(std::int64_t{1} << 50)),
            std::string::npos);
}

TEST(NoCuda, IsAnErrorThatSaysSo) {
  if (cuda_devices() != 0) GTEST_SKIP() << "there is a device";
  const auto backend = open_cuda_backend();
  ASSERT_FALSE(backend.ok());
  EXPECT_EQ(backend.error().kind, Error::Kind::kMachine);
  const auto model = open_model(fixtures_dir() / "models" / "parscale-bytes");
  ASSERT_TRUE(model.ok());
  CandidateOptions options;
  options.device = Device::kCuda;
  EXPECT_FALSE(open_candidate(*model, options).ok());
  options.device = Device::kAuto;
  EXPECT_TRUE(open_candidate(*model, options).ok());
}

}  // namespace
}  // namespace ps
