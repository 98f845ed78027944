// Every command, in the order of `parscope --help`.
#pragma once

#include <span>

#include "diff/cli/command.h"

namespace ps::cli {

using GetCommand = const Command& (*)();
std::span<const GetCommand> command_table();

}  // namespace ps::cli
