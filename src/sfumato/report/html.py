"""Small helpers that make one-file HTML pages: all escaped, nothing fetched from elsewhere, no dates."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

INTENDED_USE = "Research software, not a medical device."
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Content security policy of every page: no script, no network, pictures only from inside the file."""

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
  color: #1b1f24; background: #fff; max-width: 1180px; margin: 0 auto; padding: 24px 28px 40px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0; overflow-wrap: anywhere; unicode-bidi: isolate; }
h2 { font-size: 19px; margin: 36px 0 8px; }
p { margin: 6px 0; max-width: 90ch; }
a { color: #0b4f8a; }
small, .note, figcaption, footer { color: #4a525c; font-size: 14px; }
.head { display: flex; gap: 20px; align-items: center; flex-wrap: wrap; margin-bottom: 10px; }
.badge { display: inline-block; color: #fff; font-weight: 700; border-radius: 8px; padding: 2px 12px;
  white-space: nowrap; }
.head .badge { font-size: 26px; padding: 6px 22px; }
.accept { background: #00664f; } .review { background: #a63c06; } .undecided { background: #5b6470; }
.warning { border-left: 5px solid #a63c06; background: #fdf3ec; padding: 6px 14px; margin: 8px 0;
  max-width: none; }
.views { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 6px 10px;
  align-items: center; }
.views .top { align-self: end; }
.views h3 { font-size: 16px; margin: 0 0 2px; }
.views figcaption { grid-column: 1 / -1; margin: 0 0 14px; }
.views img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
.panel { background: #000; border-radius: 4px; overflow: hidden; display: flex; align-items: center;
  height: 100%; }
.key { display: inline-block; background: #555; padding: 3px; border-radius: 2px; margin: 0 6px 2px 0;
  vertical-align: middle; }
.key i { display: block; width: 24px; height: 0; }
.legend span { margin-right: 16px; white-space: nowrap; }
table { border-collapse: collapse; margin: 8px 0; }
th, td { text-align: left; padding: 5px 14px 5px 0; border-bottom: 1px solid #d9dee4;
  vertical-align: middle; }
th { font-size: 14px; color: #4a525c; }
td { unicode-bidi: isolate; overflow-wrap: break-word; max-width: 46em; }
.cases td { max-width: 20em; } .cases th { max-width: 9em; white-space: normal; vertical-align: bottom; }
.summary > span { margin-right: 10px; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.cases img { display: block; max-height: 96px; max-width: 140px; border-radius: 4px; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: 18px 16px; }
.gallery figure { margin: 0; } .gallery p, .gallery small { font-size: 14px; line-height: 1.35; }
.gallery .panel { height: 150px; justify-content: center; }
.gallery small { display: block; }
.gallery img { max-width: 100%; max-height: 150px; }
.gallery h3 { font-size: 15px; line-height: 1.3; margin: 6px 0 0; overflow-wrap: anywhere; unicode-bidi: isolate; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 16px; }
.plots figure { margin: 0; } .plots img { width: 100%; height: auto; }
footer { margin-top: 40px; border-top: 1px solid #d9dee4; padding-top: 10px; }
footer b { color: #1b1f24; }
@media print { body { max-width: none; padding: 0; font-size: 12px; }
  .views figcaption { break-after: auto; } .panel, tr, .warning, .plots figure, .gallery figure { break-inside: avoid; }
  .badge, .panel { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""


@dataclass(frozen=True)
class Markup:
    """Text that is HTML already and is not escaped again."""

    text: str

    def __str__(self) -> str:
        return self.text


def escape(value: object) -> str:
    """Anything as HTML text, also inside a quoted attribute; `Markup` passes as it is.

    Half surrogates, which stand for undecodable bytes in file names, become question marks.

    Example:
        >>> escape("<script>"), escape(Markup("<b>x</b>"))
        ('&lt;script&gt;', '<b>x</b>')
    """
    if isinstance(value, Markup):
        return value.text
    return html.escape(str(value).encode("utf-8", "replace").decode("utf-8"), quote=True)


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """An element; children and attribute values are escaped, `class_` means `class`, None leaves one out.

    Example:
        >>> tag("p", "1 < 2", class_="note").text
        '<p class="note">1 &lt; 2</p>'
    """
    pairs = [
        f' {key.rstrip("_")}="{escape(value)}"' for key, value in attributes.items() if value is not None
    ]
    return Markup(f"<{name}{''.join(pairs)}>{''.join(escape(c) for c in children)}</{name}>")


def join(parts: Iterable[object], between: str = "\n") -> Markup:
    """Escaped parts one after the other."""
    return Markup(between.join(escape(part) for part in parts))


def picture(png: bytes, description: str, width: int | None = None) -> Markup:
    """A PNG inside the page, as a data address; the description is for those who cannot see it."""
    source = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
    size = f' width="{width}"' if width else ""
    return Markup(f'<img src="{source}" alt="{escape(description)}"{size}>')


def table(
    header: Sequence[object], rows: Iterable[Sequence[object]], numbers: Sequence[int] = (), class_: str = ""
) -> Markup:
    """A table; `numbers` are the columns aligned right."""

    def line(name: str, cells: Sequence[object]) -> Markup:
        made = (tag(name, c, class_="number" if i in numbers else None) for i, c in enumerate(cells))
        return tag("tr", join(made, ""))

    body = join(line("td", row) for row in rows)
    return tag("table", tag("thead", line("th", header)), tag("tbody", body), class_=class_ or None)


def badge(verdict: str | None) -> Markup:
    """The verdict as a coloured word with a sign, so that it does not hang on colour alone."""
    words = {"accept": "✓ accept", "review": "! review"}
    known = verdict in words
    return tag(
        "span",
        words[verdict] if known else "no decision",
        class_=f"badge {verdict if known else 'undecided'}",
    )


def page(title: str, *sections: object, facts: Mapping[str, str]) -> str:
    """A whole page with style, policy and footer."""
    said = join((Markup(f"<b>{escape(key)}</b> {escape(value)}") for key, value in facts.items()), " · ")
    footer = tag("footer", tag("p", tag("b", INTENDED_USE)), tag("p", said) if facts else "")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
{join(sections)}
{footer}
</body>
</html>
"""
