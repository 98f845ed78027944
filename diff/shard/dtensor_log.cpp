#include "diff/shard/dtensor_log.h"

#include <algorithm>
#include <charconv>

#include "diff/shard/fsdp.h"

namespace ps {

namespace {

constexpr std::size_t kWindow = 4000;  // characters that belong to one message

// The integers between the first `open` behind `begin` and the `close` after it: "(1, 2, 48, 128)".
std::optional<Shape> numbers_between(std::string_view text, char open, char close) {
  const std::size_t begin = text.find(open);
  if (begin == std::string_view::npos) return std::nullopt;
  const std::size_t end = text.find(close, begin);
  if (end == std::string_view::npos || end - begin > 4000) return std::nullopt;
  Shape out;
  std::size_t at = begin + 1;
  while (at < end) {
    std::int64_t value = 0;
    const auto parsed = std::from_chars(text.data() + at, text.data() + end, value);
    if (parsed.ec == std::errc{}) {
      if (value < 0 || value > (std::int64_t{1} << 40)) return std::nullopt;
      out.push_back(value);
      at = static_cast<std::size_t>(parsed.ptr - text.data());
    } else if (text[at] == ',' || text[at] == ' ' || text[at] == '\n' || text[at] == '\r') {
      ++at;
    } else {
      return std::nullopt;
    }
  }
  return out;
}

// `text` behind `mark`, at most a window of it; empty where it does not stand.
std::string_view behind(std::string_view text, std::string_view mark) {
  const std::size_t at = text.find(mark);
  return at == std::string_view::npos ? std::string_view() : text.substr(at + mark.size(), kWindow);
}

std::int64_t leading_number(std::string_view text, std::int64_t otherwise) {
  while (!text.empty() && text[0] == ' ') text.remove_prefix(1);
  std::int64_t value = otherwise;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

// The quoted word that holds "->": an einops pattern.
std::string einops_pattern(std::string_view text) {
  const std::size_t arrow = text.find("->");
  if (arrow == std::string_view::npos) return "";
  const std::size_t end = text.find_first_of("'\"", arrow);
  const std::size_t begin = text.find_last_of("'\"", arrow);
  if (begin == std::string_view::npos || end == std::string_view::npos || end - begin > 200) {
    return "";
  }
  return std::string(text.substr(begin + 1, end - begin - 1));
}

std::string ranks_text(std::int64_t first, std::int64_t last) {
  return first == last ? "rank " + std::to_string(first)
                       : "ranks " + std::to_string(first) + "-" + std::to_string(last);
}

std::string rows_text(std::int64_t rows) {
  return rows == 0 ? "no row" : std::to_string(rows) + (rows == 1 ? " row" : " rows");
}

// "ranks 0-3 hold 1 row, ranks 4-7 hold no row", for a number of rows a rank.
std::string holdings(const std::vector<std::int64_t>& rows) {
  std::string out;
  for (std::size_t r = 0; r < rows.size();) {
    std::size_t end = r;
    while (end + 1 < rows.size() && rows[end + 1] == rows[r]) ++end;
    const auto first = static_cast<std::int64_t>(r), last = static_cast<std::int64_t>(end);
    out += (out.empty() ? "" : ", ") + ranks_text(first, last) +
           (first == last ? " holds " : " hold ") + rows_text(rows[r]);
    r = end + 1;
  }
  return out;
}

Finding fs_finding(const char* id, std::int64_t rank, std::string message, std::string fix) {
  Finding f;
  f.id = id;
  f.fault_class = "shard";
  f.rank = rank;
  f.message = std::move(message);
  f.fix = std::move(fix);
  return f;
}

}  // namespace

std::optional<DTensorTrace> read_dtensor_trace(std::string_view text) {
  const std::string_view message = behind(text, "DTensor(");
  if (message.empty()) return std::nullopt;
  DTensorTrace out;
  const std::string_view size = behind(message, "size=");
  const auto local = numbers_between(size.empty() ? behind(message, "shape=") : size, '(', ')');
  const auto mesh = numbers_between(behind(message, "DeviceMesh("), '[', ']');
  const std::string_view shard = behind(message, "Shard(");
  if (!local || local->empty() || !mesh || mesh->empty() || shard.empty()) return std::nullopt;
  out.local = *local;
  out.world = static_cast<std::int64_t>(mesh->size());
  out.dim = leading_number(shard.starts_with("dim=") ? shard.substr(4) : shard, 0);
  out.pattern = einops_pattern(message);
  const std::string_view call = behind(text, "<function ");
  out.op = std::string(call.substr(0, call.find_first_of(" >(")));
  if (out.op.size() > 40) out.op.clear();
  const std::string_view arguments = behind(message, "**{");
  const std::size_t colon = arguments.find(':');
  if (colon != std::string_view::npos && colon < 60) {
    out.factor =
        std::clamp<std::int64_t>(leading_number(arguments.substr(colon + 1), 0), 0, 1 << 20);
  }
  if (const auto wanted = numbers_between(behind(text, "shape '"), '[', ']')) out.wanted = *wanted;
  out.elements = leading_number(behind(text, "input of size "), 0);
  const std::string_view prompt = behind(text, "[rank");
  out.rank = prompt.empty() ? 0 : std::clamp<std::int64_t>(leading_number(prompt, 0), 0, 1 << 20);
  out.in_cache = text.find("key_cache") != std::string_view::npos ||
                 text.find("past_key_value") != std::string_view::npos;
  return out;
}

std::vector<std::int64_t> possible_rows(const DTensorTrace& t) {
  std::vector<std::int64_t> even, uneven;
  const auto dim = static_cast<std::size_t>(t.dim);
  if (dim >= t.local.size()) return {};
  const std::int64_t b = std::max<std::int64_t>(t.factor, 1);
  // The failing rank's own rows; rank 0 has the most.
  for (std::int64_t n = 1; n <= (t.local[dim] + 1) * t.world && n <= 1 << 16; ++n) {
    if (rows_of_rank(n, t.world, t.rank).rows != t.local[dim]) continue;
    const bool judged = dim < t.wanted.size();
    if (judged && rows_of_rank(n * b, t.world, t.rank).rows != t.wanted[dim]) continue;
    // A view of a DTensor is only made where the result divides evenly.
    (shards_evenly(n * b, t.world) ? even : uneven).push_back(n);
  }
  even.insert(even.end(), uneven.begin(), uneven.end());
  return even;
}

Report explain_dtensor_trace(const DTensorTrace& t, const ModelConfig* config) {
  Report report;
  report.verdict = Verdict::kDiverged;
  const auto dim = static_cast<std::size_t>(t.dim);
  std::vector<std::int64_t> possible = possible_rows(t);
  if (config != nullptr) {
    const bool fits =
        std::find(possible.begin(), possible.end(), config->replicas) != possible.end();
    if (fits) possible = {config->replicas};
  }
  if (possible.empty() || dim >= t.local.size()) {
    report.findings.push_back(fs_finding(
        "FS002", t.rank,
        "an op ran on a DTensor shard " + to_string(t.local) + " over " + std::to_string(t.world) +
            " ranks, and the shapes in the message fit no length of dim " + std::to_string(t.dim),
        "gather the parameter before the op"));
    return report;
  }
  const std::int64_t n = possible[0], b = std::max<std::int64_t>(t.factor, 1);
  const RepeatedRows repeated = repeated_rows(n, t.world, b);
  std::vector<std::int64_t> rows;
  std::int64_t empty = 0;
  for (std::int64_t r = 0; r < t.world; ++r) {
    rows.push_back(rows_of_rank(n, t.world, r).rows);
    empty += rows.back() == 0 ? 1 : 0;
  }
  const std::string over = std::to_string(n) + " rows over " + std::to_string(t.world) + " ranks";
  const std::string op = t.op.empty() ? "the op" : "'" + t.op + "'";

  if (!repeated.consistent()) {
    std::string message = op + (t.pattern.empty() ? "" : " '" + t.pattern + "'") + " merges dim " +
                          std::to_string(t.dim) + ", which is cut: " + over + ", so " +
                          holdings(rows) + ". Repeated " + std::to_string(b) +
                          " times where they are: " + holdings(repeated.have) + "; but " +
                          std::to_string(n * b) + " rows over " + std::to_string(t.world) +
                          " ranks are: " + holdings(repeated.want);
    if (!t.wanted.empty() && t.elements > 0) {
      message += ". So " + to_string(t.wanted) + " (" + std::to_string(count_of(t.wanted)) +
                 " elements) was to be made of the " + std::to_string(t.elements) + " that rank " +
                 std::to_string(t.rank) + " has";
    }
    Finding f = fs_finding("FS002", t.rank, message,
                           "repeat first and shard then, or gather first: shard(repeat(x)) is "
                           "repeat(shard(x)) only where the rows divide evenly by the ranks");
    f.evidence = {{"rows", std::to_string(n)},     {"world", std::to_string(t.world)},
                  {"b", std::to_string(b)},        {"local", to_string(t.local)},
                  {"wanted", to_string(t.wanted)}, {"elements", std::to_string(t.elements)}};
    if (possible.size() > 1) {
      f.message += ". (The shapes would fit " + std::to_string(possible[1]) +
                   " rows, too; a model directory decides)";
    }
    report.findings.push_back(std::move(f));
  }
  Finding captured = fs_finding(
      "FS006", t.rank,
      std::string("the tensor was captured too early: it is the local shard ") +
          to_string(t.local) + " of a parameter with " + std::to_string(n) + " rows on dim " +
          std::to_string(t.dim) + ", taken before the layer's pre-forward hook gathered it" +
          (t.in_cache ? ". A cache that is built from layer.self_attn.prefix_k in the model's own "
                        "forward is built before any layer has run"
                      : ""),
      "read the parameter inside the module whose hook gathers it: all-gather [n, KV, tokens, D], "
      "then repeat to (n b), then cut key/value heads on dim 1; dim 0 is the replicas, which "
      "tensor parallelism never cuts");
  captured.confidence = Confidence::kConsistent;
  report.findings.push_back(std::move(captured));
  Finding full =
      fs_finding("FS001", t.rank,
                 "a sharded parameter is used as if it were whole: " + rows_text(t.local[dim]) +
                     " of " + std::to_string(n) + " on rank " + std::to_string(t.rank),
                 "");
  report.findings.push_back(std::move(full));
  if (empty > 0) {
    report.findings.push_back(fs_finding(
        "FS003", t.world - empty,
        ranks_text(t.world - empty, t.world - 1) + (empty == 1 ? " holds" : " hold") +
            " no row at all: there a prefix has length 0, and a key/value cache begins empty "
            "without any error",
        "shard a parameter with fewer rows than ranks on another dim, or not at all"));
  }
  return report;
}

}  // namespace ps
