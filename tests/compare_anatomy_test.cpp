// Planted errors of a known shape, and what anatomy() calls them.
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/rng.h"
#include "diff/compare/anatomy.h"

namespace ps {
namespace {

// q_rope of 2 replicas and 3 samples: [R = 6, H = 5, S = 7, D = 4].
constexpr std::string_view kPoint = "model.layers.1.self_attn:q_rope";
const Shape kShape = {6, 5, 7, 4};
constexpr std::int64_t kBatch = 3;

Tensor expected_tensor() {
  Tensor out(DType::kF32, kShape);
  const Rng rng(3, 0);
  for (std::size_t i = 0; i < out.as<float>().size(); ++i) {
    out.as<float>()[i] = static_cast<float>(rng.normal(i));
  }
  return out;
}

struct Index {
  std::int64_t row, head, query, channel;
};
Index index(std::size_t i) {
  const auto at = static_cast<std::int64_t>(i);
  return {at / 140, at / 28 % 5, at / 4 % 7, at % 4};
}
std::size_t flat(const Index& at) {
  return static_cast<std::size_t>(((at.row * 5 + at.head) * 7 + at.query) * 4 + at.channel);
}

Anatomy look(const Tensor& candidate, const Tensor& expected) {
  CompareOptions options;
  options.bound = default_bound(DType::kF32, DType::kF32, 2);
  const Comparison c = compare(candidate.view(), expected.view(), options);
  return anatomy(candidate.view(), expected.view(), options, c, named_axes(kPoint, kShape, kBatch));
}

// The candidate's cell as a function of the expected tensor and the index.
Anatomy plant(const std::function<float(const Index&, const std::vector<float>&)>& cell) {
  const Tensor expected = expected_tensor();
  const auto values = expected.view().as<float>();
  const std::vector<float> b(values.begin(), values.end());
  Tensor candidate(DType::kF32, kShape);
  for (std::size_t i = 0; i < b.size(); ++i) candidate.as<float>()[i] = cell(index(i), b);
  return look(candidate, expected);
}

void expect_words(const std::string& text, const std::string& words) {
  EXPECT_NE(text.find(words), std::string::npos) << text << "\nlacks: " << words;
}

TEST(Anatomy, NamesTheFirstWrongCell) {
  const Anatomy a = plant([](const Index& at, const std::vector<float>& b) {
    return b[flat(at)] + (at.row >= 3 && at.head == 3 && at.query == 5 ? 1.0f : 0.0f);
  });
  EXPECT_EQ(a.first, "replica=1 batch=0 head=3 query=5 channel=0");
  EXPECT_EQ(a.wrong, 12);
  expect_words(a.geometry, "12 of 840 cells");
  expect_words(a.geometry, "replica 1 alone");
  expect_words(a.geometry, "head 3 alone");
  expect_words(a.geometry, "query 5 alone");
  expect_words(a.geometry, "every cell there");
}

TEST(Anatomy, TailsStepsAndRangesAreTold) {
  const auto only = [](const std::function<bool(const Index&)>& where) {
    return plant([&](const Index& at, const std::vector<float>& b) {
             return b[flat(at)] * (where(at) ? -1.5f : 1.0f) + (where(at) ? 0.3f : 0.0f);
           })
        .geometry;
  };
  expect_words(only([](const Index& at) { return at.query >= 4; }), "the last 3 of 7 along query");
  expect_words(only([](const Index& at) { return at.query < 2; }), "the first 2 of 7 along query");
  expect_words(only([](const Index& at) { return at.query == 2 || at.query == 3; }),
               "query 2 to 3 of 7");
  expect_words(only([](const Index& at) { return at.head % 2 == 1; }), "2 of 5 along head");
  expect_words(only([](const Index& at) { return at.query % 2 == 1; }),
               "every second query, from 1");
  expect_words(only([](const Index& at) { return at.row % 3 == 2; }), "batch 2 alone");
  EXPECT_EQ(only([](const Index&) { return true; }).substr(0, 10), "every cell");
}

TEST(Anatomy, ScaledOffsetAndBothAreRelations) {
  EXPECT_EQ(plant([](const Index& at, const std::vector<float>& b) {
              return 1.0101f * b[flat(at)];
            }).relation,
            "1.0101 x expected");
  EXPECT_EQ(plant([](const Index& at, const std::vector<float>& b) {
              return b[flat(at)] - 0.5f;
            }).relation,
            "expected - 0.5");
  EXPECT_EQ(plant([](const Index& at, const std::vector<float>& b) {
              return -2 * b[flat(at)] + 0.25f;
            }).relation,
            "-2 x expected + 0.25");
  EXPECT_EQ(plant([](const Index&, const std::vector<float>&) { return 0.0f; }).relation,
            "all zero");
}

TEST(Anatomy, ShiftedAndPermutedAxesAreRelations) {
  EXPECT_EQ(plant([](Index at, const std::vector<float>& b) {
              at.query = (at.query + 6) % 7;  // each holds its left neighbour's
              if (at.query == 6) return 0.123f;
              return b[flat(at)];
            }).relation,
            "expected moved by +1 along query");
  EXPECT_EQ(plant([](Index at, const std::vector<float>& b) {
              at.row = (at.row + 3) % 6;
              return b[flat(at)];
            }).relation,
            "expected with its replica axis permuted: 0 holds 1, 1 holds 0");
  EXPECT_EQ(plant([](Index at, const std::vector<float>& b) {
              at.row = at.row / 3 * 3 + (at.row % 3 + 1) % 3;
              return b[flat(at)];
            }).relation,
            "expected with its batch axis permuted: 0 holds 1, 1 holds 2, 2 holds 0");
  EXPECT_EQ(plant([](Index at, const std::vector<float>& b) {
              if (at.head == 1 || at.head == 4) at.head = 5 - at.head;
              return b[flat(at)];
            }).relation,
            "expected with its head axis permuted: 1 holds 4, 4 holds 1");
}

TEST(Anatomy, AHeadHeldTwiceIsNoPermutation) {
  EXPECT_EQ(plant([](Index at, const std::vector<float>& b) {
              if (at.head == 1) at.head = 4;
              return b[flat(at)];
            }).relation,
            "");
}

TEST(Anatomy, NoiseHasNoRelation) {
  const Rng rng(5, 5);
  const Anatomy a = plant([&](const Index& at, const std::vector<float>& b) {
    return b[flat(at)] + 0.1f * static_cast<float>(rng.normal(flat(at)));
  });
  EXPECT_EQ(a.relation, "");
  EXPECT_EQ(a.geometry.find("rank one"), std::string::npos) << a.geometry;
}

TEST(Anatomy, OuterProductHasRankOne) {
  const Anatomy a = plant([](const Index& at, const std::vector<float>& b) {
    const auto row = static_cast<float>(flat({at.row, at.head, at.query, 0}) / 4 % 13 + 1);
    return b[flat(at)] + row * (static_cast<float>(at.channel) - 1.3f);
  });
  expect_words(a.geometry, "the error has rank one");
}

TEST(Anatomy, UnknownPointsHaveNumberedAxes) {
  const std::vector<NamedAxis> axes = named_axes("weird.thing", {2, 3}, 1);
  EXPECT_EQ(place_of(axes, 5), "axis0=1 axis1=2");
  EXPECT_EQ(place_of(named_axes("lm_head", {2, 3, 11}, 2), 33 + 11 + 7), "batch=1 token=1 vocab=7");
  EXPECT_EQ(place_of(named_axes("model.norm", {4, 3, 5}, 4), 15 + 5), "batch=1 token=1 channel=0");
}

}  // namespace
}  // namespace ps
