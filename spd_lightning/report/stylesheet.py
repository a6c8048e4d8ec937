"""How the pages look: light and dark, on a phone, on paper."""

from typing import Final

STYLESHEET: Final = """
:root {
  color-scheme: light dark;
  --ground: #ffffff; --card: #f5f6f8; --ink: #1c2127; --faint: #5b6570; --line: #d9dee4;
  --good: #11653a; --good-ground: #dff3e6; --bad: #9a3412; --bad-ground: #fdeadd; --other-ground: #e6eaef;
  --mark: 240 150 30;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14171b; --card: #1d2127; --ink: #e6e9ed; --faint: #9aa5b1; --line: #343b44;
    --good: #7fd6a3; --good-ground: #14351f; --bad: #f7ae84; --bad-ground: #43210f; --other-ground: #2a3038;
    --mark: 205 110 20;
  }
}
.shade-1 { background: rgb(var(--mark) / .1); } .shade-2 { background: rgb(var(--mark) / .18); }
.shade-3 { background: rgb(var(--mark) / .26); } .shade-4 { background: rgb(var(--mark) / .34); }
.shade-5 { background: rgb(var(--mark) / .42); } .shade-6 { background: rgb(var(--mark) / .5); }
.shade-7 { background: rgb(var(--mark) / .58); } .shade-8 { background: rgb(var(--mark) / .66); }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .75rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.25rem 0 .5rem; overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: 1.5rem 0 .4rem; overflow-wrap: anywhere; }
p, ul { margin: .5rem 0; max-width: 48rem; overflow-wrap: anywhere; }
ul { padding-left: 1.25rem; }
.faint, figcaption, .needed td, dt, footer { color: var(--faint); }
.faint, figcaption, dt, footer { font-size: .875rem; }
.verdict { border-radius: .5rem; padding: .75rem 1rem; background: var(--other-ground); }
.verdict + .verdict { margin-top: .5rem; }
.verdict p:first-child { font-size: 1.15rem; font-weight: 650; margin-top: 0; }
.verdict p:last-child, .verdict ul:last-child { margin-bottom: 0; }
.verdict.good { background: var(--good-ground); }
.verdict.bad { background: var(--bad-ground); }
.good p:first-child, td .good { color: var(--good); }
.bad p:first-child, td .bad { color: var(--bad); }
.scroll { overflow-x: auto; margin: .75rem 0; border: 1px solid var(--line); border-radius: .5rem; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .7rem; text-align: left; vertical-align: top; white-space: nowrap; }
thead th { background: var(--card); font-weight: 600; vertical-align: bottom; white-space: normal; }
tbody tr, tfoot tr, .needed { border-top: 1px solid var(--line); }
tfoot, .needed { background: var(--card); }
tbody th { font-weight: 600; }
tfoot th { font-weight: 500; }
.name, .said { display: block; width: max-content; max-width: 15rem; white-space: normal; overflow-wrap: anywhere; }
.name { max-width: min(22rem, 45vw); }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)); gap: .75rem 1rem; margin: .75rem 0; }
dl.words { grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); }
dt { font-size: .8rem; }
dd { margin: 0; overflow-wrap: anywhere; }
.words dt { color: var(--ink); font-weight: 600; }
.words dd { color: var(--faint); font-size: .875rem; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
figure { margin: 0; padding: .75rem; background: var(--card); border-radius: .5rem; break-inside: avoid; }
figure.wide { grid-column: 1 / -1; }
img { display: block; max-width: 100%; height: auto; margin: 0 auto .5rem; background: #fff; border-radius: .25rem; }
figcaption strong { color: var(--ink); overflow-wrap: anywhere; }
details { margin: .75rem 0; border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .75rem; }
summary { cursor: pointer; font-weight: 600; }
pre { margin: .5rem 0 0; font-size: .8rem; line-height: 1.4; white-space: pre-wrap; overflow-wrap: anywhere; }
.card { margin: 1rem 0; padding: .25rem 1rem .75rem; background: var(--card); border-radius: .5rem; }
.card { break-inside: avoid; }
.card h3 { margin-top: .75rem; }
.card:target { outline: 2px solid var(--faint); }
.label { font-weight: 600; }
.window { font: .875rem/1.7 ui-monospace, monospace; white-space: break-spaces; max-width: none; }
.bars { font-size: .6rem; white-space: nowrap; }
.window .place { outline: 1px solid var(--ink); }
a { color: inherit; }
footer { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: .75rem; }
@media (max-width: 40rem) {
  figure.wide { overflow-x: auto; }
  figure.wide img { max-width: none; width: 46rem; }
  figure.wide figcaption { position: sticky; left: 0; }
}
@media (prefers-color-scheme: dark) { img { filter: brightness(.88); } }
@media print {
  :root {
    color-scheme: light;
    --ground: #fff; --card: #fff; --ink: #000; --faint: #444; --line: #bbb;
    --good: #11653a; --good-ground: #fff; --bad: #9a3412; --bad-ground: #fff; --other-ground: #fff;
  }
  main { max-width: none; padding: 0; }
  body { font-size: 10pt; }
  figure.wide { overflow: visible; }
  img, figure.wide img { filter: none; max-width: 100%; max-height: 16cm; width: auto; }
  .verdict { border: 1px solid var(--line); }
  .scroll { overflow: visible; }
  table { font-size: 7.5pt; }
  th, td { padding: .2rem .3rem; white-space: normal; }
  .name, .said { width: auto; max-width: none; }
  h2, h3 { break-after: avoid; }
}
"""
