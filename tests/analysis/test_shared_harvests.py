"""Harvests that several processes share, against one that a single process has made."""

import json
import os
import shutil
import signal
from multiprocessing import Pipe

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from spd_lightning import DecomposedModel, UsageError
from spd_lightning.analysis import harvest_files
from spd_lightning.analysis.__main__ import main
from spd_lightning.analysis.commands import harvest as command
from spd_lightning.analysis.commands import workers
from spd_lightning.analysis.harvest import gather, options
from spd_lightning.analysis.harvest_tally import Share, Tally, shares
from tests.analysis.killed_harvests import FILES
from tests.analysis.test_harvest import BOUNDARY, THRESHOLD, _model, _text
from tests.networks.zoo import example

CHOSEN = ["--units", "50", "--places", "3"]
PART = "harvest.part-1-of-2.safetensors"


def _again(tally):
    """A tally as it comes back from a file."""
    tensors = {name: tensor.contiguous().clone() for name, tensor in tally.tensors().items()}
    return Tally.of(json.loads(json.dumps(tally.notes())), tensors)


def _joined(model, batches, chosen, count):
    parts = []
    for share in shares(count, len(batches)):
        parts.append(Tally(model, chosen, BOUNDARY, share))
        gather(parts[-1], model, batches)
    whole, *others = map(_again, parts)
    for other in others:
        whole.add(other)
    return whole


def test_shares_follow_each_other():
    assert shares(3, 7) == [Share(0, 2), Share(2, 4), Share(4, 7)]
    assert shares(3, 2) == [Share(0, 0), Share(0, 1), Share(1, 2)]


@pytest.mark.parametrize("count", [2, 3, 7])
@pytest.mark.parametrize("name", ["cnn", "shared layer", "pooled head", "text"])
def test_shares_together_are_what_one_process_adds_up(name, count):
    if name == "text":
        model, batches = _model("padded dictionary"), [_text(seed) for seed in range(5)]
        batches[2] = {key: part[:, :4] for key, part in batches[2].items()}  # shorter, and with fewer examples
        batches[4] = {key: part[:1] for key, part in batches[4].items()}
    else:
        model, batches = _model(name), [example(name, seed) for seed in range(5)]
    chosen = options(threshold=THRESHOLD, units=9, places=2, reach=2)
    whole = Tally(model, chosen, BOUNDARY)
    gather(whole, model, batches)
    found = _joined(model, batches, chosen, count)
    assert {**found.notes(), "share": (0, None)} == whole.notes()
    expected = whole.tensors()
    assert len(expected["firings/kept"]) <= 9  # some were let go
    assert list(found.tensors()) == list(expected)
    for key, tensor in found.tensors().items():
        assert tensor.dtype == expected[key].dtype
        assert torch.equal(tensor, expected[key]), key


def test_data_that_ends_too_early_is_refused():
    model, batches = _model("shared layer"), [example("shared layer", seed) for seed in range(3)]
    with pytest.raises(UsageError, match="the data ended after 3 batches, not 4"):
        gather(Tally(model, options(), None, Share(2, 4)), model, batches)


def test_sites_whose_positions_differ_between_batches_are_refused():
    model, batches = _model("shared layer"), [example("shared layer", seed) for seed in range(2)]
    one, other = (Tally(model, options(), None, share) for share in shares(2, 2))
    gather(one, model, batches)
    gather(other, model, batches)
    other.dimensions += 1
    with pytest.raises(UsageError, match="positions of sites differ"):
        one.add(other)


def _bytes(run):
    assert sorted(path.name for path in (run / "analysis").iterdir()) == sorted(FILES)
    return [(run / "analysis" / name).read_bytes() for name in FILES]


def _as_ranks(run, count, monkeypatch, ranks=None):
    """Harvest as torchrun starts it; the first process comes last, since it waits for the others."""
    with monkeypatch.context() as patch:
        patch.setattr(harvest_files, "INTERVAL_S", 0.0)  # kept after every batch
        patch.setenv("WORLD_SIZE", str(count))
        for rank in reversed(range(count)) if ranks is None else ranks:
            patch.setenv("RANK", str(rank))
            main(["harvest", str(run), *CHOSEN])


@pytest.mark.parametrize("name", ["toy_run", "language_run"])
def test_processes_of_torchrun_leave_the_bytes_of_one(name, request, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SPD_LIGHTNING_CACHE", str(tmp_path / "cache"))
    run = request.getfixturevalue(name)
    copies = {count: shutil.copytree(run, tmp_path / f"of_{count}") for count in (2, 3)}
    main(["harvest", str(run), *CHOSEN])
    said = capsys.readouterr().out
    for count, copy in copies.items():
        _as_ranks(copy, count, monkeypatch)
        assert _bytes(copy) == _bytes(run)
        assert capsys.readouterr().out == said.replace(str(run), str(copy))  # once, by the first
        _as_ranks(copy, count, monkeypatch)
        assert capsys.readouterr().out.endswith("is finished already; nothing was done\n")
        assert _bytes(copy) == _bytes(run)


def test_more_processes_than_batches_leave_the_same(toy_run, tmp_path, monkeypatch):
    copy = shutil.copytree(toy_run, tmp_path / "copy")
    main(["harvest", str(toy_run), *CHOSEN])
    _as_ranks(copy, 6, monkeypatch)
    assert _bytes(copy) == _bytes(toy_run)


def test_the_first_process_waits_for_the_others(toy_run, monkeypatch):
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        _as_ranks(toy_run, 2, monkeypatch, [1])

    monkeypatch.setattr(command, "time", type("Time", (), {"sleep": staticmethod(sleep)}))
    _as_ranks(toy_run, 2, monkeypatch, [0])
    assert waited == [command.PATIENCE_S]
    assert len(_bytes(toy_run)) == 2


def test_one_that_is_killed_is_told_of_and_gone_on_with(toy_run, tmp_path, capsys):
    """Processes of the command itself; the second one is killed at its first batch."""
    config = yaml.safe_load((toy_run / "config.yaml").read_text())
    mark = tmp_path / "mark"
    config["data"] = {"class_path": "tests.analysis.dying_data.DyingFeatures", "init_args": {"mark": str(mark)}}
    (toy_run / "config.yaml").write_text(yaml.safe_dump(config))
    alone = shutil.copytree(toy_run, tmp_path / "alone")
    main(["harvest", str(alone), *CHOSEN, "--import_classes"])
    said = capsys.readouterr().out
    mark.touch()
    given = ["harvest", str(toy_run), *CHOSEN, "--import_classes", "--processes", "2"]
    with pytest.raises(SystemExit) as stopped:
        main(given)
    assert stopped.value.code == 2
    assert _told(capsys) == [
        f"error: harvest: one of the processes was ended by signal {signal.SIGKILL.value}; "
        "the same command goes on from what was kept"
    ]
    assert not mark.exists()
    main(given)
    assert _bytes(toy_run) == _bytes(alone)
    assert capsys.readouterr().out == said.replace(str(alone), str(toy_run))


@pytest.fixture
def pipe(monkeypatch):
    """What a process tells, and what it tells it through; its signals are left as they are."""
    monkeypatch.setattr(workers.signal, "signal", lambda number, handler: None)
    receiver, sender = Pipe(duplex=False)
    with receiver, sender:
        yield receiver, sender


def test_what_a_process_tells_is_heard(pipe):
    receiver, sender = pipe
    heard = []

    def work(index, moved):
        moved(index)
        raise UsageError("this cannot work")

    with pytest.raises(SystemExit) as stopped:
        workers._run(work, 3, torch.get_num_threads(), sender)
    assert stopped.value.code == 2
    sender.close()
    assert workers._heard(receiver, heard.append)
    assert heard == [3]
    with pytest.raises(UsageError, match=r"^this cannot work$"):
        workers._heard(receiver, heard.append)
    assert not workers._heard(receiver, heard.append)


def test_a_process_ends_when_nobody_listens_any_more(pipe):
    receiver, sender = pipe
    receiver.close()
    with pytest.raises(SystemExit) as stopped:
        workers._run(lambda index, moved: moved(1), 0, torch.get_num_threads(), sender)
    assert stopped.value.code == 1


def _told(capsys):
    """Lines of errors; on a slow machine there are others, of how far it is."""
    return [line for line in capsys.readouterr().err.splitlines() if not line.startswith("harvest: ")]


def _refused(capsys, *given):
    with pytest.raises(SystemExit) as stopped:
        main(["harvest", *map(str, given), *CHOSEN])
    assert stopped.value.code == 2
    (told,) = _told(capsys)
    assert told.startswith("error: ")
    return told


def test_places_that_cannot_be_are_refused(toy_run, monkeypatch, capsys):
    assert "--processes must be at least 1, got 0" in _refused(capsys, toy_run, "--processes", 0)
    assert "--processes must be at most 256" in _refused(capsys, toy_run, "--processes", 257)
    for rank, world in [("2", "2"), ("-1", "2"), ("zero", "2"), ("0", "many"), ("0", "1000")]:
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", world)
        assert f"RANK={rank!r} of WORLD_SIZE={world!r} is no place" in _refused(capsys, toy_run)
    assert "leave one out" in _refused(capsys, toy_run, "--processes", 2)
    assert not (toy_run / "analysis").exists()


def test_parts_of_another_number_of_processes_are_refused(toy_run, monkeypatch, capsys):
    _as_ranks(toy_run, 2, monkeypatch, [1])
    part = toy_run / "analysis/harvest.part-2-of-2.safetensors"
    kept = part.read_bytes()
    for given in ([], ["--processes", 3]):
        told = _refused(capsys, toy_run, *given)
        assert f"{str(part)!r} was begun with another number of processes; give 2, or move it away" in told
    assert part.read_bytes() == kept
    assert [path.name for path in (toy_run / "analysis").iterdir()] == [part.name]


def test_a_part_of_one_process_is_refused_by_several(toy_run, capsys):
    (toy_run / "analysis").mkdir()
    (toy_run / "analysis/harvest.part.safetensors").write_bytes(b"")
    assert "another number of processes; give 1, or" in _refused(capsys, toy_run, "--processes", 2)


def test_parts_that_are_not_of_this_share_are_refused(toy_run, monkeypatch, capsys):
    _as_ranks(toy_run, 2, monkeypatch, [1])
    part = toy_run / "analysis/harvest.part-2-of-2.safetensors"
    part.rename(toy_run / "analysis" / PART)
    _as_rank_0(monkeypatch)
    assert "is of batches [2, 4], not [0, 2]" in _refused(capsys, toy_run)
    assert "was made with other options" in _refused(capsys, toy_run, "--threshold", 0.7)
    model = DecomposedModel.from_pretrained(toy_run)
    with torch.no_grad():
        model.components["linear1"].V.mul_(2)
    model.save_pretrained(toy_run)
    assert "is of other weights" in _refused(capsys, toy_run)


def _as_rank_0(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")


def _rewritten(path, change):
    """Change what a part holds."""
    with safe_open(path, framework="pt") as file:
        notes = json.loads(file.metadata()["harvest"])
    tensors = load_file(path)
    change(notes, tensors)
    os.unlink(path)
    save_file(tensors, path, {"harvest": json.dumps(notes)})


HOSTILE = {
    "no tensors of a call": lambda notes, tensors: notes["calls"].append("linear3"),
    "counts of another width": lambda notes, tensors: notes["counts"].update(linear1=9),
    "a negative number": lambda notes, tensors: notes.update(examples=-1),
    "a number as text": lambda notes, tensors: notes.update(batches="2"),
    "no share": lambda notes, tensors: notes.pop("share"),
    "another format": lambda notes, tensors: notes.update(format=1),
    "unknown options": lambda notes, tensors: notes["options"].update(more=1),
    "another type": lambda notes, tensors: tensors.update({"0/firings": tensors["0/firings"].float()}),
    "another length": lambda notes, tensors: tensors.update({"0/positive": tensors["0/positive"][:2].clone()}),
    "another width": lambda notes, tensors: tensors.update({"0/sums/terms": tensors["0/sums/terms"][..., :2].clone()}),
    "a sum less": lambda notes, tensors: tensors.update({"0/sums/levels": tensors["0/sums/levels"][:0].clone()}),
    "a place less": lambda notes, tensors: tensors.update({"0/places/inner": tensors["0/places/inner"][:1].clone()}),
    "a place of no component": lambda notes, tensors: tensors["0/places/components"].fill_(5),
    "a firing of no component": lambda notes, tensors: tensors["firings/components"].fill_(10),
    "a firing nowhere": lambda notes, tensors: tensors["firings/units"].fill_(-1),
    "an endless rule": lambda notes, tensors: tensors["firings/rule"].zero_(),
    "a tensor too many": lambda notes, tensors: tensors.update({"0/more": torch.zeros(1)}),
}


def test_hostile_parts_are_refused(toy_run, monkeypatch, capsys):
    _as_ranks(toy_run, 2, monkeypatch, [1])
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    part = toy_run / "analysis/harvest.part-2-of-2.safetensors"
    good = part.read_bytes()
    for name, change in HOSTILE.items():
        part.write_bytes(good)
        _rewritten(part, change)
        assert f"{str(part)!r} is damaged, or no harvest" in _refused(capsys, toy_run), name
    for content in (b"", good[: len(good) // 2], b"\xff" * 100):
        part.write_bytes(content)
        assert "is damaged" in _refused(capsys, toy_run)
        monkeypatch.setenv("RANK", "0")  # which puts it together with its own
        assert "is damaged" in _refused(capsys, toy_run)
        monkeypatch.setenv("RANK", "1")
    assert not (toy_run / "analysis/harvest.safetensors").exists()
