"""TensorBoard with the Components tab; ``python -m tests.tensorboard_plugin.browser.server LOGDIR`` says where."""

import sys
import time

from tensorboard import default, program

from spd_lightning.tensorboard_plugin.plugin import ComponentsPlugin


def serve(logdir: str) -> None:
    """Serve until killed. Where the package is installed without its entry point, the tab is added by hand."""
    plugins = default.get_plugins()
    if ComponentsPlugin not in plugins:
        plugins.append(ComponentsPlugin)
    board = program.TensorBoard(plugins=plugins)
    board.configure(argv=["", "--logdir", logdir, "--port", "0", "--load_fast", "false", "--reload_interval", "1"])
    print(board.launch(), flush=True)  # noqa: T201
    time.sleep(3600)


if __name__ == "__main__":
    serve(sys.argv[1])
