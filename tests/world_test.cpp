// Ranks that meet over Gloo, here in threads of one process: sums, exchanges, and who is named when
// something is wrong.
#include "diff/ranks/world.h"

#include <functional>
#include <thread>

#include <gtest/gtest.h>

#include "core/float_bits.h"
#include "diff/ranks/call.h"
#include "tests/support/processes.h"
#include "tests/support/run.h"

namespace ps {
namespace {

using Env = std::map<std::string, std::string>;
Result<std::optional<RankPlace>> place_in(const Env& env) {
  return rank_place([&](const char* name) -> const char* {
    const auto it = env.find(name);
    return it == env.end() ? nullptr : it->second.c_str();
  });
}

TEST(RankPlace, IsWhatTheLauncherSays) {
  const Env torchrun = {{"RANK", "5"},           {"WORLD_SIZE", "8"},
                        {"LOCAL_RANK", "1"},     {"LOCAL_WORLD_SIZE", "4"},
                        {"MASTER_ADDR", "node"}, {"MASTER_PORT", "29500"}};
  const auto place = value_or_die(place_in(torchrun));
  ASSERT_TRUE(place.has_value());
  EXPECT_EQ(place->rank, 5);
  EXPECT_EQ(place->size, 8);
  EXPECT_EQ(place->local_rank, 1);
  EXPECT_EQ(place->local_size, 4);
  EXPECT_EQ(ports_of(*place), (std::vector<std::int64_t>{29500}));

  Env with_store = torchrun;  // torchrun listens at MASTER_PORT itself
  with_store["TORCHELASTIC_USE_AGENT_STORE"] = "True";
  const auto ports = ports_of(*value_or_die(place_in(with_store)));
  EXPECT_EQ(ports.front(), 29501);
  EXPECT_EQ(std::count(ports.begin(), ports.end(), 29500), 0);

  const Env mpirun = {{"OMPI_COMM_WORLD_RANK", "2"},       {"OMPI_COMM_WORLD_SIZE", "3"},
                      {"OMPI_COMM_WORLD_LOCAL_RANK", "0"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "1"},
                      {"MASTER_ADDR", "10.0.0.7"},         {"MASTER_PORT", "2000"}};
  const auto mpi = value_or_die(place_in(mpirun));
  ASSERT_TRUE(mpi.has_value());
  EXPECT_EQ(mpi->rank, 2);
  EXPECT_EQ(mpi->local_rank, 0);
  EXPECT_EQ(mpi->address, "10.0.0.7");
}

TEST(RankPlace, OneProcessIsNoRankAndWrongVariablesAreNamed) {
  EXPECT_FALSE(value_or_die(place_in({})).has_value());
  EXPECT_FALSE(value_or_die(place_in({{"RANK", "3"}})).has_value());
  EXPECT_FALSE(value_or_die(place_in({{"RANK", "0"}, {"WORLD_SIZE", "1"}})).has_value());
  const auto line = [](const Env& env) { return place_in(env).error().line(); };
  EXPECT_NE(line({{"RANK", "2"}, {"WORLD_SIZE", "2"}}).find("RANK: wrong number"),
            std::string::npos);
  EXPECT_NE(line({{"RANK", "x"}, {"WORLD_SIZE", "2"}}).find("'x'"), std::string::npos);
  EXPECT_NE(line({{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "2"}})
                .find("mpirun: -x MASTER_ADDR=HOST"),
            std::string::npos);
}

TEST(OddOne, IsTheMinorityAndOfATieNotRank0) {
  EXPECT_FALSE(odd_one<std::string>({"a", "a", "a"}).has_value());
  EXPECT_EQ(odd_one<std::string>({"b", "a", "a"})->rank, 0);
  EXPECT_EQ(odd_one<std::string>({"a", "a", "b", "a"})->rank, 2);
  EXPECT_EQ(odd_one<std::string>({"b", "a"})->rank, 1);
  EXPECT_EQ(odd_one<std::string>({"b", "a"})->other, 0);
}

TEST(RankCalls, AreReadBackAsTheyWere) {
  Call call;
  call.op = CallOp::kForward;
  call.inputs.batch = 2;
  call.inputs.length = 3;
  call.inputs.input_ids = {1, 2, 3, 4, 5, 6};
  call.inputs.position_ids = std::vector<std::int64_t>{0, 1, 2, 7, 8, 9};
  call.inputs.visible = std::vector<std::int64_t>{};
  call.wanted = "model.norm\nlm_head\n";
  const std::string bytes = packed(call);
  const Call back = value_or_die(unpacked_call(bytes));
  EXPECT_EQ(packed(back), bytes);
  EXPECT_EQ(back.inputs.position_ids, call.inputs.position_ids);
  EXPECT_FALSE(back.inputs.attention_mask.has_value());
  EXPECT_TRUE(back.inputs.visible.has_value());
  for (const std::size_t cut : {std::size_t{0}, std::size_t{9}, std::size_t{40}}) {
    EXPECT_FALSE(unpacked_call(bytes.substr(0, cut)).ok()) << cut;
  }
}

ControlTimes patient() {
  ControlTimes times;
  times.join = std::chrono::seconds(20);
  times.grace = std::chrono::hours(1);  // a thread cannot end the whole program
  return times;
}

using Work = std::function<Result<void>(World&)>;
// Runs `work` on every rank, each in a thread; what each ended with.
std::vector<Result<void>> on_ranks(std::int64_t size, const Work& work) {
  const FreePort port;
  std::vector<Result<void>> out(static_cast<std::size_t>(size));
  std::vector<std::thread> threads;
  for (std::int64_t r = 0; r < size; ++r) {
    threads.emplace_back([&, r] {
      RankPlace place;
      place.rank = place.local_rank = r;
      place.size = place.local_size = size;
      place.address = "127.0.0.1";
      place.port = port.number();
      auto world = World::join(place, patient());
      Result<void> done = world.ok() ? work(**world) : Result<void>(world.error());
      if (world.ok()) {
        if (done.ok()) {
          (*world)->leave();
        } else {
          (*world)->fail(done.error());
        }
      }
      out[static_cast<std::size_t>(r)] = done;
    });
  }
  for (std::thread& thread : threads) thread.join();
  return out;
}

// Rank r holds i + r / 4: exact in every type and order.
Tensor part_of(DType dtype, std::int64_t rank, std::int64_t n) {
  Tensor out(dtype, {n});
  for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
    const float x = static_cast<float>(i % 7) + static_cast<float>(rank) / 4;
    if (dtype == DType::kF64) out.as<double>()[i] = x;
    if (dtype == DType::kF32) out.as<float>()[i] = x;
    if (dtype == DType::kBF16) out.as<std::uint16_t>()[i] = float_to_bf16(x);
    if (dtype == DType::kF16) out.as<std::uint16_t>()[i] = float_to_f16(x);
  }
  return out;
}

TEST(World, SumsAreTheSameOnEveryRankInEveryType) {
  PS_NEEDS_GLOO();
  for (const std::int64_t size : {2, 3}) {
    const auto results = on_ranks(size, [&](World& world) -> Result<void> {
      for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16, DType::kF16}) {
        for (const std::int64_t n : {0, 1, 5, 4099}) {
          Tensor value = part_of(dtype, world.rank(), n);
          PS_TRY_VOID(world.all_reduce(value, "point " + std::to_string(n)));
          for (std::int64_t i = 0; i < n; ++i) {
            const double want =
                static_cast<double>(size * (i % 7)) + static_cast<double>(size * (size - 1)) / 8;
            if (value_at(value.view(), i) == want) continue;
            return bad_input("sum", "wrong", std::to_string(want),
                             std::to_string(value_at(value.view(), i)));
          }
        }
      }
      EXPECT_EQ(world.ledger().size(), 16u);
      EXPECT_EQ(to_string(world.ledger()[5]), "all_reduce [1] float32 point 1");
      EXPECT_EQ(world.take_ledger().size(), 16u);
      EXPECT_EQ(world.take_ledger().size(), 0u);
      return {};
    });
    for (const auto& r : results) EXPECT_TRUE(r.ok()) << (r.ok() ? "" : r.error().line());
  }
}

TEST(World, TextsAndPointsGoWhereTheyShould) {
  PS_NEEDS_GLOO();
  const auto results = on_ranks(3, [&](World& world) -> Result<void> {
    const std::string own(static_cast<std::size_t>(world.rank() * 3), 'x');
    PS_TRY(const auto all, world.all_texts(own));
    EXPECT_EQ(all, (std::vector<std::string>{"", "xxx", "xxxxxx"}));
    std::string word = world.rank() == 0 ? "from rank 0" : "";
    PS_TRY_VOID(world.share(word));
    EXPECT_EQ(word, "from rank 0");
    std::vector<Tensor> parts;
    const Tensor part = part_of(DType::kBF16, world.rank(), 9);
    PS_TRY_VOID(world.collect(part.view(), "model.norm", parts));
    EXPECT_EQ(parts.size(), world.rank() == 0 ? 3u : 0u);
    for (std::size_t r = 0; r < parts.size(); ++r) {
      EXPECT_EQ(value_at(parts[r].view(), 2), 2 + static_cast<double>(r) / 4);
    }
    return world.agree("version=1\ninputs=" + std::string("4x5"));
  });
  for (const auto& r : results) EXPECT_TRUE(r.ok()) << (r.ok() ? "" : r.error().line());
}

TEST(World, WhoIssuesAnotherCollectiveIsNamedOnEveryRank) {
  PS_NEEDS_GLOO();
  const auto results = on_ranks(3, [&](World& world) -> Result<void> {
    Tensor value = part_of(DType::kF32, world.rank(), 6);
    PS_TRY_VOID(world.all_reduce(value, "o_proj"));
    Tensor next = part_of(DType::kF32, world.rank(), world.rank() == 1 ? 4 : 6);
    PS_TRY_VOID(world.all_reduce(next, "down_proj"));
    return {};
  });
  for (const auto& r : results) {
    ASSERT_FALSE(r.ok());
    const std::string line = r.error().line();
    EXPECT_EQ(r.error().kind, Error::Kind::kMachine);
    EXPECT_TRUE(line.starts_with("rank 1: TP015")) << line;
    EXPECT_NE(line.find("all_reduce [6] float32 down_proj"), std::string::npos) << line;
    EXPECT_NE(line.find("all_reduce [4] float32 down_proj"), std::string::npos) << line;
  }
}

TEST(World, WhoSkipsACollectiveIsNamedInsteadOfWaitedFor) {
  PS_NEEDS_GLOO();
  const auto results = on_ranks(2, [&](World& world) -> Result<void> {
    Tensor value = part_of(DType::kF32, world.rank(), 6);
    if (world.rank() == 0) PS_TRY_VOID(world.all_reduce(value, "o_proj"));
    return world.all_texts("the end").ok() ? Result<void>() : world.announce({});
  });
  for (const auto& r : results) {
    ASSERT_FALSE(r.ok());
    EXPECT_TRUE(r.error().line().starts_with("rank 1: TP015")) << r.error().line();
  }
}

TEST(World, ARankThatWasStartedDifferentlyIsNamedWithWhatDiffers) {
  PS_NEEDS_GLOO();
  const auto results = on_ranks(3, [&](World& world) {
    return world.agree(std::string("version=1\n--dtype=") + (world.rank() == 2 ? "bf16" : "f32"));
  });
  for (const auto& r : results) {
    ASSERT_FALSE(r.ok());
    EXPECT_EQ(r.error().kind, Error::Kind::kInput);
    EXPECT_EQ(r.error().line(),
              "rank 2: was started with another --dtype than rank 0: expected f32, found bf16");
  }
}

TEST(World, AnErrorOfOneRankReachesTheOthersThatWait) {
  PS_NEEDS_GLOO();
  const auto results = on_ranks(3, [&](World& world) -> Result<void> {
    if (world.rank() == 1) return bad_input("model/", "has no config.json");
    Tensor value = part_of(DType::kF32, world.rank(), 6);
    return world.all_reduce(value, "o_proj");
  });
  EXPECT_EQ(results[1].error().line(), "model/: has no config.json");
  for (const std::size_t r : {0u, 2u}) {
    ASSERT_FALSE(results[r].ok());
    EXPECT_EQ(results[r].error().kind, Error::Kind::kInput);
    EXPECT_EQ(results[r].error().line(), "rank 1: ended the run: model/: has no config.json");
  }
}

// ---- rank 0's ear -----------------------------------------------------------------------------

RankPlace place_of(std::int64_t rank, std::int64_t size, int port) {
  RankPlace place;
  place.rank = rank;
  place.size = size;
  place.address = "127.0.0.1";
  place.port = port;
  return place;
}

// A rank that says hello and then does as the test wants.
Socket raw_rank(const RankPlace& place) {
  std::optional<Socket> socket;
  comes_true(
      [&] {
        Result<Socket> made = connect_to(place.address, place.port);
        if (made.ok()) socket = std::move(made).value();
        return socket.has_value();
      },
      std::chrono::seconds(10));
  if (!socket) return {};
  socket->send({FrameKind::kHello, hello_of(place)});
  return std::move(*socket);
}

struct Joined {
  std::unique_ptr<Control> control;
  Socket other;  // rank 1's end, in the test's hands
};
Joined joined_with_raw_rank(int port, const ControlTimes& times) {
  Joined out;
  std::thread second([&] { out.other = raw_rank(place_of(1, 2, port)); });
  out.control = value_or_die(Control::join(place_of(0, 2, port), times));
  second.join();
  return out;
}

TEST(Control, ARankWhoseConnectionEndsIsNamedAtOnce) {
  const FreePort port;
  Joined joined = joined_with_raw_rank(port.number(), patient());
  joined.other.send({FrameKind::kBeat, "all_reduce [2] float32 o_proj"});
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  joined.other.close();
  const Error error = joined.control->blame(machine_error("x", "nobody knows"));
  EXPECT_TRUE(error.line().starts_with("rank 1: is gone")) << error.line();
  EXPECT_NE(error.line().find("o_proj"), std::string::npos) << error.line();
}

TEST(Control, ARankThatIsStoppedIsNamedAfterItsSilence) {
  const FreePort port;
  ControlTimes times = patient();
  times.silence = std::chrono::milliseconds(700);
  times.beat = std::chrono::milliseconds(100);
  Joined joined = joined_with_raw_rank(port.number(), times);
  const bool ended =
      comes_true([&] { return joined.control->ended().has_value(); }, std::chrono::seconds(8));
  ASSERT_TRUE(ended);
  EXPECT_TRUE(joined.control->ended()->line().starts_with("rank 1: does not answer"))
      << joined.control->ended()->line();
  joined.other.close();
}

TEST(Control, MissingRanksAreNamed) {
  const FreePort port;
  ControlTimes times = patient();
  times.join = std::chrono::milliseconds(400);
  const auto alone = Control::join(place_of(0, 3, port.number()), times);
  ASSERT_FALSE(alone.ok());
  EXPECT_NE(alone.error().line().find("none of rank 1, 2"), std::string::npos)
      << alone.error().line();
}

TEST(Control, StrangersAreRefusedAndTheRunGoesOn) {
  const FreePort port;
  std::unique_ptr<Control> control;
  std::thread first(
      [&] { control = value_or_die(Control::join(place_of(0, 2, port.number()), patient())); });
  Socket stranger = raw_rank(place_of(1, 5, port.number()));  // of a run of five
  std::optional<Frame> answer;
  comes_true(
      [&] {
        stranger.receive();
        answer = stranger.next();
        return answer.has_value();
      },
      std::chrono::seconds(5));
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->kind, FrameKind::kRefused);
  Socket nonsense = value_or_die(connect_to("127.0.0.1", port.number()));
  nonsense.send({FrameKind::kSet, "GET / HTTP/1.1"});
  Socket second = raw_rank(place_of(1, 2, port.number()));
  first.join();
  ASSERT_NE(control, nullptr);
  EXPECT_FALSE(control->ended().has_value());
  second.send({FrameKind::kBye, ""});
}

}  // namespace
}  // namespace ps
