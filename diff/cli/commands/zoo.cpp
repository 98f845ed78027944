// parscope zoo: how good the main job is at faults that are known, because we planted them.
#include "diff/cli/zoo.h"

#include <cstdio>
#include <filesystem>
#include <unistd.h>

#include "diff/cli/command.h"

namespace ps::cli {

namespace {

namespace fs = std::filesystem;

constexpr Option kOptions[] = {
    {"--configs", "N", "random configurations; default 3"},
    {"--seed", "N", "what they are drawn from; default 1"},
    {"--first", "N", "the number of the first configuration; default 0"},
    {"--only", "ID", "plant this one alone (an id, or the beginning of some); may be repeated"},
    {"--skip", "K/N", "every Nth plant only, from the Kth on, another one in each configuration"},
    {"--dtype", "TYPE", "f32, bf16 or f16; default: f32 and bf16 in turn"},
    {"--faults", "", "a row for every fault, not only for every class"},
    {"--list", "", "print the ids that can be planted, and plant nothing"},
    kJson};

// Gone with what is in it when the command ends.
struct Folder {
  fs::path path = fs::temp_directory_path() / ("parscope-zoo-" + std::to_string(getpid()));
  ~Folder() {
    std::error_code ec;
    fs::remove_all(path, ec);
  }
};

Result<std::vector<PlantInfo>> chosen(const Arguments& arguments) {
  const std::vector<std::string> wanted = arguments.all("--only");
  if (wanted.empty()) return plants();
  std::vector<PlantInfo> out;
  for (const std::string& id : wanted) {
    std::vector<PlantInfo> begun, same;
    std::vector<std::string> known;
    for (const PlantInfo& plant : plants()) {
      known.emplace_back(plant.id);
      if (plant.id.starts_with(id)) begun.push_back(plant);
      if (plant.id == id) same.push_back(plant);
    }
    const std::vector<PlantInfo>& these = same.empty() ? begun : same;
    out.insert(out.end(), these.begin(), these.end());
    if (!these.empty()) continue;
    const std::string near = closest(id, known);
    return bad_input("--only", "no such plant",
                     near.empty() ? "an id of `parscope zoo --list`" : "perhaps " + near,
                     "'" + id + "'");
  }
  return out;
}

struct Share {
  std::int64_t first = 0, of = 1;
};
Result<Share> share(const Arguments& arguments) {
  if (!arguments.has("--skip")) return Share{};
  const std::string text = arguments.get("--skip");
  const std::size_t slash = text.find('/');
  if (slash == std::string::npos) return bad_input("--skip", "wrong form", "K/N", "'" + text + "'");
  Share out;
  PS_TRY(out.of, parse_integer(text.substr(slash + 1), "--skip", 1, 1000));
  PS_TRY(out.first, parse_integer(text.substr(0, slash), "--skip", 0, out.of - 1));
  return out;
}

Result<int> run(const Arguments& arguments) {
  if (!arguments.positionals().empty()) {
    return bad_input("parscope zoo", "it makes its own models", "no MODEL_DIR",
                     "'" + arguments.positionals()[0] + "'");
  }
  PS_TRY(const std::vector<PlantInfo> animals, chosen(arguments));
  if (arguments.has("--list")) {
    for (const PlantInfo& plant : animals)
      print(std::string(plant.id) + "  " + std::string(plant.fault_class) + "\n");
    return 0;
  }
  PS_TRY(const std::int64_t configs, arguments.integer("--configs", 3, 1, 100000));
  PS_TRY(const std::int64_t seed, arguments.integer("--seed", 1, 0, std::int64_t{1} << 40));
  PS_TRY(const std::int64_t first, arguments.integer("--first", 0, 0, 1000000));
  PS_TRY(const Share part, share(arguments));
  std::optional<DType> dtype;
  if (arguments.has("--dtype")) {
    dtype = dtype_from_short(arguments.get("--dtype"));
    if (dtype != DType::kF32 && dtype != DType::kBF16 && dtype != DType::kF16) {
      return bad_input("--dtype", "unknown type", "f32, bf16 or f16",
                       "'" + arguments.get("--dtype") + "'");
    }
  }
  const Folder folder;
  Progress progress("zoo");
  std::vector<ZooRow> rows;
  const auto count = static_cast<std::int64_t>(animals.size());
  for (std::int64_t i = 0; i < configs; ++i) {
    const auto index = static_cast<std::uint64_t>(first + i);
    const fs::path dir = folder.path / std::to_string(index);
    PS_TRY(ZooSubject subject, zoo_subject(static_cast<std::uint64_t>(seed), index,
                                           dtype            ? *dtype
                                           : index % 2 == 0 ? DType::kF32
                                                            : DType::kBF16,
                                           dir));
    PS_TRY(const ZooCage cage, ZooCage::open(std::move(subject)));
    rows.push_back(cage.clean());
    rows.back().config = index;
    for (std::int64_t p = 0; p < count; ++p) {
      progress.update(i * count + p, configs * count);
      if ((p + i) % part.of != part.first) continue;
      const auto variant = static_cast<std::uint64_t>(seed * 131 + first + i);
      PS_TRY(ZooRow row, cage.run(animals[static_cast<std::size_t>(p)], variant));
      row.config = index;
      rows.push_back(std::move(row));
    }
    std::error_code ec;
    fs::remove_all(dir, ec);
  }
  if (arguments.has("--json")) {
    print(zoo_json(rows, static_cast<std::uint64_t>(seed), configs));
  } else {
    print(zoo_text(rows, arguments.has("--faults")));
    print(meets_limits(rows) ? "within the limits\n" : "NOT within the limits\n");
  }
  return meets_limits(rows) ? 0 : 1;
}

}  // namespace

const Command& zoo_command() {
  static const Command command{
      "zoo",
      "plants known faults in the model and counts what the check makes of them",
      "zoo [--configs N] [--seed N] [--only ID] [--dtype TYPE] [--faults] [--json]",
      "Draws random models and runs (ragged padding, chunks, decode, beams), plants one fault of\n"
      "model/plants after the other in the candidate (its weights, its config, its inputs, or a\n"
      "value behind the op that wrote it), runs the main job and counts:\n\n"
      "  planted   runs of a model that can have the fault\n"
      "  shown     it changed a captured value that counts; those below are shares of these.\n"
      "            Changes under 4 round-offs that nothing reports are weak and not counted\n"
      "  detected  the run is called wrong\n"
      "  located   the first divergence is the first value that the plant changed\n"
      "  named     the first error has the plant's id\n"
      "  listed    another id stands first, and the plant's among those that this run cannot\n"
      "            tell from it\n"
      "  misnamed  a wrong name alone\n\n"
      "Clean runs and benign differences must give no finding; invented faults, which no list\n"
      "has, must be located and stay unnamed. The exit code is 0 when all listed faults are\n"
      "detected, 98% located, 95% named or listed in f32 (85% in shorter types), under 1%\n"
      "misnamed, and nothing benign is called wrong; else 1.\n\n"
      "  parscope zoo --configs 3\n"
      "  parscope zoo --configs 20 --seed 1 --faults\n"
      "  parscope zoo --only rope- --dtype bf16 --configs 4 --json\n"
      "  parscope zoo --list",
      kOptions,
      run};
  return command;
}

}  // namespace ps::cli
