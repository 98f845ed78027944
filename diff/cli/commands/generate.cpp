// parscope generate MODEL_DIR --prompt TEXT: what a model says, with its cache and without.
#include "diff/cli/attention.h"
#include "diff/cli/command.h"
#include "diff/cli/engines.h"
#include "diff/report/report.h"
#include "diff/run/inputs.h"

namespace ps::cli {

namespace {

constexpr Option kOptions[] = {
    kEngineOption,
    kAttention,
    kDevice,
    kDType,
    kThreads,
    kPrompt,
    kTokens,
    kRandom,
    kSeed,
    kBeams,
    {"--new", "N", "tokens to generate; default 60"},
    {"--no-cache", "", "run the whole sequence again for every token, without a cache"},
    kJson};

// Greedy generation by full passes: no cache is ever reused, so none can be wrong.
Result<Generated> without_cache(Engine& engine, StepInputs in, std::int64_t new_tokens) {
  class Logits final : public Tap {
   public:
    bool wants(std::string_view point) override { return point == "lm_head"; }
    void take(std::string_view, const TensorView& value) override { last = Tensor::copy_of(value); }
    Tensor last;
  };
  if (in.attention_mask && !in.position_ids) {
    in.position_ids = positions_of_mask(*in.attention_mask, in.batch, in.length);
  }
  for (std::int64_t t = 0; t < new_tokens; ++t) {
    Logits logits;
    engine.reset();
    PS_TRY_VOID(engine.forward(in, logits));
    const TensorView view = logits.last.view();
    const std::int64_t length = view.shape[1], vocab = view.shape[2];
    StepInputs longer = in;
    ++longer.length;
    longer.input_ids.clear();
    if (in.attention_mask) longer.attention_mask->clear();
    for (std::int64_t b = 0; b < in.batch; ++b) {
      const std::int64_t row = (b * length + length - 1) * vocab;
      std::int64_t best = 0;
      for (std::int64_t v = 1; v < vocab; ++v) {
        if (value_at(view, row + v) > value_at(view, row + best)) best = v;
      }
      const auto begin = b * in.length, end = begin + in.length;
      longer.input_ids.insert(longer.input_ids.end(), in.input_ids.begin() + begin,
                              in.input_ids.begin() + end);
      longer.input_ids.push_back(best);
      if (!in.attention_mask) continue;
      longer.attention_mask->insert(longer.attention_mask->end(),
                                    in.attention_mask->begin() + begin,
                                    in.attention_mask->begin() + end);
      longer.attention_mask->push_back(1);
    }
    if (longer.attention_mask) {
      longer.position_ids = positions_of_mask(*longer.attention_mask, longer.batch, longer.length);
    }
    in = std::move(longer);
  }
  return Generated{in.batch, in.length, in.input_ids, {}};
}

std::string as_text(const std::int64_t* ids, std::int64_t n, bool bytes) {
  std::string out;
  for (std::int64_t i = 0; i < n; ++i) {
    if (bytes) {
      out += static_cast<char>(ids[i]);
    } else {
      out += (i == 0 ? "" : " ") + std::to_string(ids[i]);
    }
  }
  return out;
}

std::string as_json(const Generated& g) {
  std::string out = "{\"sequences\": [";
  for (std::int64_t b = 0; b < g.batch; ++b) {
    out += b == 0 ? "[" : ", [";
    for (std::int64_t t = 0; t < g.length; ++t) {
      out += (t == 0 ? "" : ", ") +
             std::to_string(g.sequences[static_cast<std::size_t>(b * g.length + t)]);
    }
    out += "]";
  }
  return out + "]}\n";
}

Result<int> run(const Arguments& arguments) {
  PS_TRY(const std::string dir, only_positional(generate_command(), arguments, "MODEL_DIR"));
  PS_TRY(Model dense, open_model_at(dir));
  PS_TRY(const Model model, with_attention_asked_for(arguments, std::move(dense)));
  PS_TRY(const EngineChoice choice, engine_choice(arguments, model.config, "reference"));
  PS_TRY(const RunPlan plan, run_plan(arguments, model.config));
  PS_TRY_VOID(can_be_continued(plan.prompt));
  PS_TRY(const std::int64_t count, arguments.integer("--new", 60, 1, 1 << 20));
  const bool no_cache = arguments.has("--no-cache");
  if (no_cache && plan.beams > 1) {
    return bad_input("--no-cache", "cannot be used with --beams", "one of the two");
  }
  PS_TRY(const std::unique_ptr<Engine> engine, open_engine(model, choice));
  PS_TRY(const Generated out, no_cache ? without_cache(*engine, plan.prompt, count)
                                       : engine->generate(plan.prompt, plan.beams, count));
  if (arguments.has("--json")) {
    print(as_json(out));
    return 0;
  }
  const bool bytes = model.config.vocab_size == 256;
  for (std::int64_t b = 0; b < out.batch; ++b) {
    print(as_text(out.sequences.data() + b * out.length, out.length, bytes) + "\n");
  }
  return 0;
}

}  // namespace

const Command& generate_command() {
  static const Command command{
      "generate",
      "continues a prompt, greedily or with beams",
      "generate MODEL_DIR --prompt TEXT [options]",
      "Always takes the likeliest token and stops at no end token: the same words every time.\n"
      "Models with a vocabulary of 256 print text, others print token ids.\n\n"
      "  parscope generate fixtures/models/parscale-bytes --prompt 'def forward(self, x):'\n"
      "  parscope generate MODEL --tokens ids.json --beams 3 --new 20 --json",
      kOptions,
      run};
  return command;
}

}  // namespace ps::cli
