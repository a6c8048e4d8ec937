import pickle

import pytest
import torch
from safetensors.torch import save_file

from spd_lightning import UsageError
from spd_lightning.files.tensors import read_pickled, read_safetensors, read_state
from spd_lightning.files.whole import WriteError, folder_written_whole, written_whole

STATE = {"layer.weight": torch.ones(2, 3), "layer.bias": torch.zeros(2)}


class Trap:
    """Leaves a mark if anything unpickles it."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (exec, (f"open({str(self.mark)!r}, 'w').close()",))


def _refused(call, *parts):
    with pytest.raises(UsageError) as error:
        call()
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def _truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".ckpt"])
def test_every_form_of_a_state_dict(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    save_file(STATE, path) if suffix == ".safetensors" else torch.save(STATE, path)
    torch.testing.assert_close(read_state(path), STATE)


def test_a_checkpoint_gives_its_state_dict_without_the_prefix(tmp_path):
    prefixed = {f"model.{name}": tensor for name, tensor in STATE.items()} | {"other": torch.zeros(1)}
    torch.save({"state_dict": prefixed, "epoch": 3}, tmp_path / "last.ckpt")
    torch.testing.assert_close(read_state(tmp_path / "last.ckpt", "model."), STATE)


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_a_missing_file(tmp_path, name):
    _refused(lambda: read_state(tmp_path / name), f"target weights '{tmp_path / name}' does not exist")


def test_a_folder_is_no_file(tmp_path):
    _refused(lambda: read_pickled(tmp_path, "checkpoint"), f"checkpoint '{tmp_path}' does not exist")


def test_a_truncated_torch_file(tmp_path):
    torch.save(STATE, tmp_path / "weights.pt")
    _refused(lambda: read_pickled(_truncated(tmp_path / "weights.pt"), "checkpoint"), "is damaged or not a torch file")


def test_a_truncated_safetensors_file(tmp_path):
    save_file(STATE, tmp_path / "weights.safetensors")
    damaged = _truncated(tmp_path / "weights.safetensors")
    _refused(lambda: read_safetensors(damaged, "components"), "components '", "is damaged or not a safetensors file")


@pytest.mark.parametrize("content", [b"", b"not tensors at all", b"\x80\x02}q\x00.", b"PK\x03\x04rubbish"])
@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_foreign_content(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    _refused(lambda: read_state(path), str(path))


@pytest.mark.parametrize("new_format", [True, False])
def test_code_in_a_torch_file_is_refused_and_not_run(tmp_path, new_format):
    mark, path = tmp_path / "mark", tmp_path / "weights.pt"
    torch.save({"weight": Trap(mark)}, path, _use_new_zipfile_serialization=new_format)
    _refused(lambda: read_state(path), str(path))
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists(), "the trap must work where code is allowed to run"


def test_the_message_tells_code_from_damage(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"weight": Trap(tmp_path / "mark")}, path)
    _refused(lambda: read_state(path), "holds objects other than tensors and plain data; refused")


def test_a_plain_pickle_with_code_is_refused_and_not_run(tmp_path):
    mark, path = tmp_path / "mark", tmp_path / "weights.pt"
    path.write_bytes(pickle.dumps(Trap(mark)))
    _refused(lambda: read_state(path), str(path))
    assert not mark.exists()


@pytest.mark.parametrize("content", [[1, 2], {}, {"weight": 3}, {"state_dict": {"weight": "x"}}, torch.ones(2)])
def test_plain_data_that_is_no_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "weights.pt")
    _refused(lambda: read_state(tmp_path / "weights.pt"), "weights.pt'", "not a state dict of tensors")


def test_a_prefix_that_nothing_has(tmp_path):
    torch.save(STATE, tmp_path / "weights.pt")
    _refused(lambda: read_state(tmp_path / "weights.pt", "model."), "no name starts with 'model.'")


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new folder" / "scores.json"
    with written_whole(path) as aside:
        aside.write_text("first")
        assert not path.exists()
    assert path.read_text() == "first"
    assert path.stat().st_mode & 0o777 == 0o644

    def interrupted():
        with written_whole(path) as aside:
            aside.write_text("sec")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "first"
    assert [file.name for file in path.parent.iterdir()] == ["scores.json"]


def test_a_folder_appears_with_all_of_its_files_or_not_at_all(tmp_path):
    with folder_written_whole(tmp_path / "around" / "new") as aside:
        (aside / "a").write_text("1")
        assert not (tmp_path / "around" / "new").exists()
    assert [path.name for path in (tmp_path / "around").iterdir()] == ["new"]
    assert (tmp_path / "around" / "new" / "a").read_text() == "1"

    with pytest.raises(FileNotFoundError), folder_written_whole(tmp_path / "failed") as aside:
        (aside / "nowhere" / "a").write_text("1")
    assert [path.name for path in tmp_path.iterdir()] == ["around"]


def test_a_folder_that_exists_meanwhile_is_not_replaced(tmp_path):
    with pytest.raises(UsageError, match="exists, and nothing is overwritten"), folder_written_whole(tmp_path / "new"):
        (tmp_path / "new").mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    with pytest.raises(UsageError, match="exists"), folder_written_whole(tmp_path / "new"):
        pass


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="cannot be written"), folder_written_whole(tmp_path / "file" / "new"):
        pass
