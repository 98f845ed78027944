// Opens the engine that a command line asks for, and reads its inputs: the only place that knows
// both the candidate and the reference.
#pragma once

#include <memory>
#include <string>

#include "core/engine.h"
#include "diff/cli/arguments.h"
#include "diff/run/script.h"
#include "model/candidate.h"

namespace ps::cli {

struct EngineChoice {
  bool reference = true;          // --engine
  EngineOptions options;          // --dtype, --threads
  Device device = Device::kAuto;  // --device, of the model
  std::int64_t tp = 1;            // --tp, of the model
};
inline constexpr std::string_view kDefaultCandidate = "model";
std::string_view engine_name(const EngineChoice& choice);

Result<EngineChoice> engine_choice(const Arguments& arguments, const ModelConfig& config,
                                   std::string_view default_engine);
// open_model, with words for the usual mistakes: no such folder, a file of it, another folder.
Result<Model> open_model_at(const std::string& dir);
CandidateOptions candidate_options(const EngineChoice& choice);
// A rank's part of the model, among others of this process.
Result<std::unique_ptr<Engine>> open_simulated_rank(const Model& local, const EngineChoice& choice,
                                                    Collectives& collectives);
Result<std::unique_ptr<Engine>> open_engine(const Model& model, const EngineChoice& choice);

// --prompt, --tokens, --random, --seed, --steps, --chunk, --beams; without any of them a ragged
// random batch that every layer of the model can show something with.
Result<RunPlan> run_plan(const Arguments& arguments, const ModelConfig& config);

// Error where a row ends in padding: what continues it would continue the padding.
Result<void> can_be_continued(const StepInputs& prompt);

inline constexpr Option kEngineOption{"--engine", "NAME",
                                      "what runs: model (CUDA, or its kernels on the host) or\n"
                                      "reference (LibTorch on the CPU)"};
inline constexpr Option kDevice{
    "--device", "NAME", "where the model runs: cuda, host, or auto (a GPU if there is one)"};
inline constexpr Option kDType{"--dtype", "TYPE",
                               "f64 (reference only), f32, bf16 or f16; default: the checkpoint's"};
inline constexpr Option kTp{
    "--tp", "N",
    "the model runs as N tensor-parallel ranks: simulated in this process, or\n"
    "real ones under parscope launch, torchrun or mpirun"};
inline constexpr Option kThreads{"--threads", "N", "threads of the host; default 0: one a core"};
inline constexpr Option kPrompt{"--prompt", "TEXT",
                                "the prompt as text, one token a byte (vocabulary of 256 only)"};
inline constexpr Option kTokens{
    "--tokens", "FILE",
    "the prompt from JSON: [[ids], ...], or {\"input_ids\": [[ids], ...]}\n"
    "with \"attention_mask\" and \"position_ids\" where they matter"};
inline constexpr Option kRandom{
    "--random", "BxS",
    "a random prompt: B rows of S tokens, all but the first padded on the\n"
    "left; without any prompt, 3x13 is taken"};
inline constexpr Option kSeed{"--seed", "N", "of --random; default 1"};
inline constexpr Option kSteps{"--steps", "N", "decode steps after the prompt; default 0"};
inline constexpr Option kChunk{"--chunk", "N", "prefill in chunks of N tokens"};
inline constexpr Option kMask{"--mask", "MASK",
                              "who attends to whom, in place of the model's own rules: a mask\n"
                              "program or expression over prefix slots and keys, evaluated anew\n"
                              "for every step (parscope mask --help)"};
inline constexpr Option kBeams{"--beams", "N", "decode with N beams a row, caches reordered"};

}  // namespace ps::cli
