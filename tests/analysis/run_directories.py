"""Run directories, written without a run."""

import yaml


def written(folder, model, data, losses=None):
    """A decomposition and the config that names its data and losses."""
    model.save_pretrained(folder)
    (folder / "config.yaml").write_text(yaml.safe_dump({"trainer": {}, "model": {"losses": losses}, "data": data}))
    return folder
