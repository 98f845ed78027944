#include "model/candidate.h"

#include "model/device_sums.h"
#include "model/rope_frequencies.h"
#include "model/transformer.h"

namespace ps {

Result<std::unique_ptr<Backend>> open_backend(const CandidateOptions& options) {
  const bool wants_host = options.device == Device::kHost || options.host_launch != nullptr ||
                          options.plant.has_value();
  if (!wants_host && (options.device == Device::kCuda || cuda_devices() > 0))
    return open_cuda_backend();
  return open_host_backend(options.threads,
                           options.host_launch != nullptr ? *options.host_launch : Launch{});
}

namespace {

Array uploaded(ModelState& state, const std::vector<float>& values) {
  const auto count = static_cast<std::int64_t>(values.size());
  void* memory = state.backend->allocate(count * 4, "RoPE frequencies");
  if (memory == nullptr) return {};
  state.owned.push_back(memory);
  const Array out(memory, DType::kF32, {count});
  state.backend->upload(values.data(), out);
  return out;
}

bool any(const std::vector<bool>& layers) {
  for (const bool on : layers) {
    if (on) return true;
  }
  return false;
}

}  // namespace

Result<std::unique_ptr<Engine>> open_candidate(const Model& model,
                                               const CandidateOptions& options) {
  if (options.dtype != DType::kF32 && options.dtype != DType::kBF16 &&
      options.dtype != DType::kF16) {
    return bad_input("dtype", "the candidate runs in float32, bfloat16 or float16", {},
                     std::string(torch_name(options.dtype)));
  }
  if (options.plant && options.device == Device::kCuda) {
    return bad_input("plant", "faults are planted on the host only", "the host", "cuda");
  }
  PS_TRY(std::unique_ptr<Backend> backend, open_backend(options));
  ModelState state;
  state.model = model;
  state.options = options;
  state.collectives = options.collectives;
  state.backend = std::move(backend);
  auto* processes = dynamic_cast<ProcessCollectives*>(state.collectives);
  if (auto* sums = dynamic_cast<DeviceSums*>(state.backend.get()); sums && processes) {
    PS_TRY_VOID(sums->join_ranks(*processes));
    if (sums->joined()) state.joined = processes;
  }
  const auto layers = static_cast<std::size_t>(model.config.layers);
  for (std::vector<bool>* flags :
       {&state.model.config.sliding_layer, &state.model.config.cross_layer,
        &state.model.config.cross_kv_layer}) {
    flags->resize(layers);  // a family without such layers may leave the list empty
  }
  if (options.plant) {
    PS_TRY(state.plant, make_plant(model, options.dtype, *options.plant));
    if (state.plant->config) state.plant->config(state.model.config);
  }
  const ModelConfig& config = state.model.config;
  PS_TRY(Weights weights, load_weights(state.model, options.dtype, *state.backend,
                                       state.plant ? &*state.plant : nullptr));
  state.weights = std::move(weights);

  PS_TRY(state.sparse, load_sparse_model(state.model, *state.backend, state.owned));
  if (state.sparse && options.collectives != nullptr) {
    return bad_input("sparse_attention", "selects by all heads, and a rank has some of them",
                     "one rank");
  }
  RopeFrequencies frequencies =
      rope_frequencies(config.rope, config.head_dim, config.max_position_embeddings);
  if (state.plant && state.plant->frequencies) {
    state.plant->frequencies(frequencies.inverse, frequencies.attention_factor);
  }
  state.inv_freq = uploaded(state, frequencies.inverse);
  state.rope_factor = frequencies.attention_factor;
  if (config.replica_rope && any(state.model.config.cross_layer)) {
    // rope_theta and rope_scaling do not count here (parscale.md 5).
    state.replica_inv_freq =
        uploaded(state, rope_frequencies(Rope{}, config.cross_head_dim(), 0).inverse);
  }
  if (state.backend->error()) return *state.backend->error();
  return std::unique_ptr<Engine>(std::make_unique<Transformer>(std::move(state)));
}

std::optional<CandidateStats> candidate_stats(const Engine& engine) {
  const auto* transformer = dynamic_cast<const Transformer*>(&engine);
  if (transformer == nullptr) return std::nullopt;
  return transformer->stats();
}

#ifndef PS_WITH_CUDA
int cuda_devices() { return 0; }
Result<std::unique_ptr<Backend>> open_cuda_backend() {
  return machine_error("cuda", "this build has no CUDA half (no nvcc when it was configured)");
}
#endif

}  // namespace ps
