"""What a long run costs the machine, noted from inside by a callback that tests name in a config."""

import json
import os
import time
from pathlib import Path

from lightning.pytorch import Callback


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class SoakRecorder(Callback):
    """Appends a line of memory, open files, threads, event file and seconds for every stretch of steps."""

    def __init__(self, every_n_steps: int = 100) -> None:
        self.every_n_steps = every_n_steps
        self._steps_s = 0.0
        self._began = 0.0

    def on_train_batch_start(self, *_):
        self._began = time.thread_time()

    def on_train_batch_end(self, trainer, *_):
        self._steps_s += time.thread_time() - self._began
        if trainer.global_step % self.every_n_steps:
            return
        events = sum(path.stat().st_size for path in Path(trainer.log_dir).glob("events.*"))
        line = {
            "step": trainer.global_step,
            "memory_mb": _resident_mb(),
            "files": len(os.listdir("/proc/self/fd")),
            "threads": len(os.listdir("/proc/self/task")),
            "events": events,
            "step_ms": 1000 * self._steps_s / self.every_n_steps,
        }
        self._steps_s = 0.0
        with Path("soak.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
