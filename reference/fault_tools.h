// What several faults do: other rotary tables, another rotation, another mask, another linear map.
#pragma once

#include "reference/fault.h"

namespace ps::reference {

using Parameters = std::vector<std::pair<std::string, std::string>>;
using OnTensor = std::function<at::Tensor(const at::Tensor&)>;

// Rotary tables made wrong; what is not set is as it should be.
struct RopeChange {
  std::function<at::Tensor(const StepContext&)> positions;    // [1 or R,S]
  std::function<at::Tensor(const StepContext&)> frequencies;  // [D/2]
  OnTensor round_positions, round_frequencies, round_angles, round_table;
  std::optional<double> scale;  // of cos and sin
};
// At the tables where they were not captured or are the wrong point, else where q and k are
// rotated. `either`: also for q alone and for k alone.
void propose_tables(Scene& scene, Proposals& out, const RopeChange& change,
                    const std::string& variant, const Parameters& parameters, int freedom = 0,
                    bool either = false);
Edit tables_edit(Scene& scene,
                 const RopeChange& change);  // everywhere; empty where nothing reads it

// heads [R,n,S,D], cos and sin [1 or R,1,S,D].
using Rotation = std::function<at::Tensor(const at::Tensor& heads, const at::Tensor& cos,
                                          const at::Tensor& sin)>;
enum class Which : std::uint8_t { kBoth, kEach, kKeys, kQueries };  // kEach: both, then each alone
void propose_rotation(Scene& scene, Proposals& out, const Rotation& rotation, Which which,
                      const std::string& variant = "", const Parameters& parameters = {});

// What a mask is made of. L = past + S real columns.
struct MaskParts {
  const StepContext* context = nullptr;
  std::int64_t window = 0;    // of this layer; 0 = none
  at::Tensor query;           // [S,1]: column index of each query
  at::Tensor key;             // [1,L]
  at::Tensor real;            // [B,1,L] not padding
  at::Tensor causal() const;  // [S,L], within the window where there is one
};
// [R,1 or H,S,columns], true = may attend.
using MakeMask = std::function<at::Tensor(const MaskParts&)>;
// From real columns [B or 1,S,L] to all columns: the prefix is always seen.
at::Tensor with_prefix(const MaskParts& parts, const at::Tensor& real_columns);
void propose_mask(Scene& scene, Proposals& out, const MakeMask& make,
                  const std::string& variant = "", const Parameters& parameters = {});
Edit mask_edit(Scene& scene, const MakeMask& make);  // in every layer of the chain
// Another softmax: of the scores [R,H,S,C] and the mask [R,1,S,C].
using Softmax =
    std::function<at::Tensor(const StepContext&, const at::Tensor& scores, const at::Tensor& mask)>;
void propose_softmax(Scene& scene, Proposals& out, const Softmax& softmax,
                     const std::string& variant = "", const Parameters& parameters = {},
                     int freedom = 0);
Edit softmax_edit(Scene& scene, const Softmax& softmax);

// Another key/value head for each query head, in scores, in the context, or both.
void propose_head_map(Scene& scene, Proposals& out, const std::vector<std::int64_t>& kv_of_head,
                      const std::string& variant = "", const Parameters& parameters = {});

// A linear op done wrong: from x, W and the bias (undefined where there is none).
using BadLinear =
    std::function<at::Tensor(const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias)>;
Edit linear_edit(std::vector<Point> points, BadLinear bad);
void propose_linear(Scene& scene, Proposals& out, const std::vector<Point>& points,
                    const BadLinear& bad, const std::string& variant = "",
                    const Parameters& parameters = {}, int freedom = 0);
// Linear ops whose names end with one of these, in the chain.
std::vector<Point> linears(const Scene& scene, std::initializer_list<std::string_view> suffixes);
// Those whose input is split over the ranks, so that their results are summed.
std::vector<Point> row_parallel(const Scene& scene);
// All at once, each layer alone, each module ("o_proj") alone.
std::vector<Scope> module_groups(const std::vector<Point>& points);
// Applies to each scope of the points.
void propose_wrap(Scene& scene, Proposals& out, const std::vector<Point>& points, const BadRun& bad,
                  const std::string& variant = "", const Parameters& parameters = {},
                  int freedom = 0, bool signature = false);

// Rounded to this type and back.
at::Tensor through(const at::Tensor& x, at::ScalarType type);
std::string module_words(const Point& point);  // "k_proj"

}  // namespace ps::reference
