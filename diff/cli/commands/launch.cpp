// parscope launch -n N COMMAND...: the ranks of one machine.
#include "diff/ranks/launch.h"

#include <algorithm>

#include "core/library.h"
#include "diff/cli/command_table.h"

namespace ps::cli {

namespace {

constexpr std::int64_t kMostRanks = 256;
constexpr Option kOptions[] = {{"-n", "N", "how many ranks"}};

bool is_a_command(const std::string& word) {
  const std::span<const GetCommand> table = command_table();
  return std::any_of(table.begin(), table.end(),
                     [&](const GetCommand get) { return get().name == word; });
}

Result<int> run(const Arguments& arguments) {
  if (!arguments.has("-n")) return wrong_usage(launch_command(), "no -n N, how many ranks");
  LaunchOptions options;
  PS_TRY(options.ranks, arguments.integer("-n", 1, 1, kMostRanks));
  options.words = arguments.positionals();
  if (options.words.empty()) {
    return wrong_usage(launch_command(), "no COMMAND for the ranks to run");
  }
  if (options.words[0] == "launch") {
    return wrong_usage(launch_command(), "ranks do not launch ranks");
  }
  if (is_a_command(options.words[0])) {
    options.words.insert(options.words.begin(), this_program().string());
  }
  return launch(options);
}

}  // namespace

const Command& launch_command() {
  static const Command command{
      "launch",
      "starts the ranks of a run as processes of this machine",
      "launch -n N COMMAND...",
      "Starts COMMAND N times with RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, as\n"
      "torchrun does, at a free port. COMMAND is a command of parscope and its words, or any "
      "other\n"
      "program. check and trace with --tp N then run as real ranks: the model is split over the\n"
      "processes, sums go over Gloo (CPUs) or NCCL (GPUs). Rank 0 prints the results; what the\n"
      "others say goes to stderr with the rank before it. A rank that dies, stops or disagrees\n"
      "ends the run within 10 s and is named. Returns the worst exit code of the ranks.\n\n"
      "  parscope launch -n 2 check fixtures/models/parscale-bytes --tp 2\n"
      "  parscope launch -n 4 trace MODEL --tp 4 -o /tmp/t --random 2x9 --steps 2\n"
      "  torchrun --nproc-per-node 2 --no-python parscope check MODEL --tp 2\n"
      "  mpirun -n 2 -x MASTER_ADDR=HOST -x MASTER_PORT=29501 parscope check MODEL --tp 2",
      kOptions,
      run,
      /*wraps=*/true};
  return command;
}

}  // namespace ps::cli
