#include "diff/sparse/replay.h"

#include <algorithm>
#include <cmath>

namespace ps {

namespace {

std::int64_t cell(const Shape& s, std::int64_t b, std::int64_t h, std::int64_t i) {
  return ((b * s[1] + h) * s[2] + i) * s[3];
}

}  // namespace

std::vector<double> attend_row(const SparseInputs& in, std::int64_t b, std::int64_t h,
                               std::int64_t i, const std::vector<std::int64_t>& keys,
                               std::int64_t key_head, double scale) {
  const std::int64_t dim = in.q.shape[3];
  std::vector<double> out(static_cast<std::size_t>(dim), 0.0), scores;
  if (keys.empty()) return out;
  const std::int64_t q = cell(in.q.shape, b, h, i);
  double greatest = -HUGE_VAL;
  for (const std::int64_t j : keys) {
    const std::int64_t k = cell(in.k.shape, b, key_head, j);
    double dot = 0;
    for (std::int64_t d = 0; d < dim; ++d) dot += value_at(in.q, q + d) * value_at(in.k, k + d);
    scores.push_back(dot * scale);
    greatest = std::max(greatest, scores.back());
  }
  double sum = 0;
  for (std::size_t at = 0; at < keys.size(); ++at) {
    const double p = std::exp(scores[at] - greatest);
    sum += p;
    const std::int64_t v = cell(in.v.shape, b, key_head, keys[at]);
    for (std::int64_t d = 0; d < dim; ++d) {
      out[static_cast<std::size_t>(d)] += p * value_at(in.v, v + d);
    }
  }
  for (double& x : out) x /= sum;
  return out;
}

Cells pooled(const TensorView& x, std::int64_t b, const std::vector<std::uint8_t>& valid,
             std::int64_t block, Pooling pooling) {
  const std::int64_t heads = x.shape[1], tokens = x.shape[2], dim = x.shape[3];
  const std::int64_t n = (tokens + block - 1) / block;
  Cells out(static_cast<std::size_t>(n * dim), 0.0);
  std::vector<std::int64_t> count(static_cast<std::size_t>(n), 0);
  for (std::int64_t t = 0; t < tokens; ++t) {
    if (valid[static_cast<std::size_t>(t)] == 0) continue;
    ++count[static_cast<std::size_t>(t / block)];
    for (std::int64_t h = 0; h < heads; ++h) {
      for (std::int64_t d = 0; d < dim; ++d) {
        out[static_cast<std::size_t>(t / block * dim + d)] +=
            value_at(x, cell(x.shape, b, h, t) + d) / static_cast<double>(heads);
      }
    }
  }
  for (std::int64_t j = 0; j < n; ++j) {
    const std::int64_t real = count[static_cast<std::size_t>(j)];
    const std::int64_t by = pooling.padded ? block : std::max<std::int64_t>(1, real);
    for (std::int64_t d = 0; d < dim; ++d) {
      out[static_cast<std::size_t>(j * dim + d)] /= static_cast<double>(by);
    }
  }
  return out;
}

Cells sketch_scores(const Cells& q, const Cells& k, const TensorView& sketch, std::int64_t dim) {
  const std::int64_t r = sketch.shape[1];
  const auto project = [&](const Cells& x) {
    const std::int64_t n = static_cast<std::int64_t>(x.size()) / dim;
    Cells out(static_cast<std::size_t>(n * r), 0.0);
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t d = 0; d < dim; ++d) {
        const double value = x[static_cast<std::size_t>(i * dim + d)];
        for (std::int64_t c = 0; c < r; ++c) {
          out[static_cast<std::size_t>(i * r + c)] += value * value_at(sketch, d * r + c);
        }
      }
    }
    return out;
  };
  const Cells a = project(q), b = project(k);
  const std::size_t n = b.size() / static_cast<std::size_t>(r), width = static_cast<std::size_t>(r);
  Cells out(a.size() / width * n);
  for (std::size_t i = 0; i < a.size() / width; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      double dot = 0;
      for (std::size_t c = 0; c < width; ++c) dot += a[i * width + c] * b[j * width + c];
      out[i * n + j] = dot / std::sqrt(static_cast<double>(r));
    }
  }
  return out;
}

Cells transition(const Cells& scores, const std::uint8_t* allowed, std::int64_t n, double exponent,
                 bool masked_first) {
  const auto width = static_cast<std::size_t>(n);
  Cells out(scores.size(), 0.0);
  double all = 0;
  for (std::size_t begin = 0; begin < scores.size(); begin += width) {
    double greatest = -HUGE_VAL, sum = 0;
    for (std::size_t c = begin; c < begin + width; ++c) {
      if (!masked_first || allowed[c] != 0) greatest = std::max(greatest, scores[c]);
    }
    for (std::size_t c = begin; c < begin + width; ++c) {
      if (!masked_first || allowed[c] != 0) sum += std::exp(scores[c] - greatest);
    }
    for (std::size_t c = begin; c < begin + width; ++c) {
      if (allowed[c] == 0) continue;
      out[c] = std::pow(std::exp(scores[c] - greatest) / sum, exponent);
      all = std::max(all, out[c]);
    }
  }
  if (all > 0) {
    for (double& x : out) x /= all;
  }
  return out;
}

Cells rows_normalised(Cells r, std::int64_t n) {
  const auto width = static_cast<std::size_t>(n);
  for (std::size_t begin = 0; begin < r.size(); begin += width) {
    double sum = 0;
    for (std::size_t c = begin; c < begin + width; ++c) sum += r[c];
    for (std::size_t c = begin; sum > 0 && c < begin + width; ++c) r[c] /= sum;
  }
  return r;
}

Cells walked(const Cells& r, const Cells& w, const std::uint8_t* allowed, std::int64_t n,
             bool normalise) {
  const auto width = static_cast<std::size_t>(n);
  Cells out(r.size(), 0.0);
  for (std::size_t i = 0; i < r.size() / width; ++i) {
    for (std::size_t m = 0; m < width; ++m) {
      const double step = r[i * width + m];
      for (std::size_t j = 0; step != 0 && j < width; ++j) {
        if (allowed[i * width + j] != 0) out[i * width + j] += step * w[m * width + j];
      }
    }
  }
  return normalise ? rows_normalised(std::move(out), n) : out;
}

double distance(const double* a, const double* b, std::size_t count) {
  double worst = 0, scale = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (!std::isfinite(a[i]) || !std::isfinite(b[i])) return HUGE_VAL;
    worst = std::max(worst, std::fabs(a[i] - b[i]));
    scale = std::max(scale, std::fabs(b[i]));
  }
  return worst == 0 ? 0 : worst / std::max(scale, 1e-300);
}

}  // namespace ps
