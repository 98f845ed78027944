// Messages over one TCP connection: a kind, a length, the bytes. What ranks tell rank 0 and it
// them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace ps {

enum class FrameKind : std::uint32_t {
  kHello = 1,  // rank to rank 0: place, and the protocol's name
  kWelcome,    // rank 0 to all, once all are there: rank 0's address as the others see it
  kRefused,    // a reason; the connection ends
  kSet,        // key NUL value
  kGet,        // key; answered by kValue when somebody sets it
  kValue,      // key NUL value
  kBeat,       // still there, and busy with this
  kFail,       // an error that ends the sender
  kAbort,      // rank 0 to all: the error that ends the run
  kBye,        // the sender leaves in good order
};

struct Frame {
  FrameKind kind = FrameKind::kBeat;
  std::string body;
};

// A connected socket, closed with the object. Sends wait, receives do not.
class Socket {
 public:
  Socket() = default;
  explicit Socket(int fd) : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(other.fd_), received_(std::move(other.received_)) {
    other.fd_ = -1;
  }
  Socket& operator=(Socket&& other) noexcept;
  ~Socket() { close(); }
  void close();

  int fd() const { return fd_; }
  bool send(const Frame& frame);  // false: the connection is gone
  // Reads what has come; false: the other side is gone, or no frame could begin like this.
  bool receive();
  std::optional<Frame> next();  // a whole frame out of what was received
  std::string own_address() const;

 private:
  int fd_ = -1;
  std::string received_;
};

// Listens on all of this machine's addresses, at the first free one of the ports.
Result<Socket> listen_at(const std::vector<std::int64_t>& ports);
// A connection to one port, or why there is none.
Result<Socket> connect_to(const std::string& host, std::int64_t port);

// An error as text and back: what a kFail and a kAbort carry.
std::string packed(const Error& error);
Error unpacked_error(std::string_view text);

}  // namespace ps
