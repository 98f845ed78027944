// Words for people: shared by the terminal, report.md and report.html.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "diff/report/report.h"

namespace ps {

std::string plural(std::size_t n, const std::string& word);  // "1 error", "2 errors"
std::size_t count_of(const Report& report, Severity severity);

// "2 errors", "nothing wrong found", "these runs cannot be compared", "diverged"; with warnings.
std::string headline(const Report& report);
// "57 points of layers 1-3 (the sample every=4)".
std::string not_judged_text(const NotJudged& n);

// The finding that explains the first divergence; null when there is none.
const Finding* cause_of(const Report& report);

// "replaying this fault explains the candidate down to rounding"
std::string_view meaning_of(Confidence confidence);

std::string place_text(const Finding& finding);        // "model.norm  batch=0  (step 1, rank 2)"
std::string place_text(const FirstDivergence& place);  // the same; step and rank always
std::string evidence_text(const Finding& finding);     // "max_abs = 0.5, shape = [2,3]"
// "310 points compared: 300 ok, 2 diverged, 8 propagated"
std::string points_summary(const Report& report);
std::vector<std::string> baseline_lines(const BaselineUse& use, std::size_t most_gone);
std::string more_text(std::size_t n);  // "... and 5 more (--json shows all)"

// Without control characters: nothing that a file says can move the cursor or change colours. Bytes
// that are no UTF-8 become '?'.
std::string plain(std::string_view words);
std::size_t columns_of(std::string_view words);  // code points
// Lines of at most `width` columns, broken at blanks where there are any; line breaks are kept.
std::vector<std::string> wrapped(std::string_view words, std::size_t width);
// With "..." at the end or, for names, in the middle, when longer.
std::string shortened(const std::string& name, std::size_t width);

}  // namespace ps
