"""By what a file was written."""

from importlib.metadata import PackageNotFoundError, version


def library_version() -> str:
    """Version of the installed package."""
    try:
        return version("spd-lightning")
    except PackageNotFoundError:  # running from a checkout that was never installed
        return "unknown"
