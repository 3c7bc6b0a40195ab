"""How the page of ``secureimg bench`` looks: light and dark, wide and narrow, on paper."""

from __future__ import annotations

from typing import Final

__all__ = ["STYLE"]

STYLE: Final = """
:root{color-scheme:light dark;--paper:#fbfbf9;--card:#fff;--ink:#1d1d20;--soft:#63636b;--line:#e2e2dc;--head:#f3f3ee;
--ckks:#b84f1c;--shares:#2a69ab}
@media (prefers-color-scheme:dark){:root{--paper:#131417;--card:#1b1d21;--ink:#e9e9e6;--soft:#a0a0a8;--line:#30333a;
--head:#23262b;--ckks:#f09163;--shares:#76b0ea}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1120px;margin:0 auto;padding:40px 24px 56px}
header{margin-bottom:26px}
h1{font-size:32px;line-height:1.2;margin:2px 0 6px}
h2{font-size:21px;margin:0 0 6px}
h3{font-size:15px;margin:22px 0 6px;font-weight:600}
p{margin:0 0 12px;max-width:80ch;overflow-wrap:anywhere}
.kicker,.sub,.note,figcaption,footer{color:var(--soft)}
.kicker{margin:0;font-size:14px}
.note{font-size:13.5px;margin:0 0 10px}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:22px 24px;margin:0 0 20px}
ul{margin:10px 0 0;padding-left:20px}li{margin:0 0 9px;max-width:84ch}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,380px),1fr));gap:14px 28px;align-items:start;
margin:14px 0 4px}
figure{margin:0;min-width:0}
figure svg{display:block;width:100%;height:auto;max-width:560px}
figcaption{font-size:13px;line-height:1.4;margin-top:4px}
.scroll{overflow-x:auto;margin:0 0 6px}
table{border-collapse:collapse;font-size:14px;line-height:1.35;min-width:100%}
th{text-align:left;font-weight:600;background:var(--head);white-space:nowrap}
th,td{padding:6px 10px 6px 8px;border-bottom:1px solid var(--line);vertical-align:top}
td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
th.n{text-align:right}
td.t{white-space:nowrap}
td.w{min-width:180px;overflow-wrap:anywhere}
details{border-top:1px solid var(--line);margin-top:12px;padding-top:10px}
details table{min-width:min(100%,620px)}
summary{cursor:pointer;font-weight:600;font-size:15px}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(120px,1fr));gap:16px;margin:10px 0}
.tiles img{display:block;width:100%;aspect-ratio:1;object-fit:contain;border-radius:6px;image-rendering:pixelated;
background:var(--head)}
.ckks{color:var(--ckks)}.shares{color:var(--shares)}
dl{display:grid;grid-template-columns:max-content 1fr;gap:6px 20px;margin:10px 0 0;font-size:14px}
dt{font-weight:600}dd{margin:0;overflow-wrap:anywhere}
code{font-size:.92em}
footer{font-size:13px}
@media (max-width:600px){main{padding:20px 12px 36px}section{padding:16px 14px;border-radius:10px}h1{font-size:25px}
body{font-size:15px}table{font-size:13px}th,td{padding:5px 9px 5px 6px}dl{grid-template-columns:1fr;gap:1px}
dd{margin-bottom:8px}.tiles{grid-template-columns:repeat(3,1fr);gap:10px}figcaption{font-size:12px}}
@media print{body{background:#fff}section{break-inside:avoid;border:0;padding:0}}
"""
