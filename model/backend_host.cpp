// The host: the kernels' bodies run in order over a pool of threads, products run on a BLAS,
// weights stay in the mapped checkpoint.
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include "model/backend.h"
#include "model/gemm/convert.h"
#include "model/gemm/gemm_host.h"
#include "model/thread_pool.h"

namespace ps {
namespace {

constexpr std::size_t kAlignment = 64;

const OpEntry& host_entry(Op op) {
  static const OpEntry& (*const entries[])() = {
#define PS_OP(name) &cpu::name,
#include "model/ops/ops.def"
#undef PS_OP
  };
  return entries[static_cast<std::size_t>(op)]();
}

bool readable_in_place(const TensorView& tensor, DType dtype, bool as_stored) {
  const bool storage =
      tensor.dtype == DType::kF32 || tensor.dtype == DType::kBF16 || tensor.dtype == DType::kF16;
  const auto address = reinterpret_cast<std::uintptr_t>(tensor.bytes.data());
  return storage && (tensor.dtype == dtype || as_stored) &&
         address % static_cast<std::uintptr_t>(size_of(tensor.dtype)) == 0;
}

Array with_shape(void* data, DType dtype, const Shape& shape) {
  switch (shape.size()) {
    case 1:
      return {data, dtype, {shape[0]}};
    case 2:
      return {data, dtype, {shape[0], shape[1]}};
    case 4:
      return {data, dtype, {shape[0], shape[1], shape[2], shape[3]}};
    default:
      PS_CHECK(false, "a weight of shape " + to_string(shape));
      return {};
  }
}

class HostBackend final : public Backend {
 public:
  HostBackend(int threads, const Launch& launch) : pool_(threads), launch_(launch) {
    launch_.pool = &pool_;
  }
  ~HostBackend() override {
    for (void* memory : owned_) std::free(memory);
  }

  std::string describe() const override {
    return "host, " + std::to_string(pool_.threads()) + " threads, " + host_blas();
  }
  void* allocate(std::int64_t bytes, std::string_view what) override {
    const std::size_t rounded =
        (static_cast<std::size_t>(bytes) + kAlignment) / kAlignment * kAlignment;
    void* memory = std::aligned_alloc(kAlignment, rounded);
    if (memory == nullptr) {
      fail(machine_error("host", "out of memory for " + std::string(what),
                         std::to_string(bytes) + " bytes"));
    } else if (launch_.runner != Launch::Runner::kInOrder) {
      std::memset(memory, 0xff, rounded);  // NaN: who reads what nobody wrote shows it
    }
    return memory;
  }
  void release(void* memory) override { std::free(memory); }

  Array weight(const TensorView& tensor, DType dtype, bool as_stored) override {
    if (readable_in_place(tensor, dtype, as_stored)) {
      return with_shape(const_cast<std::byte*>(tensor.bytes.data()), tensor.dtype, tensor.shape);
    }
    void* memory = allocate(tensor.count() * size_of(dtype), "a converted weight");
    if (memory == nullptr) return {};
    owned_.push_back(memory);
    convert_elements(tensor.bytes.data(), tensor.dtype, static_cast<std::byte*>(memory), dtype,
                     tensor.count());
    return with_shape(memory, dtype, tensor.shape);
  }
  void upload(const void* from, const Array& to) override {
    if (!error_) std::memcpy(to.data(), from, static_cast<std::size_t>(to.bytes()));
  }
  void download(const Array& from, void* to) override {
    if (!error_) std::memcpy(to, from.data(), static_cast<std::size_t>(from.bytes()));
  }
  void run(Op op, std::initializer_list<Array> arrays,
           std::initializer_list<double> scalars) override {
    if (error_) return;
    const OpCall call{.op = &host_entry(op), .arrays = arrays, .scalars = scalars};
    call.check(schema_of(op));
    call.op->run(call, launch_);
    ++launch_.seed;
  }
  void gemm(const GemmPlan& plan, const Array& a, const Array& b, const Array& bias,
            const Array& c) override {
    if (error_) return;
    const GemmExtents need = extents(plan);
    PS_CHECK(need.a <= a.extent() && need.b <= b.extent() && need.c <= c.extent() &&
                 (!plan.bias || bias.count() >= plan.m),
             plan.describe() + " on " + a.describe() + ", " + b.describe() + ", " + c.describe());
    run_gemm_host(plan, a.data(), b.data(), bias.data(), c.data(), pool_);
  }
  void tap(const std::string& point, const Array& value, Tap& tap) override {
    if (error_) return;
    const auto* bytes = static_cast<const std::byte*>(value.data());
    tap.take(point,
             {value.dtype(), value.shape(), {bytes, static_cast<std::size_t>(value.bytes())}});
  }
  void finish() override {}

 private:
  ThreadPool pool_;
  Launch launch_;
  std::vector<void*> owned_;
};

}  // namespace

const Schema& schema_of(Op op) {
  static const std::vector<Schema> schemas = [] {
    std::vector<Schema> all;
    for (std::size_t i = 0; i < kOps; ++i)
      all.push_back(parse_schema(host_entry(static_cast<Op>(i)).schema));
    return all;
  }();
  return schemas[static_cast<std::size_t>(op)];
}

std::unique_ptr<Backend> open_host_backend(int threads, const Launch& launch) {
  return std::make_unique<HostBackend>(threads, launch);
}

}  // namespace ps
