"""The style of `--help`: no Python types."""

from __future__ import annotations

from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperGroup


class PlainCommand(TyperCommand):
    """A command whose help shows no types of arguments and flags."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the arguments and options, including `--help`."""
        return _without_types(super().get_params(ctx))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the parts of the usage line, without braces around arguments."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]


class PlainGroup(TyperGroup):
    """A group of commands whose help shows no types of flags."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options, including `--help`."""
        return _without_types(super().get_params(ctx))


def _without_types(params: list[Any]) -> list[Any]:
    """Remove types such as `<bool>` and `<list[Path]>` from the help of flags and arguments."""
    for param in params:
        if isinstance(param, TyperArgument):
            param.display_type_rich = _no_type  # type: ignore[method-assign]
        elif param.is_flag:
            param.metavar = ""
    return params


def _no_type(ctx: Any) -> None:
    del ctx
