// Programs as run lists: leaves describe themselves (run_leaf.h), combinators are set algebra,
// shift moves the origin, and remap cuts both axes into stretches that count up or stand still and
// evaluates its argument on each.
#include <algorithm>

#include "diff/mask/evaluate.h"
#include "diff/mask/mask.h"
#include "diff/mask/run_leaf.h"

namespace ps::mask {

namespace {

// A part of an axis on which a map counts up by one, or stands still.
struct Stretch {
  std::int64_t begin, end;
  std::int64_t offset;  // position = index + offset; of `begin` alone where it stands still
  bool still = false;
  std::int64_t evaluated_end() const { return still ? begin + 1 : end; }
};

bool reads_storage(const Program& p, const Node& n) {
  if (n.op == Op::kDense) return true;
  if (n.op == Op::kRef) return reads_storage(p, resolved(p, n));
  return std::any_of(n.args.begin(), n.args.end(),
                     [&](const Node& a) { return reads_storage(p, a); });
}

class RunMaker {
 public:
  RunMaker(const Program& program, RunIndex& index, std::int64_t& budget)
      : p_(program), leaves_(program, index, budget), budget_(budget) {}

  Bands plane(const Node& node, std::int64_t b, std::int64_t h) {
    b_ = b;
    leaves_.enter(b, h);
    return of(node, {0, p_.dims.Q, 0, p_.dims.KV, p_.q_offset_of(b), p_.kv_offset});
  }

 private:
  Bands of(const Node& n, const Window& w) {
    const auto full = [&] { return filled(w.r0, w.r1, w.c0, w.c1); };
    if (budget_ < 0) return filled(w.r0, w.r1, 0, 0);  // the caller reports it
    switch (n.op) {
      case Op::kAnd: {
        Bands out = full();
        for (const Node& arg : n.args) {
          if (out.empty()) break;
          out = combine(out, of(arg, w), SetOp::kAnd);
        }
        return out;
      }
      case Op::kOr: {
        std::vector<Bands> parts;
        for (const Node& arg : n.args) parts.push_back(of(arg, w));
        return unite(std::move(parts), w.r0, w.r1);
      }
      case Op::kXor:
        return combine(of(n.args[0], w), of(n.args[1], w), SetOp::kXor);
      case Op::kNot:
        return complement(of(n.args[0], w), w.c0, w.c1);
      case Op::kIf: {
        const Bands cond = of(n.args[0], w);
        return combine(combine(of(n.args[1], w), cond, SetOp::kAnd),
                       combine(of(n.args[2], w), cond, SetOp::kMinus), SetOp::kOr);
      }
      case Op::kShift: {
        Window moved = w;
        moved.oq += n.scalars[0].value;
        moved.ok += n.scalars[1].value;
        return of(n.args[0], moved);
      }
      case Op::kRemap:
        return remap(n, w);
      case Op::kRef:
        return of(resolved(p_, n), w);
      default:
        return leaves_.of(n, w);
    }
  }

  std::vector<Stretch> stretches(int array, std::int64_t begin, std::int64_t end,
                                 std::int64_t offset, bool may_stand) const {
    if (array < 0) return {{begin, end, offset, false}};
    const auto map = row_of(array_of(p_, array), b_);
    const auto to = [&](std::int64_t i) { return map[static_cast<std::size_t>(i + offset)]; };
    begin = std::max(begin, -offset);
    end = std::min(end, static_cast<std::int64_t>(map.size()) - offset);
    std::vector<Stretch> out;
    for (std::int64_t i = begin; i < end;) {
      std::int64_t next = i + 1;
      while (next < end && to(next) == to(i) + (next - i)) ++next;
      Stretch s{i, next, to(i) - i, false};
      if (next == i + 1 && may_stand) {
        while (next < end && to(next) == to(i)) ++next;
        s.still = next > i + 1;
        s.end = next;
      }
      out.push_back(s);
      i = next;
    }
    return out;
  }

  Bands remap(const Node& n, const Window& w) {
    const bool may_stand = !reads_storage(p_, n.args[0]);
    const auto rows = stretches(n.arrays[0], w.r0, w.r1, w.oq, may_stand);
    const auto columns = stretches(n.arrays[1], w.c0, w.c1, w.ok, may_stand);
    Bands out(w.r0);
    for (const Stretch& r : rows) {
      out.append(r.begin, {});
      std::vector<Bands> parts;
      for (const Stretch& c : columns) {
        Bands part = of(n.args[0], {r.begin, r.evaluated_end(), c.begin, c.evaluated_end(),
                                    r.offset, c.offset});
        if (!part.empty()) parts.push_back(widened(part, r, c));
        if (--budget_ < 0) break;
      }
      out.append(unite(std::move(parts), r.begin, r.end));
      if (budget_ < 0) break;
    }
    out.append(w.r1, {});
    return out;
  }

  // A part that was evaluated for the first row or column of a stretch that stands still holds for
  // all of it.
  static Bands widened(const Bands& part, const Stretch& r, const Stretch& c) {
    if (!r.still && !c.still) return part;
    Bands out(r.begin);
    std::vector<Run> runs;
    for (std::size_t i = 0; i < part.size(); ++i) {
      const Bands::Band band = part[i];
      runs.assign(band.runs.begin(), band.runs.end());
      for (Run& run : runs) {
        if (c.still) run = {Edge(c.begin, 0), Edge(c.end, 0)};
        if (r.still) run = {Edge(run.lo.at(r.begin), 0), Edge(run.hi.at(r.begin), 0)};
      }
      out.append(r.still ? r.end : band.end, runs);
    }
    return out;
  }

  const Program& p_;
  LeafRuns leaves_;
  std::int64_t& budget_;
  std::int64_t b_ = 0;
};

}  // namespace

Result<Mask> evaluate(const Program& program, const Node& node) {
  constexpr std::int64_t kMostRuns = std::int64_t{1} << 26;
  std::int64_t budget = kMostRuns;
  RunIndex index(program);
  RunMaker maker(program, index, budget);
  const Varies v = varies(program, node);
  Mask out(program.dims);
  for (std::int64_t b = 0; b < program.dims.B; ++b) {
    for (std::int64_t h = 0; h < program.dims.H; ++h) {
      if ((b > 0 && !v.b) || (h > 0 && !v.h)) {
        out.set(b, h, out.shared(v.b ? b : 0, v.h ? h : 0));
        continue;
      }
      out.set(b, h, std::make_shared<const Bands>(maker.plane(node, b, h)));
      if (budget < 0) {
        return bad_input("mask " + to_string(program.dims),
                         "too irregular for run lists; look at a part of it",
                         "at most " + std::to_string(kMostRuns) + " runs");
      }
    }
  }
  return out;
}

}  // namespace ps::mask
