// The panels for masks, attention, replicas, caches, tokens and steps, with real input events and
// no window.
#include <algorithm>
#include <cmath>

#include "diff/view/mask_raster.h"
#include "tests/viewer/stage_fixture.h"
#include "viewer/app/commands.h"
#include "viewer/data/history_model.h"
#include "viewer/data/magnitudes.h"
#include "viewer/data/token_words.h"
#include "viewer/ui/canvas.h"

namespace ps::viewer {
namespace {

class ViewerPanels : public StageTest {
 protected:
  void alone(const std::string& panel) {
    must("layout solo");
    must("panel " + panel);
    settle();
    app.jobs.wait_all();
    settle();
  }
  static const Canvas& canvas(const std::string& panel) {
    return last_canvases().find(panel)->second;
  }
  // How many pixels of the window have this colour.
  std::int64_t count(std::uint32_t color) {
    const Frame frame = drawn(kWidth, kHeight);
    return std::count(frame.pixels.begin(), frame.pixels.end(), color);
  }
  void open_masks() {
    must("open " + as_word(shared_scene().expected_mask.string()));
    must("open " + as_word(shared_scene().actual_mask.string()));
  }
};

TEST_F(ViewerPanels, MaskOfAProgramShowsEveryWrongCellAndGoesThere) {
  open_masks();
  alone("mask");
  const view::MaskColors colors = view::mask_colors(true);
  const std::int64_t leaks = count(colors.leak);
  EXPECT_GT(leaks, 8);
  must("mode expected");
  settle();
  EXPECT_LT(count(colors.leak), leaks);
  must("mode diff");
  drive([&](ImGuiTestContext* ctx) {
    ctx->WindowFocus("Mask###mask");
    const Canvas c = canvas("mask");
    ctx->MouseMoveToPos(ImVec2(c.x_of(4.5), c.y_of(2.5)));
    ctx->MouseClick();
    ctx->Yield();
    IM_CHECK_EQ(app.state.selection.at("query"), 2);
    IM_CHECK_EQ(app.state.selection.at("key"), 4);
    ctx->MouseWheelY(6);
    ctx->Yield(2);
    IM_CHECK(app.state.display.view("mask").zoom > 1);
  });
}

TEST_F(ViewerPanels, NextGoesThroughTheWrongCellsOfAMask) {
  const std::string sizes = "B=2 H=3 Q=24 KV=24; ";
  must("open " + as_word(sizes + "causal"));
  must("open " + as_word(sizes + "causal & !(heads(2) & q_range(9,10) & kv_range(4,5)) | "
                                 "batches(1) & q_range(3,4) & kv_range(17,18)"));
  // Opened, and looked at where it is wrong first: a plane after (0, 0).
  EXPECT_EQ(app.state.selection.at("head"), 2);
  EXPECT_EQ(app.state.selection.at("query"), 9);
  EXPECT_EQ(app.state.selection.at("key"), 4);
  must("head 1");
  must("at batch=1 query=0 key=0");
  must("next");
  EXPECT_EQ(app.state.selection.at("query"), 3);
  EXPECT_EQ(app.state.selection.at("key"), 17);
  must("head 2");
  must("next");
  must("next");
  EXPECT_EQ(app.state.selection.at("query"), 3);  // round and round within the plane
  must("previous");
  EXPECT_EQ(app.state.selection.at("query"), 9);
  alone("mask");
  must("move 3,-2");
  EXPECT_EQ(app.state.selection.at("query"), 12);
  EXPECT_EQ(app.state.selection.at("key"), 2);
  EXPECT_FALSE(app.execute("head 3").ok());
  EXPECT_FALSE(app.execute("batch 2").ok());
}

TEST_F(ViewerPanels, EqualMasksHaveNoNextWrongCell) {
  must("open " + as_word(shared_scene().expected_mask.string()));
  EXPECT_FALSE(app.execute("next").ok());
  must("open " + as_word(shared_scene().expected_mask.string()));
  EXPECT_FALSE(app.execute("next").ok());
  EXPECT_FALSE(app.execute("first").ok());
}

TEST_F(ViewerPanels, TilesOfBlockListsLieOverTheMask) {
  open_masks();
  alone("mask");
  const Frame without = drawn(kWidth, kHeight);
  must("set mask.blocks 7x5");
  settle();
  EXPECT_NE(difference(drawn(kWidth, kHeight), without), "");
  must("set mask.blocks nonsense");
  settle();
  must("set mask.blocks");
  settle();
  EXPECT_EQ(app.state.display.option("mask.blocks"), "");
}

TEST_F(ViewerPanels, MaskExpressionIsDrawnAndItsMistakesAreSaid) {
  open_diverged();
  must("set mask.expression \"expected & ~actual\"");
  alone("mask");
  must("set mask.expression \"expected & & actual\"");
  settle();
  must("set mask.expression");
  settle();
  EXPECT_EQ(app.state.display.option("mask.expression"), "");
  must("set mask.expression \"layer0 ^ layer1 | causal\"");
  settle();
  const std::string link = app.link();
  must("reset");
  must("follow " + as_word(link));
  EXPECT_EQ(app.state.display.option("mask.expression"), "layer0 ^ layer1 | causal");
}

TEST_F(ViewerPanels, AttentionThumbnailLeadsToItsHead) {
  open_diverged();
  for (const char* show : {"probs", "scores", "entropy"}) {
    must(std::string("set attention.show ") + show);
    for (const char* mode : {"expected", "actual", "diff"}) {
      must(std::string("mode ") + mode);
      alone("attention");
    }
  }
  must("set attention.show probs");
  settle();
  drive([&](ImGuiTestContext* ctx) {
    ctx->WindowFocus("Attention###attention");
    const Canvas c = canvas("attention.heads.1");
    IM_CHECK_EQ(c.rows, 3);
    IM_CHECK_EQ(c.columns, 6);
    ctx->MouseMoveToPos(ImVec2(c.x_of(1.5), c.y_of(2.5)));
    ctx->MouseClick();
    ctx->Yield(2);
    IM_CHECK_STR_EQ(app.state.selection.point.c_str(), "model.layers.2.self_attn:probs");
    IM_CHECK_EQ(app.state.selection.at("head"), 1);
    IM_CHECK_EQ(app.state.selection.at("replica"), 1);
  });
}

TEST_F(ViewerPanels, ReplicasAreDraggedThroughTokenByToken) {
  alone("replicas");  // says how to come by votes
  open_diverged();
  app.session.set_report(0, std::make_shared<const Report>([] {
                           Report report;
                           add_votes(report);
                           return report;
                         }()));
  for (const char* mode : {"expected", "actual", "diff"}) {
    must(std::string("mode ") + mode);
    alone("replicas");
  }
  drive([&](ImGuiTestContext* ctx) {
    ctx->WindowFocus("Replicas###replicas");
    const Canvas c = canvas("replicas");
    IM_CHECK_EQ(c.columns, 9);
    ctx->MouseMoveToPos(ImVec2(c.x_of(3.5), c.y_of(0.5)));
    ctx->MouseDown();
    ctx->Yield(2);
    IM_CHECK_EQ(app.state.selection.at("token"), 3);
    ctx->MouseMoveToPos(ImVec2(c.x_of(6.5), c.y_of(0.5)));
    ctx->Yield(2);
    ctx->MouseUp();
    IM_CHECK_EQ(app.state.selection.at("token"), 6);
  });
}

TEST_F(ViewerPanels, CacheSlotsAreSelectedAndErrorsShown) {
  open_diverged();
  must("step 2");
  for (const char* side : {"both", "keys", "values"}) {
    must(std::string("set kv.side ") + side);
    for (const char* mode : {"expected", "actual", "diff"}) {
      must(std::string("mode ") + mode);
      alone("kv");
    }
  }
  drive([&](ImGuiTestContext* ctx) {
    ctx->WindowFocus("KV cache###kv");
    const Canvas c = canvas("kv");
    IM_CHECK_EQ(c.rows, 3);
    IM_CHECK_EQ(c.columns, 2 + 9 + 2);
    ctx->MouseMoveToPos(ImVec2(c.x_of(10.5), c.y_of(1.5)));
    ctx->MouseClick();
    ctx->Yield();
    IM_CHECK_EQ(app.state.selection.at("slot"), 10);
    IM_CHECK_STR_EQ(app.state.selection.point.c_str(), "model.layers.1.self_attn:v_cache");
  });
}

TEST_F(ViewerPanels, StepsAreScrubbed) {
  open_diverged();
  alone("steps");
  drive([&](ImGuiTestContext* ctx) {
    ctx->WindowFocus("Steps###steps");
    const Canvas c = canvas("steps");
    IM_CHECK_EQ(c.columns, 3);
    ctx->MouseMoveToPos(ImVec2(c.x_of(1.5), c.y_of(0.5)));
    ctx->MouseDown();
    ctx->Yield(2);
    IM_CHECK_EQ(app.state.selection.step, 1);
    ctx->MouseMoveToPos(ImVec2(c.x_of(2.5), c.y_of(0.5)));
    ctx->Yield(2);
    ctx->MouseUp();
    IM_CHECK_EQ(app.state.selection.step, 2);
  });
}

TEST_F(ViewerPanels, TokensFollowTheSelection) {
  open_diverged();
  alone("tokens");
  must("at token=8");
  settle();
  must("mode expected");
  settle();
  must("step 1");
  settle();
  EXPECT_FALSE(app.execute("at").ok());
  EXPECT_FALSE(app.execute("at token").ok());
  EXPECT_FALSE(app.execute("at To ken=3").ok());
  EXPECT_FALSE(app.execute("at token=-3").ok());
  EXPECT_EQ(app.state.selection.at("token"), 8);
}

TEST_F(ViewerPanels, HistoryFollowsTheCellThroughTheLayer) {
  open_diverged();
  must(std::string("go ") + kWrongPoint + " replica=1 batch=0 head=0 query=1 key=4");
  alone("history");
  const HistoryPlace place = history_place(app.session, app.state.selection);
  EXPECT_EQ(place.token, 1);
  EXPECT_EQ(place.slot, 4);
  EXPECT_EQ(place.key_token, 2);  // after two slots of a prefix
  const auto model = made_history(app.session, place, 1, {});
  ASSERT_GE(model->first, 0);
  const HistoryRow& first = model->rows[static_cast<std::size_t>(model->first)];
  EXPECT_EQ(first.point, kWrongPoint);
  EXPECT_EQ(first.where, "replica=1 batch=0 head=0 query=1 key=4");
  EXPECT_EQ(first.cells, 1);
  const auto row = [&](const std::string& point) -> const HistoryRow& {
    return *std::find_if(model->rows.begin(), model->rows.end(),
                         [&](const HistoryRow& r) { return r.point == point; });
  };
  // The key's own token where the key comes from, the query's elsewhere; 24 and 4 channels.
  EXPECT_EQ(row("model.layers.1.self_attn.k_proj").cell[2],
            std::pair(std::string("token"), std::int64_t{2}));
  EXPECT_EQ(row("model.layers.1.self_attn.q_proj").cell[2],
            std::pair(std::string("token"), std::int64_t{1}));
  EXPECT_EQ(row("model.layers.1.self_attn.o_proj").cells, 24);
  EXPECT_EQ(row("model.layers.1.self_attn:k_cache").cells, 4);
  EXPECT_FALSE(row("model.layers.1.self_attn:scores").differs());
  EXPECT_TRUE(row("model.layers.1.self_attn.o_proj").differs());
  // A key of the prefix comes from no token.
  must("cell key 0");
  const auto prefix =
      made_history(app.session, history_place(app.session, app.state.selection), 1, {});
  for (const HistoryRow& r : prefix->rows) EXPECT_FALSE(r.of_key) << r.point;
  // The pair stays chosen while its points are looked at.
  must("cell key 4");
  must("go model.layers.1.self_attn.o_proj token=1");
  EXPECT_EQ(history_place(app.session, app.state.selection).slot, 4);
}

TEST(Magnitudes, TellHowLargeTheValuesOfAPointAre) {
  const Result<RunPtr> run = open_run(shared_scene().candidate);
  ASSERT_TRUE(run.ok());
  const auto all = made_magnitudes(*run, 0, 0, {});
  const auto found = all->points.find("model.layers.1.self_attn:probs");
  ASSERT_NE(found, all->points.end());
  const TensorView& probs = *(*run)->find(0, 0, "model.layers.1.self_attn:probs");
  double sum = 0, largest = 0;
  for (std::int64_t i = 0; i < probs.count(); ++i) {
    sum += value_at(probs, i) * value_at(probs, i);
    largest = std::max(largest, std::fabs(value_at(probs, i)));
  }
  EXPECT_DOUBLE_EQ(found->second.rms, std::sqrt(sum / static_cast<double>(probs.count())));
  EXPECT_DOUBLE_EQ(found->second.largest, largest);
  EXPECT_EQ(found->second.sampled, probs.count());
  EXPECT_EQ(found->second.nonfinite, 0);
  EXPECT_GT(all->high, all->low);
  EXPECT_DOUBLE_EQ(all->share({all->high, 0, 0, 0}), 1);
  EXPECT_DOUBLE_EQ(all->share({all->low, 0, 0, 0}), 0);
  EXPECT_TRUE(made_magnitudes(*run, 77, 0, {})->points.empty());
}

TEST_F(ViewerPanels, StripHasTheModesToo) {
  open_diverged();
  alone("divergence");
  const Frame diff = drawn(kWidth, kHeight);
  must("mode actual");
  settle();
  const Frame actual = drawn(kWidth, kHeight);
  EXPECT_NE(difference(actual, diff), "");
  must("mode diff");
  settle();
  EXPECT_EQ(difference(drawn(kWidth, kHeight), diff), "");
}

TEST(TokenWords, BytesAreLettersOnlyInByteVocabularies) {
  ModelConfig config;
  config.vocab_size = 256;
  EXPECT_EQ(token_words(&config, 65), "65 'A'");
  EXPECT_EQ(token_words(&config, 10), "10 newline");
  EXPECT_EQ(token_words(&config, 200), "200");
  config.vocab_size = 32000;
  EXPECT_EQ(token_words(&config, 65), "65");
  EXPECT_EQ(token_words(nullptr, -4), "-4");
}

}  // namespace
}  // namespace ps::viewer
