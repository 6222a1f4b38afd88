"How users call the package: a type checker finds nothing in the first function, and both mistakes in the second."

from diec import DiEC, ReverseHierarchicalDiffusion, load_dataset, load_unet
from diec.features import Extractor


def right() -> None:
    images = load_dataset("digits").images
    model = DiEC(n_clusters=10).fit(images)
    labels = model.predict(images)
    labels.mean()
    tree = ReverseHierarchicalDiffusion().fit(images.reshape(len(images), -1))
    tree.cut(10)
    extract = Extractor(*load_unet("digits"))
    extract.fingerprint(extract.prepare(images))


def wrong() -> None:
    DiEC(n_cluster=10)
    load_dataset(10)
