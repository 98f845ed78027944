#include "diff/mask/source_forms.h"

#include <algorithm>
#include <charconv>

#include "core/json.h"

namespace ps::mask {

namespace {

using Numbers = std::vector<std::int64_t>;

Result<Numbers> numbers_of(std::string_view text, const std::string& where) {
  Numbers out;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    std::int64_t x = 0;
    const auto [last, error] = std::from_chars(text.data() + at, text.data() + end, x);
    if (error != std::errc{} || last != text.data() + end || x < 0 || x > kMaxPosition) {
      return bad_input(where, "not a list of numbers", "such as 5,3",
                       json_quoted(text.substr(at, end - at)));
    }
    out.push_back(x);
    at = end + 1;
  }
  return out;
}

Result<Numbers> numbers_of(const SafetensorsFile& file, const std::string& name) {
  const TensorView* t = file.find(name);
  const std::string where = file.where() + ":" + name;
  if (t == nullptr) return bad_input(file.where(), "lacks the tensor " + name);
  if (!is_integer(t->dtype) || t->shape.size() > 2) {
    return bad_input(where, "not a list of numbers", "integers",
                     std::string(safetensors_name(t->dtype)) + ps::to_string(t->shape));
  }
  Numbers out;
  for (std::int64_t i = 0; i < t->count(); ++i) {
    const double x = value_at(*t, i);
    if (x < 0 || x > static_cast<double>(kMaxPosition)) {
      return bad_input(where, "a number out of range", "0 or more", std::to_string(x));
    }
    out.push_back(static_cast<std::int64_t>(x));
  }
  return out;
}

// Sizes that were not given follow from the lists: square, as long as the last key.
Result<Program> program_of_lengths(const Numbers& lengths, const Numbers& starts, bool causal,
                                   const std::optional<Dims>& sizes, const std::string& where) {
  const auto rows = static_cast<std::int64_t>(lengths.size());
  std::int64_t longest = 0;
  for (std::size_t b = 0; b < lengths.size(); ++b) {
    longest = std::max(longest, lengths[b] + (b < starts.size() ? starts[b] : 0));
  }
  Dims dims = sizes.value_or(Dims{rows, 1, longest, longest});
  if (dims.B == 1) dims.B = rows;
  if (rows == 0 || rows != dims.B || (!starts.empty() && starts.size() != lengths.size())) {
    return bad_input(where, "one length, and one start if there are any, for each batch row",
                     std::to_string(dims.B),
                     std::to_string(rows) + " and " + std::to_string(starts.size()));
  }
  return from_lengths(dims, lengths, starts, causal);
}

Result<Program> program_of_cu(const Numbers& cu, bool causal, const std::optional<Dims>& sizes,
                              const std::string& where) {
  PS_TRY(Program p, from_cu_seqlens(sizes ? sizes->H : 1, cu, causal));
  if (!sizes || *sizes == p.dims) return p;
  if (sizes->B != 1 || sizes->Q > p.dims.Q || sizes->KV != p.dims.KV) {
    return bad_input(where, "the packed sequence has another length [B,H,Q,KV]", to_string(*sizes),
                     to_string(p.dims));
  }
  p.q_offset = {sizes->KV - sizes->Q};  // the last queries of the sequence
  p.dims = *sizes;
  return p;
}

}  // namespace

std::optional<Result<Program>> program_of_form(const std::string& word,
                                               const std::optional<Dims>& sizes) {
  std::vector<std::pair<std::string, std::string>> fields;
  for (std::size_t at = 0; at < word.size();) {
    const std::size_t end = std::min(word.find_first_of(" ;", at), word.size());
    const std::string part = word.substr(at, end - at);
    const std::size_t is = std::min(part.find('='), part.size());
    if (!part.empty()) {
      fields.emplace_back(part.substr(0, is), is < part.size() ? part.substr(is + 1) : "");
    }
    at = end + 1;
  }
  if (fields.empty()) return std::nullopt;
  const std::string first = fields[0].first;
  if (first != "lengths" && first != "cu_seqlens" && first != "is_causal") return std::nullopt;
  const auto program = [&]() -> Result<Program> {
    Numbers lists, starts;
    bool causal = false;
    for (std::size_t i = 0; i < fields.size(); ++i) {
      const auto& [name, value] = fields[i];
      if (i > 0 && name == "causal" && value.empty() && first != "is_causal") {
        causal = true;
      } else if (i > 0 && name == "starts" && first == "lengths") {
        PS_TRY(starts, numbers_of(value, "starts"));
      } else if (i > 0) {
        return bad_input(first, "unknown word", "starts=N,N (of lengths) or causal",
                         json_quoted(name));
      } else if (first != "is_causal") {
        PS_TRY(lists, numbers_of(value, first));
      }
    }
    if (first == "lengths") return program_of_lengths(lists, starts, causal, sizes, first);
    if (first == "cu_seqlens") return program_of_cu(lists, causal, sizes, first);
    const std::string& corner = fields[0].second;
    if (corner != "top-left" && corner != "bottom-right") {
      return bad_input(first, "unknown corner", "top-left (SDPA) or bottom-right (flash-attn)",
                       json_quoted(corner));
    }
    if (!sizes) return bad_input(first, "has no size", "--size Q,KV, or a mask beside it");
    return from_is_causal(*sizes,
                          corner == "top-left" ? Alignment::kTopLeft : Alignment::kBottomRight);
  };
  return program();
}

std::optional<Result<Program>> program_of_lists(const SafetensorsFile& file,
                                                const std::string& prefix, bool causal,
                                                const std::optional<Dims>& sizes) {
  const bool packed = file.find(prefix + "cu_seqlens") != nullptr;
  if (!packed && file.find(prefix + "lengths") == nullptr) return std::nullopt;
  const auto program = [&]() -> Result<Program> {
    const std::string where = file.where() + ":" + prefix;
    if (packed) {
      PS_TRY(const Numbers cu, numbers_of(file, prefix + "cu_seqlens"));
      return program_of_cu(cu, causal, sizes, where + "cu_seqlens");
    }
    PS_TRY(const Numbers lengths, numbers_of(file, prefix + "lengths"));
    Numbers starts;
    if (file.find(prefix + "starts") != nullptr) {
      PS_TRY(starts, numbers_of(file, prefix + "starts"));
    }
    return program_of_lengths(lengths, starts, causal, sizes, where + "lengths");
  };
  return program();
}

bool has_row_runs(const SafetensorsFile& file, const std::string& prefix) {
  return file.find(prefix + "row_begin") != nullptr;
}

Result<Mask> mask_of_row_runs(const SafetensorsFile& file, const std::string& prefix,
                              const std::optional<Dims>& dims) {
  const std::string where = file.where() + ":" + prefix;
  if (!dims) {
    return bad_input(where, "runs alone give no size", "--size B,H,Q,KV, or a mask beside them");
  }
  if (static_cast<double>(dims->B) * static_cast<double>(dims->H) * static_cast<double>(dims->Q) >
      static_cast<double>(kMaxDim)) {
    return bad_input(where, "more rows than a list can have", "", to_string(*dims));
  }
  RowRuns rows;
  rows.dims = *dims;
  PS_TRY(rows.begin, numbers_of(file, prefix + "row_begin"));
  PS_TRY(const Numbers flat, numbers_of(file, prefix + "row_runs"));
  for (std::size_t i = 0; i + 1 < flat.size(); i += 2) rows.runs.emplace_back(flat[i], flat[i + 1]);
  if (flat.size() % 2 != 0) {
    return bad_input(where + "row_runs", "runs come in pairs", "[N,2]",
                     std::to_string(flat.size()) + " numbers");
  }
  Result<Mask> mask = from_row_runs(rows);
  if (mask.ok()) return mask;
  Error error = mask.error();
  error.where = where + ": " + error.where;
  return error;
}

}  // namespace ps::mask
