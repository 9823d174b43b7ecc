"""How `--help` shows a command: in plain words, without the types of Python."""

from __future__ import annotations

from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperGroup


class PlainCommand(TyperCommand):
    """A command in whose help only options that take a value name it."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its arguments and options, `--help` among them."""
        return _without_types(super().get_params(ctx))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What its usage line consists of, without braces around arguments."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]


class PlainGroup(TyperGroup):
    """The same for a command that has others."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its options, `--help` among them."""
        return _without_types(super().get_params(ctx))


def _without_types(params: list[Any]) -> list[Any]:
    """Let flags show no `<bool>`, and arguments no `<list[Path]>`."""
    for param in params:
        if isinstance(param, TyperArgument):
            param.display_type_rich = _no_type  # type: ignore[method-assign]
        elif param.is_flag:
            param.metavar = ""
    return params


def _no_type(ctx: Any) -> None:
    del ctx
