#include "tests/support/random_model.h"

#include <cmath>

#include "core/file.h"
#include "core/float_bits.h"
#include "core/rng.h"

namespace ps {

namespace {

Tensor random_weight(const WeightSpec& spec, DType dtype, const Rng& rng) {
  Tensor out(dtype, spec.shape);
  const bool norm = spec.name.find("norm") != std::string::npos;
  // Rows of a projection have norm of about one, so that activations keep their size.
  const double fan_in = spec.shape.size() == 2 ? static_cast<double>(spec.shape[1]) : 16.0;
  const double scale = norm ? 0.1 : 1.0 / std::sqrt(fan_in);
  const std::int64_t n = count_of(spec.shape);
  for (std::int64_t i = 0; i < n; ++i) {
    const double x = (norm ? 1.0 : 0.0) + scale * rng.normal(static_cast<std::uint64_t>(i));
    const auto at = static_cast<std::size_t>(i);
    switch (dtype) {
      case DType::kF64:
        out.as<double>()[at] = x;
        break;
      case DType::kF32:
        out.as<float>()[at] = static_cast<float>(x);
        break;
      case DType::kBF16:
        out.as<std::uint16_t>()[at] = float_to_bf16(static_cast<float>(x));
        break;
      case DType::kF16:
        out.as<std::uint16_t>()[at] = float_to_f16(static_cast<float>(x));
        break;
      default:
        PS_CHECK(false, "random weights of type " + std::string(short_name(dtype)));
    }
  }
  return out;
}

template <class T>
T must(Result<T> result) {
  PS_CHECK(result.ok(), result.error().line());
  return std::move(result).value();
}
void must(const Result<void>& result) { PS_CHECK(result.ok(), result.error().line()); }

}  // namespace

Model random_model(const std::filesystem::path& dir, std::string_view config_json,
                   std::uint64_t seed) {
  std::filesystem::create_directories(dir);
  must(write_text(dir / "config.json", config_json));
  const ModelConfig config = must(load_config(dir));
  SafetensorsWriter writer = must(SafetensorsWriter::create(dir / "model.safetensors"));
  std::uint64_t stream = 0;
  for (const WeightSpec& spec : expected_weights(config)) {
    const Tensor w = random_weight(spec, config.dtype, Rng(seed, stream++));
    must(writer.add(spec.name, w.view()));
  }
  must(writer.close());
  return must(open_model(dir));
}

}  // namespace ps
