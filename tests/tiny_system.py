"""A system whose runs take a moment, as parts of the YAML files that tests write."""

MODEL = """\
model:
  target: {class_path: ToyModelOfSuperposition, init_args: {n_features: 3, n_hidden: 3}}
  recipe:
    class_path: FeatureTraining
    init_args: {steps: 500, batch_size: 128, lr: 2.0e-2, feature_probability: 0.3, weight_decay: 0.0}
  sites: {linear*: 4}
  ties: {linear2: linear1}
  warmup: {steps: 5}
  importance: {class_path: PerSite, init_args: {function: {class_path: GateMLP, init_args: {hidden: [3]}}}}
"""
LOSSES = """\
  losses:
    faithfulness: {class_path: Faithfulness}
    stochastic: {class_path: Reconstruction}
    layerwise: {class_path: Reconstruction, init_args: {routing: layerwise}}
    importance: {class_path: ImportanceMinimality, init_args: {coefficient: 3.0e-3}}
"""
"""The paper's four."""
ATTRIBUTION_MODEL = """\
method: apd
model:
  target: {class_path: ToyModelOfSuperposition, init_args: {n_features: 3, n_hidden: 3}}
  recipe:
    class_path: FeatureTraining
    init_args: {steps: 500, batch_size: 128, lr: 2.0e-2, feature_probability: 0.3, weight_decay: 0.0}
  sites: [linear1, linear2]
  n_components: 4
  k: 0.9
  ties: {linear2: linear1}
"""
DATA = """\
data:
  class_path: SparseFeatures
  init_args: {n_features: 3, batch_size: 16, val_batches: 2, val_batch_size: 8, feature_probability: 0.3}
"""


def trainer(max_steps: int, val_check_interval: int) -> str:
    """A trainer that logs into ``runs/tiny``; callbacks may follow."""
    return f"""\
trainer:
  max_steps: {max_steps}
  val_check_interval: {val_check_interval}
  enable_progress_bar: false
  logger:
    class_path: lightning.pytorch.loggers.TensorBoardLogger
    init_args: {{save_dir: runs, name: tiny, default_hp_metric: false}}
"""
