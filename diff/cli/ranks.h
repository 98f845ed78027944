// Commands as one rank of several: who started this process as what, and the engine of a rank.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "diff/cli/arguments.h"
#include "diff/cli/engines.h"
#include "diff/ranks/world.h"

namespace ps::cli {

// This process's place among real ranks; nothing where --tp is simulated or not given. An Error
// where the launcher started another number of ranks than --tp.
Result<std::optional<RankPlace>> place_of_run(const Arguments& arguments);

// Joins the other ranks, does the work, and tells them how it ended.
Result<int> as_rank(const RankPlace& place, const std::function<Result<int>(World&)>& work);

// That all ranks run the same: an Error names the rank that does not, and what differs.
Result<void> agree_on_run(World& world, const Model& model, const EngineChoice& choice,
                          const RunPlan& plan);
// This rank's part of the candidate. Threads that were not asked for are shared with the ranks of
// this machine.
Result<std::unique_ptr<Engine>> open_rank(const Model& model, EngineChoice choice,
                                          const RankPlace& place, World& world);

}  // namespace ps::cli
