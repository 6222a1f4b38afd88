# Made from model.py by `python -m tools.stubs`, for type checkers: methods added by @patch stand in their classes.

import torch
from fastcore.basics import patch
from torch import nn
from .core.validation import check_integer
__all__ = ['ResidualHead']

class ResidualHead(nn.Module):
    """Map embeddings to z = e + g(e), where g is a perceptron whose last layer starts at zero.

    Parameters
    ----------
    n_features : int
        Length d of an embedding in the common space.
    width : int, default 256
        Units in each hidden layer; ours, since the paper leaves it open.
    depth : int, default 2
        Hidden layers, 1 or more.
    residual : bool, default True
        False: z = g(e) alone, for the ablation.
    random_state : int, default 0
        Seed of the initial weights.
    """

    def __init__(self, n_features: int, width: int=256, depth: int=2, residual: bool=True, random_state: int=0):
        ...

    def forward(self, e: torch.Tensor) -> torch.Tensor:
        ...

def _perceptron(n_features: int, width: int, depth: int, random_state: int) -> nn.Sequential:
    ...
