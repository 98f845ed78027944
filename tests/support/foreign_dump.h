// Writes the values of a golden trace as another engine would dump them: .npy files under its names
// and in its layouts. Written apart from diff/foreign, in plain loops.
#pragma once

#include <algorithm>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/config.h"
#include "core/trace.h"
#include "tests/support/temp_dir.h"

namespace ps {

struct Floats {
  Shape shape;
  std::vector<float> cells;
};

inline void put_npy(const std::filesystem::path& path, const std::string& descr, const Shape& shape,
                    std::string_view bytes) {
  std::string sizes;
  for (const std::int64_t n : shape) sizes += std::to_string(n) + ", ";
  std::string header =
      "{'descr': '" + descr + "', 'fortran_order': False, 'shape': (" + sizes + "), }";
  while ((header.size() + 11) % 64 != 0) header += ' ';
  header += '\n';
  std::string out("\x93NUMPY\x01\x00", 8);
  out += static_cast<char>(header.size() & 255U);
  out += static_cast<char>(header.size() >> 8U);
  std::filesystem::create_directories(path.parent_path());
  put_file(path, out + header + std::string(bytes));
}
inline void put_floats(const std::filesystem::path& path, const Floats& f) {
  put_npy(path, "<f4", f.shape,
          {reinterpret_cast<const char*>(f.cells.data()), f.cells.size() * sizeof(float)});
}
inline void put_integers(const std::filesystem::path& path, const Shape& shape,
                         const std::vector<std::int64_t>& v) {
  put_npy(path, "<i8", shape, {reinterpret_cast<const char*>(v.data()), v.size() * 8});
}

// One step of a golden trace of a model with one replica.
struct GoldenStep {
  const TraceStep* step = nullptr;
  std::int64_t batch = 0, length = 0, past = 0;
  std::vector<std::vector<std::int64_t>> real;  // [batch] new tokens that are no padding

  bool has(const std::string& name) const { return step->tensors->find(name) != nullptr; }
  // Throws, which fails the test: what is made of no values would divide by their number.
  Floats value(const std::string& name) const {
    const TensorView* v = step->tensors->find(name);
    if (v == nullptr || v->count() == 0) {
      throw std::runtime_error("the golden trace has no values of " + name + " in step " +
                               std::to_string(step->step));
    }
    Floats out;
    out.shape = v->shape;
    for (std::int64_t i = 0; i < v->count(); ++i) {
      out.cells.push_back(static_cast<float>(value_at(*v, i)));
    }
    return out;
  }
  // [B, S, ...] as [tokens, ...], sequence after sequence, without padding.
  Floats flat(const std::string& name) const {
    const Floats all = value(name);
    Floats out;
    const auto row = static_cast<std::int64_t>(all.cells.size()) / (batch * length);
    for (std::int64_t b = 0; b < batch; ++b) {
      for (const std::int64_t s : real[static_cast<std::size_t>(b)]) {
        const auto begin = all.cells.begin() + (b * length + s) * row;
        out.cells.insert(out.cells.end(), begin, begin + row);
      }
    }
    out.shape = {static_cast<std::int64_t>(out.cells.size()) / row, row};
    return out;
  }
  // [B, H, S, D] as [tokens, H*D].
  Floats flat_heads(const std::string& name) const {
    const Floats all = value(name);
    const std::int64_t heads = all.shape[1], size = all.shape[3];
    Floats out;
    std::int64_t tokens = 0;
    for (std::int64_t b = 0; b < batch; ++b) {
      for (const std::int64_t s : real[static_cast<std::size_t>(b)]) {
        ++tokens;
        for (std::int64_t h = 0; h < heads; ++h) {
          const auto begin = all.cells.begin() + ((b * heads + h) * length + s) * size;
          out.cells.insert(out.cells.end(), begin, begin + size);
        }
      }
    }
    out.shape = {tokens, heads * size};
    return out;
  }
};

inline Floats beside(const std::vector<Floats>& parts) {  // along the last of two axes
  Floats out;
  out.shape = {parts[0].shape[0], 0};
  for (const Floats& p : parts) out.shape[1] += p.shape[1];
  for (std::int64_t r = 0; r < out.shape[0]; ++r) {
    for (const Floats& p : parts) {
      const auto begin = p.cells.begin() + r * p.shape[1];
      out.cells.insert(out.cells.end(), begin, begin + p.shape[1]);
    }
  }
  return out;
}

inline std::vector<GoldenStep> golden_steps(const Trace& trace) {
  std::vector<GoldenStep> out;
  std::int64_t past = 0;
  for (const TraceStep& step : trace.steps()) {
    GoldenStep g;
    g.step = &step;
    const TensorView* ids = step.tensors->find("input_ids");
    const TensorView* mask = step.tensors->find("attention_mask");
    g.batch = ids->shape[0];
    g.length = ids->shape[1];
    g.past = past;
    for (std::int64_t b = 0; b < g.batch; ++b) {
      std::vector<std::int64_t> real;
      for (std::int64_t s = 0; s < g.length; ++s) {
        if (mask == nullptr || value_at(*mask, b * mask->shape[1] + past + s) != 0)
          real.push_back(s);
      }
      g.real.push_back(std::move(real));
    }
    past += g.length;
    out.push_back(std::move(g));
  }
  return out;
}

}  // namespace ps
