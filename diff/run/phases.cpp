#include "diff/run/phases.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <unistd.h>

namespace ps {

namespace {

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

std::string_view name_of(Work work) {
  constexpr std::array<std::string_view, kWorks> kNames = {
      "other", "open", "candidate", "reference", "keep", "compare", "probe", "name", "report"};
  return kNames[static_cast<std::size_t>(work)];
}

Phases::Phases(Clock clock, Memory memory) : clock_(clock), memory_(memory), since_(clock()) {}

Phases& Phases::of_thread() {
  thread_local Phases phases(seconds_now);
  return phases;
}

void Phases::close() {
  const double now = clock_();
  Row& row = rows_[static_cast<std::size_t>(now_)];
  row.seconds += now - since_;
  since_ = now;
  if (memory_ != nullptr) row.bytes = std::max(row.bytes, memory_());
}

Work Phases::enter(Work work) {
  const Work before = now_;
  if (work == before) return before;
  close();
  now_ = work;
  ++rows_[static_cast<std::size_t>(work)].times;
  return before;
}

std::array<Phases::Row, kWorks> Phases::rows() {
  close();
  return rows_;
}

double own_bytes() {
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  if (file == nullptr) return 0;
  double size = 0, resident = 0, shared = 0;  // pages; `shared` are those of files
  const int read = std::fscanf(file, "%lf %lf %lf", &size, &resident, &shared);
  std::fclose(file);
  return read == 3 ? (resident - shared) * static_cast<double>(::sysconf(_SC_PAGESIZE)) : 0;
}

std::vector<std::pair<std::string, std::string>> phase_fields(
    const std::array<Phases::Row, kWorks>& rows) {
  std::vector<std::pair<std::string, std::string>> out;
  for (std::size_t i = 0; i < kWorks; ++i) {
    char number[32];
    const std::string name = "phase_" + std::string(name_of(static_cast<Work>(i)));
    std::snprintf(number, sizeof number, "%.4g", rows[i].seconds);
    out.emplace_back(name + "_seconds", number);
    if (rows[i].bytes <= 0) continue;
    std::snprintf(number, sizeof number, "%.0f", rows[i].bytes);
    out.emplace_back(name + "_own_bytes", number);
  }
  return out;
}

std::string phase_table(const std::array<Phases::Row, kWorks>& rows) {
  double total = 0, most = 0;
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < kWorks; ++i) {
    total += rows[i].seconds;
    most = std::max(most, rows[i].bytes);
    if (rows[i].seconds > 0) order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return rows[a].seconds > rows[b].seconds; });
  std::string out = "phase        seconds  share   times  own MiB\n";
  char line[96];
  constexpr double kMiB = 1024.0 * 1024.0;
  const auto add = [&](std::string_view name, const Phases::Row& row) {
    std::snprintf(line, sizeof line, "%-10.*s %9.3f %5.1f%% %7lld", static_cast<int>(name.size()),
                  name.data(), row.seconds, total > 0 ? 100.0 * row.seconds / total : 0.0,
                  static_cast<long long>(row.times));
    out += line;
    if (row.bytes > 0) {
      std::snprintf(line, sizeof line, " %8.0f", row.bytes / kMiB);
      out += line;
    }
    out += '\n';
  };
  std::int64_t times = 0;
  for (const std::size_t i : order) {
    add(name_of(static_cast<Work>(i)), rows[i]);
    times += rows[i].times;
  }
  add("all", {total, times, most});
  return out;
}

}  // namespace ps
