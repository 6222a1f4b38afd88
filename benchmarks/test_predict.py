"""Labels of images by a fitted model, beside the same with plain passes."""
from diec.app.speed import predict_case

SIZES = {"small": dict(dataset="digits", n_images=500), "full": dict(dataset="mnist-5k", n_images=1000)}


def test_predict(compare, size): compare(predict_case(**SIZES[size]))
