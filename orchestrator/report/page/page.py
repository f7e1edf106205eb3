"""The report of a sweep as one HTML file: no network, readable on a phone, in print and in the dark."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from cpsc_core.attempt import replacing
from orchestrator.report.best import find_best
from orchestrator.report.page import drawings, sections
from orchestrator.report.page.document import report_document
from orchestrator.report.page.gallery import Frame, frames
from orchestrator.report.page.html import Html, tag
from orchestrator.report.snapshot import SweepSnapshot
from orchestrator.store.folder import SweepFolder

__all__ = ["render_page", "write_report"]

_ROOM_FOR_PICTURES = 3_000_000

_STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--quiet:#66707b;--line:#d5dae0;--best:#0b62c4;
--plain:#8a94a0;--front:#b3261e}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ed;--paper:#14171b;--quiet:#9aa4af;--line:#353c45;
--best:#6db1ff;--plain:#77818c;--front:#ff8a80}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:60rem;padding:1rem;font:16px/1.5 system-ui,sans-serif;color:var(--ink);
background:var(--paper)}
h1{font-size:1.6rem}h2{font-size:1.2rem;border-bottom:1px solid var(--line);margin-top:2rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem}dt{color:var(--quiet)}
dd{margin:0;overflow-wrap:anywhere}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--quiet)}th,td{padding:.15rem .6rem;text-align:left;
border-bottom:1px solid var(--line)}td.number,th{white-space:nowrap}td.number{text-align:right}
tr.best{font-weight:bold}figure{margin:1rem 0}figcaption{color:var(--quiet);font-size:.9rem}
svg{width:100%;height:auto;font:13px system-ui,sans-serif}svg text{fill:var(--ink)}svg .small{font-size:10px}
.grid{stroke:var(--line)}.line{fill:none;stroke-width:1.5}
.line.best{stroke:var(--best);stroke-width:3}.line.plain{stroke:var(--plain)}
.line.faint{stroke:var(--plain);opacity:.35;stroke-width:1}.line.front{stroke:var(--front)}
rect.best,circle.best{fill:var(--best)}rect.plain,circle.plain,circle.faint{fill:var(--plain)}
circle.front{fill:var(--front)}
.frame img{max-width:100%;height:auto;image-rendering:pixelated}
.slider{display:none}.js .slider{display:block}.slider input{width:100%}
.js .frame{display:none}.js .frame.shown{display:block}
pre{overflow-x:auto;background:color-mix(in srgb,var(--line) 40%,transparent);padding:.6rem;font-size:.85rem}
@media(max-width:40rem){dl{grid-template-columns:1fr}dd{margin-bottom:.4rem}}
@media print{body{max-width:none}.slider{display:none!important}section{break-inside:avoid-page}
details>*{display:block!important}.scroll{overflow:visible}}
"""
_SCRIPT = """
document.documentElement.classList.add("js");
addEventListener("DOMContentLoaded", () => {
  const slider = document.getElementById("slider"), frames = document.querySelectorAll("#frames .frame");
  if (!slider) return;
  slider.addEventListener("input", () => {
    frames.forEach((frame, index) => frame.classList.toggle("shown", index === Number(slider.value)));
    document.getElementById("epoch").textContent =
      frames[slider.value].querySelector("figcaption").textContent.replace("epoch ", "");
  });
});
"""


def render_page(document: Mapping[str, Any], pictures: Sequence[Frame] = ()) -> str:
    """The report of a document and the best trial's grids, as one HTML text."""
    title = f"{document['sweep']}: report of a sweep"
    body = (
        tag("h1", document["sweep"]),
        sections.overview(document),
        sections.leaderboard(document),
        drawings.pareto_front(document),
        drawings.curves(document),
        drawings.importance_bars(document),
        drawings.sample_grids(pictures),
        drawings.per_class_bars(document),
        sections.failures(document),
        sections.costs(document),
        sections.reproduction(document),
    )
    head = (
        tag("meta", charset="utf-8"),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy()),
        tag("title", title),
        tag("style", Html(_STYLE)),
        tag("script", Html(_SCRIPT)),
    )
    page = tag("html", tag("head", *head), tag("body", tag("main", *body)), lang="en")
    return f"<!doctype html>\n{page}\n"


def write_report(folder: SweepFolder) -> None:
    """Write report.html into a sweep's folder, whole or not at all; UsageError while it has no trial."""
    folder = SweepSnapshot(folder.paths)
    best = find_best(folder)
    pictures = [] if best is None else frames(best.samples(), _ROOM_FOR_PICTURES)
    text = render_page(report_document(folder), pictures)
    with replacing(folder.paths.report) as draft:
        draft.write_text(text, encoding="utf-8")


def _policy() -> str:
    """The page may show its own pictures and run its own script, and reach nothing."""
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
