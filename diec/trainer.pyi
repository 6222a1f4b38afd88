# Made from trainer.py by `python -m tools.stubs`, for type checkers: methods added by @patch stand in their classes.

__all__ = ['SAVE_EVERY', 'ClusterModel', 'LossWeights', 'TrainingConfig', 'EpochView', 'Trainer']
import logging, time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
import numpy as np
import torch
from fastcore.basics import patch
from torch import nn
from tqdm.auto import tqdm
from .core.checkpoint import fingerprint, load_state, save_state
from .core.validation import check_integer, check_number
from .search import CommonSpace, kmeans
from .model import ResidualHead
from .features import Extractor, activations, join_features
from .core.interrupt import deferred_signals, finished
from .losses import Graph, adaptive_graph, diffuse, entropy_loss, graph_loss, kl_loss, soft_assignment, target_distribution
from .core.distributed import all_reduce, is_main, barrier, rank_and_world_size
from .core.distributed import has_fast_bfloat16, said_if_threads_differ
from .core.rng import Stream, generator
from .unet import denoising_loss

class ClusterModel(nn.Module):
    """Embedding -> common space -> residual head -> soft assignment"""

    def __init__(self, n_features: int, n_components: int, n_clusters: int, head: bool=True, random_state: int=0):
        ...

    @classmethod
    def start(cls, e, n_clusters: int, head: bool=True, random_state: int=0, diffusion: int=20, n_init: int=20, by_information: bool=True):
        ...

    def embed(self, e: torch.Tensor) -> torch.Tensor:
        ...

    def embed_all(self, e) -> torch.Tensor:
        ...

    def forward(self, x: torch.Tensor):
        ...

@dataclass(frozen=True)
class LossWeights:
    """The weights of L = L_diff + lambda_kl L_KL + lambda_graph L_graph + lambda_ent L_ent; 0 switches a term off"""
    lambda_kl: float = 1.0
    lambda_graph: float = 0.1
    lambda_ent: float = 0.1
    lambda_diff: float = 1.0
    n_neighbors: int = 10
    eta: float = 0.1

    def check(self):
        ...

@dataclass(frozen=True)
class TrainingConfig:
    """How long and how fast; the same for all data sets"""
    head_epochs: int = 40
    warmup_epochs: int = 10
    joint_epochs: int = 3
    batch_size: int = 128
    lr_head: float = 0.001
    lr_unet: float = 1e-05
    tol: float = 0.001
    patience: int = 3
    random_state: int = 0

    def check(self):
        ...

class EpochView:
    """The data set as the current model sees it: refreshed once an epoch, constant within it"""

    def __init__(self, model: ClusterModel, x: torch.Tensor, loss_weights: LossWeights, graph: Graph | None=None, learn: torch.Tensor | None=None):
        ...

    @classmethod
    def kept(cls, x: torch.Tensor, target: torch.Tensor, graph: Graph | None):
        ...

def _reseed(model: ClusterModel, view: EpochView) -> list:
    ...

def _clustering_terms(model: ClusterModel, view: EpochView, loss_weights: LossWeights, index: torch.Tensor, x: torch.Tensor) -> dict:
    ...

class Trainer:
    """Refines a clustering at a place (l, t) of a U-Net"""

    def __init__(self, extract: Extractor, model: ClusterModel, layer: str, t: int, loss_weights: LossWeights=LossWeights(), training_config: TrainingConfig=TrainingConfig()):
        ...

    def _optimizer(self):
        ...

    @property
    def warming_up(self) -> bool:
        ...

    def _generator(self, *key) -> torch.Generator:
        ...

    def next_stage(self):
        ...

    def _origin(self, images) -> dict:
        ...

    def save(self, path, images):
        ...

    def load(self, path, images):
        ...

    def head_terms(self, view: EpochView, images, index, step) -> dict:
        ...

    def _reduce_gradients(self, n: int, terms: dict):
        ...

    def joint_terms(self, view: EpochView, images, index, step) -> dict:
        ...

    def one_epoch(self, view: EpochView, images: torch.Tensor, changed: float | None, after_step=lambda n_steps: None):
        ...

    def refresh(self, e) -> tuple:
        ...

    def _checkpointer(self, images, checkpoint, signals):
        ...

    def fit(self, images, e=None, checkpoint: str | Path | None=None, stop_after: int | None=None, progress: bool=False) -> np.ndarray:
        ...

def _share(n: int) -> slice:
    ...

def _all_rows(e: torch.Tensor, n: int, share: slice) -> torch.Tensor:
    ...

@contextmanager
def _name_stage(trainer: Trainer):
    ...
SAVE_EVERY = 60
