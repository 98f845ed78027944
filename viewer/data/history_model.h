// One token's way through a layer, and one pair of a query and a key on it: what each point holds
// there on both sides, in the order of the model. The first that differs is where to look.
#pragma once

#include <memory>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "viewer/app/session.h"
#include "viewer/data/plane.h"

namespace ps::viewer {

// Who is followed. Axes that a point has beside these are searched for their worst cell.
struct HistoryPlace {
  std::int64_t run = 0, step = 0, rank = 0, layer = 0;
  std::int64_t replica = 0, batch = 0, head = 0, kv_head = 0;
  std::int64_t token = 0;       // the query's place among this step's tokens
  std::int64_t slot = 0;        // the key's among all slots
  std::int64_t key_token = -1;  // its place among this step's tokens; -1: it came before them
  std::string words() const;
  bool operator==(const HistoryPlace&) const = default;
};
HistoryPlace history_place(const Session& session, const Selection& selection);

struct HistoryRow {
  std::string point;
  std::string where;  // the cell that is told: the worst of those that belong to the place
  std::vector<std::pair<std::string, std::int64_t>> cell;
  bool of_key = false;  // it is about the key's token, not the query's
  bool has_actual = false, has_expected = false;
  CellValues values;
  std::int64_t cells = 0, wrong = 0;  // of the slice, and those over the bound
  bool differs() const { return wrong > 0; }
};

struct HistoryModel {
  std::vector<HistoryRow> rows;
  std::ptrdiff_t first = -1;  // row that differs first
};

// `session` is read only for what is told of axes; a copy of it may be used by a job.
std::shared_ptr<const HistoryModel> made_history(const Session& session, const HistoryPlace& place,
                                                 double tolerance, const std::stop_token& stop);

}  // namespace ps::viewer
