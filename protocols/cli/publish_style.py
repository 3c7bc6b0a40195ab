"""How the page of `secureimg publish` looks: light and dark, narrow and wide."""

from __future__ import annotations

from typing import Final

__all__ = ["STYLE"]

STYLE: Final = """
:root{color-scheme:light dark;--paper:#fbfbf9;--card:#fff;--ink:#1d1d20;--soft:#63636b;--line:#e2e2dc;--attack:#d1495b;
--clear:#2f7fd1;--good:#1f7a4d;--track:#ecece6}
@media (prefers-color-scheme:dark){:root{--paper:#131417;--card:#1b1d21;--ink:#e9e9e6;--soft:#a0a0a8;--line:#30333a;
--attack:#f0707f;--clear:#69a8f0;--good:#56c48c;--track:#2a2d33}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;
overflow-wrap:anywhere}
main{max-width:1080px;margin:0 auto;padding:40px 24px 56px}
header{margin-bottom:28px}
h1{font-size:30px;line-height:1.2;margin:2px 0 6px}
h2{font-size:20px;margin:0 0 14px}
h3{font-size:15px;margin:20px 0 10px;font-weight:600}
p{margin:0 0 12px;max-width:76ch}
.kicker{color:var(--soft);margin:0;font-size:14px}
.settings{color:var(--soft);margin:0 0 12px}
.badge{display:inline-block;margin:0;padding:3px 12px;border-radius:99px;font-size:14px;font-weight:600;border:1px solid}
.bad{color:var(--attack)}.good{color:var(--good)}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:22px 24px;margin:0 0 20px}
.row{display:grid;grid-template-columns:repeat(auto-fit,minmax(240px,1fr));gap:18px;align-items:start}
figure{margin:0;min-width:0}
figure img{display:block;width:100%;max-height:420px;object-fit:contain;object-position:left top;border-radius:6px}
.crisp{image-rendering:pixelated}
figcaption{color:var(--soft);font-size:13px;line-height:1.4;margin-top:6px}
dl{display:grid;grid-template-columns:max-content 1fr;gap:8px 22px;margin:0}
dt{font-weight:600}dd{margin:0;max-width:76ch}
.bars{display:grid;gap:8px;margin:16px 0;max-width:680px}
.bar{display:grid;grid-template-columns:130px 1fr 62px;gap:12px;align-items:center;font-size:14px}
.track{background:var(--track);border-radius:99px;height:14px;overflow:hidden;display:block}
.fill{display:block;height:100%;border-radius:99px;min-width:2px}
.attack{background:var(--attack)}.soft{opacity:.55}.chance{background:var(--soft)}.clear{background:var(--clear)}
.number{text-align:right;font-variant-numeric:tabular-nums}
.note{color:var(--soft);font-size:14px}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:18px;margin:8px 0}
.plot{max-width:520px}
.plot svg{display:block;width:100%;height:auto}
.plot svg text{font-family:inherit}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(104px,1fr));gap:14px}
.grid figcaption{font-size:12px;margin-top:4px}
code{font-size:.92em;background:var(--track);padding:1px 5px;border-radius:4px}
footer{color:var(--soft);font-size:13px}
@media (max-width:600px){main{padding:22px 14px 36px}section{padding:16px 14px}h1{font-size:24px}
dl{grid-template-columns:1fr;gap:2px}dd{margin-bottom:10px}.bar{grid-template-columns:104px 1fr 54px;gap:8px;font-size:13px}
.row{grid-template-columns:1fr 1fr;gap:10px}.row figure:nth-child(3),.row .plot{grid-column:1/-1}
.row figure:nth-child(3) img{max-width:50%}
.grid{grid-template-columns:repeat(3,1fr);gap:10px}}
"""
