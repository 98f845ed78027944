#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    const std::string name = type == at::kHalf ? "float16" : "bfloat16";
    const OnTensor round = [type](const at::Tensor& x) { return through(x, type); };
    const struct {
      bool positions, frequencies, angles;
      const char* words;
    } kWays[] = {{false, true, false, "frequencies"},
                 {true, false, false, "positions"},
                 {false, false, true, "angles"},
                 {true, true, true, "positions, frequencies and angles"},
                 {true, true, false, "positions and frequencies"},
                 {true, false, true, "positions and angles"},
                 {false, true, true, "frequencies and angles"}};
    for (const auto& way : kWays) {
      for (const bool table : {false, true}) {
        RopeChange change;
        if (way.positions) change.round_positions = round;
        if (way.frequencies) change.round_frequencies = round;
        if (way.angles) change.round_angles = round;
        if (table) change.round_table = round;
        propose_tables(
            scene, out, change,
            std::string(way.words) + (table ? ", and the finished tables" : "") + " in " + name,
            {});
      }
    }
    RopeChange change;
    change.round_table = round;
    propose_tables(scene, out, change, "finished tables in " + name, {});
  }
}

}  // namespace

extern const FaultSpec rope_low_precision_table;
const FaultSpec rope_low_precision_table = {
    {"rope-low-precision-table", "rope", 4,
     "positions, frequencies or angles of the rotary tables are held in a 16-bit type",
     "compute positions, frequencies, angles, cos and sin in float32, and cast only the finished "
     "tables",
     "needs positions above 256 for whole numbers to be rounded, or a run in float32 for small "
     "angles",
     false},
    any_model,
    propose};

}  // namespace ps::reference::faults
