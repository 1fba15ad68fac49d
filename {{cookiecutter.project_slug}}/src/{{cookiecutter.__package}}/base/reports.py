"""Reports: Markdown for the registry and the terminal, and the same as a page for a browser."""

from __future__ import annotations

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
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }}
table {{ border-collapse: collapse; margin: 1rem 0; }}
th, td {{ border: 1px solid #ccc; padding: 0.2rem 0.6rem; text-align: left; font-variant-numeric: tabular-nums; }}
img {{ max-width: 100%; }}
code {{ background: #f3f3f3; padding: 0 0.2rem; }}
</style>
</head>
<body>
{body}</body>
</html>
"""


def rounded(values: Sequence[float]) -> list[str]:
    """Numbers as a person would say them, in three digits or all before the point; in six where two would look alike."""
    said = [f"{each:.0f}" if abs(each) >= 100 else f"{each:.3g}" for each in values]
    return said if len(set(said)) == len(set(values)) else [f"{each:g}" for each in values]


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in (header, ["---"] * len(header), *rows))


def write(
    folder: Path, name: str, title: str, markdown: str, pictures: Mapping[str, bytes] = MappingProxyType({})
) -> list[Path]:
    """Write a report to `folder` as `<name>.md` and as the page `<name>.html`, with pictures (PNG in Base64); gives both."""
    folder.mkdir(exist_ok=True)
    text, document = folder / f"{name}.md", folder / f"{name}.html"
    text.write_text(markdown, encoding="utf-8")
    # Markup inside the Markdown is shown, not obeyed.
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    for what, picture in pictures.items():
        body += f'<p><img alt="{html.escape(what)}" src="data:image/png;base64,{picture.decode()}"></p>\n'
    document.write_text(PAGE.format(title=html.escape(title), body=body), encoding="utf-8")
    return [text, document]
