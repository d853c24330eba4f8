"""The command line: `anyloom`. One file per family of commands below `commands/`.

Exit codes: 0 done, 1 our fault or the machine's, 2 the user can mend it, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import sys

import click

from ..core.errors import AnyloomError
from .commands import (
    ask,
    chat,
    compare,
    eval_suite,
    inspect,
    mcp,
    plan,
    plugin,
    runs,
    serve,
    train,
    web,
    weights,
    worker,
)

VERSION_FROM = "anyloom"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name=VERSION_FROM)
def cli() -> None:
    """Turns any mix of text, pictures, sound and video into any other.

    \b
    anyloom ask "Read this note aloud" --attach note.png --out .
    anyloom tools
    anyloom doctor
    """


for module in (ask, compare, chat, web, serve, worker, mcp, plan, inspect, plugin, runs, weights, train, eval_suite):
    for command in module.COMMANDS:
        cli.add_command(command)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns the exit code; never shows a traceback."""
    try:
        result = cli.main(args=arguments, prog_name="anyloom", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as e:
        return e.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("\nStopped.", err=True)
        return 130
    except click.ClickException as e:
        e.show()
        return 2
    except AnyloomError as e:
        click.echo(f"anyloom: {e}", err=True)
        return e.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except Exception as e:  # ours: one sentence for the user, the traceback for the report
        click.echo(
            f"anyloom: an unexpected {type(e).__name__} ({_one_line(e)}); details are in {_crash_file()}.", err=True
        )
        return 1


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or "no message"


def _crash_file() -> str:
    """Writes the traceback aside and says where."""
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="anyloom-crash-", suffix=".txt", delete=False) as out:
        traceback.print_exc(file=out)
    return out.name


def entry() -> None:
    """The console script."""
    sys.exit(main())
