// Axes in letters: how another engine lays a value out, and how to bring it to the form of the
// table of points. Values are moved, never changed.
//
// Letters are those of points.def: B batch, S new tokens, H query heads, K key/value heads, D head
// size, J half of it, h hidden, I intermediate, V vocabulary, C cache slots; and
//   t     the batch's new tokens, flattened, sequence after sequence (cu_seqlens)
//   n     sequences: one row each, for the last token
//   c     cache slots of a sequence, from its first token on, more than there are tokens allowed
//   page  and slot: a paged cache (block_tables); without slot, a pool of tokens
//   2, 1  sizes that have no name
// "H*D" is an axis that runs over heads and, inside, channels; "H*D|K*D" is cut into two values.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/config.h"
#include "core/result.h"
#include "core/tensor.h"

namespace ps {

using Axis = std::vector<std::string>;  // factors: {"H", "D"}

struct Layout {
  std::vector<std::vector<Axis>> axes;  // [axis][part]; more than one part on at most one axis
  std::size_t parts() const;
  std::vector<Axis> part(std::size_t i) const;
  std::size_t split_axis() const;  // axes.size(): nothing is cut
};
bool is_number(std::string_view text);  // 1 to 9 digits
Result<Layout> parse_layout(std::string_view text, const std::string& where);

// Who the rows of a flattened batch, and the slots of a paged cache, belong to.
struct BatchMap {
  std::int64_t batch = 0, length = 0, columns = 0;         // B, S, past + S (padding included)
  std::int64_t prefix = 0;                                 // T: slots in front of a cache's columns
  std::vector<std::int64_t> lengths;                       // [B] new tokens of each sequence
  std::vector<std::vector<std::int64_t>> column_of;        // [B][token] its column of the cache
  std::vector<std::vector<std::int64_t>> block_table;      // [B][page]; empty: unknown
  std::int64_t tokens() const;                             // sum of lengths
  std::int64_t slots() const { return prefix + columns; }  // C
};

using Sizes = std::map<std::string, std::int64_t, std::less<>>;
// What a model's letters mean on one of `tp` ranks.
Sizes sizes_of(const ModelConfig* config, std::int64_t tp);

// The parts of `value`, each in the axes that `targets` (points.def's form: "R,H,S,D") names. An
// Error says which axis does not fit. `reverse`: the shape's axes stand the other way round.
Result<std::vector<Tensor>> arrange(const TensorView& value, const Layout& layout,
                                    const std::vector<std::string>& targets, const Sizes& sizes,
                                    const BatchMap& batch, bool reverse);
// Whether arrange() would, without moving anything.
Result<void> fits_layout(const TensorView& value, const Layout& layout,
                         const std::vector<std::string>& targets, const Sizes& sizes,
                         const BatchMap& batch, bool reverse);

}  // namespace ps
