// Collects what is wrong with a case, by code.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/finding.h"

namespace ps {

struct SparsePlace {
  std::int64_t batch = -1, head = -1, row = -1;  // a block row, or a query where `query` is set
  std::int64_t query = -1;
  std::int64_t block = -1;
  std::string text() const;  // "batch=0 head=1 row=3 block=2"
};

class SparseFindings {
 public:
  using Evidence = std::vector<std::pair<std::string, std::string>>;  // name, JSON text

  // Once for each code and point: a second one is dropped.
  void add(const std::string& code, const std::string& point, const SparsePlace& place,
           const std::string& message, Evidence evidence = {});
  // Something wrong that no code describes; `kind` is the op: "selection", "block-scores".
  void unnamed(const std::string& kind, const std::string& point, const SparsePlace& place,
               const std::string& message, Evidence evidence = {});
  bool has(const std::string& code, const std::string& point = {}) const;
  bool has_errors() const;
  std::int64_t step = 0;  // that new findings are of: 0 = prefill, 1... = decode steps
  std::vector<Finding> take() { return std::move(found_); }
  const std::vector<Finding>& all() const { return found_; }

 private:
  std::vector<Finding> found_;
};

std::string json_number(double x);  // null where it is not finite

}  // namespace ps
