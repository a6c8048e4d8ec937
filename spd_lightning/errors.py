"""The error that users are meant to read."""


class UsageError(ValueError):
    """Something that the user gave cannot work. The message is one line: what, the rule, the value, the way out.

    The command line prints it without a traceback and exits with code 2.
    """
