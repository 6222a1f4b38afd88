"The guide's example: embeddings by the workers of Dask are those of one process."

import json
import os
from pathlib import Path

import numpy as np
import pytest

from diec.core.files import atomic_file
from diec.data.datasets import load_dataset
from diec.features import DEFAULT_LAYER, Extractor
from diec.unet import load_unet

distributed = pytest.importorskip("dask.distributed", reason="Dask is not installed (extra `large`)")
GUIDE = Path(__file__).resolve().parents[2] / "nbs" / "guides" / "past_one_machine.ipynb"


@pytest.fixture(scope="module")
def guide():
    "The functions of the guide, as a user copies them"
    sources = ["".join(c["source"]) for c in json.loads(GUIDE.read_text())["cells"] if c["cell_type"] == "code"]
    names = {"__name__": "copied"}
    exec(next(s for s in sources if s.startswith("import io")), names)
    for function in ("read_shard", "write_shard", "embed_shard", "predict_shard"):
        source = next(s for s in sources if s.startswith(f"def {function}"))
        exec(source.partition("\n\n")[0], names)
    return names


@pytest.fixture(scope="module")
def client():
    "Two worker processes, reachable from this machine alone"
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            silence_logs="ERROR",
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def digits_u8():
    "800 images (800, 1, 8, 8) in 0..255"
    return np.round(load_dataset("digits").images[:800] * 127.5 + 127.5).astype(np.uint8)


def as_shards(guide, images, size, folder) -> list:
    "Files of so many images each, (N, 1, 8, 8) in 0..255"
    paths = [str(folder / f"{i:04d}.tar") for i in range(0, len(images), size)]
    for i, path in enumerate(paths):
        guide["write_shard"](path, images[size * i : size * (i + 1), 0])
    return paths


@pytest.mark.parametrize(
    "size, apart", [(256, 0), (200, 0.01)]
)  # the batch size; another one, where bfloat16 rounds differently on some processors
def test_embeddings_by_two_workers_are_those_of_one_process(guide, client, digits_u8, tmp_path, size, apart):
    shards, embed_shard = as_shards(guide, digits_u8, size, tmp_path), guide["embed_shard"]
    assert np.array_equal(np.concatenate([guide["read_shard"](path) for path in shards]), digits_u8)
    out = str(tmp_path)
    tasks = client.map(lambda url: (embed_shard(url, out, "digits", DEFAULT_LAYER, 100), os.getpid()), shards)
    files, processes = zip(*client.gather(tasks))
    assert len(set(processes)) == 2 and os.getpid() not in processes
    local = Extractor(*load_unet("digits"))(digits_u8, DEFAULT_LAYER, 100)[DEFAULT_LAYER]
    assert np.abs(np.concatenate([np.load(file) for file in files]) - local).max() <= apart * np.abs(local).max()


def test_a_finished_shard_is_not_embedded_again(guide, digits_u8, tmp_path):
    (path,) = as_shards(guide, digits_u8[:4], 4, tmp_path)
    with atomic_file(tmp_path / "0000.npy") as f:
        np.save(f, np.zeros(3))
    assert np.load(guide["embed_shard"](path, tmp_path, "digits", DEFAULT_LAYER, 100)).tolist() == [0, 0, 0]
