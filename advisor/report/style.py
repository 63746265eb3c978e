"""The style sheet of the report: light and dark by the reader's own setting, one column that fits a phone.

The page's content security policy allows this sheet by its hash and nothing else.
"""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #fbfaf8; --card: #ffffff; --ink: #1d2330; --quiet: #626b7a; --line: #e3e1dc; --soft: #f1efea;
  --pick: #0b7a53; --pick-soft: #dff2e9; --frontier: #2b5fb8; --tie: #8a6100; --bad: #b3362b; --bad-soft: #f8e4e1;
  --other: #8b93a1; --k0: #44608f; --k1: #0b7a53; --k2: #c2751a; --k3: #8a55a8; --k4: #4a9cc0; --k5: #c65b78;
  --k6: #9a9fa9; --k7: #6b7280;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171d; --card: #1b1f27; --ink: #e8e9ec; --quiet: #9aa3b2; --line: #2d333e; --soft: #232832;
    --pick: #4cc794; --pick-soft: #173528; --frontier: #7fa8f0; --tie: #d9ab4e; --bad: #ef8176; --bad-soft: #3a2220;
    --other: #7b8494; --k0: #7d97c7; --k1: #4cc794; --k2: #e0a05a; --k3: #b98ad6; --k4: #6fbadb; --k5: #e58aa3;
    --k6: #7b8494; --k7: #596070;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 940px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 34px; line-height: 1.15; letter-spacing: -0.02em; margin: 4px 0 8px; }
h1 small { font-size: 20px; font-weight: 500; color: var(--quiet); letter-spacing: 0; white-space: nowrap; }
h2 { font-size: 21px; letter-spacing: -0.01em; margin: 52px 0 6px; }
h3 { font-size: 16px; margin: 22px 0 4px; }
p { margin: 6px 0 12px; max-width: 72ch; overflow-wrap: anywhere; }
.kicker { color: var(--pick); font-weight: 650; font-size: 14px; letter-spacing: 0.02em; margin: 0; }
.kicker.none { color: var(--bad); }
.quiet { color: var(--quiet); }
.lead { font-size: 18px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 24px 0 8px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; min-width: 0; }
.card dt { color: var(--quiet); font-size: 13px; }
.card dd { margin: 2px 0 0; font-size: 24px; font-weight: 650; letter-spacing: -0.02em; line-height: 1.2;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.card p { margin: 6px 0 0; font-size: 13px; color: var(--quiet); line-height: 1.4; }
.notes { padding: 0; margin: 16px 0 0; list-style: none; }
.notes li { border-left: 3px solid var(--tie); padding: 2px 0 2px 12px; margin: 6px 0; font-size: 15px; }
figure { margin: 12px 0 0; background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 14px 14px 8px; }
figcaption, .legend { color: var(--quiet); font-size: 13.5px; margin: 8px 4px 4px; max-width: 80ch; }
.chart { width: 100%; height: auto; display: block; }
.chart.narrow { display: none; }
.chart text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; fill: var(--ink); }
.chart .label { paint-order: stroke; stroke: var(--card); stroke-width: 3px; stroke-linejoin: round; }
.chart .tick { fill: var(--quiet); font-variant-numeric: tabular-nums; }
.chart .title { fill: var(--quiet); }
.grid { stroke: var(--line); stroke-width: 1; }
.axis { stroke: var(--quiet); stroke-width: 1; }
.beyond { fill: var(--bad-soft); opacity: 0.55; }
.limit { stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 5 4; }
.baseline { stroke: var(--quiet); stroke-width: 1; stroke-dasharray: 2 4; }
.rung { stroke: var(--line); stroke-width: 1.5; stroke-dasharray: 3 4; }
.frontier-line { fill: none; stroke: var(--frontier); stroke-width: 1.5; opacity: 0.45; }
.chart .limit-text { fill: var(--bad); }
.chart .label.quiet { fill: var(--quiet); }
.is-other, .is-behind, .is-reference, .is-does-not-fit, .is-excluded { --tone: var(--other); }
.is-does-not-fit, .is-excluded { --tone: var(--bad); }
.is-tie { --tone: var(--tie); }
.is-frontier { --tone: var(--frontier); }
.is-pick { --tone: var(--pick); }
.chart .label.is-other, .chart .label.is-behind, .chart .label.is-reference { fill: var(--quiet); }
.chart .label.is-tie, .chart .label.is-frontier, .chart .label.is-does-not-fit,
.chart .label.is-excluded { fill: var(--tone); }
.chart .label.is-pick { fill: var(--pick); font-weight: 700; }
.point .marker, .line .marker { fill: var(--tone); stroke: var(--card); stroke-width: 1.5; }
.point.is-reference .marker, .point.is-does-not-fit .marker,
.point.is-excluded .marker { fill: var(--card); stroke: var(--tone); }
.interval { stroke: var(--tone); stroke-width: 1.5; opacity: 0.5; }
.curve { fill: none; stroke: var(--tone); stroke-width: 1.5; opacity: 0.6; stroke-linejoin: round; }
.line.is-pick .curve { stroke-width: 3; opacity: 1; }
.line.is-frontier .curve, .line.is-tie .curve { stroke-width: 2; opacity: 0.9; }
.leader { stroke: var(--line); stroke-width: 1; }
.kind0 { fill: var(--k0); background: var(--k0); } .kind1 { fill: var(--k1); background: var(--k1); }
.kind2 { fill: var(--k2); background: var(--k2); } .kind3 { fill: var(--k3); background: var(--k3); }
.kind4 { fill: var(--k4); background: var(--k4); } .kind5 { fill: var(--k5); background: var(--k5); }
.kind6 { fill: var(--k6); background: var(--k6); } .kind7 { fill: var(--k7); background: var(--k7); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; }
.legend span { background: none; white-space: nowrap; }
.legend .key { border-left: 12px solid; padding-left: 6px; line-height: 1.1; }
.legend .key.kind0 { border-color: var(--k0); } .legend .key.kind1 { border-color: var(--k1); }
.legend .key.kind2 { border-color: var(--k2); } .legend .key.kind3 { border-color: var(--k3); }
.legend .key.kind4 { border-color: var(--k4); } .legend .key.kind5 { border-color: var(--k5); }
.legend .key.kind6 { border-color: var(--k6); }
.scroll { overflow-x: auto; margin: 12px 0; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--quiet); border-bottom: 1px solid var(--quiet);
  padding: 6px 12px 6px 0; vertical-align: bottom; }
td { border-bottom: 1px solid var(--line); padding: 7px 12px 7px 0; vertical-align: top; }
td.number, th.number { text-align: right; } td.number { white-space: nowrap; }
td.why { color: var(--quiet); min-width: 13em; overflow-wrap: anywhere; }
td.name { font-weight: 600; white-space: nowrap; } td.name .badge { display: block; }
tr.is-pick td { background: var(--pick-soft); }
tr.is-pick td:first-child { box-shadow: inset 3px 0 var(--pick); padding-left: 10px; }
td:first-child, th:first-child { padding-left: 10px; }
tr.is-reference td, tr.is-behind td { color: var(--quiet); }
.badge { color: var(--tone); font-weight: 600; font-size: 13px; white-space: nowrap; }
ul.reasons { margin: 6px 0; padding-left: 20px; } ul.reasons li { margin: 5px 0; max-width: 78ch; }
ul.left { margin: 2px 0 10px; padding-left: 20px; overflow-wrap: anywhere; }
ul.left b { font-weight: 600; } ul.left li { margin: 3px 0; }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; overflow-x: auto;
  font: 13.5px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; margin: 6px 0 14px; }
details { margin: 10px 0; } summary { cursor: pointer; color: var(--frontier); font-size: 15px; }
dl.facts { display: grid; grid-template-columns: max-content 1fr; gap: 4px 18px; font-size: 14px; margin: 8px 0; }
dl.facts dt { color: var(--quiet); } dl.facts dd { margin: 0; overflow-wrap: anywhere; }
footer { margin-top: 56px; border-top: 1px solid var(--line); padding-top: 14px; color: var(--quiet);
  font-size: 13.5px; }
@media (max-width: 760px) { .cards { grid-template-columns: repeat(2, 1fr); } }
@media (max-width: 600px) {
  main { padding: 24px 14px 48px; } h1 { font-size: 27px; }
  h1 small { display: block; font-size: 17px; margin-top: 4px; }
  .card dd { font-size: 20px; } .chart.wide { display: none; } .chart.narrow { display: block; }
  figure { padding: 8px 4px 4px; } dl.facts { grid-template-columns: 1fr; } dl.facts dd { margin-bottom: 6px; }
}
@media print { main { max-width: none; padding: 0; } figure, .card, pre { break-inside: avoid; } }
"""
