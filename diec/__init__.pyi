# Made from __init__.py by `python -m tools.stubs`, for type checkers: methods added by @patch stand in their classes.

from .estimator import DiEC as DiEC
from .hierarchy import ReverseHierarchicalDiffusion as ReverseHierarchicalDiffusion
from .app.explore import explore as explore
from .data.datasets import load_dataset as load_dataset
from .unet import load_unet as load_unet
from .app.pretrain import pretrain as pretrain
__version__: str
