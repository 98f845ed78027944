#include "diff/isolate/sample.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "core/text.h"

namespace ps {

namespace {

constexpr std::string_view kLayers = "model.layers.";

std::optional<std::int64_t> number(std::string_view text) {
  std::int64_t out = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc() || end != text.data() + text.size() || text.empty() || text[0] == '-') {
    return std::nullopt;
  }
  return out;
}

std::string runs_of(const std::vector<bool>& layers, bool wanted) {
  std::string out;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (layers[i] != wanted) continue;
    std::size_t last = i;
    while (last + 1 < layers.size() && layers[last + 1] == wanted) ++last;
    out += (out.empty() ? "" : ", ") + std::to_string(i);
    if (last > i) out += "-" + std::to_string(last);
    i = last;
  }
  return out;
}

}  // namespace

Result<Sample> Sample::parse(std::string_view text, std::int64_t layers, const std::string& where) {
  const Error wrong =
      bad_input(where, "is no sample of layers or rows",
                "layers=0,4-7 (below " + std::to_string(layers) +
                    "), every=8, rows=16 (at least 2), or layers and rows: every=8,rows=16",
                std::string(text));
  constexpr std::string_view kRows = "rows=";
  Sample sample;
  sample.text_ = text;
  if (const std::size_t at = text.rfind(kRows); at != text.npos) {
    const std::optional<std::int64_t> rows = number(text.substr(at + kRows.size()));
    if (!rows || *rows < 2 || (at > 0 && text[at - 1] != ',') || at == 1) return wrong;
    sample.rows_ = *rows;
    sample.judged_.assign(static_cast<std::size_t>(layers), true);
    if (at == 0) return sample;
    text = text.substr(0, at - 1);
  }
  sample.judged_.assign(static_cast<std::size_t>(layers), false);
  if (text.starts_with("every=")) {
    const std::optional<std::int64_t> step = number(text.substr(6));
    if (!step || *step < 1 || layers == 0) return wrong;
    for (std::int64_t i = 0; i < layers; i += *step)
      sample.judged_[static_cast<std::size_t>(i)] = true;
    sample.judged_.back() = true;
    return sample;
  }
  if (!text.starts_with("layers=")) return wrong;
  for (const std::string& part : split_at(text.substr(7), ',')) {
    const std::size_t dash = part.find('-');
    const std::optional<std::int64_t> from = number(part.substr(0, dash));
    const std::optional<std::int64_t> to =
        dash == std::string::npos ? from : number(part.substr(dash + 1));
    if (!from || !to || *from > *to || *to >= layers) return wrong;
    std::fill(sample.judged_.begin() + *from, sample.judged_.begin() + *to + 1, true);
  }
  return sample;
}

bool Sample::judges(std::string_view point) const {
  if (all() || !point.starts_with(kLayers)) return true;
  const std::string_view rest = point.substr(kLayers.size());
  const std::optional<std::int64_t> layer = number(rest.substr(0, rest.find_first_of(".:")));
  return !layer || static_cast<std::size_t>(*layer) >= judged_.size() ||
         judged_[static_cast<std::size_t>(*layer)];
}

std::string Sample::left_out() const {
  const std::string runs = runs_of(judged_, false);
  const bool several = runs.find_first_of(",-") != std::string::npos;
  return runs.empty() ? "" : (several ? "layers " : "layer ") + runs;
}

}  // namespace ps
