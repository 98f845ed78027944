// Writes a model directory for a config: every expected tensor, with numbers of its own.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "core/checkpoint.h"
#include "core/config.h"
#include "core/rng.h"
#include "core/safetensors.h"
#include "core/tensor.h"
#include "tests/support/temp_dir.h"

namespace ps {

inline Tensor random_tensor(const Shape& shape, std::uint64_t stream) {
  Tensor tensor(DType::kF32, shape);
  const Rng rng(1, stream);
  std::uint64_t index = 0;
  for (float& x : tensor.as<float>()) x = static_cast<float>(rng.normal(index++) * 0.1);
  return tensor;
}

// `keep` chooses the tensors that go into this file.
inline void write_weights(const std::filesystem::path& file, const ModelConfig& config,
                          const std::function<bool(std::string_view)>& keep) {
  Result<SafetensorsWriter> writer = SafetensorsWriter::create(file);
  ASSERT_TRUE(writer.ok()) << writer.error().line();
  std::uint64_t stream = 0;
  for (const WeightSpec& spec : expected_weights(config)) {
    const Tensor tensor = random_tensor(spec.shape, stream++);
    if (!keep(spec.name)) continue;
    ASSERT_TRUE(writer->add(spec.name, tensor.view()).ok());
  }
  ASSERT_TRUE(writer->close().ok());
}

inline void write_model(const std::filesystem::path& dir, const ModelConfig& config) {
  put_file(dir / "config.json", config.json);
  write_weights(dir / "model.safetensors", config, [](std::string_view) { return true; });
}

}  // namespace ps
