"Several processes: one result, as one process would have found it."

import re

import numpy as np
import pytest
import subprocess_cases
import torch

from diec.core.distributed import all_reduce, barrier, is_main, rank_and_world_size
from diec.trainer import TERMS


def test_alone_nothing_is_added():
    a = np.arange(6.0)
    assert rank_and_world_size() == (0, 1) and is_main() and all_reduce(a) is a and a.sum() == 15
    barrier()


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_a_fit_by_several_is_the_fit_of_one(tmp_path, same, size):
    ((alone, facts),) = subprocess_cases.together(subprocess_cases.distributed_fit, 1, tmp_path / "one")
    found = subprocess_cases.together(subprocess_cases.distributed_fit, size, tmp_path / "several")
    for weights, its in found:
        assert same(weights, found[0][0]) and its["labels"] == facts["labels"] and its["t"] == facts["t"]
        for k in (*TERMS, "total"):
            np.testing.assert_allclose(
                np.array(its["history"][k], float), np.array(facts["history"][k], float), rtol=1e-3, atol=1e-5
            )
    start = subprocess_cases.small().state_dict()
    # what is added before a group norm has no gradient except rounding errors, and Adam makes full steps of these
    kept = [k for k in start if not re.search(r"time_emb|resnets.*conv\w*\.bias", k)]
    flat = lambda weights: torch.cat([weights[k].flatten() for k in kept])
    moved = (flat(alone) - flat(start)).norm()
    assert moved > 1e-3 and (flat(found[0][0]) - flat(alone)).norm() < 0.02 * moved
    assert facts["written"] == found[0][1]["written"] and not any(
        its["written"] for _, its in found[1:]
    )  # checkpoints by one
    assert (tmp_path / "several" / "model" / "config.json").is_file()
