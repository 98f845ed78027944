// Samples of a replica that do not start with the same slots: prefixes in another order, none at
// all, or something that has no name.
#include "diff/lint/cache_cells.h"

namespace ps {

namespace {

bool same_slots(const Cells& now, std::int64_t a, std::int64_t b, std::int64_t begin,
                std::int64_t n) {
  for (std::int64_t h = 0; h < now.heads(); ++h) {
    if (!same(now.run(a, h, begin, n), now.run(b, h, begin, n))) return false;
  }
  return true;
}

// Row r starts as row r mod P does: the prefixes were tiled, for rows b*P + p.
bool tiled(const Cells& now, std::int64_t prefix, std::int64_t replicas) {
  for (std::int64_t row = replicas; row < now.rows(); ++row) {
    if (!same_slots(now, row, row % replicas, 0, prefix)) return false;
  }
  return replicas > 1;
}

// fn(a, b) for all samples a < b of every replica; false as soon as it is.
template <class Fn>
bool all_pairs(std::int64_t rows, std::int64_t batch, const Fn& fn) {
  for (std::int64_t a = 0; a < rows; ++a) {
    for (std::int64_t b = a + 1; b < std::min(rows, (a / batch + 1) * batch); ++b) {
      if (!fn(a, b)) return false;
    }
  }
  return true;
}

// Not one of the first slots is the same in two samples, in any head: these are tokens.
bool none_shared(const Cells& now, std::int64_t prefix, std::int64_t batch) {
  return all_pairs(now.rows(), batch, [&](std::int64_t a, std::int64_t b) {
    for (std::int64_t h = 0; h < now.heads(); ++h) {
      for (std::int64_t s = 0; s < prefix; ++s) {
        if (same(now.run(a, h, s, 1), now.run(b, h, s, 1))) return false;
      }
    }
    return true;
  });
}

}  // namespace

CacheFault prefix_fault(const Cells& now, std::int64_t first, std::int64_t row, std::int64_t head,
                        const ModelConfig& c) {
  const std::int64_t prefix = c.prefix_tokens, batch = now.rows() / c.replicas;
  const std::string where = cache_place(row, head, 0, c, now.rows());
  const std::string differ = "rows " + std::to_string(first) + " and " + std::to_string(row) +
                             " are samples of replica " + std::to_string(row / batch) +
                             " and start with different ";
  if (tiled(now, prefix, c.replicas)) {
    return {"replica-prefix-order", where,
            differ + "prefixes, those of replicas " + std::to_string(first % c.replicas) + " and " +
                std::to_string(row % c.replicas) + ": rows are replica-major, p*B + b"};
  }
  const bool behind = all_pairs(now.rows(), batch, [&](std::int64_t a, std::int64_t b) {
    return same_slots(now, a, b, now.slots() - prefix, prefix);
  });
  if (behind) {
    return {"unnamed", where,
            differ + "slots, and all samples end with the same " + std::to_string(prefix) +
                ": the prefix stands behind the tokens"};
  }
  // Two rows alone may differ for any reason.
  if (c.replicas * (batch - 1) >= 2 && none_shared(now, prefix, batch)) {
    return {"cache-prefix-never-prepended", where,
            "no two samples of a replica share one of the first " + std::to_string(prefix) +
                " slots: these are tokens, and no prefix is in front"};
  }
  return {"unnamed", where, differ + "slots: not both can be the replica's prefix"};
}

}  // namespace ps
