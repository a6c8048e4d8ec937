"""Where pictures and files of a run go."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from numpy.typing import NDArray
from safetensors.torch import save_file
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from torch import Tensor

from spd_lightning.files.fingerprint import state_fingerprint
from spd_lightning.files.whole import written_whole
from spd_lightning.methods import Decomposition
from spd_lightning.methods.checkpointed import keeps_files
from spd_lightning.runs.analysis_files import FOLDER

DPI = 120
MOST_KEPT = 1 << 25
"""Bytes of arrays that are kept in one file."""
_KEPT: WeakKeyDictionary[Trainer, dict[str, Figure]] = WeakKeyDictionary()
_SHOWN: WeakKeyDictionary[Trainer, dict[str, tuple[int, bytes]]] = WeakKeyDictionary()
"""Step and digest of the last picture of each tag."""


def run_folder(trainer: Trainer) -> Path | None:
    """The run directory, on rank zero, which alone writes; ``None`` on others, or if nothing is kept.

    ``trainer.log_dir`` is not asked: it passes the answer around, and where rank zero alone asks, all wait forever.
    """
    if not trainer.is_global_zero or not keeps_files(trainer):
        return None
    logger = trainer.logger
    if logger is None:
        return Path(trainer.default_root_dir)
    own = isinstance(logger, TensorBoardLogger | CSVLogger)
    return Path((logger.log_dir if own else logger.save_dir) or trainer.default_root_dir)


def tensorboard(trainer: Trainer) -> TensorBoardLogger | None:
    """The first TensorBoard logger, if the run has one."""
    return next((logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)), None)


def forget_events(logger: TensorBoardLogger, step: int) -> None:
    """Tell TensorBoard that what earlier parts of a run logged from a step on is void; their files keep it.

    Args:
        logger: where the run logs to.
        step: the first step that is void.
    """
    writer = logger.experiment.file_writer
    if writer is not None and len(list(Path(logger.log_dir).glob("events.out.tfevents.*"))) > 1:
        writer.add_event(Event(session_log=SessionLog(status=SessionLog.START)), step)


def apart(logger: TensorBoardLogger, suffix: str, again: bool) -> None:
    """Write further events to a file of their own, so that a part of the run can be repeated as a whole.

    Args:
        logger: where the run logs to.
        suffix: end of the file's name.
        again: whether earlier files of that suffix are void; they are removed.
    """
    writer = logger.experiment
    writer.close()
    writer.filename_suffix = suffix
    for path in Path(logger.log_dir).glob(f"events.out.tfevents.*{suffix}") if again else ():
        path.unlink()


def keep_arrays(
    trainer: Trainer,
    name: str,
    arrays: Mapping[str, Tensor],
    notes: Mapping[str, str] | None = None,
    most: int = MOST_KEPT,
) -> None:
    """Write arrays to ``analysis/NAME.safetensors`` in the run directory, if there is one; larger ones are not kept.

    To be called on rank zero alone, or on every process: the others write nothing.

    Args:
        trainer: the trainer.
        name: may hold folders, such as ``pictures/val_importance_heatmap``.
        arrays: tensors by name, on any device.
        notes: texts beside them.
        most: bytes of all arrays together above which nothing is written.
    """
    folder = run_folder(trainer)
    if folder is None or sum(array.numel() * array.element_size() for array in arrays.values()) > most:
        return
    with written_whole(folder / FOLDER / f"{name}.safetensors") as aside:
        apart = {key: array.detach().cpu().contiguous().clone() for key, array in arrays.items()}
        save_file(apart, aside, dict(notes or {}))


def weights_of(trainer: Trainer, module: Decomposition) -> str | None:
    """Fingerprint of a decomposition that is scored, as analyses of its run name it; ``None`` while it is trained.

    To be called on every process. On others than rank zero it is ``None`` too.
    """
    if trainer.state.fn == "fit":
        return None
    state = module.whole_state()
    return state_fingerprint(state) if trainer.is_global_zero else None


def publish_figure(trainer: Trainer, name: str, figure: Figure, arrays: Mapping[str, Tensor] | None = None) -> None:
    """Write a figure to TensorBoard, as ``pictures/NAME``, and to ``figures/STAGE_NAME.png`` in the run directory.

    Where a run has neither, the figure is kept for :func:`figures_of`. The arrays that it shows go to
    ``analysis/pictures/STAGE_NAME.safetensors``, see :func:`keep_arrays`.

    To be called on rank zero alone; figures are drawn there only.

    Args:
        trainer: the trainer.
        name: ``stage/name``.
        figure: the picture.
        arrays: what is drawn, tensors by name; ``None`` keeps none.
    """
    logger, folder = tensorboard(trainer), run_folder(trainer)
    if logger is None and folder is None:
        _KEPT.setdefault(trainer, {})[name] = figure
        return
    picture = _drawn(figure)  # once for both: drawing is what takes time
    if logger is not None:
        _show(trainer, logger, name, picture)
    if folder is not None:
        file = name.replace("/", "_")
        with written_whole(folder / "figures" / f"{file}.png") as aside:
            imsave(aside, picture, format="png", dpi=DPI, metadata={"Description": str(figure.get_label())})
        if arrays is not None:
            keep_arrays(trainer, f"pictures/{file}", arrays)


def figures_of(trainer: Trainer) -> dict[str, Figure]:
    """Figures that were published where nothing is written, the last of each name."""
    return dict(_KEPT.get(trainer, {}))


def _show(trainer: Trainer, logger: TensorBoardLogger, name: str, picture: NDArray[np.uint8]) -> None:
    """Write a picture once: a test at the step of the last validation may draw the same again.

    Other pictures of that step get a tag of their own, since TensorBoard shows one picture per tag and step. The group
    sorts behind the headline.
    """
    stage, _, what = name.partition("/")
    tag, digest = f"pictures/{what}", sha256(picture.tobytes()).digest()
    shown = _SHOWN.setdefault(trainer, {})
    step, last = shown.get(tag, (-1, b""))
    if (step, last) == (trainer.global_step, digest):
        return
    if step == trainer.global_step:
        tag = f"{tag}/{stage}"
    shown[tag] = trainer.global_step, digest
    logger.experiment.add_image(tag, picture, global_step=trainer.global_step, dataformats="HWC")


def _drawn(figure: Figure) -> NDArray[np.uint8]:
    """The figure as pixels, ``[height, width, RGB]``."""
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]
