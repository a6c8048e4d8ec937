import doctest
import importlib
import pkgutil

import pytest

import spd_lightning.functional
import spd_lightning.metrics
from spd_lightning import metrics

MODULES = [
    module.name
    for package in (spd_lightning.functional, spd_lightning.metrics)
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_say(name):
    failures, _ = doctest.testmod(importlib.import_module(name))
    assert failures == 0


@pytest.mark.parametrize("name", metrics.__all__)
def test_every_metric_has_an_example(name):
    (found, *_) = doctest.DocTestFinder(recurse=False).find(getattr(metrics, name), name)
    assert len(found.examples) >= 3
