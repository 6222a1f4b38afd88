"""Draw the sample of Fashion-MNIST that the tests use: `python -m tools.sample FOLDER`.

FOLDER contains the four IDX files of the data set. The sample consists of the first 24 images of each class of the
training part and the first 6 of each class of the test part, in the order of the files.
"""
import argparse
import gzip
from pathlib import Path

import numpy as np

from diec.data.formats import read_idx

OUT = Path(__file__).resolve().parent.parent/"tests"/"samples"/"fashion-mnist"
PER_CLASS = {"train": 24, "t10k": 6}


def first_of_each_class(labels: np.ndarray, n: int) -> np.ndarray:
    "Sorted indices of the first n images of each class"
    return np.sort(np.concatenate([np.flatnonzero(labels == c)[:n] for c in np.unique(labels)]))


def to_idx(values: np.ndarray) -> bytes:
    "An array of bytes as a gzipped IDX file; equal arrays give equal files"
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    return gzip.compress(header + values.tobytes(), 9, mtime=0)


def draw(folder: Path) -> dict:
    "Name -> array (images, labels) of the sample from the full data set"
    parts = {}
    for part, n in PER_CLASS.items():
        images, labels = (read_idx(folder/f"{part}-{kind}.gz") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
        chosen = first_of_each_class(labels, n)
        for name, values in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", labels)):
            parts.setdefault(name, []).append(values[chosen])
    return {name: np.concatenate(values) for name, values in parts.items()}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path,
                        help="the full data set, as Zalando and Debian distribute it: four files *-ubyte.gz")
    parser.add_argument("--out", type=Path, default=OUT, help="folder to write (default: tests/samples/fashion-mnist)")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, values in draw(args.folder).items(): (args.out/f"{name}.gz").write_bytes(to_idx(values))


if __name__ == "__main__":
    main()
