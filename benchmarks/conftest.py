"""Options and fixtures of the benchmarks, and the table at the end."""
import os
import time

os.environ["HF_HUB_OFFLINE"] = "1" # before diffusers is imported
import pytest

from benchmarks import measure
from diec.evaluation.metrics import markdown_table

ROWS = pytest.StashKey()


def pytest_addoption(parser):
    parser.addoption("--size", choices=("small", "full"), default="small", help="how much each benchmark computes")
    parser.addoption("--turns", type=int, help="turns of each benchmark (default: 5, and 1 for fit with --size small)")


def pytest_configure(config): config.stash[ROWS] = {}


def pytest_collection_modifyitems(items):
    for item in items: item.add_marker(pytest.mark.benchmark(timer=time.process_time)) # CPU seconds


@pytest.fixture
def size(request): return request.config.getoption("size")


@pytest.fixture
def compare(benchmark, request):
    "A function that times a case in some turns and keeps its rows for the table"
    def run(case, turns=5):
        turns = request.config.getoption("turns") or turns
        request.config.stash[ROWS][case.part] = measure.compare(benchmark, case, turns)
    return run


def pytest_terminal_summary(terminalreporter, config):
    "A table for each part"
    for part, rows in config.stash[ROWS].items():
        terminalreporter.section(part)
        terminalreporter.write_line(markdown_table([measure.shown(r) for r in rows]))
