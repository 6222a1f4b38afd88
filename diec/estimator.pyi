# Made from estimator.py by `python -m tools.stubs`, for type checkers: methods added by @patch stand in their classes.

__all__ = ['COUNT_SIZE', 'INITS', 'NOT_SAVED', 'DiEC', 'save_pretrained', 'from_pretrained']
import copy, json
from dataclasses import asdict, fields
from pathlib import Path
import numpy as np
import torch
from fastcore.basics import patch
from safetensors.torch import load_file
from sklearn.base import BaseEstimator, ClusterMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from .core.checkpoint import load_state, save_state, write_tensors
from .core.files import MANIFEST, atomic_folder
from .core.validation import check_integer, check_seed
from .search import COTResult, CRITERIA, Clusterability, CommonSpace, Evaluation, search_layer, search_timestep
from .data.images import as_images
from .hierarchy.estimator import ReverseHierarchicalDiffusion
from .features import DEFAULT_LAYER, Extractor, layer_modules, activations, join_features
from .core.distributed import device as default_device, is_main, barrier
from .core.schema import BATCH_SIZE, HEAD_TENSORS, MODEL_TENSORS, ModelSettings, N_CLUSTERS, N_DRAWS, SEARCH_SIZE, blamed, check_header, check_values, checked, find_file, read_header, read_json
from .trainer import ClusterModel, LossWeights, TrainingConfig, Trainer
from .unet import read_unet_design, read_unet_weights, load_unet, save_unet

class DiEC(ClusterMixin, TransformerMixin, BaseEstimator):
    """Diffusion Embedded Clustering (Hu et al., arXiv 2512.20905)"""

    def __init__(self, n_clusters: int | None=10, unet='digits', layer: str=DEFAULT_LAYER, timestep: int | str='search', criterion: str='neighbors', n_draws: int=4, search_size: int=1000, init: str='diffusion', fine_tune_unet: bool=False, loss_weights: LossWeights | None=None, training_config: TrainingConfig | None=None, checkpoint: str | None=None, batch_size: int=256, device: str | None=None, random_state=None, progress: bool=False):
        ...

    def fit(self, X, y=None):
        ...

    def _assign(self, X):
        ...

    def predict(self, X) -> np.ndarray:
        ...

    def predict_proba(self, X) -> np.ndarray:
        ...

    def transform(self, X) -> np.ndarray:
        ...

    def hierarchy(self, X) -> ReverseHierarchicalDiffusion:
        ...

    @property
    def cluster_centers_(self) -> np.ndarray:
        ...

    @property
    def unet_(self):
        ...

    def paper(cls, n_clusters: int | None=10, unet='digits', **overrides) -> DiEC:
        ...
DiEC.__doc__ = 'Diffusion Embedded Clustering of images.\n\nRead an embedding off a pretrained diffusion U-Net, at the layer and timestep where it clusters best, and refine the clusters with a\nresidual head under a self-training loss. Labels are never seen. Nothing is checked before `fit`.\n\nParameters\n----------\nn_clusters : int or None, default=10\n    Number of clusters K, from 2 to 10,000. None: estimated from a hierarchy over the embedding.\nunet : str, Path or (UNet2DModel, scheduler), default="digits"\n    A name (see `diec unets`), a folder, an id on the Hugging Face hub ("owner/name" or "owner/name@revision"), or a pair, which is not\n    changed.\nlayer : str, default="mid_block+up_blocks.0"\n    A layer\'s name, several joined by "+", or "search" for the clustering-optimal layer. The paper\'s is "mid_block".\ntimestep : int or "search", default="search"\n    Timestep at which the U-Net is read, from 0 to T - 1, or "search" for the clustering-optimal one.\ncriterion : {"neighbors", "chi", "stable_chi"}, default="neighbors"\n    What the search maximizes: agreement of k-means with the nearest neighbors, the Calinski-Harabasz index (the paper\'s), or that index\n    times the agreement between noise draws.\nn_draws : int, default=4\n    Noise draws R that an embedding is averaged over, from 1 to 64; 2 or more for "stable_chi".\nsearch_size : int, default=1000\n    Images m that the search looks at; more than K.\ninit : {"diffusion", "k-means"}, default="diffusion"\n    Where the centers start: k-means after steps of diffusion on the neighbor graph, or k-means on the embedding (the paper\'s).\nfine_tune_unet : bool, default=False\n    Train the U-Net too, after the head. It takes several times as long.\nloss_weights : LossWeights or None, default=None\n    Weights of the terms of the loss. None: `LossWeights()`.\ntraining_config : TrainingConfig or None, default=None\n    Epochs and learning rates; its `random_state` is replaced by the one below. None: `TrainingConfig()`.\ncheckpoint : str, Path or None, default=None\n    File from which `fit` resumes and to which it writes. Beside it, `.search.json`, `.start.safetensors` and the folder `.embeddings`\n    keep what came before training. None: nothing is kept.\nbatch_size : int, default=256\n    Images in one forward pass, from 1 to 100,000; fewer where they would not fit into memory.\ndevice : str or None, default=None\n    Where the U-Net runs, such as "cuda:1". None: a GPU if there is one.\nrandom_state : int, RandomState or None, default=None\n    Seed. An int gives the same result each time on one machine.\nprogress : bool, default=False\n    Show progress bars.\n\nAttributes\n----------\nlabels_ : ndarray of shape (N,), int64\n    Cluster of each image, from 0 to K - 1.\nn_clusters_ : int\n    K, also where it was estimated.\ncluster_centers_ : ndarray of shape (K, d), float32\n    Centers, in the space of `transform`.\nlayer_, timestep_ : str, int\n    Where the U-Net was read.\nsearch_result_ : COTResult or None\n    The search: its evaluations, a note, and `plot()`. None if layer and timestep were given.\nhistory_ : dict of lists\n    By epoch: "stage", "epoch", "changed" (share of images that changed their cluster), and each term of the loss.\nunet_ : UNet2DModel\n    The U-Net as it is after `fit`.\nmodel_ : ClusterModel\n    Common space, head and centers.\nextract_ : Extractor\n    Reads embeddings off `unet_`.\nseed_ : int\n    The seed that was used.\n\nRaises\n------\nValueError\n    From `fit`, for a parameter or images out of range; the message names the parameter, what came and what is allowed.\nFloatingPointError\n    If the loss or the embedding is no longer finite.\n\nSee Also\n--------\nDiEC.paper : The configuration that the paper describes.\nReverseHierarchicalDiffusion : A tree of clusters over any features or network.\n\nReferences\n----------\nHu et al., "DiEC: Diffusion Embedded Clustering", arXiv 2512.20905.\n\nExamples\n--------\n>>> from diec import DiEC, load_dataset\n>>> images = load_dataset("digits").images[:300]\n>>> diec = DiEC(n_clusters=10, unet="digits", timestep=100, random_state=0).fit(images)\n>>> diec.labels_.shape, diec.cluster_centers_.shape\n((300,), (10, 64))\n>>> diec.predict(images[:3]).tolist() == diec.labels_[:3].tolist()\nTrue\n'

def _prepare(extract: Extractor, images):
    ...

def _check_params(d: DiEC, n_images: int):
    ...

def _extractor(d: DiEC) -> Extractor:
    ...

def _find_layer_and_timestep(d: DiEC, extract: Extractor, images, K: int) -> tuple:
    ...
COUNT_SIZE = 3000

def _estimate_n_clusters(d: DiEC, extract: Extractor, images) -> int:
    ...
INITS = {'diffusion': {}, 'k-means': {'diffusion': 0, 'by_information': False}}

def _initial_model(d: DiEC, extract: Extractor, images, e, K: int, layer: str, t: int) -> ClusterModel:
    ...

def _restarted(tensors: dict, labels) -> ClusterModel:
    ...

def _clear_cache(extract: Extractor, images, layer: str, t: int):
    ...
NOT_SAVED = ('checkpoint', 'device')

def _config(d: DiEC) -> dict:
    ...

def save_pretrained(self: DiEC, path: str | Path):
    ...

def _write(self, path):
    ...
DiEC.save_pretrained = save_pretrained

def from_pretrained(cls, path: str | Path) -> DiEC:
    ...
DiEC.from_pretrained = classmethod(from_pretrained)

def _length(design, config: dict) -> int:
    ...

def _read_tensors(file: Path, config: dict, design) -> dict:
    ...

def _part(kind, given: dict | None, key: str):
    ...

def _rebuild(cls, config: dict, tensors: dict, unet: tuple) -> DiEC:
    ...
