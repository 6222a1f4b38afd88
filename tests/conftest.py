"What several test files share. No test reaches for a network, and all compute on one thread, as a killed and resumed run must."

import os
import signal
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"  # before diffusers is imported
import tools.guard.sitecustomize  # noqa: E402, F401 - from here on this process reaches no other machine

for _signal in (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
):  # nohup and shells in the background have some ignored, which the commands under test would inherit
    if signal.getsignal(_signal) == signal.SIG_IGN:
        signal.signal(_signal, signal.default_int_handler if _signal == signal.SIGINT else signal.SIG_DFL)

_data_home = tempfile.TemporaryDirectory(prefix="no-data-")
os.environ["SCIKIT_LEARN_DATA"] = _data_home.name  # empty: no test depends on what the user has in a cache
os.environ.pop("DIEC_DATA", None)  # nor on the user's files

import pytest
import torch
from threadpoolctl import threadpool_limits

from diec import confidence, search
from diec.core.compat import mend_torchvision
from diec.data.datasets import load_dataset
from diec.unet import load_unet, new_scheduler, new_unet

mend_torchvision()  # some tests import diffusers themselves


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    "The order is random (pytest-randomly), but for the batch, which takes longest, and the baselines: see there"
    place = {"test_batch.py": 0, "test_baselines.py": 2}
    items.sort(key=lambda test: place.get(test.path.name, 1))


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    before = torch.get_num_threads()
    with threadpool_limits(1):
        yield  # scikit-learn's, too
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def one_thread_in_each_test():
    torch.set_num_threads(1)  # whatever a test before this one has left


N_STARTS = search.n_starts, confidence.N_STARTS


@pytest.fixture(scope="module")
def few_starts():
    "For a file whose tests do not ask how good the clusters are: k-means starts twice, not ten times"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "n_starts", lambda n_clusters: 2)
        patch.setattr(confidence, "N_STARTS", 2)
        yield


@pytest.fixture
def all_starts(few_starts, monkeypatch):
    "For a test in such a file that does ask"
    monkeypatch.setattr(search, "n_starts", N_STARTS[0])
    monkeypatch.setattr(confidence, "N_STARTS", N_STARTS[1])


@pytest.fixture(scope="session")
def digits_unet():
    "The shipped U-Net with its scheduler; not to be changed"
    return load_unet("digits")


@pytest.fixture(scope="session")
def digits():
    "200 images (200, 1, 8, 8) in [-1, 1], read-only"
    images = load_dataset("digits").images[:200].copy()
    images.setflags(write=False)
    return images


@pytest.fixture
def tiny():
    "A fresh untrained U-Net for 8x8 images with its scheduler; the same weights for the same seed"

    def make(random_state=0, in_channels=1):
        unet = new_unet(8, in_channels, block_out_channels=(8, 16, 16), random_state=random_state)
        return unet.eval(), new_scheduler()

    return make


@pytest.fixture
def same():
    "Whether two modules (or state dicts) hold the same bits"

    def equal(a, b):
        a, b = (getattr(m, "state_dict", lambda: m)() for m in (a, b))
        return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)

    return equal


@pytest.fixture
def marker(tmp_path):
    "A pickle whose loading creates a file: (its bytes, the file)"
    import pickle

    made = tmp_path / "the-pickle-was-loaded"

    class Planted:
        def __reduce__(self):
            return os.mkdir, (str(made),)

    data = pickle.dumps(Planted())
    pickle.loads(data)
    assert made.exists()  # else the tests that use it could not fail
    made.rmdir()
    return data, made
