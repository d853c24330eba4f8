"""What several pocket experts hold in common is held once: opened by the first, let go with the last.

features = held("text", lambda: Features.open(folder))
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

WEIGHTS = "pkg:anyloom.weights/pocket-{}"
CARD = "weights/pocket-{}/README.md"  # where data, recipe, figures and limits are told

_open: WeakValueDictionary[str, Any] = WeakValueDictionary()
_opening = threading.RLock()


def missing(model: str, file: str) -> str | None:
    """None where the weights of this pocket model ship with this version, else one sentence."""
    from .... import weights

    if (Path(weights.__path__[0]) / f"pocket-{model}" / file).exists():
        return None
    return "Its trained weights do not ship with this version yet; train it (docs/pocket-models.md)."


def held(key: str, make: Callable[[], Any]) -> Any:
    """The thing of this name, made if nobody holds it now."""
    with _opening:
        found = _open.get(key)
        if found is None:
            found = _open[key] = make()
        return found
