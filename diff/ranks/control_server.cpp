#include "diff/ranks/control_server.h"

#include <algorithm>
#include <cerrno>
#include <poll.h>
#include <sys/socket.h>

namespace ps {

namespace {

constexpr std::string_view kProtocol = "parscope-ranks/1";
constexpr std::chrono::milliseconds kTick{100};
constexpr std::chrono::milliseconds kLastWords{5000};  // to hear the others' farewell

std::string doing(const std::string& what) {
  return what.empty() ? "" : "; last heard of in " + what;
}

std::string seconds(std::chrono::milliseconds time) {
  return std::to_string(time.count() / 1000) + " s";
}

}  // namespace

std::string hello_of(const RankPlace& place) {
  return std::string(kProtocol) + " " + std::to_string(place.port) + " " +
         std::to_string(place.size) + " " + std::to_string(place.rank);
}

ControlServer::ControlServer(Socket listener, const RankPlace& place, const ControlTimes& times)
    : listener_(std::move(listener)),
      place_(place),
      times_(times),
      begun_(Clock::now()),
      beaten_(begun_) {
  thread_ = std::thread([this] { run(); });
}

ControlServer::~ControlServer() {
  stop_ = true;
  thread_.join();
}

bool ControlServer::all_left() const {
  return std::all_of(clients_.begin(), clients_.end(),
                     [](const auto& c) { return c->left || c->gone; });
}

std::string ControlServer::missing() const {
  std::string out;
  for (std::int64_t r = 0; r < place_.size; ++r) {
    const bool there = std::any_of(clients_.begin(), clients_.end(),
                                   [&](const auto& c) { return c->rank == r && !c->gone; });
    if (!there) out += (out.empty() ? "" : ", ") + std::to_string(r);
  }
  return out;
}

void ControlServer::run() {
  std::optional<Clock::time_point> asked_to_stop;
  while (true) {
    if (stop_ && !asked_to_stop) asked_to_stop = Clock::now();
    if (asked_to_stop && (all_left() || Clock::now() - *asked_to_stop > kLastWords)) return;
    std::vector<pollfd> fds{{listener_.fd(), POLLIN, 0}};
    std::vector<Client*> of_fd{nullptr};
    for (const auto& client : clients_) {
      if (client->gone) continue;
      fds.push_back({client->socket.fd(), POLLIN, 0});
      of_fd.push_back(client.get());
    }
    ::poll(fds.data(), fds.size(), static_cast<int>(kTick.count()));
    for (std::size_t i = 1; i < fds.size(); ++i) {
      if (fds[i].revents != 0) read(*of_fd[i]);
    }
    if ((fds[0].revents & POLLIN) != 0) {
      const int fd = ::accept4(listener_.fd(), nullptr, nullptr, SOCK_CLOEXEC);
      if (fd >= 0) {
        auto client = std::make_unique<Client>();
        client->socket = Socket(fd);
        client->heard = Clock::now();
        clients_.push_back(std::move(client));
      }
    }
    tick();
  }
}

void ControlServer::read(Client& client) {
  const bool stands = client.socket.receive();
  while (std::optional<Frame> frame = client.socket.next()) {
    client.heard = Clock::now();
    handle(client, *frame);
    if (client.gone) return;
  }
  if (!stands) lost(client);
}

void ControlServer::handle(Client& client, const Frame& frame) {
  const std::size_t nul = frame.body.find('\0');
  if (client.rank < 0 && frame.kind != FrameKind::kHello) {
    client.gone = true;  // somebody who is no rank
    client.socket.close();
    return;
  }
  switch (frame.kind) {
    case FrameKind::kHello:
      hello(client, frame.body);
      break;
    case FrameKind::kSet:
      if (nul != std::string::npos) set(frame.body.substr(0, nul), frame.body.substr(nul + 1));
      break;
    case FrameKind::kGet:
      if (const auto it = values_.find(frame.body); it != values_.end()) {
        client.socket.send({FrameKind::kValue, it->first + '\0' + it->second});
      } else {
        waiting_[frame.body].push_back(&client);
      }
      break;
    case FrameKind::kBeat:
      client.busy_with = frame.body;
      break;
    case FrameKind::kFail: {
      const Error said = unpacked_error(frame.body);
      Error error = said;
      if (!said.where.starts_with("rank ")) {
        error = said.kind == Error::Kind::kInput ? bad_input(rank_name(client.rank), "")
                                                 : machine_error(rank_name(client.rank), "");
        error.what = "ended the run: " + said.line();
      }
      client.left = true;
      abort(error, client.rank);
      break;
    }
    case FrameKind::kBye:
      client.left = true;
      break;
    default:
      break;
  }
}

void ControlServer::hello(Client& client, const std::string& body) {
  std::int64_t rank = -1;
  for (std::int64_t r = 0; r < place_.size && rank < 0; ++r) {
    RankPlace there = place_;
    there.rank = r;
    if (body == hello_of(there)) rank = r;
  }
  const bool twice = rank >= 0 && std::any_of(clients_.begin(), clients_.end(), [&](const auto& c) {
                       return c->rank == rank && !c->gone;
                     });
  if (rank < 0 || twice) {
    const std::string reason =
        twice ? "there are two of rank " + std::to_string(rank)
              : "rank 0 expects '" + hello_of(place_) + "' and the like, not '" + body + "'";
    client.socket.send({FrameKind::kRefused, reason});
    client.gone = true;
    client.socket.close();
    return;
  }
  client.rank = rank;
  if (++joined_ < place_.size || welcomed_) return;
  welcomed_ = true;
  std::string address;  // of rank 0, as another rank reaches it
  for (const auto& c : clients_) {
    if (c->rank > 0) address = c->socket.own_address();
  }
  for (const auto& c : clients_) {
    if (c->rank >= 0) c->socket.send({FrameKind::kWelcome, address});
  }
}

void ControlServer::set(const std::string& key, const std::string& value) {
  values_[key] = value;
  for (Client* client : waiting_[key]) {
    if (!client->gone) client->socket.send({FrameKind::kValue, key + '\0' + value});
  }
  waiting_.erase(key);
}

void ControlServer::lost(Client& client) {
  client.gone = true;
  client.socket.close();
  if (client.rank < 0 || client.left) return;
  abort(machine_error(rank_name(client.rank),
                      "is gone: its process ended without a word (killed, or it crashed)" +
                          doing(client.busy_with)),
        client.rank);
}

void ControlServer::abort(const Error& error, std::int64_t except) {
  if (aborted_) return;
  aborted_ = true;
  for (const auto& client : clients_) {
    if (client->gone || client->rank < 0 || client->rank == except) continue;
    client->socket.send({FrameKind::kAbort, packed(error)});
  }
}

void ControlServer::tick() {
  const Clock::time_point now = Clock::now();
  if (!aborted_ && !welcomed_ && now - begun_ > times_.join) {
    abort(machine_error("rank 0", "waited " + seconds(times_.join) + " for all ranks",
                        std::to_string(place_.size) + " ranks", "none of rank " + missing()),
          -1);
  }
  if (now - beaten_ < times_.beat) return;
  beaten_ = now;
  for (const auto& client : clients_) {
    if (client->gone || client->rank < 0) continue;
    client->socket.send({FrameKind::kBeat, ""});
    if (client->left || aborted_ || now - client->heard < times_.silence) continue;
    abort(
        machine_error(rank_name(client->rank),
                      "does not answer for " + seconds(times_.silence) +
                          " (stopped, or its machine cannot be reached)",
                      "", client->busy_with.empty() ? "" : "last heard of in " + client->busy_with),
        client->rank);
  }
}

}  // namespace ps
