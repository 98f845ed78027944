// Findings about masks: every code planted once, and silence where nothing is wrong. Provenance.
#include <gtest/gtest.h>

#include "core/json.h"
#include "core/rng.h"
#include "diff/mask/check.h"
#include "diff/mask/evaluate.h"
#include "diff/mask/ledger.h"
#include "diff/mask/text.h"
#include "diff/mask/why.h"
#include "tests/support/random_mask.h"
#include "tests/support/run.h"

namespace ps::mask {
namespace {

using Ids = std::vector<std::string>;

Ids ids(const std::vector<Finding>& findings) {
  Ids out;
  for (const Finding& f : findings) out.push_back(f.id);
  return out;
}
bool has(const std::vector<Finding>& findings, const std::string& id) {
  for (const Finding& f : findings) {
    if (f.id == id) return true;
  }
  return false;
}
std::string evidence(const std::vector<Finding>& findings, const std::string& id,
                     const std::string& name) {
  for (const Finding& f : findings) {
    if (f.id != id) continue;
    for (const auto& [key, value] : f.evidence) {
      if (key == name) return value;
    }
  }
  return "";
}

Program program(const std::string& text) { return value_or_die(parse_text(text, "test")); }
std::vector<Finding> check_text(const std::string& expected, const std::string& actual) {
  const Expected e = value_or_die(Expected::of(program(expected)));
  return value_or_die(check(e, value_or_die(evaluate(program(actual)))));
}

const std::string kSeed = "H=2 Q=21 KV=21\n";
const std::string kSeedExpr =
    "causal #future & (generated(18) | segments(0-5, 5-11, 11-18)) #segment";

TEST(MaskCheck, AMaskAgainstItselfIsSilent) {
  EXPECT_EQ(ids(check_text(kSeed + kSeedExpr, kSeed + kSeedExpr)), Ids{});
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    const Expected e = value_or_die(Expected::of(random_program(seed)));
    const auto found = value_or_die(check(e, e.mask()));
    EXPECT_EQ(ids(found), e.mask().empty_rows() > 0 ? Ids{"MK001"} : Ids{}) << seed;
  }
}

TEST(MaskCheck, LeaksAreAttributedToTheirClauses) {
  const std::string sizes = "Q=12 KV=12\narray v[1,12] = 1 1 1 1 1 1 1 1 1 1 0 0\n";
  const std::string f = "causal #future", p = "key_valid(v) #padding";
  const std::string w = "window(3) #window", s = "segments(0-6, 6-12) #segment";
  const std::string all = sizes + f + " & " + p + " & " + w + " & " + s;
  const std::vector<std::pair<std::string, std::string>> cases = {
      {sizes + p + " & " + w + " & " + s, "MK002"},
      {sizes + f + " & " + w + " & " + s, "MK003"},
      {sizes + f + " & " + p + " & " + w, "MK004"},
      {sizes + f + " & " + p + " & " + s, "MK005"}};
  for (const auto& [actual, id] : cases) {
    const auto found = check_text(all, actual);
    for (const char* other : {"MK002", "MK003", "MK004", "MK005"}) {
      EXPECT_EQ(has(found, other), other == id) << actual << " " << other;
    }
  }
  // Without tags the ops decide.
  const auto untagged = check_text(sizes + "causal & key_valid(v)", sizes + "causal");
  EXPECT_TRUE(has(untagged, "MK003"));
  EXPECT_FALSE(has(untagged, "MK002"));
}

TEST(MaskCheck, HiddenPairsPrefixAndSelf) {
  const std::string prefix = "Q=9 KV=9\n(causal | prefix(4)) #future";
  const auto found = check_text(prefix, "Q=9 KV=9\ncausal(-1) | prefix(2)");
  EXPECT_EQ(evidence(found, "MK006", "count"), "12");
  EXPECT_EQ(evidence(found, "MK007", "first"), "[0,0,0,2]");
  EXPECT_EQ(evidence(found, "MK008", "count"), "7");
  const auto slots = check_text("Q=3 KV=7\nparscale_prefix(4)",
                                "Q=3 KV=7\nkv_range(hi=3) | kv_range(4) & shift(dk=-4, causal)");
  EXPECT_EQ(evidence(slots, "MK007", "count"), "3");
  const auto no_self = check_text(prefix, "Q=9 KV=9\ncausal");
  EXPECT_TRUE(has(no_self, "MK007"));
  EXPECT_FALSE(has(no_self, "MK008"));
}

TEST(MaskCheck, EveryHypothesisHasItsCode) {
  const std::string sizes = "H=2 Q=21 KV=21\n";
  const std::string generated = "(generated(18) | segments(0-5, 5-11, 11-18))";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"!(" + kSeedExpr + ")", "MK011"},
      {"all", "MK013"},
      {"causal", "MK014"},
      {"none", "MK016"},
      {"shift(dq=1, " + kSeedExpr + ")", "MK010"},
      {"shift(dq=-2, " + kSeedExpr + ")", "MK010"},
      {"affine(-1, 1) & (kv_range(lo=18) | segments(0-5, 5-11, 11-18))", "MK012"}};
  for (const auto& [actual, id] : cases) {
    const auto found = check_text(kSeed + kSeedExpr, sizes + actual);
    ASSERT_FALSE(found.empty());
    EXPECT_EQ(found[0].id, id) << actual;  // the cause comes first
    for (const char* other : {"MK010", "MK011", "MK012", "MK013", "MK014", "MK015", "MK016"}) {
      EXPECT_EQ(has(found, other), other == id) << actual << " " << other;
    }
  }
  const std::string cached = "Q=4 KV=11 q_offset=7\n";
  EXPECT_EQ(check_text(cached + "causal & window(6)", "Q=4 KV=11\ncausal & window(6)")[0].id,
            "MK015");
  // Several at once: one query, shifted by two, sees what plain causal and all-true see.
  const auto several = check_text("Q=1 KV=3 q_offset=0\ncausal", "Q=1 KV=3\nall");
  EXPECT_TRUE(has(several, "MK013"));
  EXPECT_TRUE(has(several, "MK010"));
}

TEST(MaskCheck, PermutedHeadsAndBatchesAreNamed) {
  const std::string heads = "H=3 Q=8 KV=8\n";
  const auto found =
      check_text(heads + "causal & (heads(0) & window(1) | heads(1) & window(2) | heads(2))",
                 heads + "causal & (heads(1) & window(1) | heads(2) & window(2) | heads(0))");
  EXPECT_EQ(evidence(found, "MK017", "heads"), "[2,0,1]");
  const std::string batches = "B=2 Q=8 KV=8\n";
  const auto swapped = check_text(batches + "array s[2] = 0 3\ncausal & kv_range(lo=s)",
                                  batches + "array s[2] = 3 0\ncausal & kv_range(lo=s)");
  EXPECT_EQ(evidence(swapped, "MK017", "batches"), "[1,0]");
  EXPECT_FALSE(has(check_text(batches + "array s[2] = 0 3\ncausal & kv_range(lo=s)",
                              batches + "array s[2] = 3 1\ncausal & kv_range(lo=s)"),
                   "MK017"));
}

TEST(MaskCheck, EmptyRowsAreErrorsUnlessTheyArePadding) {
  const std::string padded =
      "B=2 Q=7 KV=7\narray s[2] = 0 3\ncausal #future & kv_range(lo=s) #padding";
  const auto padding = check_text(padded, padded);
  ASSERT_EQ(ids(padding), Ids{"MK001"});
  EXPECT_EQ(padding[0].severity, Severity::kInfo);
  EXPECT_EQ(evidence(padding, "MK001", "padding"), "3");
  const std::string separated = "Q=9 KV=9\ncausal & segments(0-4, 6-9)";
  const auto separators = check_text(separated, separated);
  ASSERT_EQ(ids(separators), Ids{"MK001"});
  EXPECT_EQ(separators[0].severity, Severity::kError);
  EXPECT_EQ(separators[0].where, "batch=0 head=0 query=4");
}

TEST(MaskCheck, KeysThatNobodyAttendsAreInformation) {
  const auto found = check_text("Q=6 KV=6\ncausal", "Q=6 KV=6\ncausal & kv_range(hi=5)");
  ASSERT_TRUE(has(found, "MK041"));
  EXPECT_EQ(evidence(found, "MK041", "count"), "1");
}

TEST(MaskCheck, GenerationStepsMustBePrefixStable) {
  const auto step = [](std::int64_t n, std::int64_t start, std::int64_t q_offset) {
    return program("Q=1 KV=" + std::to_string(9 + n) + " q_offset=" + std::to_string(q_offset) +
                   "\ncausal & (generated(" + std::to_string(start) + ") | segments(0-4, 4-8))");
  };
  EXPECT_EQ(ids(value_or_die(check_steps({step(0, 8, 8), step(1, 8, 9), step(2, 8, 10)}))), Ids{});
  EXPECT_EQ(ids(value_or_die(check_steps({step(0, 8, 8), step(2, 8, 10)}))), Ids{"MK040"});
  EXPECT_EQ(ids(value_or_die(check_steps({step(0, 8, 8), step(1, 8, 8)}))), (Ids{"MK040"}));
  // Without a cache every row is there again; a bound that grows with the step rewrites the past.
  const auto whole = [](std::int64_t n, std::int64_t start) {
    const std::string size = std::to_string(8 + n);
    return program("Q=" + size + " KV=" + size + "\ncausal & (generated(" + std::to_string(start) +
                   ") | segments(0-4, 4-8))");
  };
  EXPECT_EQ(ids(value_or_die(check_steps({whole(1, 8), whole(2, 8), whole(3, 8)}))), Ids{});
  const auto moved = value_or_die(check_steps({whole(1, 8), whole(2, 9)}));
  ASSERT_EQ(ids(moved), Ids{"MK040"});
  EXPECT_EQ(moved[0].where, "batch=0 head=0 query=8 key=0");
}

TEST(MaskCheck, ALedgerTellsFallbacksDevicesAndDtypes) {
  const auto found = [](const std::string& text) {
    return ids(value_or_die(check_ledger(value_or_die(parse_json(text, "ledger")), "ledger")));
  };
  EXPECT_EQ(found("[]"), Ids{});
  EXPECT_EQ(found(R"([{"requested":"flex","executed":"flex","mask_dtype":"torch.bool"}])"), Ids{});
  EXPECT_EQ(found(R"([{"layer":1,"step":0,"requested":"flex","executed":"sdpa","reason":"bool"},
                      {"layer":2,"step":0,"requested":"flex","executed":"sdpa"},
                      {"layer":2,"step":1,"requested":"flex","executed":"eager"}])"),
            (Ids{"MK050", "MK050"}));
  EXPECT_EQ(found(R"([{"requested":"a","executed":"a","device":"cuda:1","mask_device":"cuda:0",
                       "mask_dtype":"int32"}])"),
            (Ids{"MK027", "MK028"}));
  EXPECT_FALSE(check_ledger(value_or_die(parse_json("[{}]", "l")), "l").ok());
  EXPECT_FALSE(check_ledger(value_or_die(parse_json("{}", "l")), "l").ok());
}

TEST(MaskWhy, TheSmallestChangeTurnsTheCellOver) {
  const Program p = program(
      "B=2 Q=20 KV=20\narray s[2] = 0 6\ncausal #future & kv_range(lo=s) #padding & window(4) "
      "#window");
  const Why leak = why(p, {1, 0, 9, 5});
  EXPECT_FALSE(leak.allowed);
  ASSERT_EQ(leak.reasons.size(), 1U);
  EXPECT_EQ(leak.reasons[0].tag, "padding");
  ASSERT_TRUE(leak.change);
  EXPECT_EQ(leak.change->pointer, "/arrays/s/data/1");
  EXPECT_EQ(leak.change->from, 6);
  EXPECT_EQ(leak.change->to, 5);
  const Why future = why(p, {0, 0, 3, 5});
  EXPECT_EQ(future.reasons[0].tag, "future");
  EXPECT_EQ(future.change->pointer, "/expr/args/0/shift");
  EXPECT_EQ(future.change->to, 2);
  const Why both = why(p, {1, 0, 12, 3});  // padding and window forbid it: no single change helps
  EXPECT_EQ(both.reasons.size(), 2U);
  EXPECT_FALSE(both.change);
  const Why open = why(p, {0, 0, 9, 5});
  EXPECT_TRUE(open.allowed);
  EXPECT_EQ(open.reasons.size(), 3U);
  EXPECT_EQ(open.change->to - open.change->from, -1);
}

// Sets the number that a pointer names, on the JSON of the program.
void set_at(std::string& text, const Program& p, const Change& change) {
  Json json = value_or_die(parse_json(text, "p"));
  Json* at = &json;
  std::string pointer = change.pointer;
  if (pointer.starts_with("/arrays/") || pointer.starts_with("/expr") ||
      pointer.starts_with("/defs/")) {
    std::size_t begin = 1;
    while (begin <= pointer.size()) {
      const std::size_t end = std::min(pointer.find('/', begin), pointer.size());
      const std::string name = pointer.substr(begin, end - begin);
      if (at->is(Json::Kind::kArray)) {
        at = &at->items[static_cast<std::size_t>(std::stoul(name))];
      } else {
        const auto it = std::find(at->names.begin(), at->names.end(), name);
        if (it == at->names.end()) {  // a parameter at its default
          at->names.push_back(name);
          at->items.emplace_back();
          at = &at->items.back();
        } else {
          at = &at->items[static_cast<std::size_t>(it - at->names.begin())];
        }
      }
      begin = end + 1;
    }
    if (at->is(Json::Kind::kObject)) {  // {"array": name} is not changed, its element is
      ADD_FAILURE() << pointer;
      return;
    }
    at->kind = Json::Kind::kInteger;
    at->integer = change.to;
    at->text.clear();
  }
  text = json.dump();
  (void)p;
}

TEST(MaskWhy, ReportedChangesReallyTurnTheCellOver) {
  std::int64_t changes = 0;
  for (std::uint64_t seed = 0; seed < 1500; ++seed) {
    const Program p = random_program(seed);
    if (p.dims.Q == 0 || p.dims.KV == 0) continue;
    const Rng rng(seed, 11);
    const CellIndex cell = {rng.below(0, p.dims.B), rng.below(1, p.dims.H), rng.below(2, p.dims.Q),
                            rng.below(3, p.dims.KV)};
    const Why w = why(p, cell);
    ASSERT_EQ(w.allowed, allowed(p, cell[0], cell[1], cell[2], cell[3])) << seed;
    ASSERT_FALSE(w.reasons.empty()) << seed;
    ASSERT_TRUE(parse_json(w.json(), "why").ok()) << w.json();
    if (!w.change) continue;
    ++changes;
    std::string text = program_json(p);
    set_at(text, p, *w.change);
    const Program turned = value_or_die(parse_program_text(text, "turned"));
    EXPECT_NE(allowed(turned, cell[0], cell[1], cell[2], cell[3]), w.allowed)
        << seed << " " << w.text();
  }
  EXPECT_GT(changes, 300);
}

}  // namespace
}  // namespace ps::mask
