// What a panel shows, made once for what is selected: at once when it is little work, else by a
// job.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "viewer/app/app.h"

namespace ps::viewer {

template <class Key, class Model>
class Computed {
 public:
  // What get() would hand back without work; null: the key is new.
  const std::shared_ptr<const Model>* made(const Key& key) const {
    return slot_->key && *slot_->key == key ? &slot_->model : nullptr;
  }
  // The model of `key`; null while a job makes it. `make(stop)` gives a shared_ptr<const Model> and
  // touches nothing that the panel or the app changes.
  template <class Make>
  std::shared_ptr<const Model> get(App& app, const std::string& name, const Key& key, bool at_once,
                                   Make make) {
    if (const auto* known = made(key)) return *known;
    slot_->key = key;
    slot_->model = nullptr;
    if (at_once) {
      slot_->model = make(std::stop_token{});
      return slot_->model;
    }
    app.jobs.run(
        name, "reading for " + name,
        [slot = slot_, key, make = std::move(make)](const std::stop_token& stop) -> Jobs::Done {
          std::shared_ptr<const Model> made = make(stop);
          return [slot, key, made] {
            if (slot->key && *slot->key == key) slot->model = made;
          };
        });
    return nullptr;
  }

 private:
  struct Slot {  // shared with the job, which may outlive the panel
    std::optional<Key> key;
    std::shared_ptr<const Model> model;
  };
  std::shared_ptr<Slot> slot_ = std::make_shared<Slot>();
};

}  // namespace ps::viewer
