#include "diff/cli/mask_request.h"

#include <algorithm>
#include <cstdio>

namespace ps::cli {

using mask::Dims;
using mask::Mask;

namespace {

std::string number_json(double x) {
  char text[40];
  std::snprintf(text, sizeof text, "%.17g", x);
  return text;
}

std::string blocks_json(const Mask& m, std::int64_t bq, std::int64_t bk) {
  const mask::BlockSummary s = mask::summarize(m, bq, bk);
  const auto totals = [&](mask::EdgeRule rule) {
    const auto t = s.totals(rule);
    return "{\"empty\":" + std::to_string(t.empty) + ",\"partial\":" + std::to_string(t.partial) +
           ",\"full\":" + std::to_string(t.full) + "}";
  };
  return "{\"tile\":[" + std::to_string(bq) + "," + std::to_string(bk) +
         "],\"torch\":" + totals(mask::EdgeRule::kTorch) +
         ",\"inbounds\":" + totals(mask::EdgeRule::kInbounds) + "}";
}

}  // namespace

Result<std::vector<std::int64_t>> mask_numbers(const Arguments& a, std::string_view option) {
  const std::string text = a.get(option);
  std::vector<std::int64_t> out;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    PS_TRY(const std::int64_t x,
           parse_integer(text.substr(at, end - at), option, 0, mask::kMaxDim));
    out.push_back(x);
    at = end + 1;
  }
  return out;
}

Result<MaskRequest> mask_request(const Arguments& a) {
  MaskRequest out;
  if (a.has("--size")) {
    PS_TRY(const auto n, mask_numbers(a, "--size"));
    if (n.size() != 1 && n.size() != 2 && n.size() != 4) {
      return bad_input("--size", "wrong number of sizes", "N, Q,KV or B,H,Q,KV", a.get("--size"));
    }
    out.sizes = n.size() == 4 ? Dims{n[0], n[1], n[2], n[3]} : Dims{1, 1, n.front(), n.back()};
    if (out.sizes->B < 1 || out.sizes->H < 1) return bad_input("--size", "B and H are 1 or more");
  }
  if (a.has("--form")) {
    const auto form = mask::form_from(a.get("--form"));
    if (!form) {
      return bad_input("--form", "unknown form", "auto, attend, masked or additive",
                       a.get("--form"));
    }
    out.read.form = *form;
  }
  if (a.has("--cast")) {
    const auto dtype = dtype_from_short(a.get("--cast"));
    if (!dtype || (*dtype != DType::kF32 && *dtype != DType::kBF16 && *dtype != DType::kF16)) {
      return bad_input("--cast", "cannot convert to this type", "f32, bf16 or f16",
                       a.get("--cast"));
    }
    out.read.cast = *dtype;
  }
  if (a.has("--block")) {
    PS_TRY(const auto n, mask_numbers(a, "--block"));
    const bool good = (n.size() == 1 || n.size() == 2) &&
                      *std::min_element(n.begin(), n.end()) > 0 &&
                      *std::max_element(n.begin(), n.end()) <= (1 << 24);
    if (!good) return bad_input("--block", "not a tile", "BQ,BK", a.get("--block"));
    out.read.bq = n.front();
    out.read.bk = n.back();
  }
  if (a.has("--edges")) {
    const std::string rule = a.get("--edges");
    if (rule != "torch" && rule != "inbounds") {
      return bad_input("--edges", "unknown rule", "torch or inbounds", rule);
    }
    out.read.rule = rule == "torch" ? mask::EdgeRule::kTorch : mask::EdgeRule::kInbounds;
  }
  if (a.has("--plane")) {
    PS_TRY(const auto n, mask_numbers(a, "--plane"));
    if (n.size() != 2) return bad_input("--plane", "not a plane", "B,H", a.get("--plane"));
    out.plane = {n[0], n[1]};
  }
  return out;
}

std::string mask_facts_json(const Mask& m, const MaskRequest& r) {
  const Dims& d = m.dims();
  const double cells =
      static_cast<double>(d.B * d.H) * static_cast<double>(d.Q) * static_cast<double>(d.KV);
  const std::int64_t allowed = m.count();
  const auto empty = m.first_empty_row();
  std::string out =
      "{\"shape\":" + mask::to_string(d) + ",\"allowed\":" + std::to_string(allowed) +
      ",\"density\":" + number_json(cells > 0 ? static_cast<double>(allowed) / cells : 0) +
      ",\"fully_masked_rows\":" + std::to_string(m.empty_rows()) + ",\"first_fully_masked\":";
  out += empty ? "[" + std::to_string((*empty)[0]) + "," + std::to_string((*empty)[1]) + "," +
                     std::to_string((*empty)[2]) + "]"
               : "null";
  const std::int64_t tiles =
      ((d.Q + r.read.bq - 1) / r.read.bq) * ((d.KV + r.read.bk - 1) / r.read.bk);
  constexpr std::int64_t kMostTiles = 1 << 24;
  if (tiles <= kMostTiles / std::max<std::int64_t>(1, d.B * d.H)) {
    out += ",\"blocks\":" + blocks_json(m, r.read.bq, r.read.bk);
  }
  return out + "}";
}

}  // namespace ps::cli
