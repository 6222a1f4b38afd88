"What `help` shows of the classes that users meet: every parameter with its default, every learned attribute, and an example that runs."

import doctest
import inspect
import re

import pytest
from sklearn.datasets import make_blobs

from diec import DiEC, ReverseHierarchicalDiffusion, load_dataset
from diec.trainer import TrainingConfig

CLASSES = [DiEC, ReverseHierarchicalDiffusion]


def section(cls, title: str) -> dict:
    "name -> what the docstring says of it"
    body = re.search(rf"\n{title}\n-+\n(.*?)(?=\n\n\w[\w ]*\n-+\n|\Z)", cls.__doc__, re.S)[1]
    parts = re.split(r"(?m)^(\w+(?:, \w+)*) : ", body)[1:]
    return {name: text for names, text in zip(parts[::2], parts[1::2]) for name in names.split(", ")}


@pytest.mark.parametrize("cls", CLASSES)
def test_every_parameter_is_explained_with_its_default(cls):
    told, parameters = section(cls, "Parameters"), inspect.signature(cls).parameters
    assert list(told) == list(parameters)
    for name, p in parameters.items():
        kind, *meaning = told[name].split("\n    ")
        assert f"default={p.default!r}".replace("'", '"') in kind, name
        assert len(" ".join(meaning)) > 15, name


@pytest.mark.parametrize(
    "cls, fitted",
    [
        (
            DiEC,
            lambda: DiEC(
                3, "digits", n_draws=1, timestep=50, training_config=TrainingConfig(head_epochs=1), random_state=0
            ).fit(load_dataset("digits").images[:40]),
        ),
        (
            ReverseHierarchicalDiffusion,
            lambda: ReverseHierarchicalDiffusion(random_state=0).fit(make_blobs(50, random_state=0)[0]),
        ),
    ],
    ids=["DiEC", "hierarchy"],
)
def test_every_learned_attribute_is_explained(cls, fitted):
    model = fitted()
    learned = {n for n in (*vars(model), *dir(cls)) if n.endswith("_") and not n.startswith("_")}
    of_tables = {"n_features_in_", "feature_names_in_"}
    assert set(section(cls, "Attributes")) - of_tables == learned - of_tables
    assert all(hasattr(model, n) for n in learned)


@pytest.mark.parametrize("cls", CLASSES)
def test_the_example_runs(cls):
    found = doctest.DocTestRunner().run(doctest.DocTestParser().get_doctest(cls.__doc__, {}, cls.__name__, None, 0))
    assert found.attempted > 3 and found.failed == 0


def test_help_holds_lines_of_a_terminal():
    assert max(len(line) for cls in CLASSES for line in cls.__doc__.splitlines()) <= 140
