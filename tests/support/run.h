// Running engines in tests: a tap that keeps every point, and shorthands that fail loudly.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "core/engine.h"

namespace ps {

class KeepAll final : public Tap {
 public:
  bool wants(std::string_view) override { return true; }
  void take(std::string_view point, const TensorView& value) override {
    order.emplace_back(point);
    points.insert_or_assign(std::string(point), Tensor::copy_of(value));
  }
  const Tensor& at(const std::string& point) const {
    const auto it = points.find(point);
    PS_CHECK(it != points.end(), "no point " + point);
    return it->second;
  }
  std::map<std::string, Tensor> points;
  std::vector<std::string> order;
};

template <class T>
T value_or_die(Result<T> result) {
  PS_CHECK(result.ok(), result.error().line());
  return std::move(result).value();
}
inline void ok_or_die(const Result<void>& result) { PS_CHECK(result.ok(), result.error().line()); }

inline std::unique_ptr<Reference> make_reference(const Model& model, DType dtype,
                                                 EmptyRows empty_rows = EmptyRows::kZeros) {
  ReferenceOptions options;
  options.dtype = dtype;
  options.empty_rows = empty_rows;
  return value_or_die(open_reference(model, options));
}

}  // namespace ps
