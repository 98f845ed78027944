// A cache with a wrong number of slots: which fault makes so many. A number alone names nothing
// that the slots themselves contradict.
#include "diff/lint/cache_cells.h"

namespace ps {

namespace {

// Whether slots [a, a + n) hold, in every row and head, what [b, b + n) hold, and not only zeros.
bool twice(const Cells& now, std::int64_t a, std::int64_t b, std::int64_t n) {
  bool zeros = true;
  if (a < 0 || b < 0 || a + n > now.slots() || b + n > now.slots()) return false;
  for (std::int64_t row = 0; row < now.rows(); ++row) {
    for (std::int64_t h = 0; h < now.heads(); ++h) {
      if (!same(now.run(row, h, a, n), now.run(row, h, b, n))) return false;
      zeros = zeros && all_zero(now.run(row, h, a, n));
    }
  }
  return !zeros;
}

// Every slot stands there `times` times: slot after slot, or the whole over and over.
bool each_slot_repeated(const Cells& now, std::int64_t times) {
  const std::int64_t slots = now.slots() / times;
  bool over_and_over = true, one_by_one = true;
  for (std::int64_t t = 1; t < times; ++t) {
    over_and_over = over_and_over && twice(now, 0, t * slots, slots);
    for (std::int64_t s = 0; s < slots && one_by_one; ++s) {
      one_by_one = twice(now, s * times, s * times + t, 1);
    }
  }
  return over_and_over || one_by_one;
}

// Samples of a replica share the first n slots and not all behind them: a prefix is in front.
bool starts_with_prefix(const Cells& now, std::int64_t n, std::int64_t replicas) {
  const std::int64_t batch = now.rows() / replicas;
  if (batch < 2 || n >= now.slots()) return false;
  bool differ_later = false;
  for (std::int64_t row = 0; row < batch * replicas; ++row) {
    const std::int64_t first = row / batch * batch, rest = now.slots() - n;
    for (std::int64_t h = 0; h < now.heads(); ++h) {
      if (!same(now.run(row, h, 0, n), now.run(first, h, 0, n))) return false;
      differ_later = differ_later || !same(now.run(row, h, n, rest), now.run(first, h, n, rest));
    }
  }
  return differ_later;
}

// Nothing was cut off in front: the first n slots are still the first.
bool begins_as(const Cells& before, const Cells& now, std::int64_t n) {
  if (before.rows() != now.rows() || before.heads() != now.heads()) return true;
  n = std::min({n, before.slots(), now.slots()});
  for (std::int64_t row = 0; row < now.rows(); ++row) {
    for (std::int64_t h = 0; h < now.heads(); ++h) {
      if (!same(now.run(row, h, 0, n), before.run(row, h, 0, n))) return false;
    }
  }
  return true;
}

// What says that a cache which is short by its prefix has it all the same; "" where nothing does.
std::string prefix_is_there(const Cells& now, const Cells* before, const NewSlots& own,
                            std::int64_t prefix, std::int64_t whole, const StepSizes& sizes,
                            const ModelConfig& config) {
  if (before != nullptr && before->slots() == whole - sizes.length &&
      begins_as(*before, now, prefix)) {
    return "the cache was whole before this step and still begins so";
  }
  if (own.fault()) return "its last slots are not this step's";
  if (starts_with_prefix(now, prefix, config.replicas)) {
    return "the samples of a replica start with the same slots";
  }
  return "";
}

}  // namespace

void name_cache_length(Finding& f, const CacheName& cache, const TensorView& view,
                       const TensorView* view_before, const SafetensorsFile& step,
                       const ModelConfig& config, const StepSizes& sizes) {
  if (f.id != "TP040" || view.shape.size() != 4 || view.count() == 0) return;
  const bool cross_kv = config.cross_kv_layer[static_cast<std::size_t>(cache.layer)];
  const std::int64_t prefix = cross_kv ? 0 : config.prefix_tokens;
  const std::int64_t past = cross_kv && !config.cross_kv_causal ? 0 : sizes.past;
  const std::int64_t whole = prefix + past + sizes.length, found = view.shape[2];
  const Cells now{&view}, before{view_before};
  const Cells* known_before = view_before != nullptr ? &before : nullptr;
  const auto says = [&](const char* id, const std::string& words) {
    f.id = id;
    f.message += "; " + words;
  };
  const std::string of_prefix = std::to_string(prefix) + " slots ";
  if (prefix > 0 && found == whole - prefix) {
    const NewSlots own(step, cache, now, config);
    const std::string but = prefix_is_there(now, known_before, own, prefix, whole, sizes, config);
    if (but.empty()) {
      f.id = "cache-prefix-never-prepended";
      f.message = "the cache is " + of_prefix + "short: the prefix was never put in front (" +
                  f.message + ")";
      return;
    }
    f.message += "; as short as without its prefix, but " + but;
  }
  if (prefix > 0 && found == whole + prefix && twice(now, 0, prefix, prefix)) {
    f.id = "cache-length-includes-prefix";
    f.message =
        "the cache is " + of_prefix + "long: the prefix stands in it twice (" + f.message + ")";
  } else if (found == whole + sizes.length &&
             twice(now, found - 2 * sizes.length, found - sizes.length, sizes.length)) {
    says("cache-append-twice", "the new tokens stand in it twice");
  } else if (config.group() > 1 && found == whole * config.group() &&
             each_slot_repeated(now, config.group())) {
    says("attention-gqa-wrong-axis", "heads were repeated along the token axis");
  } else if (past > 0 && (found == whole + 1 || found == whole - 1) &&
             (known_before == nullptr || begins_as(before, now, 1))) {
    says("cache-hole-or-slot-off-by-one", "one slot too many or too few");
  }
}

}  // namespace ps
