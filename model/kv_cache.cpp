#include "model/kv_cache.h"

#include <algorithm>

namespace ps {
namespace {
constexpr std::int64_t kSlack = 64;  // slots beyond what is asked for: decode then rarely grows
}

Array KvCache::allocate(std::int64_t rows, std::int64_t heads, std::int64_t slots,
                        std::int64_t dim) {
  const std::int64_t bytes = rows * heads * slots * dim * size_of(dtype_);
  return {backend_.allocate(bytes, "the KV cache"), dtype_, {rows, heads, slots, dim}};
}

void KvCache::replace(Array& whole, Array with) {
  backend_.finish();  // nothing queued reads the old one any more
  backend_.release(whole.data());
  whole = with;
}

void KvCache::start(std::int64_t replicas, std::int64_t batch,
                    const std::vector<LayerShape>& shapes) {
  clear();
  for (const LayerShape& shape : shapes) {
    const std::int64_t prefix = shape.prefix_k ? shape.prefix_k.size(2) : 0;
    const std::int64_t rows = replicas * batch, slots = prefix + kSlack;
    Layer layer{.keys = allocate(rows, shape.kv_heads, slots, shape.dim),
                .values = allocate(rows, shape.keys_only ? 0 : shape.kv_heads, slots, shape.dim),
                .length = prefix,
                .prefix = prefix};
    if (prefix > 0) {
      backend_.run(Op::copy_rows, {shape.prefix_k, used(layer.keys, prefix)},
                   {static_cast<double>(batch)});
      backend_.run(Op::copy_rows, {shape.prefix_v, used(layer.values, prefix)},
                   {static_cast<double>(batch)});
    }
    layers_.push_back(layer);
  }
}

void KvCache::reserve(std::int64_t tokens) {
  for (Layer& layer : layers_) {
    const std::int64_t need = layer.prefix + tokens;
    if (need <= layer.keys.size(2)) continue;
    const std::int64_t slots = need + std::max(kSlack, need / 4);
    for (Array* whole : {&layer.keys, &layer.values}) {
      const Array grown = allocate(whole->size(0), whole->size(1), slots, whole->size(3));
      if (layer.length > 0)
        backend_.run(Op::copy_rows, {used(*whole, layer.length), used(grown, layer.length)}, {1});
      replace(*whole, grown);
    }
  }
}

void KvCache::append(std::size_t index, const Array& keys, const Array& values) {
  Layer& layer = layers_[index];
  const std::int64_t tokens = keys.size(2);
  backend_.run(Op::copy_rows, {keys, layer.keys.narrowed(2, layer.length, tokens)}, {1});
  backend_.run(Op::copy_rows, {values, layer.values.narrowed(2, layer.length, tokens)}, {1});
  layer.length += tokens;
}

void KvCache::reorder(const std::vector<std::int64_t>& rows) {
  const auto count = static_cast<std::int64_t>(rows.size());
  const Array index{backend_.allocate(count * 8, "a beam index"), DType::kI64, {count}};
  backend_.upload(rows.data(), index);
  for (Layer& layer : layers_) {
    for (Array* whole : {&layer.keys, &layer.values}) {
      const Array moved = allocate(count, whole->size(1), whole->size(2), whole->size(3));
      backend_.run(Op::gather_rows, {used(*whole, layer.length), index, used(moved, layer.length)},
                   {});
      replace(*whole, moved);
    }
  }
  backend_.finish();
  backend_.release(index.data());
}

void KvCache::clear() {
  if (!layers_.empty()) backend_.finish();
  for (Layer& layer : layers_) {
    backend_.release(layer.keys.data());
    backend_.release(layer.values.data());
  }
  layers_.clear();
}

}  // namespace ps
