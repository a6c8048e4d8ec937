"""Names of commands and of flags, as far as they are the same in every config; a test compares them with the parser."""

RUNNING = ("fit", "validate", "test", "predict")
"""Commands that run something; each takes a config."""
LISTING = "configs"
COMMANDS = (*RUNNING, LISTING)
HELP_FLAGS = ("-h", "--help")
PARTS = ("all", "trainer", "model", "data")
"""What ``--help.PART`` shows."""

_EVERYWHERE = "ckpt_path config data init_from method model print_config seed_everything trainer weights_only"
_OWN = {
    "fit": "resume",
    "validate": "verbose",
    "test": "verbose",
    "predict": "input output return_predictions",
}
_TRAINER = """
    accelerator accumulate_grad_batches barebones benchmark callbacks check_val_every_n_epoch default_root_dir
    detect_anomaly deterministic devices enable_autolog_hparams enable_checkpointing enable_model_summary
    enable_progress_bar fast_dev_run gradient_clip_algorithm gradient_clip_val inference_mode limit_predict_batches
    limit_test_batches limit_train_batches limit_val_batches log_every_n_steps logger max_epochs max_steps max_time
    min_epochs min_steps model_registry num_nodes num_sanity_val_steps overfit_batches plugins precision profiler
    reload_dataloaders_every_n_epochs strategy sync_batchnorm use_distributed_sampler val_check_interval
"""
_MODEL = """
    attribution_source call fast importance init init_scale k kinds leak losses merging n_components optimization rank
    recipe save_target seed sites speed target tied_updates ties unit_norm use_delta warmup
    optimization.clip_components optimization.clip_importance optimization.final_fraction optimization.importance_lr
    optimization.importance_weight_decay optimization.lr optimization.schedule optimization.warmup_fraction
    merging.every merging.loss merging.remainder merging.spread merging.start merging.unused
    speed.compile speed.step speed.table_nodes speed.table_tolerance warmup.lr warmup.steps warmup.weight_decay
"""


def known_flags(command: str) -> set[str]:
    """Flags that a command takes with some method, without their dashes; below some of them any name may follow."""
    trainer = {f"trainer.{name}" for name in _TRAINER.split()}
    model = {f"model.{name}" for name in _MODEL.split()}
    return {*_EVERYWHERE.split(), *_OWN[command].split(), *trainer, *model}


def is_known(flag: str, known: set[str]) -> bool:
    """Whether a flag has a possible form: it is known, or it goes on below one that has no names of its own here.

    Args:
        flag: without dashes and value.
        known: as by :func:`known_flags`.
    """
    groups = {name.rpartition(".")[0] for name in known}
    parts = flag.removesuffix("+").removesuffix(".help").split(".")
    above = {".".join(parts[:length]) for length in range(1, len(parts))}
    return ".".join(parts) in known or bool(above & (known - groups))
