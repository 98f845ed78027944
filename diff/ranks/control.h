// A rank's line to rank 0: values to find each other by, signs of life, and the word that the run
// has ended and whose fault that is. It has a thread of its own, so that a rank that waits in a
// collective or computes for minutes hears of it all the same.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "diff/ranks/control_server.h"
#include "diff/ranks/wire.h"

namespace ps {

class Control final : public KeyValue {
 public:
  // Rank 0 listens, the others connect; returns when all ranks are there.
  static Result<std::unique_ptr<Control>> join(const RankPlace& place, const ControlTimes& times);
  ~Control() override;

  Result<void> set(const std::string& key, const std::string& value) override;
  Result<std::string> get(const std::string& key) override;

  std::string address() const;  // at which the other ranks reach this one
  void busy_with(const std::string& what);
  // The error by which the run ended somewhere else.
  std::optional<Error> ended() const;
  // Something broke here: why, as rank 0 knows by now or soon, else `guess`.
  Error blame(const Error& guess);

  void leave();                   // in good order
  void fail(const Error& error);  // this rank ends the run

 private:
  using Clock = std::chrono::steady_clock;
  Control(const RankPlace& place, const ControlTimes& times) : place_(place), times_(times) {}
  Result<void> connect();
  void listen();
  void handle(const Frame& frame);
  void ended_by(const Error& error);
  void say(const Frame& frame);

  RankPlace place_;
  ControlTimes times_;
  std::unique_ptr<ControlServer> server_;  // rank 0's; outlives the connection below
  Socket socket_;
  std::mutex sending_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::string> values_;
  std::string busy_with_, rank0_address_;
  std::optional<Error> ended_, refused_;
  std::optional<Clock::time_point> deadline_;
  Clock::time_point heard_;
  bool welcome_ = false, leaving_ = false, stop_ = false;
  std::thread thread_;
};

}  // namespace ps
