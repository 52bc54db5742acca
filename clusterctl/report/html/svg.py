"""SVG elements as text. Whatever goes in is escaped, and made harmless as for a terminal."""

from __future__ import annotations

from markupsafe import Markup, escape

from clusterctl.report.harmless import harmless


def tag(name: str, *inside: Markup | str, **attributes: object) -> Markup:
    """``<name a="b">inside</name>``. ``class_`` is ``class``, other underscores are hyphens."""
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{told}>{''.join(str(escape(_text(each))) for each in inside)}</{name}>")


def _text(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.1f}".removesuffix(".0")
    return harmless(value) if type(value) is str else value


def picture(width: float, height: float, title: str, *inside: Markup, as_is: bool = False) -> Markup:
    """A whole chart. ``title`` is read to those who cannot see it. ``as_is``: not
    larger where there is room."""
    return tag(
        "svg",
        *inside,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        width=f"{width:.0f}" if as_is else None,
        class_="chart",
        role="img",
        aria_label=title,
    )


def alone(chart: Markup, style: str) -> str:
    """The same as a file of its own, which brings its style."""
    head, _, rest = str(chart).partition(">")
    return f"{head}><style>{style}</style>{rest}\n"
