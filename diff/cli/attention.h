// --attention: which kind of attention a model is run with.
#pragma once

#include "core/checkpoint.h"
#include "diff/cli/arguments.h"

namespace ps::cli {

inline constexpr Option kAttention{
    "--attention", "KIND",
    "dense, walk or gate: block-sparse attention in place of what config.json\n"
    "says (its sparse_attention), with options as in walk:bs=16,tau=4,skip=0\n"
    "or gate:gate=token_budget,token_budget=64 (docs/sparse.md)"};

// The model with the attention that the command line asks for.
Result<Model> with_attention_asked_for(const Arguments& arguments, Model model);

}  // namespace ps::cli
