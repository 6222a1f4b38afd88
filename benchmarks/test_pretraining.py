"""Steps of pretraining, beside the training loop of diffusers' tutorial in float32."""
from diec.app.speed import pretraining_case

SIZES = {"small": dict(dataset="digits", n_steps=4), "full": dict(dataset="mnist-5k", n_steps=10)}


def test_pretraining(compare, size): compare(pretraining_case(**SIZES[size]))
