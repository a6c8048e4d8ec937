"""The short help: what a run needs first, then where the rest is."""

import textwrap

from spd_lightning.cli.flags import LISTING

WIDTH, INDENT = 100, 40
ABOUT = {
    "fit": "Train a decomposition, test it, and leave a run directory with scores, pictures and checkpoints.",
    "validate": "Score a checkpoint on the validation batches.",
    "test": "Score a checkpoint as at the end of fit.",
    "predict": "Write how important each component is for each example.",
    LISTING: "List the configs that come with the package.",
}
BESIDE = {
    "python -m spd_lightning.recommend --config NAME": "components, batch and steps for a network of your own",
    "python -m spd_lightning.sweep --config NAME --over FLAG=A,B": "one run per value, in one table",
    "python -m spd_lightning.report RUN_DIR [RUN_DIR ...]": "a page on a run, or a table of several",
    "python -m spd_lightning.analysis agreement RUN_DIR RUN_DIR ...": "do runs with other seeds find the same?",
}
"""Programs of their own."""
EXAMPLES = {
    "fit": [
        "fit --config tms.yaml",
        "fit --config tms.yaml --model.losses.importance.coefficient 2e-3",
        "fit --config tms.yaml --resume auto",
    ],
    "validate": ["validate --ckpt_path runs/tms/version_0"],
    "test": ["test --ckpt_path runs/tms/version_0"],
    "predict": ["predict --ckpt_path runs/tms/version_0 --input x.csv --output ci.csv"],
    LISTING: [LISTING],
}
_CONFIG = {"--config NAME": "path or name of a shipped config; several add up, the last word counts"}
_CHECKPOINT = {
    "--ckpt_path PATH": "checkpoint, run directory (its newest checkpoint), or last; brings its config, but for last"
}
_TRAINER = {
    "--trainer.devices N": "processes; several with --trainer.strategy ddp or sharded",
    "--trainer.accelerator NAME": "auto, cpu, gpu",
    "--trainer.precision NAME": "32-true, bf16-mixed, ...",
}
FLAGS = {
    "fit": {
        **_CONFIG,
        "--resume auto": "go on where the same command was stopped, or start",
        "--ckpt_path PATH": "go on from a checkpoint, a run directory (its newest checkpoint) or the last run: last",
        "--init_from PATH": "start from the weights of another run",
        "--seed_everything N": "one seed for components, masks and data",
        "--method NAME": "spd (default), or apd, the older method",
        "--model.target.NAME VALUE": "an argument of the network, likewise --model.recipe.NAME",
        "--model.sites '{PATTERN: C}'": "which weights are decomposed, into how many components",
        "--model.losses.TERM.NAME VALUE": "an argument of a loss, such as --model.losses.importance.coefficient",
        "--model.optimization.lr X": "learning rate; also importance_lr, schedule, ...",
        "--model.warmup.steps N": "steps of faithfulness alone, before the first; below 1 a share of max_steps",
        "--model.merging.start FRACTION": "from when on what a site can do without goes into its other components",
        "--data.NAME VALUE": "an argument of the data, such as --data.batch_size",
        "--trainer.max_steps N": "length of the run; schedules span it",
        "--trainer.val_check_interval N": "steps between two validations",
        **_TRAINER,
        "--trainer.logger.NAME VALUE": "save_dir, name and version are the run directory",
        "--trainer.callbacks+ CLASS": "one callback more",
        "--print_config": "print the whole configuration, and run nothing",
    },
    "validate": {**_CHECKPOINT, **_CONFIG, **_TRAINER},
    "test": {**_CHECKPOINT, **_CONFIG, **_TRAINER},
    "predict": {
        **_CHECKPOINT,
        "--input FILE": "examples, .csv, .npy or .pt; one-hot probes if left out",
        "--output FILE": "where to write importances, .csv or .pt",
        **_CONFIG,
    },
}
MORE = {
    "--help.all": "every option with its type and default",
    "--help.trainer": "those of the trainer; likewise --help.model, --help.data",
    "--model.target.help CLASS": "arguments of a class, for every option that names one",
}


def overview() -> str:
    """The commands, an example, and where to go on."""
    lines = ["usage: python -m spd_lightning COMMAND [FLAGS]", "", *_examples("fit", "test", "predict"), "", "commands"]
    lines += [f"  {name:12}{about}" for name, about in ABOUT.items()]
    lines += ["", "beside them", *(f"  {name}\n      {about}" for name, about in BESIDE.items())]
    return "\n".join([*lines, "", "COMMAND --help tells the flags that a run needs, COMMAND --help.all every one.", ""])


def command_help(command: str) -> str:
    """What a command does, examples, the flags that a run needs, and how to get at the others.

    Args:
        command: one of :data:`ABOUT`.
    """
    lines = [f"usage: python -m spd_lightning {command}{' [FLAGS]' * (command in FLAGS)}", "", ABOUT[command], ""]
    lines += _examples(command)
    if command in FLAGS:
        lines += ["", "flags", *_table(FLAGS[command]), "", "the rest", *_table(MORE)]
    return "\n".join([*lines, ""])


def _examples(*commands: str) -> list[str]:
    return [f"  python -m spd_lightning {example}" for command in commands for example in EXAMPLES[command]]


def _table(rows: dict[str, str]) -> list[str]:
    """Flags on the left, what they say on the right."""
    lines = []
    for flag, says in rows.items():
        first, *others = textwrap.wrap(says, WIDTH - INDENT)
        lines += [f"  {flag:{INDENT - 2}}{first}", *(" " * INDENT + line for line in others)]
    return lines
