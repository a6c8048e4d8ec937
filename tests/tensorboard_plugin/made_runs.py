"""Run directories written by hand, without the package's writers: the tab reads files, whoever wrote them."""

import json

import numpy as np
from safetensors.numpy import save_file

CALLS, COUNT = ("h.0.fc", "h.1.out[v]"), 6
SIZES = {"h.0.fc": (4, 3), "h.1.out[v]": (3, 5)}
WEIGHTS = "cafe"
DENSITY = {
    "h.0.fc": np.array([0.5, 0.0, 0.25, 0.01, 0.0, 0.125], np.float32),
    "h.1.out[v]": np.array([0.1, 0.9, 0.0, 0.3, 0.2, 0.0], np.float32),
}
FIRINGS = {"h.0.fc": [50, 0, 25, 1, 0, 12], "h.1.out[v]": [10, 90, 0, 30, 20, 0]}
POSITIONS = 100


def vectors(seed=0):
    """``V`` and ``U`` by site."""
    draw = np.random.default_rng(seed)
    return {
        site: (
            draw.standard_normal((d_in, COUNT)).astype(np.float32),
            draw.standard_normal((COUNT, d_out)).astype(np.float32),
        )
        for site, (d_in, d_out) in SIZES.items()
    }


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_artefact(run, seed=0, ties=None):
    run.mkdir(parents=True, exist_ok=True)
    sites = {site: {"C": COUNT, "d_in": d_in, "d_out": d_out} for site, (d_in, d_out) in SIZES.items()}
    write_json(run / "config.json", {"format": 2, "sites": sites, "ties": ties or {}, "weights_fingerprint": WEIGHTS})
    tensors = {}
    for site, (V, U) in vectors(seed).items():
        name = site.replace(".", "-")
        tensors |= {f"components.{name}.V": V, f"components.{name}.U": U}
    save_file(tensors, run / "components.safetensors")


def write_scores(run):
    scores = {"l0/h.0.fc": 1.25, "l0/h.1.out[v]": 0.5, "alive/h.0.fc": 4.0, "alive/h.1.out[v]": 4.0}
    scores |= {"ablation/unmasked": 0.001, "ablation/ci_masked": 0.02, "ablation/rounded": 0.01, "ablation/zero": 0.5}
    scores |= {"ablation/constant": 0.4, "ablation/ladder_20": 0.05, "ablation/ladder_80": 0.1}
    scores |= {"task/cross_entropy/target": 1.5, "task/cross_entropy/ci_masked": 1.75, "ablation/worst_case": 0.05}
    write_json(
        run / "metrics.json", {"scores": scores, "steps": 40, "seed": 3, "settings": {"AblationCheck.distance": "kl"}}
    )
    (run / "config.yaml").write_text("model: {}\n")


def row(call, component):
    """A row of the harvest with one window around token 7."""
    place = {"example": 4, "document": 2, "position": 9, "inner": 1.5, "importance": 0.75, "at": 1}
    window = {"tokens": [5, 7, 6], "texts": ["a", " b", "\n"], "importances": [0.0, 0.75, 0.125]}
    together = [{"site": CALLS[1], "component": 3, "share": 0.5, "jaccard": 0.25}]
    return {
        "call": call,
        "component": component,
        "firings": FIRINGS[call][component],
        "density": 0.5,
        "mean_importance": 0.25,
        "positive": 1.0,
        "rms_inner": 2.0,
        "histogram": [90, 0, 10],
        "on": [{"token": 7, "text": " b", "precision": 0.5, "recall": 0.25, "pmi": 1.0}],
        "before": [{"token": 6, "text": "\n", "precision": 0.25, "recall": 1.0, "pmi": 2.0}],
        "together": together,
        "writes": [{"index": 2, "name": "cat", "weight": -0.5 - component}],
        "places": [{**place, **window}],
    }


def alive():
    return [(call, one) for call in CALLS for one in range(COUNT) if FIRINGS[call][one]]


def write_harvest(run):
    folder = run / "analysis"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "harvest.jsonl").write_text("".join(json.dumps(row(*key)) + "\n" for key in alive()))
    tensors = {}
    for number, call in enumerate(CALLS):
        tensors |= {
            f"{number}/firings": np.array(FIRINGS[call], np.int64),
            f"{number}/sums/terms": np.array([[FIRINGS[call], [9] * COUNT]] * 2, np.float64) / 4,
            f"{number}/positions": np.array(POSITIONS, np.int64),
        }
    notes = json.dumps({"format": 2, "weights": WEIGHTS, "calls": list(CALLS)})
    save_file(tensors, folder / "harvest.safetensors", {"harvest": notes})
    labels = [{"call": call, "component": one, "label": f"on {'xyz'[one % 3]}{one}"} for call, one in alive()]
    write_json(folder / "labels.json", {"weights": WEIGHTS, "labeller": "test", "labels": labels})
    groups = [
        {"firings": 60, "coherence": 0.5, "components": {CALLS[0]: [0, 2], CALLS[1]: [1]}},
        {"firings": 1, "coherence": 1.0, "components": {CALLS[0]: [3]}},
        {"firings": 20, "coherence": 0.75, "components": {CALLS[1]: [3, 4]}},
    ]
    settings = {"threshold": 0.1, "n_units": POSITIONS}
    write_json(folder / "mechanisms.json", {"weights": WEIGHTS, "settings": settings, "groups": groups})
    answer = {"call": CALLS[0], "component": 2, "odd": 3, "answer": 3}
    score = {"right": 1, "count": 1, "share": 1.0, "low": 0.2, "high": 1.0}
    content = {"weights": WEIGHTS, "judge": "nobody", "chance": 0.2, "score": score, "answers": [answer]}
    write_json(folder / "intruders.json", content)


def write_pictures(run):
    """Density, importances and single ablations; and what two validations kept."""
    folder = run / "analysis"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(DENSITY, folder / "density.safetensors", {"threshold": "0.1"})
    note = {"importances": json.dumps({"format": 1, "step": 40, "rows": "probes", "row_labels": ["p", "q"]})}
    values = np.arange(2 * COUNT, dtype=np.float16).reshape(2, COUNT) / 12
    tensors = {f"values/{CALLS[0]}": values, f"order/{CALLS[0]}": np.array([5, 0, 1, 2, 3, 4], np.int32)}
    save_file(tensors, folder / "importances.safetensors", note)
    change = np.arange(COUNT * 5, dtype=np.float32).reshape(COUNT, 5)
    distance = np.array([0.5, np.nan, 1.0, 0.0, np.nan, 0.0], np.float32)
    ablations = {f"change/{CALLS[0]}": change, f"distance/{CALLS[0]}": distance}
    save_file(ablations, folder / "ablations.safetensors", {"ablations": "{}"})
    for step in (10, 20):
        steps = folder / "steps" / f"step={step}"
        steps.mkdir(parents=True)
        save_file({call: density / step for call, density in DENSITY.items()}, steps / "density.safetensors")


def write_graph(run, name="text-1", text="a b"):
    """input -> two components -> output, with shares 3/4 and 1/4 of the output and a rest that goes nowhere."""
    columns = {
        "kind": [0, 1, 1, 2, 4],
        "place": [0, 1, 1, 1, 2],
        "index": [7, 2, 3, -1, 1],
        "position": [0, 0, 1, 1, 1],
    }
    floats = {
        "value": [1.0, 2.0, 3.0, 0.5, 4.0],
        "importance": [1.0, 0.5, 0.75, 1.0, 1.0],
        "entering": [0.0, 2.0, -1.0, 0.0, 4.0],
        "total": [0.0, 2.0, 1.0, 0.0, 4.0],
    }
    edges = {"source": [0, 0, 1, 2], "target": [1, 2, 4, 4]}
    weights = {"signed": [2.0, -1.0, 3.0, 1.0], "absolute": [2.0, 1.0, 3.0, 1.0]}
    whole = {key: np.array(column, np.int64) for key, column in (columns | edges).items()}
    reals = {key: np.array(column, np.float64) for key, column in (floats | weights).items()}
    folder = run / "analysis" / "graphs"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(whole | reals, folder / f"{name}.safetensors")
    notes = {"text": text, "output_names": {"1": "c"}, "said": ["a line"], "weights": WEIGHTS}
    content = {"format": 1, "places": ["wte", CALLS[0], "output"], "examples": 0, "tokens": ["a", "b"], "notes": notes}
    write_json(folder / f"{name}.json", content)


def write_circuit(run, name="a_b"):
    folder = run / "analysis" / "circuits"
    folder.mkdir(parents=True, exist_ok=True)
    columns = {"calls": [0, 1], "rows": [0, 0], "positions": [0, 1], "components": [2, 4]}
    tensors = {f"0/{key}": np.array(column, np.int64) for key, column in columns.items()}
    save_file(tensors | {"0/importances": np.array([0.5, 1.0], np.float32)}, folder / f"{name}.safetensors")
    outcome = {"distance": [1.0, 3.0], "right": [1.0, 0.0]}
    found = {"with the adversary": {"nodes": [2], "outcomes": {"attacked": outcome}}}
    calls = {call: [1, 2, COUNT] for call in CALLS}
    about = {"text": ["a b"], "title": "a b | wanted: c"}
    content = {"format": 1, "about": about, "goal": {"distance": "kl"}, "calls": calls}
    write_json(folder / f"{name}.json", {**content, "outcomes": {"target": outcome}, "circuits": found})


def write_run(run, seed=0):
    """A run with everything."""
    for write in (write_scores, write_harvest, write_pictures, write_graph, write_circuit):
        write(run)
    write_artefact(run, seed)
    return run
