"""Inputs of ``predict``: what is read, as which numbers, and what is refused."""

import numpy
import pytest
import torch
from torch import nn

from spd_lightning import UsageError
from spd_lightning.cli.inputs import InputRows, read_inputs

ROWS = [[0.5, 0.25, 0.0], [1.0, 0.0, 2.0]]


@pytest.fixture
def table(tmp_path):
    """Write a table and read it back for a target."""

    def read(text, target=None):
        (tmp_path / "x.csv").write_text(text)
        return read_inputs(tmp_path / "x.csv", nn.Linear(3, 2) if target is None else target)

    return read


@pytest.fixture
def tensors(tmp_path):
    """Write a .pt file and read it back for a target."""

    def read(content, target):
        torch.save(content, tmp_path / "x.pt")
        return read_inputs(tmp_path / "x.pt", target)

    return read


@pytest.mark.parametrize("sign", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
@pytest.mark.parametrize("header", ["", "a{0}b{0}c\n"], ids=["bare", "header"])
def test_tables_in_every_form(sign, header, table, capsys):
    found = table(header.format(sign) + "\n".join(sign.join(map(str, row)) for row in ROWS))
    assert found.tolist() == ROWS
    assert found.dtype == torch.float32
    assert ("taken for a header: a,b,c" in capsys.readouterr().err) == bool(header)


@pytest.mark.parametrize(
    ("first", "told"),
    {
        "a typo in one cell": ("O.75,0,0", r"row 1 must hold 3 numbers, got 'O\.75,0,0'"),
        "a decimal comma": ('"0,75",0,0', r"row 1 must hold 3 numbers"),
        "a name for one column": ("x,0,0", r"row 1 must hold 3 numbers"),
        "pandas' numeric header": ("0,1,2", r"counts the columns from 0, as pandas does.*header=False"),
        "fewer cells": ("0.5,1", r"row 2 must hold 2 numbers"),
    }.values(),
)
def test_no_row_is_dropped_without_a_word(first, told, table):
    with pytest.raises(UsageError, match=told) as refused:
        table(f"{first}\n0.5,0.25,0\n1,0,2\n")
    assert "\n" not in str(refused.value)


def test_tokens_stay_whole_numbers(table, tensors):
    network = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 2))
    assert table("1,2,8\n0,3,4\n", network).dtype == torch.int64
    ids = torch.tensor([[1, 2], [3, 4]])
    found = tensors(ids, network)
    assert found.dtype == torch.int64
    assert torch.equal(found, ids)


@pytest.mark.parametrize("cell", ["99999999999999999999", "-99999999999999999999", "1" * 5000])
def test_a_whole_number_of_more_than_64_bits_is_no_token(cell, table):
    with pytest.raises(UsageError, match=r"row 2 must hold whole numbers below 2\*\*63, got '-?[19]{10,60}'"):
        table(f"1,2\n3,{cell}\n", nn.Embedding(9, 4))


def test_whole_numbers_for_a_network_of_floats_become_floats(tensors):
    found = tensors(torch.tensor([[1, 2, 3]]), nn.Linear(3, 2).double())
    assert found.dtype == torch.float64


def test_tensors_by_name(tensors):
    content = {"input_ids": torch.tensor([[1, 2], [3, 0]]), "attention_mask": torch.tensor([[1, 1], [1, 0]])}
    rows = InputRows(tensors(content, nn.Sequential(nn.Embedding(5, 3))))
    assert len(rows) == 2
    assert {name: part.tolist() for name, part in rows[1].items()} == {"input_ids": [3, 0], "attention_mask": [1, 0]}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (torch.tensor(3.0), r"one vector for one example"),
        (torch.empty(0, 3), r"holds no rows"),
        ({"a": torch.rand(2, 3), "b": torch.rand(3, 3)}, r"tensors of as many rows by name"),
        (torch.tensor([[0.0, float("nan"), 1.0]]), r"not finite"),
    ],
)
def test_tensors_that_cannot_be_used(content, told, tensors):
    with pytest.raises(UsageError, match=told):
        tensors(content, nn.Linear(3, 2))


@pytest.mark.parametrize("name", ["x.npy", "x.pt"])
def test_one_vector_is_one_example_and_that_is_said(name, tmp_path, capsys):
    row = numpy.array([0.5, 0.25, 0.0])
    numpy.save(tmp_path / name, row) if name == "x.npy" else torch.save(torch.tensor(row), tmp_path / name)
    found = read_inputs(tmp_path / name, nn.Linear(3, 2))
    assert found.tolist() == [row.tolist()]
    assert "holds one vector: it is taken for one example of 3 numbers" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["<f4", ">f8", "<i8", "|b1", "<f2"])
def test_arrays_of_numbers_in_every_form(kind, tmp_path):
    numpy.save(tmp_path / "x.npy", numpy.array([[1, 0, 1], [0, 1, 1]], dtype=kind))
    assert read_inputs(tmp_path / "x.npy", nn.Linear(3, 2)).tolist() == [[1, 0, 1], [0, 1, 1]]


UNREADABLE = {
    "text": (lambda path: path.write_text("0.5,0.25"), "damaged or no array of numbers"),
    "objects": (lambda path: numpy.save(path, numpy.array([{}], dtype=object)), "damaged or no array of numbers"),
    "words": (lambda path: numpy.save(path, numpy.array(["a", "b"])), "holds no numbers that a network takes, but <U1"),
    "half a file": (
        lambda path: (numpy.save(path, numpy.zeros((9, 3))), path.write_bytes(path.read_bytes()[:140])),
        "damaged",
    ),
    "no row": (lambda path: numpy.save(path, numpy.zeros((0, 3))), "holds no rows"),
    "nothing": (lambda path: None, "does not exist"),
    "a folder": (lambda path: path.mkdir(), r"is a folder; --input takes a \.csv, \.npy or \.pt file"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_arrays_that_cannot_be_used(case, tmp_path):
    make, told = UNREADABLE[case]
    make(tmp_path / "x.npy")
    with pytest.raises(UsageError, match=told):
        read_inputs(tmp_path / "x.npy", nn.Linear(3, 2))
