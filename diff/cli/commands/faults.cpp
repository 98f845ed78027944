// parscope faults [ID]: what is known of each fault. Reads nothing and runs nothing.
#include <algorithm>
#include <map>

#include "diff/cli/command.h"
#include "diff/diagnose/known_faults.h"
#include "diff/report/report.h"
#include "diff/report/words.h"

namespace ps::cli {

namespace {

constexpr Option kOptions[] = {{"--class", "NAME", "only the faults of a class, such as rope"},
                               kJson};

constexpr std::size_t kWidth = 100;

void member(std::string& out, std::string_view name, std::string_view value) {
  if (value.empty()) return;
  out += (out.back() == '{' ? "" : ",") + json_string(name) + ":" + json_string(value);
}

std::string json_of(const KnownFault& f) {
  std::string out = "{";
  member(out, "id", f.id);
  member(out, "class", f.fault_class);
  out += ",\"frequency\":" + std::to_string(f.frequency);
  member(out, "how", to_string(f.how));
  member(out, "first_point", f.first_point);
  member(out, "wrong", f.wrong);
  member(out, "shows", f.shows);
  member(out, "separates", f.separates);
  member(out, "blind", f.blind);
  member(out, "fix", f.fix);
  member(out, "note", f.note);
  return out + "}";
}

void paragraph(std::string& out, std::string_view lead, std::string_view words) {
  if (words.empty()) return;
  std::string left(lead);
  left.resize(16, ' ');
  for (const std::string& line : wrapped(words, kWidth - 16)) {
    out += left + line + "\n";
    left.assign(16, ' ');
  }
}

// The runs that would show a fault, where replaying finds it; the others' notes name theirs.
std::string commands_for(const KnownFault& f) {
  if (f.how != FaultSearch::kReplayed) return "";
  const bool late = f.blind.find("in the cache") != std::string_view::npos ||
                    f.blind.find("decode steps") != std::string_view::npos;
  std::string out;
  if (f.fault_class == "shard") {
    out = "parscope shard check MODEL_DIR --tp N SHARDS\n";
  } else {
    out = std::string("parscope check MODEL_DIR") + (late ? " --steps 3" : "") + "\n";
  }
  return out + "parscope diagnose TRACE --model MODEL_DIR --explain " + std::string(f.id);
}

std::string lesson(const KnownFault& f) {
  std::string out = std::string(f.id) + "  [" + std::string(f.fault_class) + "]\n";
  const std::string often = std::to_string(f.frequency) + " of 5";
  paragraph(out, "how often", often);
  paragraph(out, "what is wrong", f.wrong);
  paragraph(out, "how it shows", f.shows);
  const bool anywhere = f.first_point == "none" || f.first_point == "any";
  paragraph(out, "first seen at", anywhere ? "no point of its own" : f.first_point);
  paragraph(out, "told apart by", f.separates);
  paragraph(out, "which inputs", f.blind);
  paragraph(out, "fix", f.fix);
  paragraph(out, "found by",
            f.note.empty() ? to_string(f.how)
                           : std::string(to_string(f.how)) + ": " + std::string(f.note));
  paragraph(out, "to see it", commands_for(f));
  return out;
}

std::string table(const std::vector<const KnownFault*>& faults) {
  std::size_t longest = 0;
  std::map<FaultSearch, std::size_t> count;
  for (const KnownFault* f : faults) {
    longest = std::max(longest, f->id.size());
    ++count[f->how];
  }
  std::string out, before;
  for (const KnownFault* f : faults) {
    if (f->fault_class != before)
      out += (before.empty() ? "" : "\n") + std::string(f->fault_class) + "\n";
    before = f->fault_class;
    std::string id(f->id);
    id.resize(longest + 2, ' ');
    std::string how(to_string(f->how));
    out += "  " + std::to_string(f->frequency) + "  " + id + how + "\n";
    if (f->how != FaultSearch::kNotApplicable) continue;
    for (const std::string& line : wrapped(f->note, kWidth - 9)) out += "         " + line + "\n";
  }
  std::string summary = plural(faults.size(), "fault") + ":";
  std::string mark = " ";
  for (const auto& [how, n] : count) {
    summary += mark + std::to_string(n) + " " + std::string(to_string(how));
    mark = ", ";
  }
  summary +=
      ". The number before an id says how often people hit it, 5 the most. parscope faults ID "
      "teaches what is known of it.";
  out += "\n";
  for (const std::string& line : wrapped(summary, kWidth)) out += line + "\n";
  return out;
}

Error unknown(const std::string& option, const std::string& what, const std::string& word,
              const std::vector<std::string>& known) {
  const std::string guess = closest(word, known);
  return bad_input(option,
                   "unknown " + what + (guess.empty() ? "" : "; did you mean " + guess + "?"),
                   "one that parscope faults lists", "'" + word + "'");
}

Result<int> run(const Arguments& arguments) {
  const auto& words = arguments.positionals();
  if (words.size() > 1) return wrong_usage(faults_command(), "more than one ID");
  const bool json = arguments.has("--json");
  std::vector<std::string> ids, classes;
  for (const KnownFault& f : known_faults()) {
    ids.emplace_back(f.id);
    classes.emplace_back(f.fault_class);
  }
  if (!words.empty()) {
    const KnownFault* fault = find_known_fault(words[0]);
    if (fault == nullptr) return unknown("parscope faults", "fault", words[0], ids);
    print(json ? json_of(*fault) + "\n" : lesson(*fault));
    return 0;
  }
  const std::string only = arguments.get("--class");
  std::vector<const KnownFault*> faults;
  for (const KnownFault& f : known_faults()) {
    if (only.empty() || f.fault_class == only) faults.push_back(&f);
  }
  if (faults.empty()) return unknown("--class", "class", only, classes);
  std::stable_sort(faults.begin(), faults.end(),
                   [](auto* a, auto* b) { return a->fault_class < b->fault_class; });
  if (!json) {
    print(table(faults));
    return 0;
  }
  std::string out = "{\"faults\":[";
  for (const KnownFault* f : faults) out += (f == faults[0] ? "" : ",") + json_of(*f);
  print(out + "]}\n");
  return 0;
}

}  // namespace

const Command& faults_command() {
  static const Command command{
      "faults",
      "what is known of each fault: how it shows, what it is mistaken for, the fix",
      "faults [ID] [options]",
      "Without an ID: all faults that people are known to hit, how often, and how parscope finds "
      "each:\n"
      "  replayed         check and diagnose do the op wrong in this way and see whether the "
      "candidate\n"
      "                   comes out, down to rounding\n"
      "  lint             seen in a model directory or a trace, without running anything\n"
      "  run-level check  seen by comparing runs, steps or ranks\n"
      "  not applicable   nothing that a trace holds can show it; the reason stands below\n"
      "With one: what is wrong, how it shows and where first, what separates it from its "
      "look-alikes,\n"
      "which inputs cannot show it, and the fix.\n\n"
      "  parscope faults --class rope\n"
      "  parscope faults replica-prefix-order",
      kOptions,
      run};
  return command;
}

}  // namespace ps::cli
