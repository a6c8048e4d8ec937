"""Commands as processes that can be killed, forked from one that has imported everything: seconds saved for each.

Reads one JSON object a line, ``{"args": [...], "folder": ..., "environment": {...}}``; answers with the process's id,
and with its exit code when it has ended.
"""

import json
import os
import sys
import traceback

from spd_lightning.cli.command import main


def run(args, folder, environment):
    os.chdir(folder)
    os.environ.update(environment)
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 0
    try:
        main(args)
    except SystemExit as stopped:
        code = stopped.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # not into the loop below


if __name__ == "__main__":
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run(**json.loads(line))
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()
