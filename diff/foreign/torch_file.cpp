#include "diff/foreign/torch_file.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "diff/foreign/pickle.h"
#include "diff/foreign/zip.h"

namespace ps {

namespace {

using Kind = PickleValue::Kind;
constexpr int kDeepest = 64;
constexpr std::size_t kLongestPath = 4096;
constexpr std::size_t kMostTensors = 1 << 20;

class Reader {
 public:
  Reader(const std::vector<ZipMember>& members, std::string root,
         const std::shared_ptr<const void>& keep, const std::string& where)
      : root_(std::move(root)), keep_(keep), where_(where) {
    for (const ZipMember& m : members) {
      members_[m.name] = &m;
      copies_left_ += 4 * m.packed.size();
    }
  }

  Result<TorchFile> read(const std::string& stem) {
    PS_TRY(const std::string order, text("byteorder", "little"));
    if (order != "little") return bad_input(where_, "is of a big-endian machine", "little", order);
    const auto found = members_.find(root_ + "data.pkl");
    PS_TRY(const FileBytes data, zip_data(*found->second, keep_, where_, Crc::kIgnored));
    PS_TRY(pickle_, parse_pickle(data.bytes, where_));
    PS_TRY_VOID(walk(pickle_.root, "", stem, 0));
    return std::move(out_);
  }

 private:
  Result<std::string> text(const std::string& name, const std::string& otherwise) {
    const auto found = members_.find(root_ + name);
    if (found == members_.end()) return otherwise;
    PS_TRY(const FileBytes data, zip_data(*found->second, keep_, where_, Crc::kIgnored));
    return std::string(reinterpret_cast<const char*>(data.bytes.data()), data.bytes.size());
  }

  Result<void> walk(ValueId id, const std::string& path, const std::string& stem, int depth) {
    // A list that holds itself, or the same list many times over, would be walked for ever.
    if (++visited_ > kMostTensors * 4) return bad_input(where_, "holds too many values");
    if (path.size() > kLongestPath) return bad_input(where_, "has a key that is too long");
    if (depth > kDeepest)
      return bad_input(where_, "is nested too deeply", "at most 64 levels", path);
    const PickleValue& value = pickle_[id];
    if (value.kind == Kind::kTensor) return add(value, path.empty() ? stem : path);
    const auto below = [&](const std::string& key) {
      return path.empty() ? key : path + "." + key;
    };
    if (value.kind == Kind::kDict) {
      for (std::size_t i = 0; i + 1 < value.items.size(); i += 2) {
        const PickleValue& key = pickle_[value.items[i]];
        if (key.kind != Kind::kString && key.kind != Kind::kInteger) {
          return bad_input(where_, "has a dict with a key that is no string or number", "", path);
        }
        const std::string name = key.kind == Kind::kString ? key.text : std::to_string(key.integer);
        PS_TRY_VOID(walk(value.items[i + 1], below(name), stem, depth + 1));
      }
      return {};
    }
    if (value.kind == Kind::kList || value.kind == Kind::kTuple) {
      for (std::size_t i = 0; i < value.items.size(); ++i) {
        PS_TRY_VOID(walk(value.items[i], below(std::to_string(i)), stem, depth + 1));
      }
      return {};
    }
    if (value.kind != Kind::kNone && out_.skipped++ == 0) {
      out_.first_skipped = path.empty() ? stem : path;
    }
    return {};
  }

  Result<void> add(const PickleValue& t, const std::string& name) {
    if (out_.tensors.size() >= kMostTensors) return bad_input(where_, "holds too many tensors");
    const std::string here = where_ + ": " + name;
    const PickleValue& storage = pickle_[t.items[0]];
    const auto found = members_.find(root_ + "data/" + storage.text);
    if (found == members_.end())
      return bad_input(here, "has no data in the file", "", storage.text);
    FileBytes& data = data_[storage.text];
    if (data.bytes.empty()) {
      PS_TRY(data, zip_data(*found->second, keep_, here, Crc::kIgnored));
    }
    const auto size = static_cast<std::uint64_t>(size_of(t.dtype));
    const std::uint64_t cells = data.bytes.size() / size;
    // An expanded tensor (stride 0) may be larger than its data, but not without bound.
    const std::uint64_t room = std::max<std::uint64_t>(data.bytes.size(), copies_left_);
    PS_TRY(const std::int64_t count, checked_count(t.shape, t.dtype, room, here));
    const auto outside = [&] {
      return bad_input(here, "reaches beyond its data", std::to_string(cells) + " elements",
                       to_string(t.shape) + " with strides " + to_string(t.strides) + " from " +
                           std::to_string(t.integer));
    };
    if (t.integer < 0 || static_cast<std::uint64_t>(t.integer) > cells) return outside();
    if (count > 0) {
      std::uint64_t last = static_cast<std::uint64_t>(t.integer);
      for (std::size_t axis = 0; axis < t.shape.size(); ++axis) {
        const auto steps = static_cast<std::uint64_t>(t.shape[axis] - 1);
        if (steps == 0) continue;
        if (t.strides[axis] < 0) return outside();
        const auto stride = static_cast<std::uint64_t>(t.strides[axis]);
        if (stride > cells / steps) return outside();
        last += steps * stride;
      }
      if (last >= cells) return outside();
    }
    return gather(t, name, data, size, count);
  }

  Result<void> gather(const PickleValue& t, const std::string& name, const FileBytes& data,
                      std::uint64_t size, std::int64_t count) {
    std::int64_t step = 1;
    bool contiguous = true;
    for (std::size_t axis = t.shape.size(); axis-- > 0;) {
      contiguous = contiguous && (t.shape[axis] == 1 || t.strides[axis] == step);
      step *= t.shape[axis];
    }
    const std::size_t first = static_cast<std::size_t>(t.integer) * size;
    const auto address = reinterpret_cast<std::uintptr_t>(data.bytes.data());
    if (!contiguous || address % size != 0) {
      const auto bytes = static_cast<std::uint64_t>(count) * size;
      if (bytes > copies_left_) {
        return bad_input(where_ + ": " + name, "would be far larger than the file that holds it");
      }
      copies_left_ -= bytes;
    }
    if (contiguous || count == 0) {
      const auto bytes = data.bytes.subspan(first, static_cast<std::size_t>(count) * size);
      out_.tensors.push_back(tensor_in(name, t.dtype, t.shape, bytes, data.keep));
      return {};
    }
    Tensor copy(t.dtype, t.shape);
    std::vector<std::int64_t> at(t.shape.size(), 0);
    std::int64_t from = t.integer;
    std::byte* to = copy.bytes().data();
    for (std::int64_t cell = 0; cell < count; ++cell, to += size) {
      std::memcpy(to, data.bytes.data() + static_cast<std::size_t>(from) * size, size);
      for (std::size_t axis = t.shape.size(); axis-- > 0;) {
        from += t.strides[axis];
        if (++at[axis] < t.shape[axis]) break;
        from -= t.strides[axis] * t.shape[axis];
        at[axis] = 0;
      }
    }
    out_.tensors.push_back(owned_tensor(name, std::move(copy)));
    return {};
  }

  std::map<std::string, const ZipMember*> members_;
  std::map<std::string, FileBytes> data_;
  std::string root_;
  const std::shared_ptr<const void>& keep_;
  const std::string& where_;
  Pickle pickle_;
  TorchFile out_;
  std::size_t visited_ = 0;
  std::uint64_t copies_left_ = 64 << 20;  // bytes of tensors that do not lie as they should
};

}  // namespace

Result<TorchFile> parse_torch_file(std::span<const std::byte> bytes,
                                   const std::shared_ptr<const void>& keep, const std::string& stem,
                                   const std::string& where) {
  if (!looks_like_zip(bytes)) {
    return bad_input(where, "is no file of torch.save's zip format",
                     "torch.save(x, path) of torch 1.6 or newer");
  }
  PS_TRY(const std::vector<ZipMember> members, zip_members(bytes, where));
  for (const ZipMember& m : members) {
    constexpr std::string_view kData = "data.pkl";
    if (!m.name.ends_with(kData)) continue;
    const std::string root = m.name.substr(0, m.name.size() - kData.size());
    if (root.empty() || root.find('/') != root.size() - 1) continue;
    return Reader(members, root, keep, where).read(stem);
  }
  for (const ZipMember& m : members) {
    if (m.name.ends_with("constants.pkl")) {
      return bad_input(where, "is a TorchScript program", "tensors, saved with torch.save");
    }
  }
  return bad_input(where, "is a zip archive without data.pkl", "a file of torch.save");
}

}  // namespace ps
