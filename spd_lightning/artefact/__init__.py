from spd_lightning.artefact.export import load_attributed, load_decomposition, load_model, save_decomposition

__all__ = ["load_attributed", "load_decomposition", "load_model", "save_decomposition"]
