"""A misspelt word is answered in one line that names it and what it may have meant; nothing is built or trained."""

import pytest

from spd_lightning.cli.command import DecompositionCLI, main
from spd_lightning.cli.near import nearest, suggestion


class _UnderstoodError(Exception):
    """What a command raises that was understood."""


@pytest.fixture(autouse=True)
def _parser_only(monkeypatch):
    def stop(self):
        raise _UnderstoodError

    monkeypatch.setattr(DecompositionCLI, "instantiate_classes", stop)


FLAGS = {
    "--confg x": ["there is no flag --confg; did you mean --config?"],
    "--resum auto": ["there is no flag --resum; did you mean --resume?"],
    "--seed 1": ["there is no flag --seed; did you mean --seed_everything?"],
    "--max_steps 3": ["there is no flag --max_steps; did you mean --trainer.max_steps?"],
    "--trainer.maxsteps 3": ["there is no flag --trainer.maxsteps; did you mean --trainer.max_steps?"],
    "--trainer.max_step=3": ["there is no flag --trainer.max_step; did you mean --trainer.max_steps?"],
    "--model.lr 1": ["there is no flag --model.lr; did you mean --model.optimization.lr or --model.warmup.lr?"],
    "--model.optimisation.lr=1": ["no flag --model.optimisation.lr; did you mean --model.optimization.lr?"],
    "--model.optimization.rate=1": ["--model.optimization.rate", "model.optimization takes clip_components"],
    "--model.losses.importanse.coefficient 1": ["model.losses.importanse has no class_path; did you mean importance?"],
    "--model.losses.importance.coeficient 1": ["model.losses", "ImportanceMinimality takes no 'coeficient'; did you"],
    "--model.losses.importance.coefficient much": [
        "key \"coefficient\" of ImportanceMinimality: Expected a number, got 'much'"
    ],
    "--model.target.n_featurs 5": ["ToyModelOfSuperposition takes no 'n_featurs'; did you mean n_features?"],
    "--model.recipe FeatureTrainig": ["model.recipe", "no class 'FeatureTrainig'; did you mean FeatureTraining?"],
    "--model.leak lienar": ["model.leak", "must be one of one_sided, linear, got 'lienar'; did you mean linear?"],
    "--model.speed fast": ["model.speed", "must hold keys with values, got 'fast'"],
    "--data.batchsize 5": ["SparseFeatures takes no 'batchsize'; did you mean batch_size?"],
    "--trainer.callbacks+=AblationChek": ["trainer.callbacks", "'AblationChek'; did you mean AblationCheck?"],
    "--trainer.logger.nam x": ["trainer.logger", "TensorBoardLogger takes no 'nam'; did you mean name?"],
    "--model.target.help ToyModel": ["'ToyModel'", "ToyModelOfSuperposition"],
    "--seed_everything true": ["error: seed_everything must be a whole number, got True"],
    "--trainer.max_epochs 3": ["trainer.max_epochs must be -1, since training counts steps, got 3; set trainer.max_s"],
    "--config tmss.yaml": ["config 'tmss.yaml' does not exist; did you mean tms.yaml?"],
    "tms.yaml": ["'tms.yaml' belongs to no flag; a config is given as --config tms.yaml"],
}
KEYS = {
    "modle: {leak: linear}": ["no key 'modle.leak'; did you mean model.leak?"],
    "trainer: {maxsteps: 3}": ["no key 'trainer.maxsteps'; did you mean trainer.max_steps?"],
    "model: {optimization: {lrr: 3}}": ["'model.optimization.lrr'; did you mean model.optimization.lr?"],
    "data: {class_path: SparseFeaturs}": ["data", "'SparseFeaturs'; did you mean SparseFeatures?"],
    "trainer: {callbacks+: [{class_path: AblationChek}]}": ["'AblationChek'; did you mean AblationCheck?"],
    "trainer: {callbacks+: [{class_path: spd_lightning.callbacks.AblationChek}]}": ["did you mean AblationCheck?"],
    "trainer: {callbacks+: [{class_path: AblationCheck, init_args: {adversary_stps: 3}}]}": [
        "AblationCheck takes no 'adversary_stps'; did you mean adversary_steps?"
    ],
    "trainer: {callbacks+: [{class_path: Sharpness}]}": ["'Sharpness'", "needs its module, as in my_module.Sharpness"],
    "model: {target: {class_path: my_network.MyNetwork}}": ["'my_network.MyNetwork'", "No module named 'my_network'"],
    "model: {target: {class_path: my_network.Linear}}": [
        "'my_network.Linear' (No module named 'my_network'); its file must"
    ],
    "trainer: {callbacks+: [{class_path: spd_lightning.callbaks.AblationCheck}]}": ["did you mean AblationCheck?"],
    "model: {losses: {importance: {class_path: ImportanceMinimalty}}}": ["did you mean ImportanceMinimality?"],
    "model: {losses: {a: {class_path: Reconstruction, init_args: {distanc: kl}}}}": [
        "Reconstruction takes no 'distanc'; did you mean distance?"
    ],
    "model: {losses: {a: {clas_path: Reconstruction}}}": ["Loss takes no 'clas_path'; did you mean class_path?"],
    "model: {losses: {a: {clas_path: Reconstruction, init_args: {}}}}": ["stands beside init_args; did you mean class"],
    "model: {importance: {class_path: PerSite, init_args: {function: {class_path: GateMPL}}}}": [
        'key "function" of PerSite: there is no class',
        "'GateMPL'; did you mean GateMLP?",
    ],
    "model: {importance: {class_path: PerSite, init_args: {function: {class_path: GateMLP, init_args: {hiden: 3}}}}}": [
        "GateMLP takes no 'hiden'; did you mean hidden?"
    ],
}
LEAKED = (
    "Traceback",
    "abstract",
    "Does not validate",
    "dot import",
    "Subclass types",
    "<class",
    "Parser key",
    "typing.",
)


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    """Give a misspelt command; returns the one line that it is answered with."""
    monkeypatch.chdir(tmp_path)

    def give(*args):
        with pytest.raises(SystemExit) as stopped:
            main(list(args))
        written = capsys.readouterr()
        assert stopped.value.code == 2
        assert written.err.startswith("error: ")
        assert len(written.err.splitlines()) == 1
        assert not written.out
        assert not [word for word in LEAKED if word in written.err]
        return written.err

    return give


@pytest.mark.parametrize("words", ["--model.losses.importance.coefficient 1", "--trainer.max_epochs=null"])
def test_what_is_spelt_right_is_understood(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(_UnderstoodError):
        main(["fit", "--config", "tms.yaml", *words.split(" ")])


@pytest.mark.parametrize("words", FLAGS)
def test_a_misspelt_flag(words, said):
    line = said("fit", "--config", "tms.yaml", *words.split(" "))
    assert not [part for part in FLAGS[words] if part not in line], line


@pytest.mark.parametrize("text", KEYS)
def test_a_misspelt_word_in_a_config(text, tmp_path, said):
    (tmp_path / "mine.yaml").write_text(text)
    line = said("fit", "--config", "tms.yaml", "--config", "mine.yaml")
    assert not [part for part in KEYS[text] if part not in line], line


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["ft"], "there is no command 'ft'; did you mean fit?"),
        (["tset", "--ckpt_path", "x"], "there is no command 'tset'; did you mean test?"),
        (["--config", "tms.yaml"], "a command comes before its flags, got '--config'"),
        ([], "name a command: fit"),
        (["configs", "tms.yaml"], "configs takes no arguments, got 'tms.yaml'"),
        (["fit", "--help.trainr"], "there is no flag --help.trainr; did you mean --help.trainer?"),
        (["test", "--resume", "auto", "--config", "tms.yaml"], "there is no flag --resume"),
    ],
)
def test_a_misspelt_command(words, answer, said):
    assert answer in said(*words)


@pytest.mark.parametrize(
    ("flag", "answer"),
    [
        ("--model.recipe.steps=3", "TargetRecipe takes no 'steps'; first name a class by class_path: "),
        ("--data.batch_size=3", "LightningDataModule takes no 'batch_size'; first name a class by class_path"),
        ("--model.losses.importance.coefficient=1", "first name a class by class_path, got '1'"),
        ("--data=SparseFeatures", "arguments are required: n_features"),
    ],
)
def test_arguments_of_a_class_that_nobody_named(flag, answer, tmp_path, said):
    (tmp_path / "mine.yaml").write_text("model: {target: {class_path: ToyModelOfSuperposition}, sites: {linear1: 2}}")
    line = said("fit", "--config", "mine.yaml", flag)
    assert answer in line
    assert line.count("--config tms.yaml") <= 1


def test_a_config_without_sites_is_sent_to_what_proposes_them(tmp_path, said):
    (tmp_path / "mine.yaml").write_text(
        "model: {target: {class_path: ToyModelOfSuperposition, init_args: {n_features: 5, n_hidden: 2}}}"
    )
    line = said("fit", "--config", "mine.yaml", "--config", "default.yaml")
    assert "name the sites to decompose, or let python -m spd_lightning.recommend propose them" in line


def test_names_are_compared_part_by_part():
    known = ["trainer.max_steps", "trainer.max_time", "model.warmup.lr", "model.optimization.lr", "seed_everything"]
    assert nearest("trainer.max_stpes", known) == ["trainer.max_steps"]
    assert nearest("seed", known) == ["seed_everything"]
    assert nearest("modle.warmup.lr", known) == ["model.warmup.lr"]
    assert nearest("lr", known) == ["model.optimization.lr", "model.warmup.lr"]
    assert nearest("colour", known) == []
    assert suggestion("trainer.colour", known) == "; trainer takes max_steps, max_time"
    assert suggestion("x", []) == ""
