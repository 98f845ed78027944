#include "diff/mask/source.h"

#include <algorithm>
#include <filesystem>

#include "core/file.h"
#include "core/json.h"
#include "core/packing.h"
#include "diff/mask/source_forms.h"
#include "diff/mask/text.h"

namespace ps::mask {

namespace fs = std::filesystem;

namespace {

// The value that an RFC 6901 pointer names; null when there is none.
const Json* at_pointer(const Json& root, std::string_view pointer) {
  const Json* here = &root;
  while (!pointer.empty() && here != nullptr) {
    pointer.remove_prefix(1);
    const std::size_t end = std::min(pointer.find('/'), pointer.size());
    std::string name(pointer.substr(0, end));
    pointer.remove_prefix(end);
    for (const auto& [from, to] : {std::pair{"~1", "/"}, std::pair{"~0", "~"}}) {
      for (std::size_t i = name.find(from); i != std::string::npos; i = name.find(from, i + 1)) {
        name.replace(i, 2, to);
      }
    }
    if (here->is(Json::Kind::kObject)) {
      here = here->find(name);
    } else if (here->is(Json::Kind::kArray) && !name.empty() && name.size() < 7 &&
               name.find_first_not_of("0123456789") == std::string::npos) {
      const auto i = static_cast<std::size_t>(std::stoul(name));
      here = i < here->items.size() ? &here->items[i] : nullptr;
    } else {
      here = nullptr;
    }
  }
  return here;
}

Result<Program> program_of_json(const Json& root, const std::string& where,
                                const std::string& pointer) {
  const Json* here = pointer.empty() || pointer[0] == '/' ? at_pointer(root, pointer) : nullptr;
  if (here == nullptr) {
    return bad_input(where, "nothing is at this pointer", "such as #/variants/0", "#" + pointer);
  }
  if (const Json* program = here->find("program"); program != nullptr) {
    return parse_program(*program, where, pointer + "/program");
  }
  const Json* whole = root.find("program");
  const Json* expr = here->find("expr");
  if (whole != nullptr && expr != nullptr && here->find("schema") == nullptr) {  // a variant
    return parse_program(with_expression(*whole, *expr, here->find("extra_arrays")), where,
                         pointer);
  }
  return parse_program(*here, where, pointer);
}

Result<Source> open_tensors(const std::string& path, std::string part,
                            const std::optional<Dims>& sizes) {
  Source out;
  constexpr std::string_view kCausal = "+causal";  // behind lengths and cu_seqlens
  const bool causal = part.ends_with(kCausal);
  if (causal) part.resize(part.size() - kCausal.size());
  out.name = part.empty() ? path : path + ":" + part;
  PS_TRY(SafetensorsFile file, SafetensorsFile::open(path));
  out.file = std::move(file);
  const auto& entries = out.file->entries();
  const bool folder = part.empty() || part.ends_with('/');
  if (folder && out.file->find(part + "kv_num_blocks") != nullptr) {
    out.lists = part;
    return out;
  }
  if (folder && has_row_runs(*out.file, part)) {
    out.runs = part;
    return out;
  }
  if (folder) {
    if (auto program = program_of_lists(*out.file, part, causal, sizes)) {
      if (!program->ok()) return program->error();
      out.program = std::move(*program).value();
      out.guessed = !sizes;
      return out;
    }
  }
  std::string names;
  for (const auto& e : entries) {
    names += (names.empty() ? "" : ", ") + e.name;
    if (names.size() > 200) break;
  }
  if (part.empty() && entries.size() == 1) {
    out.tensor = entries[0].view;
  } else {
    for (const char* usual : {"mask", "attention_mask", "mask/bits"}) {
      const TensorView* t = out.file->find(part.empty() ? usual : part);
      if (t == nullptr) continue;
      out.tensor = *t;
      break;
    }
  }
  if (!out.tensor) {
    return bad_input(path,
                     part.empty() ? "holds several tensors; name one as FILE:TENSOR"
                                  : "no tensor is named " + json_quoted(part),
                     names);
  }
  return out;
}

Result<std::vector<std::int32_t>> list_cells(const SafetensorsFile& file, const std::string& name,
                                             std::int64_t count, bool optional) {
  const TensorView* t = file.find(name);
  if (t == nullptr && optional) return std::vector<std::int32_t>();
  if (t == nullptr) return bad_input(file.where(), "lacks the tensor " + name);
  if (!is_integer(t->dtype) || t->count() != count) {
    return bad_input(file.where() + ":" + name, "not the block list of this mask",
                     std::to_string(count) + " integers",
                     std::string(safetensors_name(t->dtype)) + ps::to_string(t->shape));
  }
  std::vector<std::int32_t> out;
  for (std::int64_t i = 0; i < count; ++i) {
    const double x = value_at(*t, i);
    out.push_back(x >= -1e9 && x <= 1e9 ? static_cast<std::int32_t>(x) : -1);
  }
  return out;
}

Result<BlockLists> read_lists(const Source& source, const Dims& dims, const SourceOptions& o) {
  BlockLists l;
  l.bq = o.bq;
  l.bk = o.bk;
  l.dims = dims;
  l.nq = (dims.Q + o.bq - 1) / o.bq;
  l.nk = (dims.KV + o.bk - 1) / o.bk;
  const std::string& prefix = *source.lists;
  const std::int64_t planes = dims.B * dims.H, tiles = planes * l.nq * l.nk;
  const auto read = [&](BlockList& list, const std::string& name, std::int64_t rows,
                        bool optional) -> Result<void> {
    const std::string num = prefix + name + "num_blocks", indices = prefix + name + "indices";
    PS_TRY(list.num, list_cells(*source.file, num, planes * rows, optional));
    PS_TRY(list.indices, list_cells(*source.file, indices, tiles, list.num.empty()));
    return {};
  };
  PS_TRY_VOID(read(l.partial, "kv_", l.nq, false));
  PS_TRY_VOID(read(l.full, "full_kv_", l.nq, true));
  PS_TRY_VOID(read(l.q_partial, "q_", l.nk, true));
  PS_TRY_VOID(read(l.q_full, "full_q_", l.nk, true));
  if (l.full.num.empty()) {
    l.full.num.resize(static_cast<std::size_t>(planes * l.nq));
    l.full.indices.resize(static_cast<std::size_t>(tiles));
  }
  return l;
}

}  // namespace

Result<Source> open_source(const std::string& word, const std::optional<Dims>& sizes) {
  std::error_code ec;
  Source out;
  out.name = word;
  std::string path = word, part;
  bool is_file = fs::exists(path, ec);
  for (const char mark : {'#', ':'}) {
    if (is_file) break;
    const std::size_t at = word.find(mark, word.find(mark == ':' ? ".safetensors" : ".json") + 1);
    if (at == std::string::npos || !fs::exists(word.substr(0, at), ec)) continue;
    path = word.substr(0, at);
    part = word.substr(at + 1);
    is_file = true;
  }
  if (!is_file) {
    const bool like_a_path = word.find('/') != std::string::npos || word.ends_with(".json") ||
                             word.find(".safetensors") != std::string::npos ||
                             word.ends_with(".mask");
    if (like_a_path)
      return bad_input(word, "no such file", "a mask program, a tensor, or an expression");
    if (auto form = program_of_form(word, sizes)) {
      if (!form->ok()) return form->error();
      out.program = std::move(*form).value();
      out.guessed = !sizes;
      return out;
    }
    PS_TRY(Program p, parse_text(word, "expression", sizes));
    out.program = std::move(p);
    return out;
  }
  if (fs::is_directory(path, ec)) path = (fs::path(path) / "case.json").string();
  if (path.ends_with(".safetensors") || path.ends_with(kPackedEnding))
    return open_tensors(path, part, sizes);
  PS_TRY(const std::string text, read_text(path, std::int64_t{1} << 30));
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (path.ends_with(".json") || (first != std::string::npos && text[first] == '{')) {
    PS_TRY(const Json json, parse_json(text, path, {128, 1 << 26}));
    PS_TRY(Program p, program_of_json(json, path, part));
    out.program = std::move(p);
  } else {
    PS_TRY(Program p, parse_text(text, path, sizes));
    out.program = std::move(p);
  }
  return out;
}

Result<Reading> read_source(const Source& source, const Expected* expected,
                            const std::optional<Dims>& sizes, const SourceOptions& options) {
  std::optional<Dims> dims = sizes;
  if (expected != nullptr) dims = expected->mask().dims();
  if (source.program) {
    if (dims && !(source.program->dims == *dims)) {
      return bad_input(source.name, "the masks have different sizes [B,H,Q,KV]", to_string(*dims),
                       to_string(source.program->dims));
    }
    Reading out;
    PS_TRY(out.mask, evaluate(*source.program));
    return out;
  }
  if (source.runs) {
    Reading out;
    PS_TRY(out.mask, mask_of_row_runs(*source.file, *source.runs, dims));
    return out;
  }
  if (source.lists) {
    if (expected == nullptr) {
      return bad_input(source.name, "block lists alone are no mask",
                       "the program of their partial tiles");
    }
    PS_TRY(const BlockLists lists, read_lists(source, *dims, options));
    Reading out;
    out.findings = check_block_lists(lists, expected->mask(), options.rule);
    out.mask = applied(lists, expected->mask());
    return out;
  }
  Result<Reading> read =
      read_tensor(*source.tensor, dims, expected == nullptr ? nullptr : &expected->mask(), options);
  if (read.ok()) return read;
  Error error = read.error();
  error.where = source.name;
  return error;
}

Result<Expected> expected_from(const Source& source, const std::optional<Dims>& sizes,
                               const SourceOptions& options) {
  if (source.program) return Expected::of(*source.program);
  PS_TRY(const Reading reading, read_source(source, nullptr, sizes, options));
  const Dims& d = reading.mask.dims();
  constexpr std::int64_t kMostCells = std::int64_t{1} << 24;
  if (d.B * d.H * d.Q * d.KV > kMostCells) {
    return bad_input(source.name, "too large to stand as the expected mask", "a mask program");
  }
  Program p;
  p.dims = d;
  const Tensor cells = to_bool(reading.mask, false);
  Array a{"cells", {d.B, d.H, d.Q, d.KV}, {}};
  for (const std::byte c : cells.view().bytes) a.data.push_back(c == std::byte{0} ? 0 : 1);
  p.arrays.push_back(std::move(a));
  p.expr = {Op::kDense, "", {}, {0}, {}, {}, -1, {}};
  return Expected::of(std::move(p));
}

}  // namespace ps::mask
