"""The error that users are meant to read."""


class UsageError(ValueError):
    """Something that the user gave cannot work. The message is one line: what, the rule, the value, the way out.

    The command line prints it without a traceback and exits with code 2.
    """


def check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Raise a :class:`UsageError` that names the argument unless its value is one of the choices."""
    if value not in choices:
        raise UsageError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
