// Writes a checkpoint of a given config.json with random weights, as fast as the disk takes them,
// to measure memory and time at real sizes: make_checkpoint CONFIG.json OUT_DIR Values repeat with
// a long period; norms are near 1, everything else has the size that keeps activations alive.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "core/checkpoint.h"
#include "core/file.h"
#include "core/float_bits.h"
#include "core/rng.h"

namespace {

int fail(const ps::Error& error) {
  std::fprintf(stderr, "make_checkpoint: %s\n", error.line().c_str());
  return 2;
}

constexpr std::int64_t kPeriod = 4194301;  // a prime: no weight's rows repeat

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fputs("usage: make_checkpoint CONFIG.json OUT_DIR\n", stderr);
    return 2;
  }
  const auto text = ps::read_text(argv[1]);
  if (!text.ok()) return fail(text.error());
  const auto config = ps::load_config(argv[1]);
  if (!config.ok()) return fail(config.error());
  const std::filesystem::path dir = argv[2];
  if (const auto made = ps::ensure_directory(dir); !made.ok()) return fail(made.error());
  if (const auto put = ps::write_text(dir / "config.json", *text); !put.ok())
    return fail(put.error());

  std::vector<float> noise(kPeriod);
  const ps::Rng rng(1, 1);
  for (std::size_t i = 0; i < noise.size(); ++i) noise[i] = static_cast<float>(rng.normal(i));
  auto writer = ps::SafetensorsWriter::create(dir / "model.safetensors");
  if (!writer.ok()) return fail(writer.error());
  std::int64_t start = 0;
  for (const ps::WeightSpec& spec : ps::expected_weights(*config)) {
    const bool norm = spec.name.find("norm") != std::string::npos;
    const double fan_in = spec.shape.size() == 2 ? static_cast<double>(spec.shape[1]) : 16.0;
    const auto scale = static_cast<float>(norm ? 0.1 : 1.0 / std::sqrt(fan_in));
    std::vector<std::uint16_t> pattern(kPeriod);
    for (std::int64_t i = 0; i < kPeriod; ++i) {
      const float x = noise[static_cast<std::size_t>((start + i) % kPeriod)];
      pattern[static_cast<std::size_t>(i)] = ps::float_to_bf16((norm ? 1.0F : 0.0F) + scale * x);
    }
    ps::Tensor w(ps::DType::kBF16, spec.shape);
    auto cells = w.as<std::uint16_t>();
    for (std::size_t at = 0; at < cells.size(); at += pattern.size()) {
      std::memcpy(cells.data() + at, pattern.data(),
                  2 * std::min(pattern.size(), cells.size() - at));
    }
    if (const auto added = writer->add(spec.name, w.view()); !added.ok())
      return fail(added.error());
    start += 1000003;
  }
  if (const auto closed = writer->close(); !closed.ok()) return fail(closed.error());
  return 0;
}
