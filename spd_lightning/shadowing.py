"""A module of the user's that hides one that the package is made of."""

import sys
from importlib.util import find_spec
from pathlib import Path

from spd_lightning.errors import UsageError


def check_own_callbacks() -> None:
    """Raise a :class:`UsageError` if ``callbacks`` is another package than the one that stands beside this one.

    ``python -m`` searches the working directory first, so that a folder or module of that name there comes before it.
    """
    own = Path(__file__).resolve().parent.parent / "callbacks"
    found = find_spec("callbacks")
    if found is not None and found.origin is not None and Path(found.origin).resolve().parent != own:
        raise UsageError(
            f"callbacks: {found.origin} hides the package of that name that comes with spd_lightning; "
            "give it another name, for example my_callbacks"
        )


def leave_if_hidden() -> None:
    """End the process with one line and code 2 where :func:`check_own_callbacks` raises."""
    try:
        check_own_callbacks()
    except UsageError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
