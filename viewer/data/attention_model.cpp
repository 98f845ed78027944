#include "viewer/data/attention_model.h"

#include <algorithm>

#include "core/dtype.h"

namespace ps::viewer {

std::string attention_point(std::int64_t layer, AttentionShow show) {
  return "model.layers." + std::to_string(layer) +
         (show == AttentionShow::kScores ? ".self_attn:scores" : ".self_attn:probs");
}

std::shared_ptr<const AttentionModel> made_attention_model(
    const AttentionKey& key, const RunPtr& run, const RunPtr& reference, std::int64_t replicas,
    std::int64_t samples, const std::stop_token& stop) {
  auto m = std::make_shared<AttentionModel>();
  m->run = run;
  m->reference = reference;
  m->replicas = replicas;
  for (std::int64_t layer = 0; layer < 4096 && !stop.stop_requested(); ++layer) {
    const std::string point = attention_point(layer, key.show);
    const TensorView* actual = run == nullptr ? nullptr : run->find(key.step, key.rank, point);
    const TensorView* expected =
        reference == nullptr ? nullptr : reference->find(key.step, key.rank, point);
    const TensorView* shown = key.expected || actual == nullptr ? expected : actual;
    if (shown == nullptr) {
      if (layer > 256 && m->all.empty()) break;
      if (layer > m->layers + 256) break;
      continue;
    }
    if (shown->shape.size() != 4) continue;
    m->layers = layer + 1;
    m->heads = std::max(m->heads, shown->shape[1]);
    std::vector<float> entropy;
    if (key.show == AttentionShow::kEntropy) entropy = view::entropies(*shown);
    for (std::int64_t replica = 0; replica < replicas; ++replica) {
      const std::int64_t row = replica * samples + key.batch;
      if (row >= shown->shape[0]) continue;
      for (std::int64_t head = 0; head < shown->shape[1]; ++head) {
        const std::int64_t plane = row * shown->shape[1] + head, queries = shown->shape[2];
        AttentionHead h{
            layer,
            head,
            replica,
            view::thumbnail(*shown, shown == actual ? expected : nullptr, plane, key.pixels),
            {}};
        if (!entropy.empty())
          h.entropy.assign(entropy.begin() + plane * queries,
                           entropy.begin() + (plane + 1) * queries);
        m->largest = std::max(m->largest, h.thumbnail.largest);
        m->all.push_back(std::move(h));
      }
    }
    if (actual != nullptr)
      m->bound = std::max(
          m->bound, 32 * unit_roundoff(is_floating(actual->dtype) ? actual->dtype : DType::kF32));
  }
  m->bound *= std::max(m->largest, 1e-30);
  for (const AttentionHead& h : m->all) {
    if (h.thumbnail.worst > m->bound ||
        std::find(h.thumbnail.broken.begin(), h.thumbnail.broken.end(), 2) !=
            h.thumbnail.broken.end())
      ++m->wrong;
  }
  return m;
}

}  // namespace ps::viewer
