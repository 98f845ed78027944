// A run of real ranks as one of them sees it: where the ranks meet, in the same order on all.
// Before values move, the ranks compare what each is about to do; who disagrees is named instead of
// waited for. Errors are final and the same line on every rank, but for who says it.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/odd_one.h"
#include "core/ranks.h"
#include "diff/ranks/control.h"

namespace ps {

class World final : public ProcessCollectives {
 public:
  // Returns when all ranks are there.
  static Result<std::unique_ptr<World>> join(const RankPlace& place, const ControlTimes& times);
  ~World() override = default;

  std::int64_t rank() const override { return place_.rank; }
  std::int64_t size() const override { return place_.size; }
  Result<void> all_reduce(Tensor& value, const std::string& tag) override;
  Result<void> announce(const Collective& entry) override;
  Result<void> share(std::string& bytes) override;
  const Ledger& ledger() const override { return ledger_; }
  Ledger take_ledger();  // what came since the last call

  // What the program itself exchanges; not in the ledger. Everybody's text, by rank.
  Result<std::vector<std::string>> all_texts(const std::string& own);
  // The others' values of a point at rank 0, in `parts` (size() tensors; rank 0's own included).
  Result<void> collect(const TensorView& own, const std::string& point, std::vector<Tensor>& parts);
  // Lines "key=value" that must be the same on all ranks.
  Result<void> agree(const std::string& description);

  void leave() { control_->leave(); }
  void fail(const Error& error) { control_->fail(error); }

 private:
  explicit World(const RankPlace& place) : place_(place) {}
  // Compares what the ranks are about to do. A line for people.
  Result<void> meet(const std::string& intent);
  Result<void> told(Result<void> result, const std::string& doing);

  RankPlace place_;
  std::unique_ptr<Control> control_;  // outlives the wire: it knows why that breaks
  std::unique_ptr<Wire> wire_;
  Ledger ledger_;
  std::size_t taken_ = 0;
  std::int64_t met_ = 0;
  std::optional<Error> over_;
};

}  // namespace ps
