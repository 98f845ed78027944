#include "diff/ranks/frames.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/temp_file.h"
#include "core/text.h"

namespace ps {

namespace {

constexpr std::size_t kHeader = 2 * sizeof(std::uint32_t);
constexpr std::uint32_t kMostBytes = 1U << 20;
constexpr char kSeparator = '\x1f';

struct Addresses {
  addrinfo* first = nullptr;
  Addresses() = default;
  Addresses(const Addresses&) = delete;
  Addresses& operator=(const Addresses&) = delete;
  ~Addresses() {
    if (first != nullptr) ::freeaddrinfo(first);
  }
};

}  // namespace

Socket& Socket::operator=(Socket&& other) noexcept {
  if (this != &other) {
    close();
    fd_ = other.fd_;
    received_ = std::move(other.received_);
    other.fd_ = -1;
  }
  return *this;
}

void Socket::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

bool Socket::send(const Frame& frame) {
  if (fd_ < 0) return false;
  const auto kind = static_cast<std::uint32_t>(frame.kind);
  const auto length = static_cast<std::uint32_t>(frame.body.size());
  PS_CHECK(length <= kMostBytes, "a message of " + std::to_string(length) + " bytes");
  std::string bytes(kHeader, '\0');
  std::memcpy(bytes.data(), &kind, sizeof kind);
  std::memcpy(bytes.data() + sizeof kind, &length, sizeof length);
  bytes += frame.body;
  for (std::size_t sent = 0; sent < bytes.size();) {
    const ssize_t n = ::send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    sent += static_cast<std::size_t>(n);
  }
  return true;
}

bool Socket::receive() {
  std::array<char, 4096> part;
  while (true) {
    const ssize_t n = ::recv(fd_, part.data(), part.size(), MSG_DONTWAIT);
    if (n > 0) {
      received_.append(part.data(), static_cast<std::size_t>(n));
    } else if (n < 0 && errno == EINTR) {
      continue;
    } else {
      if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) return false;
      break;
    }
  }
  if (received_.size() < kHeader) return true;
  std::uint32_t length = 0;
  std::memcpy(&length, received_.data() + sizeof length, sizeof length);
  return length <= kMostBytes;
}

std::optional<Frame> Socket::next() {
  if (received_.size() < kHeader) return std::nullopt;
  std::uint32_t kind = 0, length = 0;
  std::memcpy(&kind, received_.data(), sizeof kind);
  std::memcpy(&length, received_.data() + sizeof kind, sizeof length);
  if (length > kMostBytes || received_.size() < kHeader + length) return std::nullopt;
  Frame frame{static_cast<FrameKind>(kind), received_.substr(kHeader, length)};
  received_.erase(0, kHeader + length);
  return frame;
}

std::string Socket::own_address() const {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  std::array<char, NI_MAXHOST> host{};
  if (::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &length) != 0 ||
      ::getnameinfo(reinterpret_cast<sockaddr*>(&address), length, host.data(), host.size(),
                    nullptr, 0, NI_NUMERICHOST) != 0) {
    return "";
  }
  std::string out = host.data();
  constexpr std::string_view kMapped = "::ffff:";  // IPv4 through an IPv6 socket
  if (out.starts_with(kMapped)) out.erase(0, kMapped.size());
  return out;
}

Result<Socket> listen_at(const std::vector<std::int64_t>& ports) {
  int error = 0;
  for (const std::int64_t port : ports) {
    for (const int family : {AF_INET6, AF_INET}) {
      Socket socket(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
      if (socket.fd() < 0) continue;
      const int on = 1, off = 0;
      ::setsockopt(socket.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
      sockaddr_storage address{};
      socklen_t length = 0;
      if (family == AF_INET6) {
        ::setsockopt(socket.fd(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
        auto* a = reinterpret_cast<sockaddr_in6*>(&address);
        a->sin6_family = AF_INET6;
        a->sin6_addr = in6addr_any;
        a->sin6_port = htons(static_cast<std::uint16_t>(port));
        length = sizeof *a;
      } else {
        auto* a = reinterpret_cast<sockaddr_in*>(&address);
        a->sin_family = AF_INET;
        a->sin_port = htons(static_cast<std::uint16_t>(port));
        length = sizeof *a;
      }
      const auto* plain = reinterpret_cast<const sockaddr*>(&address);
      constexpr int kWaiting = 128;
      if (::bind(socket.fd(), plain, length) == 0 && ::listen(socket.fd(), kWaiting) == 0) {
        return Result<Socket>(std::move(socket));
      }
      error = errno;
      if (error == EADDRINUSE) break;
    }
  }
  return machine_error("port " + std::to_string(ports.front()), "rank 0 cannot listen here",
                       "a free MASTER_PORT", errno_text(error));
}

Result<Socket> connect_to(const std::string& host, std::int64_t port) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  Addresses found;
  const int looked =
      ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found.first);
  if (looked != 0) {
    return bad_input("MASTER_ADDR", "names no machine", "a name or an address",
                     "'" + host + "': " + ::gai_strerror(looked));
  }
  int error = 0;
  for (const addrinfo* a = found.first; a != nullptr; a = a->ai_next) {
    Socket socket(::socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (socket.fd() < 0) continue;
    if (::connect(socket.fd(), a->ai_addr, a->ai_addrlen) == 0) {
      const int on = 1;
      ::setsockopt(socket.fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      return Result<Socket>(std::move(socket));
    }
    error = errno;
  }
  return machine_error(host + " port " + std::to_string(port), "no connection", "rank 0 listening",
                       errno_text(error));
}

std::string packed(const Error& error) {
  std::string out = error.kind == Error::Kind::kInput ? "input" : "machine";
  for (const std::string* part : {&error.where, &error.what, &error.expected, &error.found}) {
    out += kSeparator;
    constexpr std::size_t kMostText = 4096;
    for (const char c : part->substr(0, kMostText)) out += c == kSeparator ? ' ' : c;
  }
  return out;
}

Error unpacked_error(std::string_view text) {
  std::vector<std::string> parts = split_at(text, kSeparator);
  constexpr std::size_t kParts = 5;
  parts.resize(kParts);
  const auto make = parts[0] == "input" ? bad_input : machine_error;
  return make(parts[1], parts[2], parts[3], parts[4]);
}

}  // namespace ps
