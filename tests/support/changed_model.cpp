#include "tests/support/changed_model.h"

#include <nlohmann/json.hpp>

#include "core/file.h"
#include "tests/support/run.h"

namespace ps {

Model changed_model(const std::filesystem::path& source, const std::filesystem::path& target,
                    const std::vector<std::pair<std::string, std::string>>& config_edits,
                    const EditTensor& edit) {
  std::filesystem::create_directories(target);
  auto config = nlohmann::ordered_json::parse(value_or_die(read_text(source / "config.json")));
  for (const auto& [field, text] : config_edits) {
    if (text.empty()) {
      config.erase(field);
    } else {
      config[field] = nlohmann::ordered_json::parse(text);
    }
  }
  ok_or_die(write_text(target / "config.json", config.dump(1)));
  const auto checkpoint = value_or_die(Checkpoint::open(source));
  SafetensorsWriter writer = value_or_die(SafetensorsWriter::create(target / "model.safetensors"));
  for (const std::string& name : checkpoint->names()) {
    Tensor value = Tensor::copy_of(*checkpoint->peek(name));
    if (edit) edit(name, value);
    ok_or_die(writer.add(name, value.view()));
  }
  ok_or_die(writer.close());
  return value_or_die(open_model(target));
}

}  // namespace ps
