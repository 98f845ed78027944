#include "diff/ranks/place.h"

#include <charconv>
#include <cstdlib>
#include <string_view>

namespace ps {

namespace {

constexpr std::int64_t kMostRanks = 4096;
constexpr std::int64_t kMostPort = 65535;

class Variables {
 public:
  explicit Variables(const Environment& environment) : environment_(environment) {}

  std::string text(const char* name) const {
    const char* value = environment_(name);
    return value == nullptr ? "" : value;
  }
  Result<std::int64_t> integer(const std::string& name, std::int64_t low, std::int64_t high) const {
    const std::string value = text(name.c_str());
    std::int64_t out = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), out);
    if (error == std::errc() && end == value.data() + value.size() && out >= low && out <= high) {
      return out;
    }
    return bad_input("the environment's " + name, "wrong number",
                     "a whole number from " + std::to_string(low) + " to " + std::to_string(high),
                     "'" + value + "'");
  }
  // Of the first name that is set.
  Result<std::int64_t> first_of(const std::vector<std::string>& names, std::int64_t low,
                                std::int64_t high, std::int64_t otherwise) const {
    for (const std::string& name : names) {
      if (!text(name.c_str()).empty()) return integer(name, low, high);
    }
    return otherwise;
  }

 private:
  const Environment& environment_;
};

struct Names {
  std::string rank, size, local_rank, local_size;
};

std::optional<Names> names_of(const Variables& variables) {
  const Names plain = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"};
  const Names mpi = {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
                     "OMPI_COMM_WORLD_LOCAL_SIZE"};
  for (const Names& names : {plain, mpi}) {
    const bool both =
        !variables.text(names.rank.c_str()).empty() && !variables.text(names.size.c_str()).empty();
    if (both) return names;
  }
  return std::nullopt;
}

}  // namespace

Result<std::optional<RankPlace>> rank_place(const Environment& environment) {
  const Variables variables(environment);
  const std::optional<Names> names = names_of(variables);
  if (!names) return std::optional<RankPlace>();
  RankPlace out;
  PS_TRY(out.size, variables.integer(names->size, 1, kMostRanks));
  PS_TRY(out.rank, variables.integer(names->rank, 0, out.size - 1));
  if (out.size == 1) return std::optional<RankPlace>();
  PS_TRY(out.local_rank, variables.first_of({names->local_rank}, 0, kMostRanks - 1, out.rank));
  PS_TRY(out.local_size, variables.first_of({names->local_size}, 1, kMostRanks, out.size));
  out.address = variables.text("MASTER_ADDR");
  if (out.address.empty() || variables.text("MASTER_PORT").empty()) {
    return bad_input("the environment of rank " + std::to_string(out.rank),
                     "does not say where rank 0 listens",
                     "MASTER_ADDR and MASTER_PORT (mpirun: -x MASTER_ADDR=HOST -x MASTER_PORT=N)");
  }
  PS_TRY(out.port, variables.integer("MASTER_PORT", 1, kMostPort));
  out.port_is_taken = variables.text("TORCHELASTIC_USE_AGENT_STORE") == "True" ||
                      !variables.text("TORCHELASTIC_RUN_ID").empty();
  return std::optional(out);
}

Result<std::optional<RankPlace>> rank_place() {
  return rank_place([](const char* name) -> const char* { return std::getenv(name); });
}

std::vector<std::int64_t> ports_of(const RankPlace& place) {
  if (!place.port_is_taken) return {place.port};
  constexpr std::int64_t kTries = 16;
  std::vector<std::int64_t> out;
  for (std::int64_t i = 1; i <= kTries; ++i) {
    // Below the last port where there is no room above.
    out.push_back(place.port + kTries <= kMostPort ? place.port + i : place.port - i);
  }
  return out;
}

std::string rank_name(std::int64_t rank) { return "rank " + std::to_string(rank); }

}  // namespace ps
