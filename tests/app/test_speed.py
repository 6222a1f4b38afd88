"Measuring speed: calls take turns, ratios are of one turn, and every part has references that do the same work."

import pytest
import torch

from diec.app import speed
from diec.app.speed import Case, flops_to_layer, in_turns, limits, ratio, speed_rows
from diec.unet import forward_cost


class Clock:
    "A clock that stands still but for the calls it makes"

    def __init__(self):
        self.now, self.order = 0.0, []

    def __call__(self):
        return self.now

    def call(self, name, *seconds):
        "A call that takes these seconds, one after the other"
        left = list(seconds)

        def run():
            self.order.append(name)
            self.now += left.pop(0)

        return run


def test_calls_take_turns_and_the_first_run_does_not_count():
    clock = Clock()
    calls = {"a": clock.call("a", 100, 1, 2, 3), "b": clock.call("b", 50, 2, 2, 12)}
    seconds = in_turns(calls, turns=3, clock=clock)
    assert clock.order == ["a", "b"] * 4
    assert seconds == {"a": [1, 2, 3], "b": [2, 2, 12]}
    assert ratio(seconds["a"], seconds["b"]) == (0.5, 0.25, 1.0)
    assert str(ratio([1, 1], [2, 4])) == "0.38 (0.25 to 0.50)"


def test_every_call_runs_on_one_thread_whatever_an_import_has_set():
    seen = []
    torch.set_num_threads(2)
    speed.seconds_of(lambda: seen.append(torch.get_num_threads()))
    torch.set_num_threads(1)
    assert seen == [1]


def test_unequal_numbers_of_turns_are_refused():
    with pytest.raises(ValueError):
        ratio([1.0, 2.0], [1.0])


def test_a_row_has_the_ratio_to_it_and_its_share_of_both_limits():
    case = Case("extraction", {"DiEC": None, "plain": None, "other": None}, 100, {"DiEC": 4e9, "plain": 8e9})
    products = {"float32 product": [2.0, 1.0], "bfloat16 product": [0.5, 3.0]}
    rows = speed_rows(case, {"DiEC": [1.0, 1.0], "plain": [4.0, 4.0], "other": [2.0, 1.0]} | products)
    assert [r["method"] for r in rows] == ["DiEC", "plain", "other"]
    assert [r["ratio"] for r in rows] == [1.0, 0.25, 0.75] and (rows[2]["low"], rows[2]["high"]) == (0.5, 1.0)
    assert [r["images/s"] for r in rows] == [100.0, 25.0, 100 / 1.5]
    limit = limits(products)
    assert limit["bfloat16"] == 2 * limit["float32"] == speed.PRODUCT_FLOPS / 0.5 / 1e9
    assert rows[0]["GFLOP/s"] == 4 and rows[0]["% of float32"] == pytest.approx(400 / limit["float32"])
    assert rows[1]["GFLOP/s"] == 2 and "GFLOP/s" not in rows[2]


def test_operations_up_to_the_last_layer_are_those_of_a_complete_pass(digits_unet):
    full = forward_cost(digits_unet[0].config).flops
    assert flops_to_layer(digits_unet[0], "conv_out") == full
    assert flops_to_layer(digits_unet[0], "mid_block") < flops_to_layer(digits_unet[0]) < full


@pytest.mark.parametrize(
    "part, settings, names",
    [
        ("extraction", {"n_images": 8, "n_draws": 1}, ["DiEC", "diffusers"]),
        ("pretraining", {"n_steps": 1, "batch_size": 4}, ["DiEC", "diffusers"]),
        ("hierarchy", {"n_points": 60}, ["DiEC", "Ward", "HDBSCAN"]),
    ],
)
def test_every_call_of_a_case_runs(part, settings, names):
    case = speed.CASES[part](**settings)
    assert set(names) <= set(case.calls) and next(iter(case.calls)) == "DiEC"
    for call in case.calls.values():
        call()
    assert set(case.flops) <= set(case.calls) and (part == "hierarchy") == (not case.flops)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["search", "fit", "predict"])
def test_every_call_of_a_slow_case_runs(part):
    settings = {"n_images": 40} | ({"baselines": ()} if part == "fit" else {})
    case = speed.CASES[part](**settings)
    for call in case.calls.values():
        call()
    assert all(f > 0 for f in case.flops.values()) and "DiEC" in case.flops
