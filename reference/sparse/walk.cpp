#include "reference/sparse/blocks.h"

namespace ps::reference {

namespace {

constexpr double kNothing = -HUGE_VAL;

// Rows divided by their sums; a row of zeros stays one.
at::Tensor normalised(const at::Tensor& r) {
  const at::Tensor sum = r.sum(-1, true);
  return at::where(sum.gt(0), r / sum, 0.0);
}
at::Tensor log_normalised(const at::Tensor& r) {
  const at::Tensor sum = r.logsumexp(-1, true);
  return at::where(sum.gt(kNothing), r - sum, kNothing);
}

}  // namespace

at::Tensor sketch_scores(const at::Tensor& q, const at::Tensor& k, const at::Tensor& sketch) {
  const double scale = 1.0 / std::sqrt(static_cast<double>(sketch.size(1)));
  return at::matmul(at::matmul(q, sketch), at::matmul(k, sketch).transpose(-1, -2)) * scale;
}

// A row that may look at nothing is a row of zeros. One constant for the whole layer keeps the
// numbers near 1 and changes no selection; one for each row would.
at::Tensor transition(const at::Tensor& scores, const at::Tensor& allowed, double exponent) {
  const at::Tensor w = log_transition(scores, allowed, exponent);
  return w.exp();
}

at::Tensor log_transition(const at::Tensor& scores, const at::Tensor& allowed, double exponent) {
  const at::Tensor masked = scores.masked_fill(allowed.logical_not(), kNothing);
  const at::Tensor log_p = log_normalised(masked) * exponent;
  const at::Tensor greatest = log_p.amax();
  return greatest.item<double>() > kNothing ? log_p - greatest : log_p;
}

at::Tensor walk_on(const at::Tensor& r, const at::Tensor& w, const at::Tensor& allowed,
                   double damping) {
  at::Tensor next = at::matmul(r, w);
  if (damping > 0) next = damping * w + (1 - damping) * next;
  return normalised(at::where(allowed, next, 0.0));
}

at::Tensor log_walk_on(const at::Tensor& r, const at::Tensor& w, const at::Tensor& allowed,
                       double damping) {
  // logsumexp over the middle block m of r[I,m] + w[m,J].
  at::Tensor next = (r.unsqueeze(-1) + w.unsqueeze(-3)).logsumexp(-2);
  if (damping > 0) next = at::logaddexp(w + std::log(damping), next + std::log1p(-damping));
  return log_normalised(next.masked_fill(allowed.logical_not(), kNothing));
}

at::Tensor walk(const std::vector<at::Tensor>& steps, const at::Tensor& allowed, double damping) {
  at::Tensor r = normalised(at::where(allowed, steps.front(), 0.0));
  for (std::size_t i = 1; i < steps.size(); ++i) r = walk_on(r, steps[i], allowed, damping);
  return r;
}

at::Tensor log_walk(const std::vector<at::Tensor>& log_steps, const at::Tensor& allowed,
                    double damping) {
  at::Tensor r = log_normalised(log_steps.front().masked_fill(allowed.logical_not(), kNothing));
  for (std::size_t i = 1; i < log_steps.size(); ++i) {
    r = log_walk_on(r, log_steps[i], allowed, damping);
  }
  return r;
}

}  // namespace ps::reference
