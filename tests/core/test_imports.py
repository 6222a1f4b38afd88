"What an import loads, each time in a fresh process: heavy packages only when they are used."

import resource
import subprocess
import sys

import pytest


def loaded(code: str) -> set:
    "The top-level packages that a fresh process has imported after some code"
    report = "import sys; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def cpu_seconds(code: str) -> float:
    "The processor time, user and system, of a fresh process that runs some code"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize(
    "code, unused",
    [
        ("import diec", {"torch", "numpy", "sklearn"}),
        ("import diec.app.cli", {"torch", "numpy", "sklearn"}),  # so that --help is quick
        (
            "from diec import DiEC; DiEC(n_clusters=3)",
            {"diffusers", "transformers", "torchvision", "huggingface_hub", "matplotlib", "accelerate", "networkx"},
        ),
        ("from diec import ReverseHierarchicalDiffusion", {"torch", "diffusers", "matplotlib", "networkx"}),
        ("import diec.evaluation.metrics, diec.evaluation.plots", {"torch", "diffusers", "matplotlib"}),
        ("from diec import load_dataset; load_dataset('digits')", {"diffusers", "matplotlib", "accelerate"}),
        ("import diec.app.pretrain", {"diffusers", "matplotlib", "accelerate"}),
    ],
)
def test_what_is_not_used_is_not_imported(code, unused):
    assert loaded(code) & unused == set()


@pytest.mark.parametrize(
    "code, used",
    [
        ("from diec.unet import new_unet; new_unet(8)", "diffusers"),
        ("from diec.evaluation.plots import plot_timestep_scores; plot_timestep_scores([1, 2], [0, 1])", "matplotlib"),
    ],
)
def test_what_is_used_is_imported(code, used):
    assert used in loaded(code)


def test_the_estimator_costs_little_more_than_pytorch_and_scikit_learn():
    "In turns, the least of each; with diffusers and matplotlib it was 2.5 times as much"
    pairs = [(cpu_seconds("from diec import DiEC"), cpu_seconds("import torch, sklearn.base")) for _ in range(3)]
    ours, floor = map(min, zip(*pairs))
    assert ours < 1.5 * floor, pairs
