"""The one error tree. A message says what failed, with which value, and what to do next.

AnyloomError
├── UserError            exit code 2: the user can mend it
│   ├── InputError       a file, a request or an option that cannot be used
│   ├── PlanError        no valid plan for this request
│   ├── UnknownName      a tool, expert, controller, run or thread that does not exist
│   └── SettingsError    a flag, variable or settings file with a wrong value
└── SystemFault          exit code 1: ours, or the machine's
    ├── WeightsError     weights that cannot be fetched, verified or opened
    ├── ExpertError      an expert failed (`retryable` says whether trying again can help)
    ├── PluginError      a plugin that cannot be loaded or breaks its contract
    └── StorageError     the data folder cannot be read or written
Cancelled                not an error: the user stopped the run
"""


class AnyloomError(Exception):
    """Root of everything anyloom raises on purpose; `exit_code` is what the CLI returns."""

    exit_code = 1


class UserError(AnyloomError):
    """The user can mend it; nothing was changed."""

    exit_code = 2


class InputError(UserError):
    """A file, request or option that cannot be used."""


class PlanError(UserError):
    """The request could not be turned into a valid plan; `problems` lists every fault found."""

    def __init__(self, message: str, problems: tuple[str, ...] = ()):
        super().__init__(message)
        self.problems = problems


class UnknownName(UserError):
    """A tool, expert, controller, run or thread that does not exist."""


class SettingsError(UserError):
    """A flag, environment variable or settings file with a wrong value."""


class SystemFault(AnyloomError):
    """Not the user's fault."""


class WeightsError(SystemFault):
    """Weights that cannot be fetched, verified or opened."""


class ExpertError(SystemFault):
    """An expert failed. `retryable`: the same call may succeed when tried again."""

    def __init__(self, message: str, retryable: bool = False):
        super().__init__(message)
        self.retryable = retryable


class PluginError(SystemFault):
    """A plugin that cannot be loaded or breaks its contract."""


class StorageError(SystemFault):
    """The data folder cannot be read or written."""


class Cancelled(AnyloomError):
    """The user stopped the run."""

    exit_code = 130


def nearest(name: str, known: list[str] | tuple[str, ...]) -> str:
    """`", did you mean 'x'?"` when a known name is close to `name`, else an empty string."""
    import difflib

    close = difflib.get_close_matches(name, list(known), n=1)
    return f", did you mean '{close[0]}'?" if close else ""
