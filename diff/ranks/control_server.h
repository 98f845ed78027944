// Rank 0's ear: a thread that every rank is connected to. It hands values around until the ranks
// have found each other, and then notices who is gone, who is silent and who ends with an error,
// and tells the others whose fault it is. Data never passes here.
#pragma once

#include <atomic>
#include <chrono>
#include <map>
#include <thread>
#include <vector>

#include "diff/ranks/frames.h"
#include "diff/ranks/place.h"

namespace ps {

struct ControlTimes {
  std::chrono::milliseconds join{60000};    // until all ranks are there
  std::chrono::milliseconds silence{6000};  // of a rank whose connection stands: it is stopped
  std::chrono::milliseconds beat{500};      // between signs of life
  std::chrono::milliseconds grace{2500};    // for a rank to end by itself once the run has ended
};

// What ranks tell each other apart by: another run's rank that lost its way is refused.
std::string hello_of(const RankPlace& place);

class ControlServer {
 public:
  ControlServer(Socket listener, const RankPlace& place, const ControlTimes& times);
  ~ControlServer();  // waits until all ranks have left

 private:
  using Clock = std::chrono::steady_clock;
  struct Client {
    Socket socket;
    std::int64_t rank = -1;  // before its hello
    Clock::time_point heard;
    std::string busy_with;
    bool left = false, gone = false;
  };

  void run();
  void read(Client& client);
  void handle(Client& client, const Frame& frame);
  void hello(Client& client, const std::string& body);
  void set(const std::string& key, const std::string& value);
  void lost(Client& client);
  void tick();
  void abort(const Error& error, std::int64_t except);
  bool all_left() const;
  std::string missing() const;

  Socket listener_;
  RankPlace place_;
  ControlTimes times_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::map<std::string, std::string> values_;
  std::map<std::string, std::vector<Client*>> waiting_;
  Clock::time_point begun_, beaten_;
  std::int64_t joined_ = 0;
  bool welcomed_ = false, aborted_ = false;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace ps
