// The codes of masks.md 5 from a comparison.
#include <algorithm>
#include <map>

#include "core/json.h"
#include "diff/mask/check.h"

namespace ps::mask {

namespace {

std::string counted(std::int64_t n, const char* one, const char* many) {
  return std::to_string(n) + " " + (n == 1 ? one : many);
}

Finding cells_finding(std::string id, const Cells& cells, const std::string& message,
                      const std::string& fix) {
  Finding f = mask_finding(std::move(id), Severity::kError, where_of(*cells.first),
                           counted(cells.count, "pair ", "pairs ") + message);
  f.evidence.emplace_back("count", std::to_string(cells.count));
  f.evidence.emplace_back("first", json_of(*cells.first));
  f.fix = fix;
  return f;
}

struct TopicWords {
  const char* id;
  const char* leak;
  const char* fix;
};
TopicWords words_of(Topic topic) {
  switch (topic) {
    case Topic::kFuture:
      return {"MK002", "allowed that the causal clause forbids: the future leaks",
              "apply the causal clause where the mask is made"};
    case Topic::kPadding:
      return {"MK003", "allowed that the padding clause forbids: padding is attended",
              "combine the padding mask with the others by 'and'"};
    case Topic::kSegment:
      return {"MK004", "allowed that the segment clause forbids: segments see each other",
              "check the segment bounds, the start of generation, and whether the mask is used"};
    case Topic::kWindow:
      return {"MK005", "allowed that the window or block clause forbids",
              "check the window's convention: both ends of window(left, right) are inclusive"};
    case Topic::kOther:
      break;
  }
  return {"MK005", "allowed that the expected mask forbids", "compare the two programs"};
}

void add_leaks(const Expected& e, const Mask& leak, std::vector<Finding>& out) {
  if (leak.empty()) return;
  std::map<Topic, std::pair<Mask, std::string>> by_topic;
  // A leaked pair breaks at least one clause: together they are the expected mask.
  for (const Clause& clause : e.clauses()) {
    const Mask broken = combine(leak, clause.mask, SetOp::kMinus);
    if (broken.empty()) continue;
    const auto [it, fresh] = by_topic.try_emplace(clause.topic, broken, "");
    if (!fresh) it->second.first = combine(it->second.first, broken, SetOp::kOr);
    const std::string tag = clause.tag.empty() ? std::string() : json_quoted(clause.tag);
    std::string& tags = it->second.second;
    if (!tag.empty()) tags += (tags.empty() ? "" : ",") + tag;
  }
  for (const auto& [topic, cells] : by_topic) {
    const TopicWords words = words_of(topic);
    out.push_back(cells_finding(words.id, cells_of(cells.first), words.leak, words.fix));
    out.back().evidence.emplace_back("clauses", "[" + cells.second + "]");
  }
}

// What lets a prefix pass: tagged so, the op itself, or kv_range(0, P) as an alternative to others.
void collect_prefixes(const Program& p, const Node& node, bool alternative,
                      std::vector<const Node*>& out) {
  const Scalar zero{Scalar::Kind::kInteger, 0};
  const bool slots = alternative && node.op == Op::kKvRange && node.scalars[0] == zero;
  if (node.tag == "prefix" || node.op == Op::kPrefix || slots) {
    out.push_back(&node);
    return;
  }
  if (node.op == Op::kNot || node.op == Op::kShift || node.op == Op::kRemap) return;  // moved
  if (node.op == Op::kRef) return collect_prefixes(p, resolved(p, node), alternative, out);
  for (const Node& arg : node.args) {
    collect_prefixes(p, arg, alternative || node.op == Op::kOr, out);
  }
}

Result<void> add_hidden(const Expected& e, const Mask& hidden, const Mask& self,
                        std::vector<Finding>& out) {
  if (hidden.empty()) return {};
  out.push_back(cells_finding("MK006", cells_of(hidden), "hidden that the expected mask allows",
                              "compare the clauses that forbid the first pair (parscope mask show "
                              "--why)"));
  std::vector<const Node*> prefixes;
  collect_prefixes(e.program(), e.program().expr, false, prefixes);
  Mask in_prefix = filled(e.program().dims, false);
  for (const Node* node : prefixes) {
    PS_TRY(const Mask keys, evaluate(e.program(), *node));
    in_prefix = combine(in_prefix, keys, SetOp::kOr);
  }
  const Mask prefix = combine(hidden, in_prefix, SetOp::kAnd);
  if (!prefix.empty()) {
    out.push_back(cells_finding("MK007", cells_of(prefix), "of the prefix hidden",
                                "the prefix is visible to every query, before any causal rule"));
  }
  const Mask own = combine(hidden, self, SetOp::kAnd);
  if (!own.empty()) {
    out.push_back(cells_finding("MK008", cells_of(own), "of a query and itself hidden",
                                "k <= q includes k == q"));
  }
  return {};
}

struct Cause {
  const char* id;
  const char* message;
  const char* fix;
};
Cause cause_of(const std::string& hypothesis) {
  if (hypothesis == "inverted") {
    return {"MK011", "the mask is exactly the expected one inverted",
            "true means attend here; nn.MultiheadAttention and key_padding_mask mean masked"};
  }
  if (hypothesis == "mask_ignored") {
    return {"MK013", "every pair is allowed: the mask is not applied at all",
            "pass the mask to the kernel; look for a placeholder that returns true"};
  }
  if (hypothesis == "all_masked") {
    return {"MK016", "no pair is allowed", "look for an additive mask of -inf everywhere"};
  }
  if (hypothesis == "transposed") {
    return {"MK012", "the mask is exactly the expected one transposed", "swap q and k"};
  }
  if (hypothesis == "causal_only") {
    return {"MK014", "the mask is plain causal: the other clauses are lost",
            "look for a fallback to SDPA with is_causal=True"};
  }
  if (hypothesis == "top_left_aligned") {
    return {"MK015", "the mask is exactly the expected one with q_offset 0: aligned top-left",
            "is_causal aligns top-left when Q != KV; queries begin at the length of the cache"};
  }
  return {"MK010", "the mask is exactly the expected one of another query position: off by one",
          "compare the cache length, a BOS token, and where counting begins"};
}

// Every head (or batch) of `actual` is one of the expected, each used once, and not all in place.
std::string permutation(const Mask& expected, const Mask& actual, bool heads) {
  const Dims& d = expected.dims();
  const std::int64_t n = heads ? d.H : d.B, others = heads ? d.B : d.H;
  if (n < 2 || n > 256) return {};
  const auto same = [&](std::int64_t a, std::int64_t e) {
    for (std::int64_t o = 0; o < others; ++o) {
      const auto& left = heads ? actual.shared(o, a) : actual.shared(a, o);
      const auto& right = heads ? expected.shared(o, e) : expected.shared(e, o);
      if (left != right && !combine(*left, *right, SetOp::kXor).empty()) return false;
    }
    return true;
  };
  std::vector<bool> used(static_cast<std::size_t>(n));
  std::string out;
  for (std::int64_t a = 0; a < n; ++a) {  // equality is transitive, so the first free one will do
    std::int64_t e = same(a, a) && !used[static_cast<std::size_t>(a)] ? a : 0;
    while (e < n && (used[static_cast<std::size_t>(e)] || !same(a, e))) ++e;
    if (e == n) return {};
    used[static_cast<std::size_t>(e)] = true;
    out += (out.empty() ? "" : ",") + std::to_string(e);
  }
  return "[" + out + "]";
}

}  // namespace

std::string where_of(const CellIndex& c) {
  return where_of(RowIndex{c[0], c[1], c[2]}) + " key=" + std::to_string(c[3]);
}
std::string where_of(const RowIndex& r) {
  return "batch=" + std::to_string(r[0]) + " head=" + std::to_string(r[1]) +
         " query=" + std::to_string(r[2]);
}
std::string json_of(const CellIndex& c) {
  std::string out;
  for (const std::int64_t i : c) out += (out.empty() ? "[" : ",") + std::to_string(i);
  return out + "]";
}

Finding mask_finding(std::string id, Severity severity, std::string where, std::string message) {
  Finding f;
  f.id = std::move(id);
  f.fault_class = "mask";
  f.severity = severity;
  f.point = "mask";
  f.where = std::move(where);
  f.message = std::move(message);
  return f;
}

std::optional<Finding> check_rows(const Expected& e, const Mask& actual) {
  const std::int64_t total = actual.empty_rows();
  if (total == 0) return std::nullopt;
  const Program& p = e.program();
  // A row is padding where the padding clause forbids the query's own position as a key.
  const auto is_padding = [&](const RowIndex& r) {
    const std::int64_t j = r[2] + p.q_offset_of(r[0]) - p.kv_offset;
    if (j < 0 || j >= p.dims.KV) return false;
    return std::any_of(e.clauses().begin(), e.clauses().end(), [&](const Clause& c) {
      return c.topic == Topic::kPadding && !c.mask.at(r[0], r[1], r[2], j);
    });
  };
  std::int64_t padding = 0;
  std::optional<RowIndex> first;  // that is no padding
  for (std::int64_t b = 0; b < p.dims.B; ++b) {
    for (std::int64_t h = 0; h < p.dims.H; ++h) {
      const Bands& plane = actual.plane(b, h);
      for (std::size_t i = 0; i < plane.size(); ++i) {
        const Bands::Band band = plane[i];
        if (!band.runs.empty()) continue;
        for (std::int64_t row = band.begin; row < band.end; ++row) {
          const bool pad = is_padding({b, h, row});
          padding += pad ? 1 : 0;
          if (!pad && !first) first = RowIndex{b, h, row};
        }
      }
    }
  }
  const RowIndex at = *actual.first_empty_row();
  Finding f =
      mask_finding("MK001", first ? Severity::kError : Severity::kInfo,
                   where_of(first.value_or(at)), counted(total, "query sees", "queries see"));
  f.message += " no key at all";
  if (padding > 0) f.message += "; " + std::to_string(padding) + " of them padding";
  f.evidence.emplace_back("count", std::to_string(total));
  f.evidence.emplace_back("first", "[" + std::to_string(at[0]) + "," + std::to_string(at[1]) + "," +
                                       std::to_string(at[2]) + "]");
  f.evidence.emplace_back("padding", std::to_string(padding));
  f.fix = first
              ? "decide what such a row gives (here: zeros); softmax over -inf gives NaN, and NaN "
                "reaches every row one layer later"
              : "";
  return f;
}

Result<std::vector<Finding>> check(const Expected& e, const Mask& actual) {
  std::vector<Finding> out;
  const auto add_rows = [&] {
    if (auto rows = check_rows(e, actual)) out.push_back(std::move(*rows));
  };
  const Mask leak = combine(actual, e.mask(), SetOp::kMinus);
  const Mask hidden = combine(e.mask(), actual, SetOp::kMinus);
  if (leak.empty() && hidden.empty()) {
    add_rows();
    return out;
  }
  PS_TRY(const std::vector<std::string> hypotheses, matching_hypotheses(e, actual));
  for (const std::string& name : hypotheses) {
    const Cause cause = cause_of(name);
    Finding f = mask_finding(cause.id, Severity::kError, "", cause.message);
    f.evidence.emplace_back("hypothesis", json_quoted(name));
    f.fix = cause.fix;
    out.push_back(std::move(f));
  }
  for (const bool heads : {true, false}) {
    const std::string order = permutation(e.mask(), actual, heads);
    if (order.empty()) continue;
    Finding f = mask_finding("MK017", Severity::kError, "",
                             std::string(heads ? "the heads" : "the batch rows") +
                                 " are the expected ones in another order");
    f.evidence.emplace_back(heads ? "heads" : "batches", order);
    f.fix = "compare the order of axes where the mask is expanded";
    out.push_back(std::move(f));
  }
  add_leaks(e, leak, out);
  const Node self_node{Op::kWindow, "", {{{}, 0}, {{}, 0}}, {}, {}, {}, -1, {}};
  PS_TRY(const Mask self, evaluate(e.program(), self_node));
  PS_TRY_VOID(add_hidden(e, hidden, self, out));
  add_rows();
  std::int64_t unseen = 0;
  std::optional<CellIndex> first;
  for (std::int64_t b = 0; b < actual.dims().B; ++b) {
    for (std::int64_t h = 0; h < actual.dims().H; ++h) {
      const auto in = [&](const Mask& m) {
        Bands row(0);
        std::vector<Run> runs;
        for (const auto& [lo, hi] : columns_used(m.plane(b, h))) runs.push_back({{lo, 0}, {hi, 0}});
        row.append(1, runs);
        return row;
      };
      const Bands lost = combine(in(e.mask()), in(actual), SetOp::kMinus);
      unseen += lost.count();
      if (!first && !lost.empty()) first = CellIndex{b, h, 0, lost.first()->second};
    }
  }
  if (unseen > 0) {
    Finding f = mask_finding("MK041", Severity::kInfo,
                             "batch=" + std::to_string((*first)[0]) +
                                 " head=" + std::to_string((*first)[1]) +
                                 " key=" + std::to_string((*first)[3]),
                             counted(unseen, "valid key is", "valid keys are"));
    f.message += " attended by no query";
    f.evidence.emplace_back("count", std::to_string(unseen));
    out.push_back(std::move(f));
  }
  return out;
}

Result<std::vector<Finding>> check_steps(const std::vector<Program>& steps) {
  std::vector<Finding> out;
  const auto report = [&](std::size_t n, const std::string& where, const std::string& message,
                          const std::string& expected, const std::string& found) {
    Finding f = mask_finding("MK040", Severity::kError, where, message);
    f.step = static_cast<std::int64_t>(n);
    f.evidence.emplace_back("expected", json_quoted(expected));
    f.evidence.emplace_back("found", json_quoted(found));
    f.fix = "queries of a step begin where the cache ends, and no step changes what an old row saw";
    out.push_back(std::move(f));
  };
  for (std::size_t n = 1; n < steps.size(); ++n) {
    const Program& before = steps[n - 1];
    const Program& now = steps[n];
    if (now.dims.B != before.dims.B || now.dims.H != before.dims.H) {
      report(n, "", "B or H changed between steps", to_string(before.dims), to_string(now.dims));
      continue;
    }
    if (now.dims.KV != before.dims.KV + 1) {
      report(n, "", "KV did not grow by 1", std::to_string(before.dims.KV + 1),
             std::to_string(now.dims.KV));
    }
    for (std::int64_t b = 0; b < now.dims.B; ++b) {
      const std::int64_t past = now.kv_offset + now.dims.KV - now.dims.Q;
      if (now.q_offset_of(b) == past) continue;
      report(n, "batch=" + std::to_string(b), "q_offset is not the length of the past",
             std::to_string(past), std::to_string(now.q_offset_of(b)));
      break;
    }
    // The cells that both steps have, by position.
    PS_TRY(const Mask old_mask, evaluate(before));
    PS_TRY(const Mask new_mask, evaluate(now));
    std::int64_t differ = 0;
    std::optional<CellIndex> first;
    for (std::int64_t b = 0; b < now.dims.B; ++b) {
      const std::int64_t dq = now.q_offset_of(b) - before.q_offset_of(b);
      const std::int64_t dk = now.kv_offset - before.kv_offset;
      for (std::int64_t h = 0; h < now.dims.H; ++h) {
        for (std::int64_t i = 0; i < now.dims.Q; ++i) {
          if (i + dq < 0 || i + dq >= before.dims.Q) continue;
          for (std::int64_t j = 0; j < now.dims.KV; ++j) {
            if (j + dk < 0 || j + dk >= before.dims.KV) continue;
            if (new_mask.at(b, h, i, j) == old_mask.at(b, h, i + dq, j + dk)) continue;
            ++differ;
            if (!first) first = CellIndex{b, h, i, j};
          }
        }
      }
    }
    if (differ > 0) {
      report(n, where_of(*first), "old rows see other old keys than in the step before", "the same",
             counted(differ, "pair differs", "pairs differ"));
    }
  }
  return out;
}

}  // namespace ps::mask
