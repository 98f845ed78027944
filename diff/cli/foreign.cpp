#include "diff/cli/foreign.h"

#include <algorithm>
#include <cstdio>

#include "diff/cli/command.h"

namespace ps::cli {

Result<ConvertOptions> convert_options(const Arguments& arguments) {
  ConvertOptions out;
  out.names = arguments.get("--names");
  if (!out.names.empty()) {
    PS_TRY(const NameRules checked, load_names(out.names));
  }
  if (arguments.has("--model")) {
    PS_TRY(out.config, load_config(arguments.get("--model")));
  }
  return out;
}

std::string conversion_details(const Conversion& c) {
  constexpr std::size_t kMost = 8;
  std::string out;
  std::size_t shown = 0;
  for (const auto& [name, why] : c.misfits) {
    if (++shown > kMost) break;
    out += "  axes as they were: " + name + " (" + why + ")\n";
  }
  if (c.misfits.size() > kMost) {
    out += "  ... and " + std::to_string(c.misfits.size() - kMost) + " more\n";
  }
  if (!c.unmatched.empty()) {
    out += "  unknown, kept as they are:";
    for (std::size_t i = 0; i < std::min(kMost, c.unmatched.size()); ++i) {
      out += (i > 0 ? ", " : " ") + c.unmatched[i];
    }
    out += c.unmatched.size() > kMost ? ", ...\n" : "\n";
    // Such a run is not read as its engine meant it: flattened sequences count as one, for example.
    if (c.names.empty() && 2 * static_cast<std::int64_t>(c.unmatched.size()) > c.points) {
      out += "  most names are unknown: say whose they are with --names (docs/foreign.md)\n";
    }
  }
  for (std::size_t i = 0; i < std::min(kMost, c.notes.size()); ++i) out += "  " + c.notes[i] + "\n";
  if (c.notes.size() > kMost)
    out += "  ... and " + std::to_string(c.notes.size() - kMost) + " more\n";
  return out;
}

void tell_conversion(const ForeignTrace& trace, const std::string& source) {
  if (!trace.conversion()) return;
  std::fprintf(stderr, "%s: read as a trace: %s\n%s", source.c_str(),
               trace.conversion()->sentence().c_str(),
               conversion_details(*trace.conversion()).c_str());
}

void note_conversion(const ForeignTrace& trace, const std::string& key, Report& report) {
  if (!trace.conversion()) return;
  report.inputs.emplace_back(key, json_string(trace.conversion()->sentence()));
}

}  // namespace ps::cli
