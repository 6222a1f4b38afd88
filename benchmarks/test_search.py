"""The search for the timestep, beside plain passes, k-means and neighbors at the same timesteps."""
from diec.app.speed import search_case

SIZES = {"small": dict(dataset="digits", n_images=200), "full": dict(dataset="mnist-5k", n_images=500)}


def test_search(compare, size): compare(search_case(**SIZES[size]), turns=2 if size == "small" else 3)
