#include "diff/sparse/case.h"

#include <algorithm>
#include <limits>

#include "core/file.h"
#include "diff/sparse/config.h"

namespace ps {

namespace fs = std::filesystem;

namespace {

Result<void> join(SparseCase& out, const Json& from, const std::string& where) {
  if (!from.is(Json::Kind::kObject)) {
    return bad_input(where, "not a case", "a JSON object", std::string(to_string(from.kind)));
  }
  for (std::size_t i = 0; i < from.names.size(); ++i) {
    std::size_t at = 0;
    while (at < out.json.names.size() && out.json.names[at] != from.names[i]) ++at;
    if (at == out.json.names.size()) {
      out.json.names.push_back(from.names[i]);
      out.json.items.push_back(from.items[i]);
    } else {
      out.json.items[at] = from.items[i];
    }
  }
  return {};
}

Result<void> add_path(SparseCase& out, const fs::path& path) {
  std::error_code ec;
  if (fs::is_directory(path, ec)) {
    PS_TRY_VOID(add_path(out, path / "case.json"));
    return add_path(out, path / "data.safetensors");
  }
  if (!fs::exists(path, ec)) {
    return bad_input(path.string(), "no such file or folder",
                     "a folder with case.json and data.safetensors, or such files");
  }
  if (path.extension() == ".json") {
    PS_TRY(const std::string text, read_text(path));
    PS_TRY(const Json json, parse_json(text, path.string()));
    return join(out, json, path.string());
  }
  PS_TRY(SafetensorsFile file, SafetensorsFile::open(path));
  out.files.push_back(std::move(file));
  return {};
}

Result<Tensor> shaped(const SparseCase& c, const std::string& name, const Shape& shape) {
  const TensorView* view = c.find(name);
  if (view == nullptr) return bad_input(c.where, "has no tensor " + name, to_string(shape));
  bool fits = view->shape.size() == shape.size() && is_floating(view->dtype);
  for (std::size_t i = 0; fits && i < shape.size(); ++i) {
    fits = shape[i] < 0 ? view->shape[i] > 0 : view->shape[i] == shape[i];
  }
  if (fits) return Tensor::copy_of(*view);
  return bad_input(c.where + ": " + name, "wrong shape or type",
                   "floating " + to_string(shape) + ", -1 for any",
                   std::string(safetensors_name(view->dtype)) + " " + to_string(view->shape));
}

Result<void> check_inputs(SparseCase& c) {
  const SparseConfig& s = c.config;
  const auto steps = static_cast<std::int64_t>(c.decode.size());
  for (const char* name : {"q", "k", "v"}) {
    const TensorView* t = c.find(name);
    const Shape want = {s.layers, s.batch, *name == 'q' ? s.heads : s.kv_heads, s.length + steps,
                        s.head_dim};
    if (t == nullptr) return bad_input(c.where, std::string("has no tensor ") + name);
    if (t->shape != want || !is_floating(t->dtype)) {
      return bad_input(c.where + ": " + name, "is not what the config says",
                       "floating " + to_string(want),
                       std::string(safetensors_name(t->dtype)) + " " + to_string(t->shape));
    }
  }
  if (s.selector == SparseSelector::kWalk) {
    PS_TRY(c.weights.sketch, shaped(c, "sketch", {s.head_dim, s.sketch}));
    return {};
  }
  std::int64_t pools = 1;
  for (const char p : s.pool) pools += p == '+' ? 1 : 0;
  const Shape gate = {s.heads, pools * s.head_dim, -1};
  PS_TRY(c.weights.gate_wq, shaped(c, "gate_wq", gate));
  PS_TRY(c.weights.gate_wk, shaped(c, "gate_wk", gate));
  return {};
}

// Lists of a layer that only has its dense form [B,1|H,rows,n].
Result<BlockLists> lists_of_mask(const SparseCase& c, const std::string& name) {
  const TensorView* mask = c.find(name);
  if (mask == nullptr) return BlockLists();
  const SparseConfig& s = c.config;
  const std::int64_t n = s.blocks(s.length);
  const bool fits = mask->shape.size() == 4 && mask->shape[0] == s.batch &&
                    (mask->shape[1] == 1 || mask->shape[1] == s.heads) && mask->shape[2] == n &&
                    mask->shape[3] == n && size_of(mask->dtype) == 1;
  if (!fits) {
    return bad_input(c.where + ": " + name, "wrong shape or type",
                     "U8 or BOOL " + to_string({s.batch, s.heads, n, n}),
                     std::string(safetensors_name(mask->dtype)) + " " + to_string(mask->shape));
  }
  BlockLists out(s.batch, mask->shape[1], n);
  for (std::size_t row = 0; row < out.lists.size(); ++row) {
    for (std::int64_t j = 0; j < n; ++j) {
      const auto at = static_cast<std::int64_t>(row) * n + j;
      if (mask->bytes[static_cast<std::size_t>(at)] == std::byte{0}) continue;
      out.lists[row].push_back(static_cast<std::int32_t>(j));
    }
  }
  return out;
}

Result<void> read_selected(SparseCase& c) {
  const SparseConfig& s = c.config;
  const Json* all = c.json.find("selected");
  const std::string where = c.where + "/selected";
  if (all != nullptr &&
      (!all->is(Json::Kind::kArray) || static_cast<std::int64_t>(all->items.size()) != s.layers)) {
    return bad_input(where, "wrong length", "one item a layer, " + std::to_string(s.layers),
                     all->brief());
  }
  for (std::int64_t l = 0; l < s.layers; ++l) {
    BlockLists lists;
    const Json* mine = all == nullptr ? nullptr : &all->items[static_cast<std::size_t>(l)];
    if (mine != nullptr && !mine->is(Json::Kind::kNull) && !mine->items.empty()) {
      PS_TRY(lists, lists_of_json(*mine, where + "/" + std::to_string(l), s.batch, s.heads,
                                  s.blocks(s.length)));
    } else if (all == nullptr && l >= s.skip) {
      PS_TRY(lists, lists_of_mask(c, layer_name(l, "block_mask")));
    }
    c.selected.push_back(std::move(lists));
  }
  return {};
}

Result<std::int64_t> member(const Json& object, const char* name, const std::string& where) {
  const Json* value = object.find(name);
  if (value != nullptr && value->is(Json::Kind::kInteger)) return value->integer;
  return bad_input(where + "/" + name, "is not there, or no whole number");
}

Result<void> read_decode(SparseCase& c) {
  const SparseConfig& s = c.config;
  const Json* steps = c.json.find("decode");
  if (steps == nullptr) return {};
  const std::string where = c.where + "/decode";
  if (!steps->is(Json::Kind::kArray)) return bad_input(where, "not an array of steps");
  for (std::size_t i = 0; i < steps->items.size(); ++i) {
    const Json& json = steps->items[i];
    const std::string here = where + "/" + std::to_string(i);
    SparseDecodeStep step;
    PS_TRY(step.position, member(json, "position", here));
    PS_TRY(step.block, member(json, "block", here));
    const std::int64_t expected = s.length + static_cast<std::int64_t>(i);
    if (step.position != expected || step.block != expected / s.block) {
      return bad_input(here, "wrong position or block",
                       std::to_string(expected) + " in " + std::to_string(expected / s.block),
                       std::to_string(step.position) + " in " + std::to_string(step.block));
    }
    const Json* selected = json.find("selected");
    for (std::int64_t l = 0; l < s.layers; ++l) {
      BlockLists lists;
      const auto at = static_cast<std::size_t>(l);
      if (selected != nullptr && at < selected->items.size() &&
          !selected->items[at].items.empty()) {
        // [b][list] where heads share, [b][h][list] where they do not.
        const Json& layer = selected->items[at];
        Json rows;
        rows.kind = Json::Kind::kArray;
        for (const Json& batch : layer.items) {
          const bool flat = batch.items.empty() || !batch.items[0].is(Json::Kind::kArray);
          Json heads;
          heads.kind = Json::Kind::kArray;
          const auto add = [&](const Json& list) {
            Json row;
            row.kind = Json::Kind::kArray;
            row.items = {list};
            heads.items.push_back(row);
          };
          if (flat) add(batch);
          if (!flat) std::for_each(batch.items.begin(), batch.items.end(), add);
          rows.items.push_back(heads);
        }
        PS_TRY(lists,
               lists_of_json(rows, here + "/selected/" + std::to_string(l), s.batch, s.heads, 1));
      }
      step.selected.push_back(std::move(lists));
    }
    c.decode.push_back(std::move(step));
  }
  return {};
}

}  // namespace

std::string layer_name(std::int64_t layer, const char* what) {
  return "layer" + std::to_string(layer) + "/" + what;
}

void SparseCase::set(const std::string& name, Tensor value) {
  const auto owned = std::make_shared<const Tensor>(std::move(value));
  tensors[name] = {owned, owned->view()};
}

const TensorView* SparseCase::find(const std::string& name) const {
  if (const auto own = tensors.find(name); own != tensors.end()) return &own->second.view;
  for (std::size_t i = files.size(); i-- > 0;) {
    if (const TensorView* found = files[i].find(name); found != nullptr) return found;
  }
  return nullptr;
}

Result<Tensor> SparseCase::tokens(const char* name, std::int64_t layer, std::int64_t begin,
                                  std::int64_t end) const {
  const TensorView* t = find(name);
  if (t == nullptr || t->shape.size() != 5 || layer >= t->shape[0] || end > t->shape[3]) {
    return bad_input(where + ": " + name, "lacks the tokens of layer " + std::to_string(layer));
  }
  const std::int64_t rows = t->shape[1] * t->shape[2], all = t->shape[3];
  const std::int64_t bytes = t->shape[4] * size_of(t->dtype);
  Tensor out(t->dtype, {t->shape[1], t->shape[2], end - begin, t->shape[4]});
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t from = ((layer * rows + r) * all + begin) * bytes;
    const auto part = t->bytes.subspan(static_cast<std::size_t>(from),
                                       static_cast<std::size_t>((end - begin) * bytes));
    std::copy(part.begin(), part.end(), out.bytes().begin() + r * (end - begin) * bytes);
  }
  return out;
}

Result<BlockLists> lists_of_json(const Json& json, const std::string& where, std::int64_t batch,
                                 std::int64_t heads, std::int64_t rows) {
  const auto sized = [](const Json& j, std::int64_t n) {
    return j.is(Json::Kind::kArray) && static_cast<std::int64_t>(j.items.size()) == n;
  };
  const auto wrong = [&](const std::string& at, const Json& found) {
    return bad_input(where + at, "is not lists of block indices",
                     "[" + std::to_string(batch) + " batches][1 or " + std::to_string(heads) +
                         " heads][" + std::to_string(rows) + " rows][indices]",
                     found.brief());
  };
  if (!sized(json, batch)) return wrong("", json);
  const auto given = static_cast<std::int64_t>(json.items[0].items.size());
  if (given != 1 && given != heads) return wrong("/0", json.items[0]);
  BlockLists out(batch, given, rows);
  for (std::int64_t b = 0; b < batch; ++b) {
    const Json& of_batch = json.items[static_cast<std::size_t>(b)];
    if (!sized(of_batch, given)) return wrong("/" + std::to_string(b), of_batch);
    for (std::int64_t h = 0; h < given; ++h) {
      const Json& of_head = of_batch.items[static_cast<std::size_t>(h)];
      const std::string at = "/" + std::to_string(b) + "/" + std::to_string(h);
      if (!sized(of_head, rows)) return wrong(at, of_head);
      for (std::int64_t i = 0; i < rows; ++i) {
        const Json& list = of_head.items[static_cast<std::size_t>(i)];
        if (!list.is(Json::Kind::kArray)) return wrong(at + "/" + std::to_string(i), list);
        for (const Json& index : list.items) {
          using Limits = std::numeric_limits<std::int32_t>;
          if (!index.is(Json::Kind::kInteger) || index.integer < Limits::min() ||
              index.integer > Limits::max()) {
            return wrong(at + "/" + std::to_string(i), index);
          }
          out.at(b, h, i).push_back(static_cast<std::int32_t>(index.integer));
        }
      }
    }
  }
  return out;
}

Result<SparseCase> open_sparse_case(const std::vector<fs::path>& paths) {
  SparseCase out;
  out.json.kind = Json::Kind::kObject;
  out.where = paths.front().string();
  for (const fs::path& path : paths) PS_TRY_VOID(add_path(out, path));
  PS_TRY(out.config, sparse_config(out.json, out.where));
  if (const Json* config = out.json.find("config"); config != nullptr) {
    const Json* grad = config->find("grad");
    out.wants_gradients = grad != nullptr && grad->boolean;
  }
  PS_TRY_VOID(read_decode(out));
  PS_TRY_VOID(check_inputs(out));
  PS_TRY_VOID(read_selected(out));
  return out;
}

}  // namespace ps
