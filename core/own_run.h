// A step of the reference whose own run can be put down and taken up again, in another process:
// what a long check keeps on disk so that it need not begin anew. Some ReferenceSteps are one
// (dynamic_cast says which).
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "core/result.h"
#include "core/tensor.h"

namespace ps {

struct OwnRunState {
  std::int64_t ops = 0;  // of ReferenceStep::ops(), from the first on, that have run
  std::map<std::string, Tensor> points;  // those that later ops still read
  std::map<std::string, Tensor> caches;  // of this step so far, for the next one
  std::map<std::string, Tensor> past;    // of the step before
};

class OwnRun {
 public:
  virtual ~OwnRun() = default;
  // When own() was asked for the last point that has run, and for all before it. `last`: no step
  // follows that would read this one's caches.
  virtual OwnRunState put_down(bool last) const = 0;
  // Before own() is asked for anything. The ops of the state are as if asked for already. A step
  // of which all ops are taken up needs caches only if the next step runs.
  virtual Result<void> take_up(OwnRunState state) = 0;
};

// A reference whose next step can be one that follows others which nobody has: it then knows how
// many tokens there were and has no caches, so that its steps have no run of their own (their ops
// are taken up as if they had run), only replays. Some References are one.
class BeginsLate {
 public:
  virtual ~BeginsLate() = default;
  // `past`: tokens in the cache, without the prefix.
  virtual void begin_at(std::int64_t past) = 0;
};

}  // namespace ps
