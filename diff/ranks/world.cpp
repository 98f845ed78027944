#include "diff/ranks/world.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <map>

namespace ps {

namespace {

constexpr std::size_t kIntent = 512;  // bytes that ranks compare before each exchange
constexpr std::chrono::seconds kDefaultPatience{1800};

// A rank that lives and does not come is waited for this long: rank 0 may judge for minutes.
Result<std::chrono::milliseconds> patience() {
  const char* given = std::getenv("PARSCOPE_RANK_TIMEOUT");
  if (given == nullptr || *given == '\0') return std::chrono::milliseconds(kDefaultPatience);
  constexpr std::int64_t kMost = 1000000;
  const std::string text = given;
  std::int64_t seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc() || end != text.data() + text.size() || seconds < 1 || seconds > kMost) {
    return bad_input("PARSCOPE_RANK_TIMEOUT", "wrong number",
                     "seconds from 1 to " + std::to_string(kMost), "'" + text + "'");
  }
  return std::chrono::milliseconds(std::chrono::seconds(seconds));
}

std::array<char, kIntent> fixed(const std::string& intent) {
  std::array<char, kIntent> out{};
  // Of a longer one the end is what differs: the point's name.
  const std::string kept =
      intent.size() < kIntent ? intent : intent.substr(intent.size() - (kIntent - 1));
  std::memcpy(out.data(), kept.data(), kept.size());
  return out;
}

template <class T>
std::span<std::byte> bytes_of(T& values) {
  return std::as_writable_bytes(std::span(values));
}

std::map<std::string, std::string> fields_of(const std::string& description) {
  std::map<std::string, std::string> out;
  for (std::size_t begin = 0; begin < description.size();) {
    const std::size_t end = std::min(description.find('\n', begin), description.size());
    const std::string line = description.substr(begin, end - begin);
    const std::size_t equals = std::min(line.find('='), line.size());
    out[line.substr(0, equals)] = line.substr(std::min(equals + 1, line.size()));
    begin = end + 1;
  }
  return out;
}

}  // namespace

Result<std::unique_ptr<World>> World::join(const RankPlace& place, const ControlTimes& times) {
  PS_TRY(const std::chrono::milliseconds timeout, patience());
  // Gloo writes to sockets whose other end may be gone: that is an error to report, not the end.
  std::signal(SIGPIPE, SIG_IGN);
  std::unique_ptr<World> out(new World(place));
  PS_TRY(out->control_, Control::join(place, times));
  WireOptions options;
  options.rank = place.rank;
  options.size = place.size;
  options.address = out->control_->address();
  options.timeout = timeout;
  options.values = out->control_.get();
  Result<std::unique_ptr<Wire>> wire = open_gloo(options);
  if (!wire.ok()) {
    const Error error = out->control_->blame(wire.error());  // a rank may have left meanwhile
    out->control_->fail(error);
    return error;
  }
  out->wire_ = std::move(wire).value();
  return out;
}

// Why a collective failed is known to rank 0's ear, not to the library.
Result<void> World::told(Result<void> result, const std::string& doing) {
  if (result.ok()) return {};
  Error guess = result.error();
  guess.where = doing;
  guess.what = "the exchange with the other ranks broke";
  over_ = control_->blame(guess);
  return *over_;
}

Result<void> World::meet(const std::string& intent) {
  if (over_) return *over_;
  if (const auto ended = control_->ended()) {
    over_ = ended;
    return *over_;
  }
  control_->busy_with(intent);
  ++met_;
  std::array<char, kIntent> own = fixed(intent);
  std::vector<char> all(kIntent * static_cast<std::size_t>(place_.size));
  PS_TRY_VOID(told(wire_->all_gather(bytes_of(own), bytes_of(all)), intent));
  std::vector<std::string> said;
  for (std::size_t r = 0; r < static_cast<std::size_t>(place_.size); ++r) {
    const char* text = all.data() + r * kIntent;
    said.emplace_back(text, ::strnlen(text, kIntent));
  }
  const std::optional<OddOne> odd = odd_one(said);
  if (!odd) return {};
  over_ = machine_error(rank_name(odd->rank),
                        "TP015: does another thing than rank " + std::to_string(odd->other) +
                            " at exchange " + std::to_string(met_) + "; the others would wait",
                        said[static_cast<std::size_t>(odd->other)],
                        said[static_cast<std::size_t>(odd->rank)]);
  return *over_;
}

Result<void> World::announce(const Collective& entry) {
  ledger_.push_back(entry);
  return meet(to_string(entry));
}

Result<void> World::all_reduce(Tensor& value, const std::string& tag) {
  const Collective entry{"all_reduce", value.shape(), value.dtype(), tag};
  PS_TRY_VOID(announce(entry));
  return told(wire_->all_reduce(value), to_string(entry));
}

Ledger World::take_ledger() {
  Ledger out(ledger_.begin() + static_cast<std::ptrdiff_t>(taken_), ledger_.end());
  taken_ = ledger_.size();
  return out;
}

Result<void> World::share(std::string& bytes) {
  const std::string doing = "wait for rank 0's next word";
  PS_TRY_VOID(meet(doing));
  std::array<std::uint64_t, 1> length = {bytes.size()};
  PS_TRY_VOID(told(wire_->broadcast(bytes_of(length)), doing));
  bytes.resize(length[0]);
  return told(wire_->broadcast(bytes_of(bytes)), doing);
}

Result<std::vector<std::string>> World::all_texts(const std::string& own) {
  const std::string doing = "tell each other";
  PS_TRY_VOID(meet(doing));
  const auto size = static_cast<std::size_t>(place_.size);
  std::array<std::uint64_t, 1> length = {own.size()};
  std::vector<std::uint64_t> lengths(size);
  PS_TRY_VOID(told(wire_->all_gather(bytes_of(length), bytes_of(lengths)), doing));
  const std::size_t most = *std::max_element(lengths.begin(), lengths.end());
  std::string padded = own;
  padded.resize(most);
  std::string all(most * size, '\0');
  PS_TRY_VOID(told(wire_->all_gather(bytes_of(padded), bytes_of(all)), doing));
  std::vector<std::string> out;
  for (std::size_t r = 0; r < size; ++r) out.push_back(all.substr(r * most, lengths[r]));
  return out;
}

Result<void> World::collect(const TensorView& own, const std::string& point,
                            std::vector<Tensor>& parts) {
  const std::string doing = to_string(Collective{"gather", own.shape, own.dtype, point});
  PS_TRY_VOID(meet(doing));
  const std::size_t bytes = own.bytes.size();
  std::vector<std::byte> all;
  if (rank() == 0) all.resize(bytes * static_cast<std::size_t>(size()));
  PS_TRY_VOID(told(wire_->gather(own.bytes, all), doing));
  parts.clear();
  for (std::size_t r = 0; rank() == 0 && r < static_cast<std::size_t>(size()); ++r) {
    parts.emplace_back(own.dtype, own.shape);
    if (bytes > 0) std::memcpy(parts.back().bytes().data(), all.data() + r * bytes, bytes);
  }
  return {};
}

Result<void> World::agree(const std::string& description) {
  PS_TRY(const std::vector<std::string> said, all_texts(description));
  const std::optional<OddOne> odd = odd_one(said);
  if (!odd) return {};
  const auto odds = fields_of(said[static_cast<std::size_t>(odd->rank)]);
  for (const auto& [key, value] : fields_of(said[static_cast<std::size_t>(odd->other)])) {
    const auto other = odds.find(key);
    if (other != odds.end() && other->second == value) continue;
    return bad_input(rank_name(odd->rank),
                     "was started with another " + key + " than rank " + std::to_string(odd->other),
                     value, other == odds.end() ? "none" : other->second);
  }
  return bad_input(rank_name(odd->rank), "was started in another way than the others");
}

}  // namespace ps
