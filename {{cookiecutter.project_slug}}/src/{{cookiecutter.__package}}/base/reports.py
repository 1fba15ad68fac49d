"""Reports: Markdown for the registry and the terminal, and the same as a page for a browser."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from markdown_it import MarkdownIt

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }}
nav ul {{ display: flex; flex-wrap: wrap; gap: 0.2rem 1.2rem; list-style: none; padding: 0; }}
h2 {{ margin-top: 2.5rem; border-bottom: 1px solid #8886; }}
table {{ display: block; overflow-x: auto; border-collapse: collapse; margin: 1rem 0; }}
th, td {{ border: 1px solid #8886; padding: 0.2rem 0.6rem; text-align: left; font-variant-numeric: tabular-nums; }}
th {{ background: #8882; }}
figure {{ margin: 1rem 0; break-inside: avoid; }}
img {{ max-width: 100%; background: #fff; }}
code {{ background: #8882; padding: 0 0.2rem; overflow-wrap: anywhere; }}
@media print {{ nav {{ display: none; }} body {{ max-width: none; margin: 0; font-size: 11pt; }} tr {{ break-inside: avoid; }} }}
</style>
</head>
<body>
{body}</body>
</html>
"""


def rounded(values: Sequence[float]) -> list[str]:
    """Numbers with three significant digits, or all digits before the point; with six if two of them would look alike."""
    said = [f"{each:.0f}" if abs(each) >= 100 else f"{each:.3g}" for each in values]
    return said if len(set(said)) == len(set(values)) else [f"{each:g}" for each in values]


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table in Markdown; a value with a bar or a line break stays in its cell."""
    lines = (
        [" ".join(str(each).split()).replace("|", "\\|") for each in row]
        for row in (header, ["---"] * len(header), *rows)
    )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write(
    folder: Path, name: str, title: str, markdown: str, pictures: Mapping[str, bytes] = MappingProxyType({})
) -> list[Path]:
    """Write a report to `folder` as `<name>.md` and `<name>.html`, with its figures (PNG); returns both texts."""
    folder.mkdir(exist_ok=True)
    text, document = folder / f"{name}.md", folder / f"{name}.html"
    text.write_text(markdown, encoding="utf-8")
    # Markup inside the Markdown is escaped, not rendered.
    page = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    tokens = page.parse(f"{markdown}\n\n## Pictures\n" if pictures else markdown)
    contents: list[str] = []
    for at, token in enumerate(tokens):
        if token.type == "heading_open" and token.tag == "h2":
            token.attrSet("id", f"part-{len(contents)}")
            contents.append(f'<li><a href="#part-{len(contents)}">{html.escape(tokens[at + 1].content)}</a></li>')
    body = page.renderer.render(tokens, page.options, {}) + "".join(
        f'<figure><img alt="{html.escape(what)}" src="data:image/png;base64,{base64.b64encode(picture).decode()}"></figure>\n'
        for what, picture in pictures.items()
    )
    if len(contents) > 2:
        title, end, rest = body.rpartition("</h1>")
        body = f'{title}{end}<nav aria-label="Contents"><ul>{"".join(contents)}</ul></nav>\n{rest}'
    document.write_text(PAGE.format(title=html.escape(title), body=body), encoding="utf-8")
    return [text, document]
