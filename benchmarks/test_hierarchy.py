"""A hierarchy over points, beside Ward's method, HDBSCAN, and fast_hdbscan, EVoC and PLSCAN if installed."""
from diec.app.speed import hierarchy_case

SIZES = {"small": dict(dataset="digits", n_points=1000), "full": dict(dataset="mnist-5k", n_points=5000)}


def test_hierarchy(compare, size): compare(hierarchy_case(**SIZES[size]))
