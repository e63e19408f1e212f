"""How the report looks, on a screen and on paper. One style sheet, kept apart so that the page reads as text."""

STYLE = """
:root { --ink: #1f2933; --muted: #5b6673; --line: #dde2e8; --soft: #f5f7f9; }
:root { --good: #00664c; --bad: #a33b00; --none: #3d4752; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: white; }
body { font: 16px/1.55 Arial, Helvetica, "Liberation Sans", sans-serif; }
main { max-width: 860px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 28px; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 20px; margin: 44px 0 8px; padding-top: 12px; border-top: 1px solid var(--line); }
p { margin: 8px 0 12px; max-width: 72ch; }
ul, ol { padding-left: 22px; max-width: 72ch; }
li { margin: 5px 0; }
nav { font-size: 14px; margin: 20px 0 0; color: var(--muted); }
nav a { color: inherit; margin-right: 14px; white-space: nowrap; }
.under, .small { color: var(--muted); font-size: 14px; }
.banner { margin: 20px 0; padding: 16px 20px; border-radius: 6px; color: white; font-size: 17px; font-weight: bold; }
.banner p { margin: 6px 0 0; font-size: 15px; font-weight: normal; max-width: none; }
.certified { background: var(--good); }
.not-certified { background: var(--bad); }
.infeasible { background: var(--none); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin: 12px 0 20px; }
table { font-size: 15px; font-variant-numeric: tabular-nums; }
th { font-weight: bold; font-size: 13px; color: var(--muted); }
th { border-bottom: 2px solid var(--line); vertical-align: bottom; }
th, td { text-align: right; padding: 7px 10px; }
td { border-bottom: 1px solid var(--line); vertical-align: top; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; padding-left: 0; min-width: 8em; }
td small { display: block; color: var(--muted); font-size: 13px; line-height: 1.35; }
td.yes { color: var(--good); font-weight: bold; }
td.no { color: var(--bad); font-weight: bold; }
table.record td { text-align: left; white-space: normal; overflow-wrap: anywhere; font-size: 14px; }
pre { margin: 0; padding: 10px 12px; background: var(--soft); }
pre { font-size: 13px; line-height: 1.4; white-space: pre-wrap; }
figure { margin: 16px 0; }
figure svg { max-width: 100%; height: auto; display: block; overflow: visible; }
aside { margin: 12px 0; padding: 10px 14px; border-left: 4px solid #e69f00; background: #fdf6e7; font-size: 14px; }
#frontier-interactive { overflow-x: auto; }
#frontier-interactive[hidden] { display: none; }
.vega-embed summary { top: 4px !important; }
@media screen { .interactive #frontier-static { display: none; } }
@media (max-width: 600px) { main { padding: 20px 14px 40px; } h1 { font-size: 23px; } }
@media print {
  @page { size: A4; margin: 16mm 14mm; }
  body { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  nav, #frontier-interactive, #frontier-hint { display: none !important; }
  h2 { margin-top: 22px; break-after: avoid; }
  figure, tr, aside, .banner, li { break-inside: avoid; }
  figure svg { max-height: 225mm; }
  table { font-size: 9.5pt; }
  td small { font-size: 8.5pt; }
  .banner { color: black; background: white; border: 2px solid black; }
}
"""
