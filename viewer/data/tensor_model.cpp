#include "viewer/data/tensor_model.h"

#include <algorithm>
#include <cmath>

namespace ps::viewer {

namespace {

constexpr std::int64_t kInlineCells = 1 << 17;  // computed at once: less than a frame

std::shared_ptr<const TensorModel> computed(TensorModel model, std::int64_t layers,
                                            std::shared_ptr<const TensorPair> pair,
                                            const std::stop_token& stop) {
  const Cut& cut = model.cut;
  const auto values = [&](const TensorView& tensor) {
    return Pyramid::build(
        cut.rows, cut.columns, Pool::kExtreme,
        [&](std::int64_t r, std::int64_t c) {
          return static_cast<float>(value_at(tensor, cut.flat(r, c)));
        },
        stop);
  };
  if (model.actual != nullptr) model.actual_values = values(*model.actual);
  const bool fits = model.actual != nullptr && model.expected != nullptr &&
                    model.actual->shape == model.expected->shape;
  if (model.expected != nullptr && (fits || model.actual == nullptr))
    model.expected_values = values(*model.expected);
  if (fits) {
    if (pair == nullptr)
      pair = std::make_shared<const TensorPair>(*model.actual, *model.expected, layers);
    model.pair = pair;
    model.errors = Pyramid::build(
        cut.rows, cut.columns, Pool::kMax,
        [&](std::int64_t r, std::int64_t c) {
          return static_cast<float>(pair->measure(model.metric, cut.flat(r, c)));
        },
        stop);
  }
  if (stop.stop_requested()) return nullptr;
  return std::make_shared<const TensorModel>(std::move(model));
}

}  // namespace

const TensorView* TensorModel::shown(Mode mode) const {
  if (mode == Mode::kExpected) return expected;
  if (mode == Mode::kActual || !both()) return actual != nullptr ? actual : expected;
  return nullptr;
}

std::shared_ptr<const TensorModel> TensorModels::current(App& app) {
  const Selection& s = app.state.selection;
  TensorModel model;
  model.run = app.session.run(s.run);
  model.reference = app.session.reference();
  model.actual = app.session.actual(s.run, s.step, s.rank, s.point);
  model.expected = app.session.expected(s.step, s.rank, s.point);
  model.metric = app.state.display.metric;
  computing_ = false;
  const TensorView* any = model.actual != nullptr ? model.actual : model.expected;
  if (any == nullptr || any->count() == 0) return nullptr;
  model.cut = cut_of(app.session.axes(s.step, s.rank, s.point, any->shape), s, app.state.display);
  Key key{app.session.version(), s.run, s.step, s.rank, s.point, model.metric, model.cut};
  const bool same_tensor = slot_->wanted && slot_->wanted->version == key.version &&
                           slot_->wanted->run == key.run && slot_->wanted->step == key.step &&
                           slot_->wanted->rank == key.rank && slot_->wanted->point == key.point;
  const std::shared_ptr<const TensorModel> now = slot_->model;
  if (slot_->wanted && *slot_->wanted == key) {
    computing_ = now == nullptr;
    return now;
  }
  const std::int64_t layers = app.session.config() == nullptr ? 0 : app.session.config()->layers;
  const std::shared_ptr<const TensorPair> pair =
      same_tensor && now != nullptr ? now->pair : nullptr;
  slot_->wanted = key;
  const std::int64_t work =
      model.cut.rows * model.cut.columns + (pair == nullptr ? any->count() : 0);
  if (work <= kInlineCells) {
    slot_->model = computed(std::move(model), layers, pair, {});
    return slot_->model;
  }
  slot_->model = nullptr;
  computing_ = true;
  app.jobs.run("tensor", "reading " + s.point,
               [slot = slot_, key, model, layers, pair](const std::stop_token& stop) -> Jobs::Done {
                 auto made = computed(model, layers, pair, stop);
                 return [slot, key, made] {
                   if (slot->wanted && *slot->wanted == key) slot->model = made;
                 };
               });
  return nullptr;
}

ErrorScale error_scale_of(const TensorModel& model, const Display& display) {
  ErrorScale scale;
  scale.metric = model.metric;
  scale.tolerance = display.tolerance;
  scale.map = display.map;
  scale.log = display.log_range;
  scale.low = display.low;
  scale.high = display.high;
  if (display.low != display.high) return scale;
  scale.high = model.errors.high() > 0 ? model.errors.high() : 1;
  scale.low = model.metric == Metric::kUlp
                  ? 1
                  : std::max<double>(model.errors.smallest_positive(), scale.high * 1e-6);
  if (!std::isfinite(scale.low) || scale.low >= scale.high) scale.low = scale.high / 2;
  return scale;
}

ValueScale value_scale_of(const TensorModel& model, const Display& display) {
  ValueScale scale;
  scale.map = display.map;
  scale.log = false;
  scale.low = display.low;
  scale.high = display.high;
  if (display.low != display.high) return scale;
  // One scale for both sides, or a difference between them would be painted over.
  const Pyramid& a = model.actual_values;
  const Pyramid& b = model.expected_values;
  double low = HUGE_VAL, high = -HUGE_VAL;
  for (const Pyramid* p : {&a, &b}) {
    if (p->empty() || p->low() > p->high()) continue;
    low = std::min<double>(low, p->low());
    high = std::max<double>(high, p->high());
  }
  if (low > high) low = high = 0;
  if (low == high) high = low + 1;
  scale.low = low;
  scale.high = high;
  return scale;
}

}  // namespace ps::viewer
