"""Templates to pages. Every value is escaped, and what would steer a terminal or turn the direction of
writing is written out: pages hold what hosts and scripts said."""

from __future__ import annotations

from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from clusterctl.report.harmless import harmless
from clusterctl.report.html.svg import alone


@cache
def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("clusterctl.report", "html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: harmless(value) if type(value) is str else value,
    )
    found.globals["style"] = Markup(style())
    return found


@cache
def style() -> str:
    """What stands in the style of every page."""
    return _file("style.css") + _file("chart.css")


@cache
def script() -> str:
    """The only one there is: that of pages that are live."""
    return _file("live.js")


def page(template: str, **values: object) -> str:
    """A page of ``template``, which extends ``page.html``: one file that loads nothing."""
    return _environment().get_template(template).render(**values)


def parts(template: str, **values: object) -> dict[str, Markup]:
    """Each block of ``template`` by its name, in their order."""
    found = _environment().get_template(template)
    context = found.new_context(values)
    return {name: Markup("".join(block(context)).strip()) for name, block in found.blocks.items()}


def picture_file(chart: Markup) -> str:
    """A chart as an SVG file of its own."""
    colours = _file("style.css").partition("* {")[0]
    return alone(chart, colours.replace("color-scheme: light dark;", "") + _file("chart.css"))


def _file(name: str) -> str:
    return resources.files("clusterctl.report.html").joinpath(name).read_text(encoding="utf-8")
