"""What all commands share: one JSON object on standard output, errors with hint and exit code."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from gazed_timesync import GazedError

if TYPE_CHECKING:
    from gazed_bus.remote import Remote

__all__ = ["ErrorReporting", "connection_options", "emit_json", "finish", "json_option", "reached"]

_KEY = "gazed.json"
_Command = TypeVar("_Command", bound=Callable[..., Any])


def _remember_json(context: click.Context, _parameter: click.Parameter, value: bool) -> bool:
    context.meta[_KEY] = value
    return value


json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    is_eager=True,
    callback=_remember_json,
    help="Print one JSON object on standard output and nothing else.",
)


def connection_options(command: _Command) -> _Command:
    """Add ``--address`` and ``--port``: which daemon to talk to."""
    command = click.option("--port", type=click.IntRange(1, 65535), default=50020, show_default=True)(command)
    return click.option("--address", default="127.0.0.1", show_default=True, help="Where the daemon runs.")(command)


@contextlib.contextmanager
def reached(address: str, port: int) -> Iterator[Remote]:
    """Talk to a daemon, after finding out quickly whether anybody answers: a request may otherwise wait for a minute.

    Raises:
        NotReachable: nobody does.
    """
    from gazed_bus.remote import Remote

    with Remote(address, port) as remote:
        remote.time()
        yield remote


def emit_json(value: Mapping[str, Any]) -> None:
    """Print ``value`` as the one object of ``--json``; numbers that JSON lacks become null."""
    click.echo(json.dumps(_finite(value), allow_nan=False, default=str))


def finish(exit_code: int) -> NoReturn:
    """End the command with an exit code."""
    click.get_current_context().exit(exit_code)


class ErrorReporting(click.Group):
    """A group whose commands may raise ``GazedError``: printed with its hint, or as JSON, with its exit code.

    What the system refuses (``OSError``) and wrong usage are reported in the same way.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        for stream in (sys.stdout, sys.stderr):
            # A name that the terminal's encoding lacks must not hide what was to be said about it.
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(ctx)
        except GazedError as error:
            _report(ctx, error)
        except click.UsageError as error:
            if not ctx.meta.get(_KEY):
                raise
            emit_json({"error": {"code": "usage", "message": error.format_message(), "hint": _help_of(error)}})
            ctx.exit(error.exit_code)
        except ModuleNotFoundError as error:
            if error.name not in ("av", "cv2"):
                raise
            _report(ctx, _too_small(error.name))
        except OSError as error:
            # A reader that has gone away is click's to handle.
            if error.errno == errno.EPIPE:
                raise
            what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            _report(ctx, GazedError(what, hint="gazed doctor shows whether this machine is ready"))
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            sys.exit(130)


def _report(ctx: click.Context, error: GazedError) -> NoReturn:
    if ctx.meta.get(_KEY):
        emit_json({"error": error.as_dict()})
    else:
        click.echo(f"error: {error.message}", err=True)
        if error.hint:
            click.echo(f"hint: {error.hint}", err=True)
    ctx.exit(error.exit_code)


def _too_small(module: str) -> GazedError:
    from gazed.doctor import check_extra

    return GazedError(f"this needs gazed[daemon], and {module} is not installed", hint=check_extra("daemon").mend)


def _help_of(error: click.UsageError) -> str:
    return f"{error.ctx.command_path} --help" if error.ctx else ""


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
