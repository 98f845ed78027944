// Any text is a mask program or an error, as JSON and in the text syntax. A small program means the
// same in all evaluators, and is read back as it was written.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "diff/mask/evaluate.h"
#include "diff/mask/mask.h"
#include "diff/mask/text.h"
#include "diff/mask/tiles.h"
#include "tests/fuzz/require.h"

namespace {

using namespace ps::mask;
using ps::require;

void same_everywhere(const Program& p) {
  const auto& [B, H, Q, KV] = p.dims;
  constexpr std::int64_t kQuick = 4096;
  if (B > kQuick || H > kQuick || Q > kQuick || KV > kQuick || B * H * Q > kQuick ||
      B * H * Q * KV > kQuick)
    return;
  const auto runs = evaluate(p);
  require(runs.ok());
  for (std::int64_t plane = 0; plane < B * H; ++plane) {
    for (std::int64_t i = 0; i < Q; ++i) {
      for (std::int64_t j = 0; j < KV; ++j) {
        require(runs->at(plane / H, plane % H, i, j) == allowed(p, plane / H, plane % H, i, j));
      }
    }
  }
  if (Q == 0 || KV == 0) return;
  TileClassifier classifier(p);
  const Fill fill = classifier.classify({0, 0, 0, Q - 1, 0, KV - 1});
  const std::int64_t count = runs->plane(0, 0).count();
  require(fill != Fill::kFull || count == Q * KV);
  require(fill != Fill::kEmpty || count == 0);
}

void check(const ps::Result<Program>& parsed) {
  if (!parsed.ok()) {
    ps::require_line(parsed.error());
    return;
  }
  const auto json = parse_program_text(program_json(*parsed), "json");
  require(json.ok() && *json == *parsed);
  const auto text = parse_text(text_of(*parsed), "text");
  require(text.ok() && *text == *parsed);
  same_everywhere(*parsed);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  check(parse_program_text(bytes, "fuzz"));
  check(parse_text(bytes, "fuzz"));
  check(parse_text(bytes, "fuzz", Dims{1, 2, 11, 13}));
  return 0;
}
