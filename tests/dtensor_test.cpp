// The error text of the FSDP seed, explained; and shards of FSDP2 with planted mistakes.
#include <set>

#include <gtest/gtest.h>

#include "diff/shard/check_fsdp.h"
#include "diff/shard/dtensor_log.h"
#include "tests/support/program.h"
#include "tests/support/run.h"

namespace ps {
namespace {

using Found = std::set<std::string>;

std::string error_text(const std::string& local, const std::string& b, const std::string& wanted,
                       const std::string& elements) {
  return "[rank0]: TorchRuntimeError: call_function <function repeat at 0x7284>(*(DTensor("
         "local_tensor=FakeTensor(..., device='cuda:0',\nsize=" +
         local +
         "), device_mesh=DeviceMesh('cuda', [0, 1, 2, 3, 4, 5, 6, 7]), "
         "placements=(Shard(dim=0),)), "
         "'n_parscale ... -> (n_parscale b) ...'), **{'b': " +
         b + "}): got RuntimeError(\"shape '" + wanted + "' is invalid for input of size " +
         elements + "\")\n self.key_cache[layer_idx] = repeat(\n";
}

TEST(DTensorText, TheSeedsTraceIsExplained) {
  const auto trace =
      read_dtensor_trace(error_text("(1, 2, 48, 128)", "4", "[2, 2, 48,\n128]", "49152"));
  ASSERT_TRUE(trace);
  EXPECT_EQ(trace->local, (Shape{1, 2, 48, 128}));
  EXPECT_EQ(trace->wanted, (Shape{2, 2, 48, 128}));
  EXPECT_EQ(trace->world, 8);
  EXPECT_EQ(trace->factor, 4);
  EXPECT_EQ(trace->elements, 49152);
  EXPECT_EQ(possible_rows(*trace)[0], 4);
  const Report report = explain_dtensor_trace(*trace, nullptr);
  Found ids;
  for (const Finding& f : report.findings) ids.insert(f.id);
  EXPECT_EQ(ids, (Found{"FS001", "FS002", "FS003", "FS006"}));
  const std::string& words = report.findings[0].message;
  EXPECT_NE(words.find("ranks 0-3 hold 1 row, ranks 4-7 hold no row"), std::string::npos) << words;
  EXPECT_NE(words.find("ranks 0-7 hold 2 rows"), std::string::npos) << words;
  EXPECT_EQ(exit_code(report), 1);
}

TEST(DTensorText, EightReplicasLeaveNoRankEmpty) {
  const auto trace = read_dtensor_trace(error_text("(3, 5)", "2", "[5, 5]", "30"));
  ASSERT_TRUE(trace);
  for (const std::int64_t n : possible_rows(*trace)) {
    EXPECT_EQ((n + 7) / 8, 3);
    EXPECT_EQ((2 * n + 7) / 8, 5);
  }
}

TEST(DTensorText, OtherTextsAreNot) {
  EXPECT_FALSE(read_dtensor_trace(""));
  EXPECT_FALSE(read_dtensor_trace("DTensor("));
  EXPECT_FALSE(read_dtensor_trace("DTensor(size=(1, x), DeviceMesh([0]), Shard(dim=0)"));
  const TempDir dir;
  put_file(dir / "notes.txt", "nothing of the kind");
  expect_bad_input(run_parscope({"shard", "check", dir / "notes.txt"}), "DTensor");
}

class FsdpShards : public ::testing::Test {
 protected:
  static constexpr std::int64_t kWorld = 3;  // 4 replicas: 2, 2, 0 rows
  using Edit = std::function<void(std::int64_t rank, const std::string& name, Tensor& tensor)>;
  Found check(const Edit& edit) {
    const TempDir dir;
    const Model model = value_or_die(open_model(bytes_model()));
    for (std::int64_t r = 0; r < kWorld; ++r) {
      auto writer = value_or_die(
          SafetensorsWriter::create(dir / ("rank" + std::to_string(r) + ".safetensors")));
      for (const std::string name :
           {"model.layers.0.self_attn.prefix_k", "model.layers.0.mlp.up_proj.weight"}) {
        const TensorView& whole = *model.checkpoint->peek(name);
        const std::int64_t n = whole.shape[0], per = (n + kWorld - 1) / kWorld;
        const std::int64_t begin = std::min(r * per, n), end = std::min(begin + per, n);
        TensorView part = whole;
        part.shape[0] = end - begin;
        const std::int64_t row = static_cast<std::int64_t>(whole.bytes.size()) / n;
        part.bytes = whole.bytes.subspan(static_cast<std::size_t>(begin * row),
                                         static_cast<std::size_t>((end - begin) * row));
        Tensor t = Tensor::copy_of(part);
        edit(r, name, t);
        ok_or_die(writer.add(name, t.view()));
      }
      ok_or_die(writer.close());
    }
    const Report report =
        value_or_die(check_fsdp_shards(model, kWorld, value_or_die(open_shards(dir.path()))));
    Found out;
    for (const Finding& f : report.findings) {
      if (f.severity == Severity::kError) out.insert(f.id);
    }
    return out;
  }
};

TEST_F(FsdpShards, RightOnesAreClean) {
  EXPECT_EQ(check([](std::int64_t, const std::string&, Tensor&) {}), Found{});
}

// Every rank's copy of the gathered tensor.
TEST_F(FsdpShards, GatheredValuesAreTheSameOnAllRanks) {
  const Model model = value_or_die(open_model(bytes_model()));
  const TensorView& whole = *model.checkpoint->peek("model.layers.0.mlp.up_proj.weight");
  const auto copies = [&](const std::function<void(std::int64_t, Tensor&)>& edit) {
    return check([&](std::int64_t r, const std::string& name, Tensor& t) {
      if (!name.ends_with("up_proj.weight")) return;
      t = Tensor::copy_of(whole);
      edit(r, t);
    });
  };
  EXPECT_EQ(copies([](std::int64_t, Tensor&) {}), Found{});
  EXPECT_EQ(copies([](std::int64_t r, Tensor& t) {
              if (r == 2) t.as<std::uint16_t>()[5] ^= 1;
            }),
            Found{"FS004"});
  EXPECT_EQ(copies([](std::int64_t, Tensor& t) { t.as<std::uint16_t>()[5] ^= 1; }), Found{"TP007"});
  EXPECT_EQ(copies([](std::int64_t, Tensor& t) { t = Tensor(DType::kF32, t.shape()); }),
            Found{"FS007"});
}

TEST_F(FsdpShards, MistakesHaveTheirNames) {
  const auto of = [](std::int64_t rank, const std::function<void(Tensor&)>& edit) {
    return [=](std::int64_t r, const std::string& name, Tensor& t) {
      if (r == rank && name.ends_with("prefix_k")) edit(t);
    };
  };
  const Model model = value_or_die(open_model(bytes_model()));
  const TensorView& whole = *model.checkpoint->peek("model.layers.0.self_attn.prefix_k");
  EXPECT_EQ(check(of(1, [&](Tensor& t) { t = Tensor::copy_of(whole); })), Found{"FS001"});
  EXPECT_EQ(check(of(2, [&](Tensor& t) { t = Tensor(t.dtype(), {2, 2, 8, 32}); })), Found{"FS005"});
  EXPECT_EQ(check(of(0, [&](Tensor& t) { t = Tensor(DType::kF32, t.shape()); })), Found{"FS007"});
  EXPECT_EQ(check(of(0, [&](Tensor& t) { t.as<std::uint16_t>()[3] ^= 1; })), Found{"TP007"});
  EXPECT_EQ(check(of(0, [&](Tensor& t) { t = Tensor(t.dtype(), {1, 2, 8, 32}); })), Found{"TP001"});
}

}  // namespace
}  // namespace ps
