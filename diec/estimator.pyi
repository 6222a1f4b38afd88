# Made from estimator.py by `python -m tools.stubs`, for type checkers: methods added by @patch stand in their classes.

from __future__ import annotations
import copy
import json
import logging
import re
import warnings
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
import numpy as np
import torch
from fastcore.basics import patch
from safetensors.torch import load_file
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from .confidence import Certainty, certainty, sample, sharpen, votes
from .core.checkpoint import check_origin, fingerprint, load_state, read_origin, save_state, write_tensors
from .core.distributed import barrier, is_main
from .core.distributed import device as default_device
from .core.files import MANIFEST, atomic_folder, model_within
from .core.neighbors import nearest_neighbors
from diec.core.schema import BATCH_SIZE, HEAD_TENSORS, MODEL_TENSORS, N_CLUSTERS, N_DRAWS, SEARCH_SIZE, ModelSettings, blamed, check_header, check_values, checked, find_file, read_header, read_json
from .core.validation import check_integer, check_seed, plain
from .data.folder import are_paths, find_files, read_files, sample_files
from .data.images import StoredImages, as_array, as_images, in_unit_range
from .embeddings import PRECOMPUTED, GivenEmbeddings, named, vectors_again, vectors_of
from .features import PRECISIONS, Extractor, Layer, activations, join_features
from .hierarchy.estimator import ReverseHierarchicalDiffusion
from .networks import Adapter, load_network, read_design, read_weights, save_network
from diec.search import CRITERIA, Clusterability, CommonSpace, COTResult, Evaluation, neighbor_information, search_layer, search_timestep, searched_layers
from .trainer import ClusterModel, LossWeights, Trainer, TrainingConfig, settings_origin, start_fingerprint
from .unet import choose_unet, fetch, input_shape, largest_side, load_unet
from diffusers import DDPMScheduler, UNet2DModel
from diec.networks import FlowSchedule
__all__ = ['DiEC']

class Embedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """`transform` and the names of its columns, diec0, diec1, ..."""

    def transform(self, X: Any) -> np.ndarray:
        ...

    @property
    def _n_features_out(self):
        ...

class DiEC(ClusterMixin, Embedder, BaseEstimator):

    def __init__(self, n_clusters: int | None=10, unet: str | Path | tuple[UNet2DModel | Adapter, DDPMScheduler | FlowSchedule]='auto', layer: str='search', timestep: int | str='search', criterion: str='information', n_draws: int | str='auto', search_size: int | str='auto', init: str='diffusion', fine_tune_unet: bool=False, loss_weights: LossWeights | None=None, training_config: TrainingConfig | None=None, checkpoint: str | Path | None=None, batch_size: int=256, device: str | None=None, precision: str='auto', embed: str | Callable | np.ndarray | torch.Tensor | Mapping | None=None, image_shape: tuple[int, ...] | None=None, random_state: int | np.random.RandomState | None=None, progress: bool=False):
        ...

    def fit(self, X: Any, y: None=None) -> DiEC:
        ...

    def _assign_block(self, images: torch.Tensor) -> tuple:
        ...

    def _assign_all(self, X) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ...

    def embed_and_assign(self, X) -> tuple[np.ndarray, np.ndarray]:
        ...

    def raw_embeddings(self, X, timesteps) -> dict:
        ...

    def predict(self, X: Any) -> np.ndarray:
        ...

    def predict_proba(self, X: Any) -> np.ndarray:
        ...

    def score(self, X: Any, y: None=None) -> float:
        ...

    def hierarchy(self, X: Any) -> ReverseHierarchicalDiffusion:
        ...

    @property
    def cluster_centers_(self) -> np.ndarray:
        ...

    @property
    def unet_(self) -> UNet2DModel | Adapter:
        ...

    @classmethod
    def paper(cls, n_clusters: int | None=10, unet: str | Path | tuple[UNet2DModel | Adapter, DDPMScheduler | FlowSchedule]='auto', **overrides: Any) -> DiEC:
        ...

    def save_pretrained(self, path: str | Path) -> None:
        ...

    @classmethod
    def from_pretrained(cls, path: str | Path, embed: Callable | Mapping | None=None) -> DiEC:
        ...

    def push_to_hub(self, repo_id: str, private: bool | None=None) -> str | None:
        ...
DiEC.__doc__ = 'Diffusion Embedded Clustering of images.\n\nDiEC reads an embedding off a pretrained diffusion U-Net, at the layer and timestep where it clusters best, and refines\nthe clusters with a residual head under a self-training loss. It uses no labels. Parameters are checked in `fit`.\n\nParameters\n----------\nn_clusters : int or None, default=10\n    Number of clusters K, from 2 to 10,000. None: estimated from a hierarchy over the embedding.\nunet : str, Path or (UNet2DModel, scheduler), default="auto"\n    "auto": the U-Net of the package that suits the images (`diec.unet.choose_unet`). A name (see `diec unets`), the\n    folder of a diffusers pipeline, an id on the Hugging Face hub ("owner/name" or "owner/name@revision"), or a pair,\n    which is not changed. Any family of `diec.networks` will do.\nlayer : str, default="search"\n    Name of a layer (or of an embedding in the dict `embed`), several names joined by "+", or "search" for the\n    clustering-optimal one, see `search_layer`. For a transformer, the search compares three blocks; for a dict, its\n    embeddings and all of them joined. The paper\'s is "mid_block".\ntimestep : int or "search", default="search"\n    Timestep at which the U-Net is read, from 0 to T - 1, or "search" for the clustering-optimal one.\ncriterion : {"information", "neighbors", "chi", "stable_chi"}, default="information"\n    What the search maximizes: mutual information between the initial clusters of neighbors, agreement of k-means with\n    the nearest neighbors, the Calinski-Harabasz index (the paper\'s), or that index times the agreement between draws.\nn_draws : int or "auto", default="auto"\n    Noise draws R that an embedding is averaged over, from 1 to 64; 2 or more for "stable_chi". "auto": one where\n    the noise makes no difference, else two, of opposite sign.\nsearch_size : int or "auto", default="auto"\n    Images m that the search looks at; more than K. "auto": 200 K or a tenth of them, from 2,000 to 10,000\n    (`diec.search.subset_size`).\ninit : {"diffusion", "k-means"}, default="diffusion"\n    Where the centers start: k-means after steps of diffusion on the neighbor graph, or k-means on the embedding (the\n    paper\'s).\nfine_tune_unet : bool, default=False\n    Train the U-Net too, after the head. It takes 1.6 to 4.5 times as long.\nloss_weights : LossWeights or None, default=None\n    Weights of the terms of the loss. None: `LossWeights()`.\ntraining_config : TrainingConfig or None, default=None\n    Epochs and learning rates; its `random_state` is replaced by the one below. None: `TrainingConfig()`.\ncheckpoint : str, Path or None, default=None\n    File from which `fit` resumes and to which it writes. Beside it, `.search.json`, `.start.safetensors` and the folder\n    `.embeddings` store what is computed before training. None: nothing is saved.\nbatch_size : int, default=256\n    Images in one forward pass, from 1 to 100,000; fewer where they would not fit into memory.\ndevice : str or None, default=None\n    Where the U-Net runs, such as "cuda:1". None: a GPU if there is one.\nprecision : {"auto", "float32", "bfloat16"}, default="auto"\n    Arithmetic of the U-Net. "auto": bfloat16 where the hardware has it, about twice as fast.\nembed : callable, torch module, array of shape (N, D), dict of these, "precomputed" or None, default=None\n    Embeddings that take the place of the U-Net\'s: a function from images (B, C, H, W) to vectors (B, D), or the vectors\n    of the images of `fit`; a dict holds several functions or several arrays by name, and the search takes the best.\n    "precomputed": X holds vectors. With it, `unet`, `n_draws` and `device` must be left as they are.\nimage_shape : tuple of int or None, default=None\n    Shape (C, H, W) or (H, W) of the images, where X holds them as rows (N, D). Where X holds paths, the shape at which\n    functions in `embed` see the images; None: (3, 224, 224).\nrandom_state : int, RandomState or None, default=None\n    Seed. An int gives the same result each time on one machine.\nprogress : bool, default=False\n    Show progress bars.\n\nAttributes\n----------\nlabels_ : ndarray of shape (N,), int64\n    Cluster of each image, from 0 to K - 1.\nfiles_ : list of Path or None\n    The file of each label, where X of `fit` holds paths. It is not saved.\nn_clusters_ : int\n    K, also where it was estimated.\ncluster_centers_ : ndarray of shape (K, d), float32\n    Centers, in the space of `transform`.\nlayer_, timestep_ : str, int\n    Where the U-Net was read; with `embed`, the name of the embedding, and 0.\nsearch_result_ : COTResult or None\n    The search: its evaluations, a note, and `plot()`. None if there was nothing to search.\nn_features_in_, feature_names_in_ : int, ndarray of str\n    Number and names of the columns of X, if it is a table: rows of `image_shape`, or vectors; names, of a data frame.\nhistory_ : dict of lists\n    By epoch: "stage", "epoch", "changed" (share of images that changed their cluster), "information" (of the clusters\n    about those of neighbors), "kept" (share of neighbors in e that are neighbors in z), and each term of the loss.\nunet_ : UNet2DModel or Adapter\n    The network as it is after `fit`; there is none with `embed`.\nmodel_ : ClusterModel\n    Common space, head and centers.\nextract_ : Extractor\n    Reads embeddings off `unet_`; its `n_draws` is the number of draws that was used.\ntemperature_ : float\n    By which `predict_proba` sharpens the soft assignment, so that it is a probability; measured without labels.\nstability_ : float or None\n    Agreement with clusterings of halves of the images, up to 1 (`diec.confidence`); it compares numbers of clusters.\n    None: too few images.\nseed_ : int\n    The seed that was used.\n\nRaises\n------\nValueError\n    From `fit`, for a parameter or images out of range; the message names the parameter, what came and what is allowed.\nFloatingPointError\n    If the loss or the embedding is no longer finite.\n\nSee Also\n--------\nDiEC.paper : The configuration that the paper describes.\nReverseHierarchicalDiffusion : A tree of clusters over any features or network.\n\nReferences\n----------\nHu et al., "DiEC: Diffusion Embedded Clustering", arXiv 2512.20905.\n\nExamples\n--------\n>>> from diec import DiEC, load_dataset\n>>> images = load_dataset("digits").images[:300]\n>>> diec = DiEC(n_clusters=10, unet="digits", timestep=100, random_state=0).fit(images)\n>>> diec.labels_.shape, diec.cluster_centers_.shape\n((300,), (10, 64))\n>>> diec.predict(images[:3]).tolist() == diec.labels_[:3].tolist()\nTrue\n'

def _fit(self: DiEC, X) -> DiEC:
    ...

def _say_unused(labels: np.ndarray, K: int):
    ...

def _set_fitted(d: DiEC, trainer: Trainer, K: int, search_result: COTResult | None, sure: Certainty) -> DiEC:
    ...

def _certainty(trainer: Trainer, images, e: np.ndarray, again: np.ndarray, random_state: int) -> Certainty:
    ...

def _training_config(d: DiEC) -> TrainingConfig:
    ...

def _read_input(d: DiEC, X) -> tuple[Any, dict]:
    ...

def _check_image_shape(shape):
    ...

def _check_input(d: DiEC, X) -> tuple:
    ...

def _check_vectors(d: DiEC, X) -> tuple:
    ...

def _check_no_unet(d: DiEC):
    ...

def _fit_to_unet(extract: Extractor, images: torch.Tensor) -> torch.Tensor:
    ...

def _read_paths(d: DiEC, X) -> tuple[Extractor, StoredImages]:
    ...

@contextmanager
def _about_x():
    ...

def _read_files(found, shape: tuple, progress: bool) -> StoredImages:
    ...
FUNCTION_SHAPE = (3, 224, 224)

def _read_again(d: DiEC, X) -> StoredImages:
    ...

def _sees_images(embed) -> bool:
    ...

def _is_auto(value) -> bool:
    ...

def _check_or_auto(name: str, value, low: int, high: int):
    ...

def _check_params(d: DiEC, n_images: int):
    ...

def _check_settings(d: DiEC):
    ...

def _check_within(settings: LossWeights | TrainingConfig, name: str):
    ...

def _check_types(d: DiEC):
    ...

def _check_choices(d: DiEC):
    ...
MOST_DRAWS = 2

def _make_extractor(d: DiEC, images: torch.Tensor | None=None) -> Extractor:
    ...

def _chosen_unet(images: torch.Tensor, random_state: int) -> str:
    ...

def _say_if_reduced(side: int, unet, before: str=''):
    ...

def _unet_and_scheduler(unet) -> tuple:
    ...

def _check_checkpoint(d: DiEC, extract: Extractor, images, layer: Layer | None):
    ...

def _check_stored(d: DiEC, known: dict):
    ...

def _check_layer_and_timestep(d: DiEC, extract: Extractor) -> Layer | None:
    ...

def _with_enough_draws(d: DiEC, extract: Extractor, images, layer: Layer, t: int) -> Extractor:
    ...

def _given_timestep(d: DiEC, extract: Extractor) -> int | None:
    ...

def _find_layer_and_timestep(d: DiEC, extract: Extractor, images, layer: Layer | None, K: int) -> tuple:
    ...
COUNT_SIZE = 3000

def _estimate_n_clusters(d: DiEC, extract: Extractor, images, layer: Layer | None) -> int:
    ...
INITS = {'diffusion': {}, 'k-means': {'diffusion': (0,), 'n_init': 20, 'by_information': False}}

def _initial_model(d: DiEC, extract: Extractor, images, e, K: int, layer: Layer, t: int) -> tuple[ClusterModel, np.ndarray]:
    ...

def _computed_start(d: DiEC, e, K: int) -> tuple[ClusterModel, np.ndarray]:
    ...

def _saved_start(path: Path, origin: str) -> tuple[ClusterModel, np.ndarray] | None:
    ...

def _load_initial_model(tensors: dict, labels: torch.Tensor) -> ClusterModel:
    ...

def _finish_cache(extract: Extractor, images, layer: Layer, t: int):
    ...

def _block_size(image_shape: tuple, batch_size: int) -> int:
    ...

def _set_columns(d: DiEC, X):
    ...

def _check_columns(d: DiEC, X):
    ...

def _takes_vectors(d: DiEC) -> bool:
    ...

def _prepare(d: DiEC, X) -> torch.Tensor:
    ...

def _as_in_fit(d: DiEC, X):
    ...
NOT_SAVED = ('checkpoint', 'device')

def _config(d: DiEC) -> dict:
    ...

def _write_model(d: DiEC, path: str | Path, card: str=''):
    ...

def _model_folder(path: str | Path) -> tuple[Path, Path | None]:
    ...

def _read_model(cls, path: Path, within: Path | None=None) -> DiEC:
    ...

def _check_schedule(design, config: dict):
    ...

def _n_features(design, config: dict) -> int:
    ...

def _vector_length(sizes: dict, config: dict) -> int:
    ...

def _read_tensors(file: Path, config: dict, D: int) -> dict:
    ...

def _check_sizes(stored: dict, rules: dict, name: str, config: dict, D: int) -> int:
    ...

def _read_settings(kind: type, given: dict | None, key: str):
    ...

def _rebuild(cls, config: dict, tensors: dict, unet: tuple | None=None) -> DiEC:
    ...

def _given_again(d: DiEC, config: dict) -> GivenEmbeddings:
    ...

def _read_search_result(found: dict | None) -> COTResult | None:
    ...

def _read_cluster_model(tensors: dict) -> ClusterModel:
    ...
MODEL_FILES = ['config.json', 'model.safetensors', 'unet/*.json', 'unet/*.safetensors']

def _upload(d: DiEC, repo_id: str, private: bool | None) -> str:
    ...
CARD = '---\n{facts}\n---\n\n# {name}\n\nThis model assigns images to {K} clusters, which were found without labels by\n[DiEC, Diffusion Embedded Clustering](https://arxiv.org/abs/2512.20905). It reads {source}.\n\n```python\nfrom diec import DiEC\n\ndiec = DiEC.from_pretrained("{name}"{embed})\nclusters = diec.predict(images)\nconfidence = diec.predict_proba(images).max(1)\n```\n\nAll files are JSON or safetensors. `model.safetensors` also holds the clusters of the images of the fit, but no images.\n'

def _card(d: DiEC, repo_id: str) -> str:
    ...
