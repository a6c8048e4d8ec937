"""Wrong arguments of ``benchmarks.everyday`` are refused before anything is printed."""

import pytest

from benchmarks.everyday import main
from spd_lightning.errors import UsageError


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seeds", "x"], "seeds are whole numbers up to"),
        (["--steps", "0"], "--steps must be at least 1, got 0"),
        (["--steps", "many"], "argument --steps: invalid int value: 'many'; see python -m benchmarks.everyday --help"),
    ],
)
def test_wrong_arguments(arguments, said, capsys):
    with pytest.raises(UsageError) as refused:
        main(arguments)
    assert said in str(refused.value)
    assert capsys.readouterr().out == ""
