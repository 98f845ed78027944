// Where the time of a command goes: each stretch of work is named while it lasts, and what is
// nested in it counts for its own name only, so the parts add up to the whole.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ps {

enum class Work : std::uint8_t {
  kOther,      // what has no name here: inputs, sorting, start-up
  kOpen,       // configs and weights mapped, engines made
  kCandidate,  // the candidate's forward passes; pages of its weights are read here
  kReference,  // the reference's own run and its replays of single ops
  kKeep,       // points copied out of the candidate until they are judged
  kCompare,    // values against values and bounds
  kProbe,      // faults replayed to know what this run could have shown
  kName,       // faults replayed to name a cause
  kReport,     // written and printed
};
inline constexpr std::size_t kWorks = 9;
std::string_view name_of(Work work);

// The calling thread's account. A phase lasts until the next begins or it is left; helpers that a
// phase waits for are its own time.
class Phases {
 public:
  using Clock = double (*)();   // seconds
  using Memory = double (*)();  // bytes
  explicit Phases(Clock clock, Memory memory = nullptr);

  // Returns what was going on before, to go back to.
  Work enter(Work work);
  void measure_memory(Memory memory) { memory_ = memory; }

  struct Row {
    double seconds = 0;
    std::int64_t times = 0;  // entered
    double bytes = 0;        // the most that was seen when a stretch of it ended
  };
  // Up to now.
  std::array<Row, kWorks> rows();

  static Phases& of_thread();

 private:
  void close();

  Clock clock_;
  Memory memory_;
  std::array<Row, kWorks> rows_{};
  Work now_ = Work::kOther;
  double since_;
};

// Names what the enclosing block does.
class Phase {
 public:
  explicit Phase(Work work) : before_(Phases::of_thread().enter(work)) {}
  ~Phase() { Phases::of_thread().enter(before_); }
  Phase(const Phase&) = delete;
  Phase& operator=(const Phase&) = delete;

 private:
  Work before_;
};

// Memory that is this process's alone: without files that are mapped.
double own_bytes();

// {"phase_candidate_seconds", "1.25"}, ...: for Report::timing.
std::vector<std::pair<std::string, std::string>> phase_fields(
    const std::array<Phases::Row, kWorks>& rows);
// For people: a line a phase, the longest first, with its share; memory where it was measured.
std::string phase_table(const std::array<Phases::Row, kWorks>& rows);

}  // namespace ps
