"""How long a first report takes: `python -m benchmarks.first_report` clusters 435 pictures of many formats.

They are crops of the two photographs of scikit-learn, in nested folders; some are broken. It prints how many are
clustered, the seconds that `diec cluster` without options takes, and beside them what the command estimated.
"""

import csv
import io
import os
import re
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from diec.app.cli import main as diec

N_PICTURES = 435


def gray(im):
    return im.convert("L")


def sixteen_bits(im):
    return Image.fromarray(np.asarray(im.convert("L"), np.uint16) * 257)


def floats(im):
    return Image.fromarray(np.asarray(im.convert("L"), np.float32) / 255)


def with_alpha(im):
    im.putalpha(Image.linear_gradient("L").resize(im.size))
    return im


def turned(im):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    im.info["exif"] = exif.tobytes()
    return im


# suffix, mode, options of Pillow
KINDS = [
    (".png", None, {}),
    (".png", gray, {}),
    (".png", with_alpha, {}),
    (".png", lambda im: im.quantize(64), {}),
    (".png", lambda im: im.convert("1"), {}),
    (".png", sixteen_bits, {}),
    (".jpg", None, {}),
    (".JPEG", gray, {}),
    (".jpg", lambda im: im.convert("CMYK"), {}),
    (".jpg", turned, {}),
    (".webp", None, {}),
    (".webp", with_alpha, {"lossless": True}),
    (".gif", None, {}),
    (".bmp", None, {}),
    (".tiff", None, {"compression": "tiff_lzw"}),
    (".tif", sixteen_bits, {}),
    (".tif", floats, {}),
    (".jp2", None, {}),
    (".avif", None, {}),
    (".ppm", None, {}),
    (".tga", None, {}),
]
BROKEN = {"empty.jpg": b"", "text.png": b"no picture", "half.jpg": None, "notes.txt": b"not a picture"}


def crop(photos: list, rng: np.random.Generator) -> Image.Image:
    "A part of one of the photographs, 80 to 320 pixels wide"
    photo = photos[rng.integers(len(photos))]
    w, h = rng.integers(80, 321, 2)
    y, x = rng.integers(photo.shape[0] - h), rng.integers(photo.shape[1] - w)
    return Image.fromarray(photo[y : y + h, x : x + w])


def make_pictures(folder: Path, n: int = N_PICTURES, random_state: int = 0) -> tuple[int, int]:
    """Write pictures of all kinds into nested folders.

    Parameters
    ----------
    folder : Path
        Where to.
    n : int, default 435
        Files in all.
    random_state : int, default 0
        Seed of the crops.

    Returns
    -------
    tuple of int
        Readable pictures, and files that no program can read.
    """
    rng, photos = np.random.default_rng(random_state), load_sample_images().images
    for i in range(n - len(BROKEN)):
        suffix, change, options = KINDS[i % len(KINDS)]
        im = crop(photos, rng)
        im = change(im) if change else im
        if "exif" in im.info:
            options = options | {"exif": im.info["exif"]}
        path = folder / f"{i % 3}" / f"{i % 5}" / f"{i:03}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        im.save(path, **options)
    whole = io.BytesIO()
    crop(photos, rng).save(whole, "JPEG")
    for name, content in BROKEN.items():
        (folder / name).write_bytes(whole.getvalue()[:600] if content is None else content)
    return n - len(BROKEN), len(BROKEN)


def main():
    with tempfile.TemporaryDirectory() as home:
        readable, broken = make_pictures(Path(home) / "photos")
        print(f"{readable + broken} files: {readable} pictures of {len(KINDS)} kinds, {broken} that are none")
        os.chdir(home)
        wall, cpu = time.perf_counter(), time.process_time()
        said = io.StringIO()
        with redirect_stdout(said):
            diec(["cluster", "photos", *sys.argv[1:]])
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        with open("photos-groups/labels.csv", encoding="utf-8") as f:
            n = len(list(csv.DictReader(f)))
        print(f"{n} clustered; {wall:.0f} s by the clock, {cpu:.0f} s of the processor")
        assert n == readable
        stages = re.findall(r"(\w+) (\d+) s \(estimated (\d+) s\)", said.getvalue())
        for stage, took, estimated in stages:
            print(f"{stage}: estimated {estimated} s, took {took} s")
        took, estimated = (sum(int(s[i]) for s in stages) for i in (1, 2))
        assert 1 / 1.5 <= estimated / took <= 1.5, "the stages together must be estimated within a factor of 1.5"


if __name__ == "__main__":
    main()
