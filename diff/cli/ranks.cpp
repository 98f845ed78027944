#include "diff/cli/ranks.h"

#include <algorithm>
#include <cstdlib>
#include <thread>

#include "core/text.h"
#include "diff/shard/rank_engine.h"

namespace ps::cli {

namespace {

constexpr std::uint64_t kStart = 0xcbf29ce484222325ULL;  // FNV-1a

std::uint64_t mixed(std::uint64_t hash, std::span<const std::byte> bytes) {
  for (const std::byte b : bytes) {
    hash = (hash ^ static_cast<std::uint64_t>(b)) * 0x100000001b3ULL;
  }
  return hash;
}

std::uint64_t hash_of(const std::vector<std::int64_t>& values) {
  return mixed(kStart, std::as_bytes(std::span(values)));
}

// Names, sizes and the first bytes of each tensor: another model shows, without reading it all.
std::uint64_t hash_of(const Checkpoint& checkpoint) {
  constexpr std::size_t kBytes = 64;
  std::uint64_t hash = kStart;
  for (const std::string& name : checkpoint.names()) {
    const TensorView& tensor = *checkpoint.peek(name);
    hash = mixed(hash, std::as_bytes(std::span(name)));
    const std::uint64_t size = tensor.bytes.size();
    hash = mixed(hash, std::as_bytes(std::span(&size, 1)));
    hash = mixed(hash, tensor.bytes.first(std::min(kBytes, tensor.bytes.size())));
  }
  return hash;
}

// Each rank of a machine sees one GPU, the one of its number among those that it may use.
void take_own_gpu(std::int64_t local_rank) {
  const char* given = std::getenv("CUDA_VISIBLE_DEVICES");
  std::string own = std::to_string(local_rank);
  if (given != nullptr) {
    const std::vector<std::string> devices = split_at(given, ',');
    if (devices.size() == 1) return;  // the launcher has chosen
    const auto index = static_cast<std::size_t>(local_rank);
    own = index < devices.size() ? devices[index] : "";  // none left: CUDA says so
  }
  ::setenv("CUDA_VISIBLE_DEVICES", own.c_str(), 1);
}

}  // namespace

Result<std::optional<RankPlace>> place_of_run(const Arguments& arguments) {
  PS_TRY(std::optional<RankPlace> place, rank_place());
  if (!place) return place;
  const std::string found = arguments.get("--tp", "no --tp");
  if (found == std::to_string(place->size)) return place;
  return bad_input("--tp",
                   "this process is rank " + std::to_string(place->rank) + " of " +
                       std::to_string(place->size) + " (WORLD_SIZE), and each holds one part",
                   "--tp " + std::to_string(place->size), found);
}

Result<int> as_rank(const RankPlace& place, const std::function<Result<int>(World&)>& work) {
  PS_TRY(const std::unique_ptr<World> world, World::join(place, {}));
  Result<int> code = work(*world);
  if (code.ok()) {
    world->leave();
  } else {
    world->fail(code.error());
  }
  return code;
}

Result<void> agree_on_run(World& world, const Model& model, const EngineChoice& choice,
                          const RunPlan& plan) {
  const auto number = [](std::uint64_t x) { return std::to_string(x); };
  std::string inputs =
      std::to_string(plan.prompt.batch) + "x" + std::to_string(plan.prompt.length) + " tokens (" +
      number(hash_of(plan.prompt.input_ids)) + "), " + std::to_string(plan.decode_steps) +
      " steps, chunk " + std::to_string(plan.chunk) + ", " + std::to_string(plan.beams) + " beams";
  if (plan.prompt.attention_mask)
    inputs += ", mask " + number(hash_of(*plan.prompt.attention_mask));
  if (plan.visible) inputs += ", --mask";
  return world.agree(
      "version of parscope=" PS_VERSION "\nconfig.json=" +
      number(mixed(kStart, std::as_bytes(std::span(model.config.json)))) + " (a checksum)" +
      "\ncheckpoint=" + number(hash_of(*model.checkpoint)) + " (a checksum)" +
      "\n--dtype=" + std::string(short_name(choice.options.dtype)) + "\nset of inputs=" + inputs);
}

Result<std::unique_ptr<Engine>> open_rank(const Model& model, EngineChoice choice,
                                          const RankPlace& place, World& world) {
  PS_TRY_VOID(legal_ranks(model.config, place.size));
  if (choice.options.threads == 0) {
    const auto cores = static_cast<std::int64_t>(std::thread::hardware_concurrency());
    choice.options.threads = static_cast<int>(std::max<std::int64_t>(1, cores / place.local_size));
  }
  CandidateOptions options = candidate_options(choice);
  take_own_gpu(place.local_rank);
  options.collectives = &world;
  PS_TRY(const Model local, rank_share_of(model, place.size, place.rank));
  return open_candidate(local, options);
}

}  // namespace ps::cli
