// report.html's style sheet: light and dark by the reader's choice, and for paper.
#pragma once

#include <string_view>

namespace ps {

inline constexpr std::string_view kReportCss = R"css(
:root { color-scheme: light dark; --page:#fff; --ink:#1c2128; --faint:#5d6670; --line:#d8dde2;
  --card:#f6f8fa; --bad:#a8320a; --warn:#7a5200; --good:#0b5f8a; --badbg:#fdeee6; --goodbg:#e8f2f9; }
@media (prefers-color-scheme: dark) { :root { --page:#14181d; --ink:#e6e9ed; --faint:#98a1ab;
  --line:#333b44; --card:#1b2128; --bad:#ff9e5e; --warn:#f2cc60; --good:#7cc0ee; --badbg:#33201a;
  --goodbg:#172632; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.2rem; background: var(--page);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.25rem; margin: 0 0 .8rem; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 2rem 0 .6rem; }
code, .mono { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .87em;
  overflow-wrap: anywhere; }
.verdict { border: 1px solid var(--line); border-left: .4rem solid var(--good); padding: .8rem 1rem;
  background: var(--goodbg); border-radius: .3rem; }
.verdict.bad { border-left-color: var(--bad); background: var(--badbg); }
.verdict > strong { font-size: 1.15rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: .6rem 0 0; }
dt { color: var(--faint); } dd { margin: 0; overflow-wrap: anywhere; }
.finding { border: 1px solid var(--line); border-radius: .3rem; background: var(--card);
  padding: .6rem 1rem; margin: .6rem 0; break-inside: avoid; }
.finding p { margin: .35rem 0; white-space: pre-line; overflow-wrap: anywhere; }
.tag { font-weight: 600; } .error { color: var(--bad); } .warning { color: var(--warn); }
.info { color: var(--good); } .faint { color: var(--faint); }
figure { margin: 1rem 0; overflow-x: auto; break-inside: avoid; }
figure img { border: 1px solid var(--line); border-radius: .3rem; max-width: none; }
figcaption { color: var(--faint); font-size: .9em; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9em; }
th, td { text-align: left; padding: .2rem .6rem; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { position: sticky; top: 0; background: var(--page); } td.n, th.n { text-align: right;
  font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.diverged td, tr.nonfinite td, tr.shape td { background: var(--badbg); }
tr.diverged td:first-child, tr.nonfinite td:first-child, tr.shape td:first-child {
  color: var(--bad); font-weight: 600; }
tr.propagated td, tr.ignored td, tr.unmatched td { color: var(--faint); }
#hide:checked ~ .scroll tr.ok { display: none; }
@media print { body { max-width: none; font-size: 11px; } th { position: static; }
  figure img { max-width: 100%; } .finding, tr { break-inside: avoid; }
  #hide, label { display: none; } }
)css";

}  // namespace ps
