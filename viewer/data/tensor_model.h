// What the Tensor panel shows, computed: one point of one run beside the reference's, cut into a
// matrix, with pyramids of both sides and of their difference. Large ones are computed by a job.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "viewer/app/app.h"
#include "viewer/data/plane.h"
#include "viewer/data/plane_raster.h"
#include "viewer/data/pyramid.h"

namespace ps::viewer {

// Everything of one cut. Never changed once it is made; holds the files that it reads from.
struct TensorModel {
  RunPtr run, reference;
  const TensorView* actual = nullptr;
  const TensorView* expected = nullptr;
  Cut cut;
  std::shared_ptr<const TensorPair> pair;  // null: one side is missing, or the shapes differ
  Pyramid actual_values, expected_values, errors;
  Metric metric = Metric::kRatio;

  bool both() const { return pair != nullptr; }
  const TensorView* shown(Mode mode) const;  // the tensor that the mode shows; null in diff
};

class TensorModels {
 public:
  // The model for what is selected now: null while it is computed, and where no side has it.
  std::shared_ptr<const TensorModel> current(App& app);
  bool computing() const { return computing_; }

 private:
  struct Key {
    std::uint64_t version = 0;
    std::int64_t run = -1, step = -1, rank = -1;
    std::string point;
    Metric metric = Metric::kRatio;
    Cut cut;
    bool operator==(const Key&) const = default;
  };
  struct Slot {  // shared with the job, which may outlive the panel
    std::optional<Key> wanted;
    std::shared_ptr<const TensorModel> model;
  };
  std::shared_ptr<Slot> slot_ = std::make_shared<Slot>();
  bool computing_ = false;
};

// The colours' ends for a mode, where the user has set none.
ErrorScale error_scale_of(const TensorModel& model, const Display& display);
ValueScale value_scale_of(const TensorModel& model, const Display& display);

}  // namespace ps::viewer
