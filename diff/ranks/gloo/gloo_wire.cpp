// Gloo as a Wire, in a library of its own: programs that never meet other ranks do not load Gloo,
// and its symbols stay apart from the Gloo inside LibTorch.
#include <cstring>
#include <exception>
#include <vector>

#include <gloo/allgather.h>
#include <gloo/allreduce.h>
#include <gloo/broadcast.h>
#include <gloo/gather.h>
#include <gloo/math.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/store.h>
#include <gloo/transport/tcp/device.h>

#include "core/float_bits.h"
#include "diff/ranks/wire.h"

namespace ps {

namespace {

// Gloo's way to find the other ranks, over rank 0's ear. Gloo expects exceptions.
class Store final : public gloo::rendezvous::Store {
 public:
  explicit Store(KeyValue& values) : values_(values) {}
  void set(const std::string& key, const std::vector<char>& data) override {
    const Result<void> done = values_.set(key, std::string(data.begin(), data.end()));
    if (!done.ok()) throw std::runtime_error(done.error().line());
  }
  std::vector<char> get(const std::string& key) override {
    const Result<std::string> value = values_.get(key);
    if (!value.ok()) throw std::runtime_error(value.error().line());
    return {value->begin(), value->end()};
  }
  void wait(const std::vector<std::string>& keys) override {
    for (const std::string& key : keys) get(key);
  }

 private:
  KeyValue& values_;
};

// What an element of a 16-bit sum is: added as float, rounded once.
template <float Widen(std::uint16_t), std::uint16_t Round(float)>
void add_halves(void* out, const void* a, const void* b, std::size_t n) {
  auto* o = static_cast<std::uint16_t*>(out);
  const auto* x = static_cast<const std::uint16_t*>(a);
  const auto* y = static_cast<const std::uint16_t*>(b);
  for (std::size_t i = 0; i < n; ++i) o[i] = Round(Widen(x[i]) + Widen(y[i]));
}

float wide_bf16(std::uint16_t x) { return bf16_to_float(x); }
float wide_f16(std::uint16_t x) { return f16_to_float(x); }
std::uint16_t round_bf16(float x) { return float_to_bf16(x); }
std::uint16_t round_f16(float x) { return float_to_f16(x); }

using Reduce = void (*)(void*, const void*, const void*, std::size_t);

class GlooWire final : public Wire {
 public:
  explicit GlooWire(const WireOptions& options) {
    Store store(*options.values);
    gloo::transport::tcp::attr attributes(options.address.c_str());
    if (const char* interface = std::getenv("GLOO_SOCKET_IFNAME")) attributes.iface = interface;
    auto device = gloo::transport::tcp::CreateDevice(attributes);
    auto context = std::make_shared<gloo::rendezvous::Context>(static_cast<int>(options.rank),
                                                               static_cast<int>(options.size));
    context->setTimeout(std::chrono::milliseconds(30000));
    context->connectFullMesh(store, device);
    context->setTimeout(options.timeout);
    context_ = std::move(context);
  }

  Result<void> all_reduce(Tensor& value) override {
    const auto n = static_cast<std::size_t>(count_of(value.shape()));
    if (n == 0) return {};
    return guarded([&] {
      gloo::AllreduceOptions options(context_);
      void* data = value.bytes().data();
      switch (value.dtype()) {
        case DType::kF64:
          options.setOutput(static_cast<double*>(data), n);
          options.setReduceFunction(static_cast<Reduce>(&gloo::sum<double>));
          break;
        case DType::kF32:
          options.setOutput(static_cast<float*>(data), n);
          options.setReduceFunction(static_cast<Reduce>(&gloo::sum<float>));
          break;
        case DType::kBF16:
          options.setOutput(static_cast<std::uint16_t*>(data), n);
          options.setReduceFunction(&add_halves<wide_bf16, round_bf16>);
          break;
        case DType::kF16:
          options.setOutput(static_cast<std::uint16_t*>(data), n);
          options.setReduceFunction(&add_halves<wide_f16, round_f16>);
          break;
        default:
          PS_CHECK(false, "only floating numbers are summed");
      }
      options.setTag(next_tag());
      gloo::allreduce(options);
    });
  }

  Result<void> all_gather(std::span<const std::byte> own, std::span<std::byte> all) override {
    if (own.empty()) return {};
    return guarded([&] {
      gloo::AllgatherOptions options(context_);
      options.setInput(writable(own), own.size());
      options.setOutput(reinterpret_cast<std::uint8_t*>(all.data()), all.size());
      options.setTag(next_tag());
      gloo::allgather(options);
    });
  }

  Result<void> gather(std::span<const std::byte> own, std::span<std::byte> all) override {
    if (own.empty()) return {};
    return guarded([&] {
      gloo::GatherOptions options(context_);
      options.setInput(writable(own), own.size());
      if (context_->rank == 0) {
        options.setOutput(reinterpret_cast<std::uint8_t*>(all.data()), all.size());
      }
      options.setRoot(0);
      options.setTag(next_tag());
      gloo::gather(options);
    });
  }

  Result<void> broadcast(std::span<std::byte> bytes) override {
    if (bytes.empty()) return {};
    return guarded([&] {
      gloo::BroadcastOptions options(context_);
      options.setOutput(reinterpret_cast<std::uint8_t*>(bytes.data()), bytes.size());
      options.setRoot(0);
      options.setTag(next_tag());
      gloo::broadcast(options);
    });
  }

 private:
  // Gloo's buffers are not const, and it does not write to an input.
  static std::uint8_t* writable(std::span<const std::byte> bytes) {
    return const_cast<std::uint8_t*>(reinterpret_cast<const std::uint8_t*>(bytes.data()));
  }
  std::uint32_t next_tag() { return tag_++ & 0xffffU; }

  template <class Call>
  Result<void> guarded(const Call& call) {
    try {
      call();
      return {};
    } catch (const std::exception& e) {
      // "[.../pair.cc:598] Connection closed by peer": the file is nobody's business.
      std::string text = e.what();
      if (text.starts_with('[')) text.erase(0, std::min(text.find("] ") + 2, text.size()));
      return machine_error("gloo", "a collective failed", "", text);
    }
  }

  std::shared_ptr<gloo::Context> context_;
  std::uint32_t tag_ = 0;
};

}  // namespace

}  // namespace ps

extern "C" __attribute__((visibility("default"))) ps::Wire* parscope_make_gloo(
    const ps::WireOptions* options, ps::Error* error) {
  try {
    return new ps::GlooWire(*options);
  } catch (const std::exception& e) {
    *error = ps::machine_error("gloo", "the ranks cannot be connected", "", e.what());
    return nullptr;
  }
}
