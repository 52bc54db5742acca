"""What is typed is converted as typer would, without what typer loads for it."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from typing import Any

import pytest
import typer

from clusterctl.cli import launch
from clusterctl.cli.conversion import Quick


def converters(words: list[str]) -> list[tuple[Any, Any, Any, Any]]:
    """(parameter, its context, what was typed for it, typer's own converter) of every parameter of launch."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command("launch")(launch.command)
    command: Any = typer.main.get_command(app)
    context = command.context_class(command)
    context.allow_interspersed_args = False
    typed, _, _ = command.make_parser(context).parse_args(args=list(words))
    params: list[Any] = [each for each in command.get_params(context) if each.name != "help"]
    if not hasattr(params[0], "get_runtime_param"):
        pytest.skip("this typer converts in another way")
    return [
        (each, context, each.consume_value(context, typed)[0], each.get_runtime_param()) for each in params
    ]


def _itself(converter: Any) -> Any:
    return converter


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["-H", "lab", "-n", "2", "--env", "A=1", "--env", "B=", "--stdin", "train.py", "--lr", "3e-4"],
        ["--engine", "deepspeed", "--max-restarts", "3", "--on-hang", "report", "--master-port", "029500"],
        ["--nodes", "-1", "--gpus-per-node", "2", "--transport", "openssh", "--on-disconnect", "stop", "x"],
    ],
)
def test_values_are_those_that_typer_makes(words: list[str]) -> None:
    for param, context, value, original in converters(words):
        wanted = original.coerce(value, param=param, ctx=context)
        found = Quick(partial(_itself, original)).coerce(value, param, context)
        assert (found, type(found)) == (wanted, type(wanted)), param.name


@pytest.mark.parametrize("text", ["x", "1.5", "", "²", "1_0", " 2 "])
def test_what_is_no_plain_number_is_left_to_typer(text: str) -> None:
    (param, context, _, _) = next(each for each in converters([]) if each[0].name == "nodes")
    asked = []

    class Original:
        def coerce(self, value: Any, param: Any, ctx: Any) -> None:
            asked.append(value)

    Quick(Original).coerce(text, param, context)
    assert asked == [text]


def test_a_launch_loads_no_pydantic() -> None:
    script = (
        "import sys; sys.argv = 'x launch -H missing -n 2 --env A=1 --stdin train.py --lr 1'.split()\n"
        "from clusterctl.cli.main import entry\n"
        "try: entry()\n"
        "except SystemExit as end: print(end.code, 'pydantic' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["64", "False"]
