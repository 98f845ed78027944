// Laws of the block model: what the runners promise to a kernel body, and that each kind of fault
// is seen by the runner that is there for it. The bodies here are wrong on purpose.
#include <atomic>
#include <cmath>
#include <set>

#include <gtest/gtest.h>

#include "model/arena.h"
#include "model/ops/op.h"

namespace ps {
namespace {

template <class T, int N>
Global<T, N> global_of(std::vector<std::remove_const_t<T>>& cells,
                       std::initializer_list<std::int64_t> sizes) {
  std::int64_t size[N] = {}, stride[N] = {}, step = 1, axis = 0;
  for (const std::int64_t s : sizes) size[axis++] = s;
  for (axis = N - 1; axis >= 0; --axis) {
    stride[axis] = step;
    step *= size[axis];
  }
  return {cells.data(), size, stride};
}

template <class Body>
CheckLog checked(const Body& body, std::int64_t grid, int threads) {
  CheckLog log;
  LaunchShadow shadow{.cells = {}, .body = "body"};
  Launch launch;
  launch.threads = threads;
  launch.runner = Launch::Runner::kChecked;
  launch.log = &log;
  cpu::launch_body(body, grid, launch, &shadow);
  return log;
}

template <class Body>
void permuted(const Body& body, std::int64_t grid, int threads, std::uint64_t seed) {
  Launch launch;
  launch.threads = threads;
  launch.runner = Launch::Runner::kPermuted;
  launch.seed = seed;
  cpu::launch_body(body, grid, launch, nullptr);
}

template <class Body>
void in_order(const Body& body, std::int64_t grid, int threads, ThreadPool* pool = nullptr) {
  Launch launch;
  launch.threads = threads;
  launch.pool = pool;
  cpu::launch_body(body, grid, launch, nullptr);
}

// Each thread stages a value and reads its neighbour's: right with a barrier between, a race
// without.
struct Neighbour {
  Global<float, 1> out;
  bool barrier;
  float weight;
  template <class Block>
  void operator()(Block& block) const {
    auto cells = block.template shared<float>(64);
    PerThread<Block, float> got(block);
    const auto put = [&](Thread t) { cells[t.id()] = static_cast<float>(t.id()); };
    const auto get = [&](Thread t) {
      got[t] = 1.f + weight * static_cast<float>(cells[(t.id() + 1) % block.threads()]);
    };
    if (barrier) {
      block.phase(put);
      block.phase(get);
    } else {
      block.phase([&](Thread t) {
        put(t);
        get(t);
      });
    }
    block.each(out.size(0), [&](Thread t, std::int64_t i) {
      if (i < block.threads()) block.store(out, static_cast<float>(got[t]), i);
    });
  }
};

TEST(MissingBarrier, ShowsInAnotherOrderAndUnderTheCheckedRunner) {
  std::vector<float> right(64), wrong(64), other(64);
  in_order(Neighbour{global_of<float, 1>(right, {64}), true, 1.f}, 1, 64);
  permuted(Neighbour{global_of<float, 1>(other, {64}), true, 1.f}, 1, 64, 3);
  EXPECT_EQ(right, other);
  EXPECT_TRUE(checked(Neighbour{global_of<float, 1>(right, {64}), true, 1.f}, 1, 64).clean());

  in_order(Neighbour{global_of<float, 1>(wrong, {64}), false, 1.f}, 1, 64);
  permuted(Neighbour{global_of<float, 1>(other, {64}), false, 1.f}, 1, 64, 3);
  EXPECT_NE(wrong, other);
  EXPECT_GT(checked(Neighbour{global_of<float, 1>(wrong, {64}), false, 1.f}, 1, 64).races, 0);
}

TEST(MissingBarrier, IsARaceAlsoWhereTheValueDoesNotCount) {
  std::vector<float> out(64);
  const CheckLog log = checked(Neighbour{global_of<float, 1>(out, {64}), false, 0.f}, 1, 64);
  EXPECT_GT(log.races, 0);
  EXPECT_NE(log.first.find("body block 0 thread"), std::string::npos) << log.first;
}

struct SharedFault {
  int kind;  // 0 none, 1 reads an unset cell, 2 reads past the end
  template <class Block>
  void operator()(Block& block) const {
    auto cells = block.template shared<float>(32);
    PerThread<Block, float> got(block);
    block.phase([&](Thread t) {
      if (t.id() < (kind == 1 ? 31 : 32)) cells[t.id()] = 1.f;
    });
    block.phase([&](Thread t) {
      if (t.id() == 0) got[t] = cells[kind == 2 ? 32 : 31];
    });
  }
};

TEST(CheckedRunner, SeesUnsetAndOutOfBoundsSharedMemory) {
  EXPECT_TRUE(checked(SharedFault{0}, 2, 32).clean());
  EXPECT_EQ(checked(SharedFault{1}, 2, 32).unset, 2);
  EXPECT_EQ(checked(SharedFault{2}, 2, 32).bounds, 2);
}

struct GlobalFault {
  Global<const float, 2> in;
  Global<float, 2> out;
  int kind;  // 1 column past the end, 2 reads its output first, 3 blocks share a row, 4 threads
             // share a cell, 5 negative row
  template <class Block>
  void operator()(Block& block) const {
    const std::int64_t row = kind == 3 ? 0 : block.index();
    block.each(out.size(1), [&](Thread, std::int64_t c) {
      float value = block.load(in, kind == 5 ? row - 1 : row, kind == 1 ? c + 1 : c);
      if (kind == 2) value += block.load(out, row, c);
      block.store(out, value, row, kind == 4 ? 0 : c);
    });
  }
};

TEST(CheckedRunner, SeesFaultsInGlobalMemory) {
  std::vector<float> in(3 * 5, 1.f), out(3 * 5);
  const auto run = [&](int kind) {
    return checked(
        GlobalFault{global_of<const float, 2>(in, {3, 5}), global_of<float, 2>(out, {3, 5}), kind},
        3, 32);
  };
  EXPECT_TRUE(run(0).clean());
  EXPECT_EQ(run(1).bounds, 3);
  EXPECT_EQ(run(2).unset, 15);
  EXPECT_GT(run(3).races, 0);
  EXPECT_GT(run(4).races, 0);
  EXPECT_EQ(run(5).bounds, 5);
}

struct AddUp {
  Global<const float, 1> in;
  Global<float, 1> out;  // the sum as each thread sees it
  template <class Block>
  void operator()(Block& block) const {
    auto scratch = block.template shared<float>(kWarp);
    PerThread<Block, float> part(block);
    block.each(in.size(0),
               [&](Thread t, std::int64_t i) { part[t] = part[t] + block.load(in, i); });
    const float sum = block_sum(block, part, scratch);
    block.phase([&](Thread t) { block.store(out, sum, t.id()); });
  }
};

TEST(BlockSum, IsTheSumForEveryBlockSizeAndTheSameInEveryThreadAndOrder) {
  for (const int threads : {32, 64, 96, 160, 256}) {
    for (const std::int64_t count : {0, 1, 31, 257, 1000}) {
      std::vector<float> in(static_cast<std::size_t>(count)),
          out(static_cast<std::size_t>(threads), NAN), other = out;
      double want = 0, size = 0;
      for (std::size_t i = 0; i < in.size(); ++i) {
        in[i] = static_cast<float>(Rng(1, 2).normal(i));
        want += in[i];
        size += std::fabs(in[i]);
      }
      const auto body = [&](std::vector<float>& to) {
        return AddUp{global_of<const float, 1>(in, {count}), global_of<float, 1>(to, {threads})};
      };
      in_order(body(out), 1, threads);
      permuted(body(other), 1, threads, 9);
      EXPECT_EQ(out, other);
      EXPECT_TRUE(checked(body(other), 1, threads).clean());
      for (const float seen : out) {
        EXPECT_EQ(seen, out[0]);
        EXPECT_NEAR(seen, want, 1e-6 * (size + 1));
      }
    }
  }
}

struct Ownership {
  Global<std::int64_t, 1> owner, visits;
  template <class Block>
  void operator()(Block& block) const {
    block.each(owner.size(0), [&](Thread t, std::int64_t i) {
      block.store(owner, static_cast<std::int64_t>(t.id()), i);
      block.store(visits, std::int64_t{1}, i);
    });
  }
};

TEST(Each, GivesItemIToThreadIModuloThreadsInEveryRunner) {
  for (const std::int64_t count : {0, 1, 32, 33, 100}) {
    std::vector<std::int64_t> want(static_cast<std::size_t>(count)), owner(want), visits(want);
    for (std::size_t i = 0; i < want.size(); ++i) want[i] = static_cast<std::int64_t>(i % 32);
    const Ownership body{global_of<std::int64_t, 1>(owner, {count}),
                         global_of<std::int64_t, 1>(visits, {count})};
    in_order(body, 1, 32);
    EXPECT_EQ(owner, want);
    std::fill(owner.begin(), owner.end(), -1);
    permuted(body, 1, 32, 5);
    EXPECT_EQ(owner, want);
    EXPECT_TRUE(checked(body, 1, 32).clean());
  }
}

struct Greedy {
  template <class Block>
  void operator()(Block& block) const {
    block.template shared<float>(static_cast<int>(kSharedBytes / sizeof(float)) + 1);
  }
};
struct Disagreeing {
  template <class Block>
  void operator()(Block& block) const {
    PerThread<Block, int> part(block);
    block.phase([&](Thread t) { part[t] = t.id(); });
    (void)block.uniform(part);
  }
};

TEST(BlockDeathTest, LimitsAreHeldTo) {
  EXPECT_DEATH(in_order(Greedy{}, 1, 32), "kSharedBytes");
  EXPECT_DEATH(permuted(Disagreeing{}, 1, 32, 1), "disagree");
  EXPECT_DEATH(in_order(Greedy{}, 1, 33), "a block of 33 threads");
  EXPECT_DEATH(in_order(Greedy{}, 1, 512), "a block of 512 threads");
  EXPECT_DEATH(in_order(Greedy{}, kMaxGrid + 1, 32), "a grid of");
}

TEST(ThreadPool, RunsEveryItemOnceForAnyNumberOfThreads) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (int repeat = 0; repeat < 200; ++repeat) {
      const std::int64_t count = repeat % 17;
      std::vector<std::atomic<int>> seen(static_cast<std::size_t>(count));
      pool.run(count, [&](std::int64_t item, int worker) {
        EXPECT_LT(worker, threads);
        ++seen[static_cast<std::size_t>(item)];
      });
      for (const auto& times : seen) EXPECT_EQ(times, 1);
    }
  }
}

TEST(Arena, GivesBackAScopeGrowsByChunksAndThenHasOne) {
  const auto backend = open_host_backend(1, Launch{});
  Arena arena(*backend);
  const auto step = [&] {
    arena.reset();
    const Array first = arena.take(DType::kF32, {3, 5});
    void* inner = nullptr;
    {
      const Arena::Scope scope(arena);
      inner = arena.take(DType::kBF16, {7}).data();
      std::memset(arena.take(DType::kBool, {std::int64_t{5} << 20}).data(), 1,
                  std::size_t{5} << 20);
    }
    EXPECT_EQ(arena.take(DType::kI64, {2}).data(), inner);
    EXPECT_NE(first.data(), inner);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(inner) % 64, 0u);
  };
  for (int repeat = 0; repeat < 3; ++repeat) step();
  EXPECT_GE(arena.peak_bytes(), std::int64_t{5} << 20);
}

TEST(Array, ViewsKeepTheirCells) {
  std::vector<float> cells(2 * 3 * 4);
  for (std::size_t i = 0; i < cells.size(); ++i) cells[i] = static_cast<float>(i);
  const Array x(cells.data(), DType::kF32, {2, 12});
  const auto at = [&](const Array& a, std::int64_t i, std::int64_t j, std::int64_t k) {
    return static_cast<const float*>(a.data())[i * a.stride(0) + j * a.stride(1) + k * a.stride(2)];
  };
  const Array split = x.split(1, 4);  // [2, 3, 4]
  EXPECT_EQ(at(split, 1, 2, 3), 23);
  EXPECT_EQ(at(split.transposed(0, 1), 2, 1, 3), 23);
  EXPECT_EQ(at(split.permuted({1, 0, 2}), 2, 1, 3), 23);
  EXPECT_EQ(at(split.narrowed(1, 1, 2), 1, 1, 3), 23);
  EXPECT_FALSE(split.transposed(0, 1).contiguous());
  EXPECT_TRUE(split.contiguous());
  EXPECT_EQ(split.narrowed(1, 1, 2).extent(), 20);
  EXPECT_EQ(split.narrowed(1, 1, 0).extent(), 0);
}

}  // namespace
}  // namespace ps
