"""A tab in TensorBoard for the components of runs; TensorBoard finds it by the entry point ``tensorboard_plugins``."""

from spd_lightning.tensorboard_plugin.plugin import ComponentsPlugin

__all__ = ["ComponentsPlugin"]
