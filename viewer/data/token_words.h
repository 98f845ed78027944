// What a token is called where no tokenizer is at hand: its id, and the letter that it is in a
// byte-level vocabulary.
#pragma once

#include <cstdint>
#include <string>

#include "core/config.h"

namespace ps::viewer {

inline std::string token_words(const ModelConfig* config, std::int64_t id) {
  std::string text = std::to_string(id);
  const bool bytes = config != nullptr && config->vocab_size >= 256 && config->vocab_size <= 300;
  if (!bytes || id < 0 || id > 255) return text;
  if (id > 32 && id < 127) return text + " '" + static_cast<char>(id) + "'";
  if (id == 32) return text + " space";
  if (id == 10) return text + " newline";
  return text;
}

}  // namespace ps::viewer
