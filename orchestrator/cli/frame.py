"""What all commands share: options, output, and how each ends with a line that says what to do next."""

from __future__ import annotations

import json
import math
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from traceback import format_exception
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from cpsc_core.errors import CoreError
from cpsc_core.redaction import redact
from orchestrator.errors import (
    BudgetError,
    ConfigError,
    FencedError,
    OrchestratorError,
    OwnedError,
    SignalledError,
    TrackingError,
    UnreachableError,
    UsageError,
)
from orchestrator.store.address import Storage, storage_at
from orchestrator.store.space import storage_fails

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = [
    "Command",
    "DEFAULT_STORAGE",
    "PROGRAM",
    "Program",
    "complete_sweep",
    "end",
    "file_argument",
    "json_option",
    "print_facts",
    "print_json",
    "set_option",
    "show",
    "storage_option",
    "sweep_argument",
]

PROGRAM = "cpsc-orchestrate"
DEFAULT_STORAGE = Path("~/cpsc-runs")
_INTERRUPTED = 130
_SIGNALLED = (_INTERRUPTED, 143)
_READER_GONE = 141
_WIDTH_WITHOUT_TERMINAL = 120
_LONGEST_REPEATED = 200

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Command(click.Command):
    """A command whose expected errors end in one message and the exit code of their class."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SignalledError:
            raise  # the program knows which command to give again
        except (OrchestratorError, CoreError) as error:
            code = error.exit_code if isinstance(error, OrchestratorError) else OrchestratorError.exit_code
            end(code, _message(error, ctx), _next_command(error, ctx))
        except BrokenPipeError:
            _silence_stdout()
            ctx.exit(_READER_GONE)
        except OSError as error:
            if not storage_fails(error):
                raise
            code, said = UnreachableError.exit_code, f"{error.filename or 'the disk'}: {error.strerror}"
            end(code, said, _next_command(UnreachableError(said), ctx))


class Program(click.Group):
    """The program: click's parsing, our exit codes and last lines."""

    def list_commands(self, _: click.Context) -> list[str]:
        """Commands in the order in which a person needs them."""
        return list(self.commands)

    def main(self, args: Sequence[str] | None = None, *_: Any, **extra: Any) -> NoReturn:
        """Run one command and leave the process with its exit code."""
        arguments = list(sys.argv[1:] if args is None else args)
        sys.excepthook = _trace
        extra |= {"prog_name": PROGRAM, "standalone_mode": False}
        try:
            code = super().main(arguments, **extra)
        except click.Abort:
            end(_INTERRUPTED, "interrupted", shlex.join([PROGRAM, *arguments]))
        except SignalledError as error:
            end(error.exit_code, str(error), shlex.join([PROGRAM, *arguments]))
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx else PROGRAM
            end(error.exit_code, error.format_message(), f"{path} --help")
        sys.exit(code if isinstance(code, int) else 0)


def end(code: int, message: str, command: str) -> NoReturn:
    """Leave with a message whose last line names the cause and the exact next command."""
    message = message.strip().rstrip(".")
    following = "" if f"{PROGRAM} " in message.splitlines()[-1] else f"; next: {command}"
    red = "error: " if os.environ.get("NO_COLOR") else click.style("error: ", fg="red")
    word = "" if code in _SIGNALLED else red
    click.echo(redact(f"{word}{message}{following}"), err=True)
    sys.exit(code)


def _trace(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What a bug leaves behind, without secrets: it is going to be shown to others."""
    sys.stderr.write(redact("".join(format_exception(kind, error, trace))))


def show(renderable: RenderableType) -> None:
    """Print something rich to stdout, as wide as the terminal, lines that must be copied left whole."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL
    console = Console(file=sys.stdout, width=width, highlight=False)
    with console.capture() as captured:
        console.print(renderable, crop=False)
    click.echo(captured.get(), nl=False)


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print named values one below the other."""
    width = max(map(len, facts), default=0)
    for name, fact in facts.items():
        click.echo(f"{name:<{width}}  {', '.join(fact) if isinstance(fact, list) else fact}")


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON document; what is not a finite number becomes null, as JSON knows no other."""
    click.echo(json.dumps(_finite(document), indent=2, allow_nan=False))


def file_argument(function: _Function) -> _Function:
    """FILE: an experiment file."""
    kind = click.Path(dir_okay=False, path_type=Path)
    return click.argument("file", type=kind)(function)


def set_option(function: _Function) -> _Function:
    """--set KEY=VALUE, any number of times."""
    text = "Override a field of the file, such as train.epochs=2. May be repeated."
    return click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help=text)(function)


def storage_option(*, default: Path | None) -> Callable[[_Function], _Function]:
    """--storage DIR, absolute and with ~ expanded, or the address of a bucket."""
    where = "the file's `storage`" if default is None else str(default)
    return click.option(
        "--storage",
        default=None if default is None else str(default),
        metavar="DIR",
        callback=lambda _ctx, _option, value: None if value is None else _storage(value),
        help=f"Folder that holds sweeps, or s3://BUCKET/PREFIX. Default: {where}.",
    )


def sweep_argument(function: _Function) -> _Function:
    """SWEEP: a name below --storage, a path or an address; with --storage itself, which it needs."""
    argument = click.argument("sweep", shell_complete=complete_sweep)
    return argument(storage_option(default=DEFAULT_STORAGE)(function))


def json_option(function: _Function) -> _Function:
    """--json."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(function)


def _message(error: Exception, ctx: click.Context) -> str:
    """What an error says; under a list of mistakes in a file, a line that sums them up."""
    text = str(error).strip()
    if isinstance(error, ConfigError) and error.mistakes > 1 and "file" in ctx.params:
        told = len(text.splitlines())
        first = f"; above are the first {told}" if told < error.mistakes else ""
        text += f"\n{ctx.params['file']} has {error.mistakes} mistakes{first}"
    return text


def _next_command(error: Exception, ctx: click.Context) -> str:
    """The command that a person should run after an error of a command that was called with `ctx`."""
    params = ctx.params
    storage = [] if params.get("storage") is None else ["--storage", str(params["storage"])]
    match error:
        case UnreachableError() | TrackingError() if ctx.command.name == "sync":
            to = [] if params.get("to") is None else ["--to", params["to"]]
            return shlex.join([PROGRAM, "sync", params["sweep"], *storage, *to])
        case ConfigError() if "file" in params:
            changed = [word for each in params.get("overrides", ()) for word in ("--set", each)]
            if sum(map(len, changed)) > _LONGEST_REPEATED or not all(map(str.isprintable, changed)):
                changed = []
            return shlex.join([PROGRAM, "validate", str(params["file"]), *changed])
        case UnreachableError():
            where = _storage_of(params.get("sweep"))
            return shlex.join([PROGRAM, "doctor", *(storage if where is None else ["--storage", where])])
        case OwnedError() | FencedError() | BudgetError() if "sweep" in params:
            return shlex.join([PROGRAM, "status", params["sweep"], *storage])
        case _:
            return f"{ctx.command_path} --help"


def _storage_of(sweep: str | None) -> str | None:
    """What holds a sweep that was given by its path or address; None for a name."""
    if sweep is None or "/" not in sweep:
        return None
    try:
        return str(storage_at(sweep).parent)
    except UsageError:
        return None


def _storage(text: str) -> Storage:
    """The storage that an option names; what is no such thing is an error of usage."""
    try:
        storage = storage_at(text)
    except UsageError as error:
        raise click.BadParameter(str(error), param_hint="--storage") from error
    try:
        is_file = isinstance(storage, Path) and storage.exists() and not storage.is_dir()
    except OSError as error:
        raise click.BadParameter(
            f"Directory '{storage}': {error.strerror}.", param_hint="--storage"
        ) from error
    if is_file:
        raise click.BadParameter(f"Directory '{storage}' is a file.", param_hint="--storage")
    return storage


def _silence_stdout() -> None:
    """Whoever read our output has left; what is still buffered goes nowhere."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())


def _finite(value: Any) -> Any:
    match value:
        case dict():
            return {key: _finite(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_finite(inner) for inner in value]
        case float() if not math.isfinite(value):
            return None
        case _:
            return value


def complete_sweep(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Names of sweeps that begin so, for the shell."""
    storage = ctx.params.get("storage") or DEFAULT_STORAGE.expanduser()
    if not isinstance(storage, Path):
        return []  # nobody waits for a network to complete a word
    names = (manifest.parent.name for manifest in storage.glob("*/manifest.json"))
    return sorted(name for name in names if name.startswith(incomplete))
