// Keys and values of every layer: [row, kv_head, slot, dim], the prefix in slots 0 .. T-1, then the
// tokens. Rows are replica-major. A layer's length is T + past, or past where it has no prefix
// (cross-KV). Law: a cell is written once; reorder moves whole rows.
#pragma once

#include <vector>

#include "model/backend.h"

namespace ps {

class KvCache {
 public:
  KvCache(Backend& backend, DType dtype) : backend_(backend), dtype_(dtype) {}
  ~KvCache() { clear(); }
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  struct LayerShape {
    std::int64_t kv_heads = 0, dim = 0;
    Array prefix_k{}, prefix_v{};  // [replica, kv_head, prefix, dim] or absent
    bool keys_only = false;        // values have no heads
  };
  bool empty() const { return layers_.empty(); }
  // Fresh, with the prefix of replica p in rows p*batch .. p*batch + batch - 1.
  void start(std::int64_t replicas, std::int64_t batch, const std::vector<LayerShape>& shapes);
  // Makes room for tokens past .. past + count - 1 in every layer; what is there stays.
  void reserve(std::int64_t tokens);
  void append(std::size_t layer, const Array& keys,
              const Array& values);  // [row, kv_head, token, dim], any strides
  void reorder(const std::vector<std::int64_t>& rows);
  void clear();

  Array keys(std::size_t layer) const { return used(layers_[layer].keys, layers_[layer].length); }
  Array values(std::size_t layer) const {
    return used(layers_[layer].values, layers_[layer].length);
  }

 private:
  struct Layer {
    Array keys, values;  // [row, kv_head, capacity, dim]
    std::int64_t length = 0, prefix = 0;
  };
  static Array used(const Array& whole, std::int64_t length) {
    return whole.narrowed(2, 0, length);
  }
  Array allocate(std::int64_t rows, std::int64_t heads, std::int64_t slots, std::int64_t dim);
  void replace(Array& whole, Array with);

  Backend& backend_;
  DType dtype_;
  std::vector<Layer> layers_;
};

}  // namespace ps
