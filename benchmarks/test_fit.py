"""A fit from images to clusters, beside ClustPy's N2D and DEC on the same images."""
from diec.app.speed import fit_case

SIZES = {"small": dict(dataset="digits", n_images=300), "full": dict(dataset="mnist-5k", n_images=5000)}


def test_fit(compare, size): compare(fit_case(**SIZES[size]), turns=1 if size == "small" else 3)
