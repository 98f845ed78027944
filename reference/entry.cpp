// The symbols that this library shows; core/reference_loader.cpp looks them up.
#include <memory>

#include "reference/bridge.h"
#include "reference/engine.h"
#include "reference/gradient_runs.h"
#include "reference/ranks.h"
#include "reference/sparse/engine.h"

extern "C" __attribute__((visibility("default"))) ps::Reference* parscope_make_reference(
    const ps::Model* model, const ps::ReferenceOptions* options, ps::Error* error) {
  try {
    return std::make_unique<ps::reference::ReferenceEngine>(*model, *options).release();
  } catch (const std::exception& e) {
    *error = ps::reference::torch_error("reference", e);
    return nullptr;
  }
}

extern "C" __attribute__((visibility("default"))) ps::SparseReference*
parscope_make_sparse_reference(const ps::SparseConfig* config, const ps::SparseWeights* weights,
                               ps::Error* error) {
  try {
    return std::make_unique<ps::reference::SparseReferenceEngine>(*config, *weights).release();
  } catch (const std::exception& e) {
    *error = ps::reference::torch_error("sparse reference", e);
    return nullptr;
  }
}

extern "C" __attribute__((visibility("default"))) ps::Ranks* parscope_make_ranks(
    const ps::RankModel* model, const ps::ReferenceOptions* options, ps::Error* error) {
  try {
    return std::make_unique<ps::reference::SimulatedRanks>(*model, *options).release();
  } catch (const std::exception& e) {
    *error = ps::reference::torch_error("reference ranks", e);
    return nullptr;
  }
}

extern "C" __attribute__((visibility("default"))) ps::GradientReference* parscope_make_gradients(
    const ps::Model* model, const ps::ReferenceOptions* options, ps::DType run, ps::Error* error) {
  try {
    return std::make_unique<ps::reference::GradientRuns>(*model, *options, run).release();
  } catch (const std::exception& e) {
    *error = ps::reference::torch_error("reference gradients", e);
    return nullptr;
  }
}
