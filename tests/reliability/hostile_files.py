"""Files that somebody made to harm, or that a disk has damaged."""

import json
import os
import pickle
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.called = call, arguments

    def __reduce__(self):
        return self.called


def payload() -> Payload:
    """Leaves a file ``executed`` behind."""
    return Payload(os.system, "touch executed")


def damaged(good: bytes, flips: int) -> Iterator[tuple[str, bytes]]:
    """A file cut off at every sixteenth, and with single bits turned over."""
    for part in range(16):
        yield f"cut{part}", good[: len(good) * part // 16]
    chosen = random.Random(7)
    for number in range(flips):
        place, bit = chosen.randrange(len(good)), chosen.randrange(8)
        yield f"flip{number}", good[:place] + bytes([good[place] ^ (1 << bit)]) + good[place + 1 :]


def torch_file(path: Path, content: Any, **options: Any) -> None:
    """What ``torch.save`` writes."""
    torch.save(content, path, **options)


def raw_pickle(opcodes: bytes) -> bytes:
    """A pickle of protocol 2 from opcodes."""
    return b"\x80\x02" + opcodes + b"."


def archive(path: Path, pickled: bytes, method: int = zipfile.ZIP_STORED, **entries: bytes) -> None:
    """A torch archive around a pickle."""
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in {"data.pkl": pickled, "version": b"3\n", "byteorder": b"little", **entries}.items():
            file.writestr(f"archive/{name}", content)


def crafted(folder: Path, suffix: str = ".pt") -> None:
    """Torch files made to run code, to fill the memory, to reach other files, or to confuse."""

    def at(name: str) -> Path:
        return folder / f"{name}{suffix}"

    _that_run_code(at)
    _that_fill_the_memory(at)
    _that_confuse(at)
    _that_hold_odd_things(at)
    _that_are_no_archive(at)


def _that_run_code(at: Callable[[str], Path]) -> None:
    torch_file(at("payload"), {"state_dict": payload()})
    torch_file(at("payload_old_format"), {"state_dict": payload()}, _use_new_zipfile_serialization=False)
    at("bare_payload").write_bytes(pickle.dumps(payload()))
    at("payload_protocol_0").write_bytes(b"cos\nsystem\n(S'touch executed'\ntR.")
    for name in (b"eval", b"exec", b"getattr"):
        pickled = raw_pickle(b"cbuiltins\n" + name + b"\nX\x0c\x00\x00\x00__import__()\x85R")
        archive(at(name.decode()), pickled)
    archive(at("script"), raw_pickle(b"}"), **{"constants.pkl": raw_pickle(b"}"), "code/m.py": b"import os"})


def _that_fill_the_memory(at: Callable[[str], Path]) -> None:
    archive(at("bytearray_bomb"), raw_pickle(b"c__builtin__\nbytearray\n\x8a\x05\x00\x00\x00\x00\x10\x85R"))
    at("bytearray_bomb_old").write_bytes(raw_pickle(b"cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x10\x85R"))
    archive(at("storage_on_request"), raw_pickle(b"ctorch\nFloatStorage\n\x8a\x05\x00\x00\x00\x00\x10\x85R"))
    archive(at("tensor_on_request"), raw_pickle(b"ctorch\nFloatTensor\n\x8a\x05\x00\x00\x00\x00\x10\x85R"))
    archive(at("zip_bomb"), raw_pickle(b"}"), zipfile.ZIP_DEFLATED, **{"data/0": bytes(60 * 2**20)})
    doubled = b"".join(b"]q%ch%ca" % (n, n - 1) + b"h%ca" % (n - 1) for n in range(1, 60))
    archive(at("shared_without_measure"), raw_pickle(b"]q\x00" + doubled))
    archive(at("long_number"), raw_pickle(b"\x8b\xff\xff\xff\x7f" + b"1" * 50))
    torch_file(at("repeated_view"), torch.zeros(1).expand(10**6, 5 * 10**5))
    torch_file(at("repeated_view_in_a_state"), {"state_dict": {"w": torch.zeros(1).expand(10**6, 10**6)}})


def _that_confuse(at: Callable[[str], Path]) -> None:
    archive(at("traversal"), raw_pickle(b"}"), **{"../../../executed": b"x", "/tmp/executed": b"x"})
    archive(at("nested"), raw_pickle(b"]" * 20_000 + b"a" * 19_999))
    archive(at("nested_tuples"), raw_pickle(b")" + b"\x85" * 20_000))
    archive(at("no_pickle"), b"")
    archive(at("no_stop"), b"\x80\x02}")
    archive(at("empty_stack"), b"\x80\x02.")


def _that_hold_odd_things(at: Callable[[str], Path]) -> None:
    torch_file(at("meta"), torch.empty(10**6, 3, device="meta"))
    indices = torch.zeros(2, 1).long()
    torch_file(at("sparse"), torch.sparse_coo_tensor(indices, torch.ones(1), (10**6, 3), check_invariants=False))
    torch_file(at("complex"), torch.ones(2, 3, dtype=torch.complex64))
    torch_file(at("nothing_in_it"), torch.zeros(0, 3))
    torch_file(at("nan"), torch.full((2, 3), float("nan")))
    torch_file(at("text"), "only text")
    torch_file(at("deep_state"), {"state_dict": {"a": {"b": [1, 2]}}, "spd_lightning": {"format": 1}})
    torch_file(at("odd_keys"), {"state_dict": {5: torch.ones(1), None: torch.ones(1)}, 3: 4})


def _that_are_no_archive(at: Callable[[str], Path]) -> None:
    at("magic").write_bytes(b"PK\x03\x04" + bytes(200))
    at("empty").write_bytes(b"")
    at("noise").write_bytes(random.Random(3).randbytes(20_000))
    at("loop").symlink_to(at("loop").name)
    at("nowhere").symlink_to("/nowhere/at/all")
    at("device").symlink_to("/dev/zero")
    at("a_folder").mkdir()
    os.mkfifo(at("pipe"))


def safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def crafted_safetensors(good: bytes) -> Iterator[tuple[str, bytes]]:
    """Headers that lie about what follows."""
    size = struct.unpack("<Q", good[:8])[0]
    header, data = json.loads(good[8 : 8 + size]), good[8 + size :]
    first = next(name for name in header if name != "__metadata__")

    def changed(**new: Any) -> bytes:
        return safetensors({**header, first: {**header[first], **new}}, data)

    yield "gigantic", changed(shape=[2**40, 2**20])
    yield "overflowing", changed(shape=[2**63, 2**63])
    yield "negative", changed(shape=[-3, 5])
    yield "beyond", changed(data_offsets=[0, 2**60])
    yield "backwards", changed(data_offsets=[40, 0])
    yield "kind", changed(dtype="F999")
    yield "whole", changed(dtype="I32")
    yield "text", changed(shape="many")
    yield "length", safetensors(header, data, length=2**63)
    yield "nested", safetensors(b'{"a":' * 50_000 + b"1" + b"}" * 50_000)
    yield "list", safetensors([1, 2], data)
    yield "nothing", safetensors({}, b"")
    yield "empty", b""
    yield "twice", safetensors(b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},' * 2 + b"}")
    nan = struct.pack("<f", float("nan"))
    yield "nan", good[: 8 + size] + nan * (len(data) // 4)


def odd_documents(good: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """JSON with each value, at any depth, replaced by what does not belong there."""
    numbers = [True, -1, 10**30, 1e308, float("nan"), float("inf")]
    wrong = [None, *numbers, "x" * 5000, "<script>alert(1)</script>", [], {}, [[]]]

    def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        if path:
            yield path
        if isinstance(node, dict):
            for key, value in node.items():
                yield from places(value, (*path, key))

    for path in places(good):
        for number, value in enumerate(wrong):
            document = json.loads(json.dumps(good))
            node = document
            for key in path[:-1]:
                node = node[key]
            node[path[-1]] = value
            yield f"{'.'.join(map(str, path))[:60]}-{number}".replace("/", ":"), json.dumps(document)
    yield "nesting", "[" * 200_000
    yield "digits", json.dumps(good)[:-1] + ', "n": ' + "9" * 10_000 + "}"
    yield "zeros", "\0" * 100
    yield "empty", ""
