#include "viewer/app/app.h"

#include "diff/align/diff_traces.h"
#include "viewer/app/commands.h"

namespace ps::viewer {

namespace {

constexpr std::size_t kMostStates = 512;
constexpr std::size_t kMostLines = 2000;

}  // namespace

void History::push(const State& before) {
  undone_from_.push_back(before);
  if (undone_from_.size() > kMostStates) undone_from_.pop_front();
  redone_from_.clear();
}
bool History::undo(State& state) {
  if (undone_from_.empty()) return false;
  redone_from_.push_back(std::move(state));
  state = std::move(undone_from_.back());
  undone_from_.pop_back();
  return true;
}
bool History::redo(State& state) {
  if (redone_from_.empty()) return false;
  undone_from_.push_back(std::move(state));
  state = std::move(redone_from_.back());
  redone_from_.pop_back();
  return true;
}

Result<void> App::execute(std::string_view line) { return run_line(line, false); }
Result<void> App::execute_merged(std::string_view line) { return run_line(line, true); }

Result<void> App::run_line(std::string_view line, bool merge) {
  const Result<Words> words = words_of(line);
  const auto refuse = [&](const Error& error) -> Result<void> {
    say(std::string(line), LogLine::Kind::kCommand);
    say(error.line(), LogLine::Kind::kError);
    return error;
  };
  if (!words.ok()) return refuse(words.error());
  if (words->empty()) return {};
  const CommandInfo* command = find_command(words->front());
  if (command == nullptr) {
    return refuse(bad_input(words->front(), "is no command; `help` lists them"));
  }
  const State before = state;
  const Words arguments(words->begin() + 1, words->end());
  const Result<void> done = command->run(*this, arguments);
  if (!done.ok()) {
    state = before;
    return refuse(done.error());
  }
  if (command->in_history && !(state == before)) {
    const bool continues = merge && last_command_ == command->name && history_.undos() > 0;
    if (!continues) history_.push(before);
  }
  if (!merge && command->in_log) say(std::string(line), LogLine::Kind::kCommand);
  last_command_ = command->name;
  return {};
}

void App::say(std::string text, LogLine::Kind kind) {
  log_.push_back({kind, std::move(text)});
  if (log_.size() > kMostLines) log_.pop_front();
}

std::string App::link() const { return to_string(link_of(state, session.capture())); }

void App::refresh() {
  if (session.version() == seen_version_) return;
  seen_version_ = session.version();
  if (session.reference() == nullptr) return;
  for (std::size_t i = 0; i < session.runs().size(); ++i) {
    const auto index = static_cast<std::int64_t>(i);
    if (session.report(index) != nullptr) continue;
    jobs.run("diff " + std::to_string(i), "comparing " + session.runs()[i]->name,
             [this, index, run = session.runs()[i],
              reference = session.reference()](std::stop_token) -> Jobs::Done {
               DiffOptions options;
               options.allow_missing = true;
               auto report = std::make_shared<const Report>(
                   diff_traces(run->trace, reference->trace, options));
               return [this, index, run, reference, report] {
                 // Another file may have been opened meanwhile.
                 if (session.run(index) == run && session.reference() == reference) {
                   session.set_report(index, report);
                 }
               };
             });
  }
}

}  // namespace ps::viewer
