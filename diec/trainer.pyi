# Made from trainer.py by `python -m tools.stubs`, for type checkers: methods added by @patch stand in their classes.

import logging
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
import numpy as np
import torch
from fastcore.basics import patch
from torch import nn
from tqdm.auto import tqdm
from .core.checkpoint import check_origin, fingerprint, load_state, save_state
from .core.distributed import all_reduce, barrier, is_main, rank_and_world_size, warn_if_threads_differ
from .core.interrupt import Signals, deferred_signals, finished
from .core.neighbors import nearest_neighbors
from .core.rng import Stream, generator
from .core.validation import check_integer, check_number, plain
from .features import Extractor, Layer, activations, join_features
from diec.losses import Graph, adaptive_graph, entropy_loss, graph_loss, kl_loss, neighbor_loss, soft_assignment, stay_loss, target_distribution
from .model import ResidualHead
from .search import BLOCK, DIFFUSION_STEPS, CommonSpace, initial_clusters, neighbor_information
from .unet import denoising_loss
__all__ = ['ClusterModel', 'LossWeights', 'TrainingConfig', 'Trainer']

class ClusterModel(nn.Module):

    def __init__(self, n_features: int, n_components: int, n_clusters: int, head: bool=True, random_state: int=0):
        ...

    def embed(self, e: torch.Tensor) -> torch.Tensor:
        ...

    def embed_all(self, e: np.ndarray) -> torch.Tensor:
        ...

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ...

    def assign_all(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ...

    @classmethod
    def start(cls, e: np.ndarray, n_clusters: int, head: bool=True, random_state: int=0, diffusion: tuple=DIFFUSION_STEPS, n_init: int | None=None, by_information: bool=True, rearrange: bool=True) -> ClusterModel:
        ...

    def _set_centers(self, z: np.ndarray, labels: np.ndarray, centers: np.ndarray):
        ...
ClusterModel.__doc__ = "Map an embedding to the common space, through the residual head, to soft assignments.\n\nParameters\n----------\nn_features : int\n    Length D of an embedding.\nn_components : int\n    Dimensions d of the common space.\nn_clusters : int\n    Number of clusters K.\nhead : bool, default True\n    False: no residual head, z = e, for the ablation.\nrandom_state : int, default 0\n    Seed of the head's weights.\n"

def _labels_and_centers(z: np.ndarray, n_clusters: int, random_state: int, *how) -> tuple:
    ...

def _make_plain(settings):
    ...

@dataclass(frozen=True)
class LossWeights:
    lambda_kl: float = 1.0
    lambda_graph: float = 0.0
    lambda_ent: float = 0.1
    lambda_diff: float = 1.0
    lambda_nbr: float = 0.3
    lambda_stay: float = 0.1
    n_neighbors: int = 10
    eta: float = 0.1

    def __post_init__(self):
        ...

    def check(self):
        ...
LossWeights.__doc__ = "Set the weights of the terms of the loss; 0 switches a term off.\n\nL = L_diff + lambda_kl L_KL + lambda_graph L_graph + lambda_ent L_ent + lambda_nbr L_nbr + lambda_stay L_stay.\n\nParameters\n----------\nlambda_kl : float, default 1.0\n    Self-training.\nlambda_graph : float, default 0.0\n    Adaptive neighbor graph, of z; 0.1 in `DiEC.paper`.\nlambda_ent : float, default 0.1\n    Entropy: balanced clusters and decided assignments.\nlambda_diff : float, default 1.0\n    Denoising; 1 in the paper's formula, 0 for the ablation.\nlambda_nbr : float, default 0.3\n    Neighbors in e stay neighbors.\nlambda_stay : float, default 0.1\n    Points stay in place within their cluster; grows in training, see `TrainingConfig.keep_neighbors`.\nn_neighbors : int, default 10\n    Neighbors k, in the adaptive graph and of e.\neta : float, default 0.1\n    Weight of decided assignments against balanced clusters in the entropy term.\n"

@dataclass(frozen=True)
class TrainingConfig:
    head_epochs: int = 40
    warmup_epochs: int = 10
    joint_epochs: int = 3
    batch_size: int = 128
    lr_head: float = 0.003
    lr_unet: float = 1e-05
    tol: float = 0.001
    patience: int = 3
    random_state: int = 0
    restore_best: bool = True
    keep_neighbors: float = 0.67

    def __post_init__(self):
        ...

    def check(self):
        ...
TrainingConfig.__doc__ = 'How long and how fast to train.\n\nParameters\n----------\nhead_epochs : int, default 40\n    Epochs with the U-Net frozen, at most.\nwarmup_epochs : int, default 10\n    The first of these, in which the head learns the initial clusters.\njoint_epochs : int, default 3\n    Epochs in which the U-Net is trained too, at most; 0: none.\nbatch_size : int, default 128\n    Images a step.\nlr_head : float, default 3e-3\n    Learning rate of head and centers (Adam).\nlr_unet : float, default 1e-5\n    Learning rate of the U-Net (Adam).\ntol : float, default 1e-3\n    Labels are settled when at most this share of them changed over an epoch; negative: never.\npatience : int, default 3\n    A stage ends when the labels have been settled for this many epochs in a row.\nrandom_state : int, default 0\n    Seed.\nrestore_best : bool, default True\n    At the end of the head stage, return to the epoch whose clusters have the most `neighbor_information`,\n    among those that kept the share `keep_neighbors`, if there are any.\nkeep_neighbors : float, default 0.67\n    The weight of the stay term doubles before an epoch of the head stage if less than this share of the nearest\n    neighbors in e are nearest neighbors in z, on a sample of the images; 0: never.\n'

class EpochView:
    """The data set as the current model sees it; constant within an epoch"""

    def __init__(self, model: ClusterModel, x: torch.Tensor, loss_weights: LossWeights, graph: Graph | None=None, fixed_labels: torch.Tensor | None=None):
        ...

    @classmethod
    def restored(cls, begun: dict, labels: torch.Tensor, graph: Graph | None) -> EpochView:
        ...

def _certain(labels: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    ...

def _reseed(model: ClusterModel, view: EpochView) -> list:
    ...
TERMS = ('kl', 'graph', 'ent', 'nbr', 'stay', 'diff')

def _clustering_terms(model: ClusterModel, view: EpochView, loss_weights: LossWeights, index: torch.Tensor, x: torch.Tensor) -> dict:
    ...

def settings_origin(extract: Extractor, loss_weights: LossWeights, training_config: TrainingConfig) -> dict:
    ...

def start_fingerprint(model: ClusterModel) -> str:
    ...

class Trainer:
    """Refine a clustering at a layer and timestep of a U-Net.

    Parameters
    ----------
    extract : Extractor
        Reads embeddings; its U-Net is trained in place in the joint stage.
    model : ClusterModel
        Trained in place.
    layer : str
        Layer l.
    t : int
        Timestep.
    loss_weights : LossWeights, default LossWeights()
        Weights of the loss.
    training_config : TrainingConfig, default TrainingConfig()
        Epochs and learning rates.
    """

    def __init__(self, extract: Extractor, model: ClusterModel, layer: str, t: int, loss_weights: LossWeights=LossWeights(), training_config: TrainingConfig=TrainingConfig()):
        ...

    def _set_start(self):
        ...

    def _reset_optimizer(self):
        ...

    @property
    def warming_up(self) -> bool:
        ...

    def _generator(self, *key) -> torch.Generator:
        ...

    def next_stage(self):
        ...

    def origin(self, images: torch.Tensor) -> dict:
        ...

    def save(self, path: str | Path, origin: dict):
        ...

    def load(self, path: str | Path, origin: dict):
        ...

    @property
    def weights(self) -> LossWeights:
        ...

    def head_terms(self, view: EpochView, images: torch.Tensor, index: torch.Tensor, step: int) -> dict:
        ...

    def _reduce_gradients(self, n: int, terms: dict):
        ...

    def joint_terms(self, view: EpochView, images: torch.Tensor, index: torch.Tensor, step: int) -> dict:
        ...

    def _draw_noise(self, shape: tuple, step: int) -> tuple:
        ...

    def _embed_with_gradient(self, x0: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        ...

    def _denoising_losses(self, x0: torch.Tensor, t: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        ...

    def one_epoch(self, view: EpochView, images: torch.Tensor, changed: float | None, after_step: Callable=lambda n_steps: None):
        ...

    def _update(self, terms: dict, n: int) -> dict:
        ...

    def _add_to_sums(self, terms: dict, n_batches: int):
        ...

    def _end_epoch(self, changed: float | None):
        ...

    def _neighbors(self, x: torch.Tensor) -> torch.Tensor:
        ...

    def _partners(self, x: torch.Tensor) -> torch.Tensor | None:
        ...

    def _hold_neighbors(self, x: torch.Tensor, view: EpochView):
        ...

    def _keep_best(self, x: torch.Tensor, view: EpochView):
        ...

    def _restore_best(self):
        ...

    def _say_empty(self, empty: list):
        ...

    def refresh(self, x: torch.Tensor) -> tuple[EpochView, float | None]:
        ...

    def _embed(self, images: torch.Tensor, used: set):
        ...

    def _begin_epoch(self, images: torch.Tensor, used: set) -> tuple:
        ...

    def _checkpointer(self, checkpoint: str | Path | None, origin: dict | None, signals: Signals) -> Callable:
        ...

    def fit(self, images: torch.Tensor, e: np.ndarray | None=None, checkpoint: str | Path | None=None, stop_after: int | None=None, progress: bool=False) -> np.ndarray:
        ...

    def _resume(self, checkpoint: str | Path, origin: dict):
        ...

    def _bar(self, progress: bool) -> tqdm:
        ...

def _share(n: int) -> slice:
    ...

def _all_rows(e: torch.Tensor, n: int, share: slice) -> torch.Tensor:
    ...

@contextmanager
def _add_epoch_to_error(trainer: Trainer):
    ...
SAVE_EVERY = 60
