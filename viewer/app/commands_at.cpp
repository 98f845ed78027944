// Coordinates without a tensor: masks, caches and tokens have places too.
#include "viewer/app/app.h"
#include "viewer/app/command_words.h"
#include "viewer/app/commands.h"

namespace ps::viewer {

Result<void> command_at(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 1, 16, "at"));
  Selection next = app.state.selection;
  for (const std::string& word : words) {
    const std::size_t equals = word.find('=');
    if (equals == std::string::npos || equals == 0) {
      return bad_input("at", "wants coordinates", "AXIS=N", word);
    }
    const std::string axis = word.substr(0, equals);
    const bool plain =
        axis.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") == std::string::npos;
    if (!plain) return bad_input("at", "is no name of an axis", "query, key, slot, ...", axis);
    PS_TRY(next.cell[axis], integer_of(word.substr(equals + 1), axis, 0, std::int64_t{1} << 40));
  }
  app.state.selection = std::move(next);
  return {};
}

}  // namespace ps::viewer
