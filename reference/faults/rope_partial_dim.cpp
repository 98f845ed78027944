#include "reference/fault_tools.h"
#include "reference/ops/blocks.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const std::int64_t d = scene.config().head_dim;
  for (const std::int64_t parts : {2, 4}) {
    if (d % (2 * parts) != 0) continue;
    const std::int64_t rotary = d / parts;
    for (const bool own : {false, true}) {
      propose_rotation(
          scene, out,
          [=](const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
            // Frequencies made for `rotary` channels are every parts-th one of the full table.
            const std::int64_t step = own ? parts : 1;
            const auto pick = [&](const at::Tensor& t) {
              const at::Tensor half = t.slice(-1, 0, rotary / 2 * step, step);
              return at::cat({half, half}, -1);
            };
            const at::Tensor turned = rotate(x.slice(-1, 0, rotary), pick(cos), pick(sin));
            return at::cat({turned, x.slice(-1, rotary)}, -1);
          },
          Which::kBoth, own ? "frequencies of the rotated part" : "frequencies of the whole head",
          {{"rotated_channels", std::to_string(rotary)}});
    }
  }
  for (const double factor : {0.5, 2.0}) {
    RopeChange change;
    change.frequencies = [factor](const StepContext& c) {
      ModelConfig other = *c.config;
      other.rope.theta = std::pow(c.config->rope.theta, 1.0 / factor);
      return rope_frequencies(other, c.types);
    };
    propose_tables(scene, out, change, "frequencies made for another head size",
                   {{"head_size", number(static_cast<double>(d) * factor)}});
  }
}

}  // namespace

extern const FaultSpec rope_partial_dim;
const FaultSpec rope_partial_dim = {
    {"rope-partial-dim", "rope", 3,
     "another number of channels is rotated than this model rotates, or the frequencies were made "
     "for another head size",
     "rotate all channels of a head, with frequencies theta^(-2j/D) of the full head size D",
     "needs a position other than 0", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
