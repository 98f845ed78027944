#include "reference/fault.h"

#include <charconv>
#include <cstdio>
#include <numeric>

namespace ps::reference {

namespace faults {
#define PS_FAULT(name) extern const FaultSpec name;
#include "reference/faults/faults.def"
#undef PS_FAULT
}  // namespace faults

const std::vector<const FaultSpec*>& all_faults() {
  static const std::vector<const FaultSpec*> kAll = {
#define PS_FAULT(name) &faults::name,
#include "reference/faults/faults.def"
#undef PS_FAULT
  };
  return kAll;
}

bool any_model(const ModelConfig&) { return true; }

std::vector<Point> Scene::ops(std::string_view kind, std::string_view suffix) const {
  std::vector<Point> out;
  for (const Op* op : chain()) {
    if (op->kind == kind && op->point.ends_with(suffix)) out.push_back(op->point);
  }
  return out;
}

bool Scene::in_chain(const Point& point) const {
  return std::any_of(chain().begin(), chain().end(),
                     [&](const Op* op) { return op->point == point; });
}

Edit wrap(std::vector<Point> points, BadRun bad) {
  return [points = std::move(points), bad = std::move(bad)](const Net& net, Overrides& out) {
    for (const Point& point : points) {
      const Op* good = net.find(point);
      if (good == nullptr) continue;
      Op op = *good;
      op.run = [good = *good, bad](const Tensors& in, const Tensors& w) {
        return bad(good, in, w);
      };
      out.insert_or_assign(point, std::move(op));
    }
  };
}

Edit both(Edit first, Edit second) {
  return [first = std::move(first), second = std::move(second)](const Net& net, Overrides& out) {
    first(net, out);
    second(net, out);
  };
}

std::int64_t layer_of(const Point& point) {
  constexpr std::string_view kLayers = "model.layers.";
  if (!point.starts_with(kLayers)) return -1;
  std::int64_t layer = -1;
  std::from_chars(point.data() + kLayers.size(), point.data() + point.size(), layer);
  return layer;
}

std::vector<Scope> scopes(const std::vector<Point>& points) {
  std::vector<Scope> out;
  if (points.empty()) return out;
  out.push_back({"", points});
  std::map<std::int64_t, std::vector<Point>> by_layer;
  for (const Point& point : points) by_layer[layer_of(point)].push_back(point);
  if (by_layer.size() < 2) return out;
  for (auto& [layer, of_layer] : by_layer) {
    out.push_back({"layer " + std::to_string(layer) + " alone", of_layer});
  }
  return out;
}

std::string joined(const std::string& a, const std::string& b) {
  return a.empty() ? b : b.empty() ? a : a + ", " + b;
}

std::string number(double value) {
  char text[40];
  std::snprintf(text, sizeof text, "%.7g", value);
  return text;
}

bool same_shape(const at::Tensor& a, const at::Tensor& b) {
  return a.defined() && b.defined() && a.sizes() == b.sizes();
}

double distance(const Scene& scene, const at::Tensor& value) {
  if (!same_shape(value, scene.observed())) return HUGE_VAL;
  const at::Tensor error =
      (scene.observed().to(at::kDouble) - value.to(at::kDouble)) * scene.counts();
  // A NaN where the candidate has a number is as far away as can be.
  const at::Tensor lost =
      at::isfinite(scene.observed()).logical_and(at::isfinite(value).logical_not());
  if (lost.logical_and(scene.counts().gt(0)).any().item<bool>()) return HUGE_VAL;
  const double sum = at::nan_to_num(error, 0.0, 0.0, 0.0).square().sum().item<double>();
  return std::sqrt(sum);
}

Fit fit_number(Scene& scene, const std::vector<double>& starts, bool linear,
               const std::function<Edit(double)>& edit) {
  Fit best;
  best.residual = HUGE_VAL;
  const auto residual_of = [&](double p) { return distance(scene, scene.replay(edit(p))); };
  for (const double start : starts) {
    const double residual = residual_of(start);
    if (residual < best.residual) best = {start, residual, false};
  }
  if (!std::isfinite(best.residual)) return best;
  for (int round = 0; round < 12; ++round) {
    const double p = best.value;
    const double step = linear ? std::max(1e-6, std::fabs(p) * 1e-6) : std::fabs(p) * 1e-4;
    if (step == 0) break;
    const at::Tensor here = scene.replay(edit(p)), there = scene.replay(edit(p + step));
    if (!same_shape(here, scene.observed()) || !same_shape(there, here)) break;
    const at::Tensor slope =
        at::nan_to_num((there - here).to(at::kDouble) * scene.counts(), 0.0, 0.0, 0.0) / step;
    const at::Tensor error =
        at::nan_to_num((scene.observed() - here).to(at::kDouble) * scene.counts(), 0.0, 0.0, 0.0);
    const double down = slope.square().sum().item<double>();
    if (!(down > 0)) break;
    double move = (slope * error).sum().item<double>() / down;
    bool better = false;
    for (int half = 0; half < 6 && !better; ++half, move *= 0.25) {
      double next = p + move;
      if (!linear && next <= 0) next = p * (move < 0 ? 0.25 : 4.0);
      const double residual = residual_of(next);
      if (residual < best.residual) {
        better = true;
        const bool tiny = best.residual - residual < 1e-3 * residual;
        best = {next, residual, true};
        if (tiny) return best;
      }
    }
    if (!better) {
      best.converged = true;
      break;
    }
  }
  return best;
}

}  // namespace ps::reference
