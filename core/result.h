// Errors are values. An Error says what, where, expected, found, and prints as one line;
// Result<T> holds a T or an Error. PS_CHECK is for our own mistakes and is on in every build.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>

namespace ps {

struct Error {
  enum class Kind : std::uint8_t {
    kInput,    // the user's files or words: exit 2
    kMachine,  // the machine or parscope itself: exit 3
  };
  Kind kind = Kind::kInput;
  std::string what;      // the sentence
  std::string where;     // file, tensor, field, JSON pointer
  std::string expected;  // may be empty
  std::string found;     // may be empty

  // "where: what: expected X, found Y", without line breaks or control characters.
  std::string line() const;
};

Error bad_input(std::string where, std::string what, std::string expected = {},
                std::string found = {});
Error machine_error(std::string where, std::string what, std::string expected = {},
                    std::string found = {});

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}      // NOLINT(google-explicit-constructor)
  Result(Error error) : state_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }
  T& value() & { return std::get<0>(state_); }
  const T& value() const& { return std::get<0>(state_); }
  T&& value() && { return std::get<0>(std::move(state_)); }
  const Error& error() const& { return std::get<1>(state_); }
  Error&& error() && { return std::get<1>(std::move(state_)); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT(google-explicit-constructor)
  bool ok() const { return !error_.has_value(); }
  explicit operator bool() const { return ok(); }
  const Error& error() const& { return *error_; }
  Error&& error() && { return *std::move(error_); }

 private:
  std::optional<Error> error_;
};

[[noreturn]] void check_failed(const char* condition, const char* file, int line,
                               const std::string& details);

}  // namespace ps

#define PS_CONCAT_(a, b) a##b
#define PS_CONCAT(a, b) PS_CONCAT_(a, b)

// PS_TRY(auto file, open(path)); returns the error to our caller, or declares `file`.
#define PS_TRY(declaration, ...)                               \
  auto PS_CONCAT(ps_result_, __LINE__) = (__VA_ARGS__);        \
  if (!PS_CONCAT(ps_result_, __LINE__).ok())                   \
    return std::move(PS_CONCAT(ps_result_, __LINE__)).error(); \
  declaration = std::move(PS_CONCAT(ps_result_, __LINE__)).value()

// PS_TRY_VOID(write(path)); the same for Result<void>.
#define PS_TRY_VOID(...)                                                \
  do {                                                                  \
    auto ps_result_void = (__VA_ARGS__);                                \
    if (!ps_result_void.ok()) return std::move(ps_result_void).error(); \
  } while (false)

#define PS_CHECK(condition, details)                                               \
  do {                                                                             \
    if (!(condition)) ::ps::check_failed(#condition, __FILE__, __LINE__, details); \
  } while (false)
