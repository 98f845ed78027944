#include "diff/ranks/control.h"

#include <cstdio>
#include <poll.h>
#include <unistd.h>

namespace ps {

namespace {

constexpr std::chrono::milliseconds kTick{100};
constexpr std::chrono::milliseconds kRetry{50};
constexpr std::chrono::milliseconds kVerdict{2000};  // for rank 0 to find out who is gone

int exit_code_of(const Error& error) { return error.kind == Error::Kind::kInput ? 2 : 3; }

}  // namespace

Result<std::unique_ptr<Control>> Control::join(const RankPlace& place, const ControlTimes& times) {
  std::unique_ptr<Control> out(new Control(place, times));
  if (place.rank == 0) {
    PS_TRY(Socket listener, listen_at(ports_of(place)));
    out->server_ = std::make_unique<ControlServer>(std::move(listener), place, times);
  }
  PS_TRY_VOID(out->connect());
  return out;
}

// Tries until rank 0 listens: nobody knows who starts first.
Result<void> Control::connect() {
  const Clock::time_point begun = Clock::now();
  while (true) {
    std::optional<Error> error;
    for (const std::int64_t port : ports_of(place_)) {
      Result<Socket> made = connect_to(place_.address, port);
      if (!made.ok()) {
        error = made.error();
        if (error->kind == Error::Kind::kInput) return *error;
        continue;
      }
      socket_ = std::move(made).value();
      {
        const std::lock_guard lock(mutex_);
        refused_.reset();
        welcome_ = stop_ = false;
        heard_ = Clock::now();
      }
      socket_.send({FrameKind::kHello, hello_of(place_)});
      thread_ = std::thread([this] { listen(); });
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, times_.join + kVerdict,
                        [&] { return welcome_ || ended_ || refused_; });
      if (welcome_) return {};
      if (ended_) return *ended_;
      error =
          refused_ ? *refused_ : machine_error("rank 0", "does not say that all ranks are there");
      stop_ = true;
      lock.unlock();
      thread_.join();
    }
    if (Clock::now() - begun > times_.join) {
      const std::string waited = std::to_string(times_.join.count() / 1000) + " s";
      return machine_error(rank_name(place_.rank),
                           "cannot reach rank 0 within " + waited + ": " + error->line());
    }
    std::this_thread::sleep_for(kRetry);
  }
}

Control::~Control() {
  leave();
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  if (thread_.joinable()) thread_.join();
}

void Control::say(const Frame& frame) {
  const std::lock_guard lock(sending_);
  socket_.send(frame);
}

Result<void> Control::set(const std::string& key, const std::string& value) {
  say({FrameKind::kSet, key + '\0' + value});
  return {};
}

Result<std::string> Control::get(const std::string& key) {
  say({FrameKind::kGet, key});
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, times_.join, [&] { return values_.contains(key) || ended_; });
  if (const auto it = values_.find(key); it != values_.end()) return it->second;
  if (ended_) return *ended_;
  return machine_error("rank 0", "has no value of " + key);
}

std::string Control::address() const {
  const std::lock_guard lock(mutex_);
  return place_.rank == 0 && !rank0_address_.empty() ? rank0_address_ : socket_.own_address();
}

void Control::busy_with(const std::string& what) {
  const std::lock_guard lock(mutex_);
  constexpr std::size_t kMostText = 200;
  busy_with_ = what.substr(0, kMostText);
}

std::optional<Error> Control::ended() const {
  const std::lock_guard lock(mutex_);
  return ended_;
}

Error Control::blame(const Error& guess) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, kVerdict, [&] { return ended_.has_value(); });
  return ended_.value_or(guess);
}

void Control::leave() {
  {
    const std::lock_guard lock(mutex_);
    if (leaving_) return;
    leaving_ = true;
  }
  say({FrameKind::kBye, ""});
}

void Control::fail(const Error& error) {
  {
    const std::lock_guard lock(mutex_);
    if (leaving_) return;
    leaving_ = true;
  }
  say({FrameKind::kFail, packed(error)});
}

void Control::ended_by(const Error& error) {
  const std::lock_guard lock(mutex_);
  if (ended_ || leaving_) return;
  ended_ = error;
  deadline_ = Clock::now() + times_.grace;
  changed_.notify_all();
}

void Control::handle(const Frame& frame) {
  if (frame.kind == FrameKind::kAbort) {
    ended_by(unpacked_error(frame.body));
    return;
  }
  const std::lock_guard lock(mutex_);
  heard_ = Clock::now();
  if (frame.kind == FrameKind::kWelcome) {
    welcome_ = true;
    rank0_address_ = frame.body;
  } else if (frame.kind == FrameKind::kRefused) {
    refused_ = machine_error("rank 0", "refused this one: " + frame.body);
  } else if (frame.kind == FrameKind::kValue) {
    const std::size_t nul = frame.body.find('\0');
    if (nul != std::string::npos) values_[frame.body.substr(0, nul)] = frame.body.substr(nul + 1);
  }
  changed_.notify_all();
}

void Control::listen() {
  bool stands = true;
  Clock::time_point beaten{};
  while (true) {
    pollfd fd{stands ? socket_.fd() : -1, POLLIN, 0};
    ::poll(&fd, 1, static_cast<int>(kTick.count()));
    if (stands && fd.revents != 0) {
      stands = socket_.receive();
      while (std::optional<Frame> frame = socket_.next()) handle(*frame);
      if (!stands) {
        ended_by(machine_error("rank 0", "is gone: its process ended without a word"));
      }
    }
    const Clock::time_point now = Clock::now();
    std::string busy;
    bool silent = false;
    {
      const std::lock_guard lock(mutex_);
      if (stop_) return;
      if (refused_) stands = false;
      busy = busy_with_;
      silent = welcome_ && now - heard_ > times_.silence;
      // Whoever waits in a collective, or computes, is not waited for.
      if (deadline_ && !leaving_ && now > *deadline_) {
        std::fprintf(stderr, "parscope: %s\n", ended_->line().c_str());
        std::fflush(stderr);
        ::_exit(exit_code_of(*ended_));
      }
    }
    if (silent) {
      ended_by(machine_error("rank 0", "does not answer for " +
                                           std::to_string(times_.silence.count() / 1000) +
                                           " s (stopped, or its machine cannot be reached)"));
    }
    if (stands && now - beaten > times_.beat) {
      beaten = now;
      say({FrameKind::kBeat, busy});
    }
  }
}

}  // namespace ps
