"""Embeddings of images, beside complete float32 passes of diffusers with hooks."""
from diec.app.speed import extraction_case

SIZES = {"small": dict(dataset="digits", n_images=500), "full": dict(dataset="mnist-5k", n_images=1000)}


def test_extraction(compare, size): compare(extraction_case(**SIZES[size]))
