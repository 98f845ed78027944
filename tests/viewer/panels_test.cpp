// The panels for masks, attention, replicas, caches, tokens and steps, with real input events and
// no window.
#include <algorithm>
#include <cmath>

#include "diff/view/mask_raster.h"
#include "tests/viewer/stage_fixture.h"
#include "viewer/app/commands.h"
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

TEST_F(ViewerPanels, DISABLED_MaskOfAProgramShowsEveryWrongCellAndGoesThere) {
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

TEST_F(ViewerPanels, DISABLED_AttentionThumbnailLeadsToItsHead) {
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
    const Canvas c = canvas("attention.heads");
    // Row 2, column 7: layer 2, head 1 of replica 1 (6 heads each).
    ctx->MouseMoveToPos(ImVec2(c.x_of(7) + 12, c.y_of(2) + 4));
    ctx->MouseClick();
    ctx->Yield(2);
    IM_CHECK_STR_EQ(app.state.selection.point.c_str(), "model.layers.2.self_attn:probs");
    IM_CHECK_EQ(app.state.selection.at("head"), 1);
    IM_CHECK_EQ(app.state.selection.at("replica"), 1);
  });
}

Report with_votes() {
  Report report;
  report.replicas.emplace();
  report.replicas->replicas = 3;
  for (std::int64_t i = 0; i < 9; ++i) {
    ReplicaToken t;
    t.token = i;
    t.input_id = 7 * i;
    t.argmax = 4;
    t.expected_argmax = i == 5 ? 9 : 4;
    t.js = t.expected_js = 0.1 * static_cast<double>(i);
    t.weights = {0.5, 0.3, 0.2};
    t.expected_weights = {0.4, 0.35, 0.25};
    t.replica_argmax = t.expected_replica_argmax = {4, 9, 4};
    t.without_argmax = {9, 4, 4};
    t.top = {{4, 2.0, {1, 2, 3}, {1, 2, 3}}, {9, 1.5, {1, 2, NAN}, {1, 2, 3}}};
    report.replicas->tokens.push_back(t);
  }
  return report;
}

TEST_F(ViewerPanels, DISABLED_ReplicasAreDraggedThroughTokenByToken) {
  alone("replicas");  // says how to come by votes
  open_diverged();
  app.session.set_report(0, std::make_shared<const Report>(with_votes()));
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

TEST_F(ViewerPanels, DISABLED_CacheSlotsAreSelectedAndErrorsShown) {
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

TEST_F(ViewerPanels, DISABLED_StepsAreScrubbed) {
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
