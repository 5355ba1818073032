"""How a report looks: its style sheet, for light and dark screens and for paper."""

STYLE = """
:root { --paper: #ffffff; --ink: #1c232b; --faint: #5c6773; --rule: #c9d0d7; --band: #f4f6f8; --accent: #0072b2; }
@media screen and (prefers-color-scheme: dark) {
  :root { --paper: #171c22; --ink: #e3e8ed; --faint: #9aa5b1; --rule: #3a444f; --band: #1f262e; --accent: #4da6dd; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .8rem; letter-spacing: -.01em; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .8rem; padding-bottom: .25rem; border-bottom: 1px solid var(--rule); }
header p { max-width: 46rem; margin: .5rem 0; overflow-wrap: anywhere; }
.fine { color: var(--faint); font-size: .82rem; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); gap: .7rem 1.2rem;
  margin: 1.4rem 0 1rem; padding: 1rem 1.2rem; background: var(--band); border-radius: 6px; }
dt { color: var(--faint); font-size: .76rem; letter-spacing: .02em; }
dd { margin: 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums;
  border-top: 2px solid var(--ink); border-bottom: 2px solid var(--ink); }
th, td { padding: .32rem 1.1rem .32rem .15rem; text-align: left; vertical-align: top; }
th { font-weight: 600; border-bottom: 1px solid var(--ink); }
td { overflow-wrap: break-word; max-width: 32rem; }
.n { text-align: right; padding-left: .9rem; }
tbody tr + tr td { border-top: 1px solid var(--band); }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); gap: 1.6rem 2rem; }
.pair img { width: 100%; }
.wide { display: flex; flex-wrap: wrap; gap: 1.6rem 2rem; }
figure { margin: 0; break-inside: avoid; }
img { display: block; max-width: 100%; height: auto; }
.paper { display: inline-block; background: #ffffff; border-radius: 4px; overflow: hidden; }
figcaption { margin-top: .4rem; font-size: .86rem; color: var(--faint); overflow-wrap: anywhere; }
figcaption b { color: var(--ink); font-weight: 600; }
details { margin-top: 1.2rem; border-top: 1px solid var(--rule); padding-top: .7rem; }
details table { font-size: .82rem; }
summary { cursor: pointer; font-weight: 600; color: var(--accent); }
@page { margin: 16mm 15mm; }
@media print {
  body { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  h1 { font-size: 18pt; }
  .pair { grid-template-columns: 1fr 1fr; gap: 1rem; }
  .scroll { overflow: visible; }
  dl { border: 1px solid var(--rule); }
  h2, summary { break-after: avoid; }
  tr { break-inside: avoid; }
  .printed::details-content { content-visibility: visible; display: block; }
  section > p { break-after: avoid; }
}
"""
