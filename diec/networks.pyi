# Made from networks.py by `python -m tools.stubs`, for type checkers: methods added by @patch stand in their classes.

from __future__ import annotations
import inspect
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple
import torch
from fastcore.basics import patch
from safetensors.torch import load_file
from torch import nn
from torch.overrides import TorchFunctionMode
from .core.checkpoint import write_tensors
from .core.compat import diffusers
from .core.distributed import is_main
from .core.files import MANIFEST, atomic_folder
from .core.names import find_unet
from diec.core.schema import WEIGHT_TYPES, Setting, Settings, TensorRule, TooLarge, blamed, check_header, check_values, checked, find_file, flag, integer, null, number, read_header, read_json, sequence
from diec.unet import Cost, build, current_name, fetch, forward_cost, input_shape, measure_cost, read_scheduler, read_unet_design, read_unet_weights, save_unet, stored_weight
from diffusers import AutoencoderDC, AutoencoderKL, DDPMScheduler, ModelMixin, UNet2DModel, VQModel
__all__ = ['Adapter', 'load_network', 'save_network']

def _standardized(z: torch.Tensor, config: dict) -> torch.Tensor:
    ...

def _encode(vae: AutoencoderKL | AutoencoderDC | VQModel | None, images: torch.Tensor) -> torch.Tensor:
    ...

class Adapter(nn.Module):
    network_part = 'unet'
    packing = 1
    config: dict[str, Any]

    def __init__(self, network: ModelMixin, vae: AutoencoderKL | AutoencoderDC | VQModel | None=None, condition: dict[str, torch.Tensor] | None=None, times: torch.Tensor | None=None):
        ...

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        ...

    def fixed_condition(self, network: ModelMixin) -> dict[str, torch.Tensor]:
        ...

    def latent_side(self, network: ModelMixin) -> int | tuple[int, int] | None:
        ...

    def forward(self, xt: torch.Tensor, t: int | torch.Tensor) -> SimpleNamespace:
        ...

    @property
    def search_layers(self) -> tuple[str, ...]:
        ...

    def call(self, xt: torch.Tensor, t: torch.Tensor, condition: dict[str, torch.Tensor]) -> Any:
        ...

    def with_condition(self, condition: dict[str, torch.Tensor]) -> Adapter:
        ...

    @property
    def on_meta(self) -> Adapter:
        ...

    @property
    def cost(self) -> Cost:
        ...

    @property
    def prompt(self) -> dict[str, torch.Tensor]:
        ...
Adapter.__doc__ = 'Make a diffusion model look like a U-Net that denoises pixels; each family is a subclass.\n\nParameters\n----------\nnetwork : ModelMixin\n    The network that denoises, of diffusers.\nvae : AutoencoderKL, AutoencoderDC, VQModel or None, default None\n    The autoencoder of a latent model.\ncondition : dict of str to torch.Tensor or None, default None\n    Further arguments of the network, such as the encoded empty prompt; one row each.\ntimes : torch.Tensor or None, default None\n    Times (T,) that the network is called with; None: the timesteps 0..T-1.\n'

def _image_side(side, vae: AutoencoderKL | AutoencoderDC | VQModel | None) -> int | tuple[int, int]:
    ...

def _config(network: ModelMixin, vae: AutoencoderKL | AutoencoderDC | VQModel | None, side) -> dict:
    ...

class UNetAdapter(Adapter):
    """A `UNet2DModel` with classes or of latents"""

    @property
    def layer_names(self) -> tuple[str, ...]:
        ...

    def as_map(self, output, xt: torch.Tensor) -> torch.Tensor:
        ...

    def fixed_condition(self, network: ModelMixin) -> dict[str, torch.Tensor]:
        ...

def first_output(output) -> torch.Tensor:
    ...

def block_names(unet: UNet2DModel) -> tuple[str, ...]:
    ...

def _zeros(module: nn.Module, args: tuple, output: torch.Tensor) -> torch.Tensor:
    ...

class TextUNetAdapter(UNetAdapter):
    """A `UNet2DConditionModel`: Stable Diffusion 1, 2 and XL"""

    def call(self, xt, t, condition):
        ...

    def fixed_condition(self, network):
        ...

def _check_text_unet(config: dict, name: str):
    ...

class TransformerAdapter(Adapter):
    """A transformer of diffusers that takes maps"""
    network_part = 'transformer'

    @property
    def layer_names(self) -> tuple[str, ...]:
        ...

    @property
    def search_layers(self) -> tuple[str, ...]:
        ...

    def call(self, xt, t, condition):
        ...

    def as_map(self, output, xt: torch.Tensor) -> torch.Tensor:
        ...

class DiTAdapter(TransformerAdapter):
    """A `DiTTransformer2DModel`"""

    def fixed_condition(self, network):
        ...

class PixArtAdapter(TransformerAdapter):
    """A `PixArtTransformer2DModel`"""

    def call(self, xt, t, condition):
        ...

class FluxAdapter(TransformerAdapter):
    """A `FluxTransformer2DModel`"""
    packing = 2

    def latent_side(self, network):
        ...

    def fixed_condition(self, network):
        ...

    @property
    def layer_names(self) -> tuple[str, ...]:
        ...

    def call(self, xt: torch.Tensor, t: torch.Tensor, condition: dict[str, torch.Tensor]) -> Any:
        ...

def _positions(h: int, w: int, like: torch.Tensor) -> torch.Tensor:
    ...
ADAPTERS = {'UNet2DModel': UNetAdapter, 'UNet2DConditionModel': TextUNetAdapter, 'DiTTransformer2DModel': DiTAdapter, 'PixArtTransformer2DModel': PixArtAdapter, 'SD3Transformer2DModel': TransformerAdapter, 'SanaTransformer2DModel': TransformerAdapter, 'FluxTransformer2DModel': FluxAdapter}
AUTOENCODERS = ('AutoencoderKL', 'AutoencoderDC', 'VQModel')
_OLD_TRANSFORMERS = {'ada_norm_zero': 'DiTTransformer2DModel', 'ada_norm_single': 'PixArtTransformer2DModel'}
_BETAS = ('DDPMScheduler', 'DDIMScheduler', 'PNDMScheduler', 'LMSDiscreteScheduler', 'EulerDiscreteScheduler', 'EulerAncestralDiscreteScheduler', 'HeunDiscreteScheduler', 'KDPM2DiscreteScheduler', 'DEISMultistepScheduler', 'DPMSolverMultistepScheduler', 'DPMSolverSinglestepScheduler', 'UniPCMultistepScheduler', 'LCMScheduler')
_FLOW = ('FlowMatchEulerDiscreteScheduler', 'FlowMatchHeunDiscreteScheduler')
_NOISE_SETTINGS = ('num_train_timesteps', 'beta_start', 'beta_end', 'beta_schedule', 'trained_betas', 'prediction_type', 'rescale_betas_zero_snr')

class FlowSchedule:
    """A scheduler of flow matching, used as a `DDPMScheduler` is"""

    def __init__(self, scheduler):
        ...

    @property
    def alphas_cumprod(self) -> torch.Tensor:
        ...

    def save_pretrained(self, folder: str | Path):
        ...

    def add_noise(self, x0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        ...

class FlowSettings(Settings):
    """`scheduler_config.json` of flow matching"""
    num_train_timesteps = Setting(integer(2, 100000), 1000)
    shift = Setting(number(0.001, 1000.0), 1.0)
    use_dynamic_shifting = Setting(flag, False)
    invert_sigmas = Setting(null | flag, False)

    @staticmethod
    def relations(values):
        ...

def read_schedule(settings: dict, name: str) -> DDPMScheduler | FlowSchedule:
    ...
PROMPT_FILE = 'empty_prompt.safetensors'

def _width(config: dict) -> int:
    ...

def prompt_rules(kind: str, config: dict) -> dict[str, TensorRule]:
    ...
_TEXT_CLASSES = {'CLIPTokenizer', 'CLIPTokenizerFast', 'T5Tokenizer', 'T5TokenizerFast', 'GemmaTokenizer', 'GemmaTokenizerFast', 'CLIPTextModel', 'CLIPTextModelWithProjection', 'T5EncoderModel', 'Gemma2Model'}
_PROMPTS = {'UNet2DConditionModel': ('StableDiffusionPipeline', {'encoder_hidden_states': 0}), 'text_time': ('StableDiffusionXLPipeline', {'encoder_hidden_states': 0, 'text_embeds': 2}), 'PixArtTransformer2DModel': ('PixArtAlphaPipeline', {'encoder_hidden_states': 0, 'encoder_attention_mask': 1}), 'SD3Transformer2DModel': ('StableDiffusion3Pipeline', {'encoder_hidden_states': 0, 'pooled_projections': 2}), 'SanaTransformer2DModel': ('SanaPipeline', {'encoder_hidden_states': 0, 'encoder_attention_mask': 1}), 'FluxTransformer2DModel': ('FluxPipeline', {'encoder_hidden_states': 0, 'pooled_projections': 1})}

def _text_parts(index: dict) -> list[str]:
    ...

def _check_transformers(folder: Path, parts: list[str]):
    ...

def _encode_empty_prompt(folder: Path, index: dict, kind: str, config: dict) -> dict[str, torch.Tensor]:
    ...

def _stored_prompt(file: Path, rules: dict) -> dict[str, torch.Tensor]:
    ...

def _read_condition(folder: Path, kind: str, config: dict, size: tuple, within: Path | None) -> dict[str, torch.Tensor]:
    ...

def _zero_prompt(config: dict) -> dict[str, torch.Tensor]:
    ...
MAX_PARAMETERS = 2 * 10 ** 10
MAX_ACTIVATION_BYTES, MAX_FLOPS = (2 ** 35, 10 ** 14)
_levels = sequence(integer(1, 8192), 1, 10)
_scales = sequence(sequence(integer(1, 64), 0, 10), 1, 10)

class NetworkSettings(Settings):
    """`config.json` of a network or an autoencoder: what decides how large it is; its class checks the rest"""
    sample_size = Setting(null | integer(1, 1024) | sequence(integer(1, 1024), 2, 2), None)
    in_channels = Setting(integer(1, 64), 4)
    out_channels = Setting(null | integer(1, 128), None)
    block_out_channels = Setting(_levels, ())
    encoder_block_out_channels = Setting(_levels, ())
    decoder_block_out_channels = Setting(_levels, ())
    encoder_layers_per_block = Setting(_levels, ())
    decoder_layers_per_block = Setting(_levels, ())
    encoder_qkv_multiscales = Setting(_scales, ())
    decoder_qkv_multiscales = Setting(_scales, ())
    layers_per_block = Setting(integer(1, 16) | _levels, 1)
    transformer_layers_per_block = Setting(integer(1, 64) | sequence(integer(1, 64) | _levels, 1, 10), 1)
    num_layers = Setting(integer(1, 256), 1)
    num_single_layers = Setting(integer(1, 256), 1)
    patch_size = Setting(integer(1, 64), 1)
    pos_embed_max_size = Setting(null | integer(1, 512), None)
    num_class_embeds = Setting(null | integer(1, 100000), None)

class _Part(NamedTuple):
    """A network or an autoencoder in a folder, with everything checked but the values of the weights"""
    module: nn.Module
    files: list[Path]
    name: str
    rules: dict

class Design(NamedTuple):
    """A folder with an adapter's parts, with everything checked but the values of the weights"""
    unet: Adapter
    scheduler: Any
    parts: tuple[_Part, ...]
    condition: dict[str, torch.Tensor]

def _class_of(config: dict, name: str, allowed: tuple) -> str:
    ...
WEIGHTS = 'diffusion_pytorch_model.safetensors'

def _weight_files(folder: Path, part: str, what: str, within: Path | None) -> list[Path]:
    ...

def _read_part(folder: Path, part: str, allowed: tuple, what: str, within: Path | None) -> _Part:
    ...

def _find_part(folder: Path, names: tuple[str, ...]) -> str | None:
    ...

def _check_latents(network: nn.Module, vae: nn.Module | None, name: str):
    ...

def _read_adapter_design(folder: Path, inside: str, what: str, within: Path | None) -> Design:
    ...

class FusedAttention(TorchFunctionMode):
    """In the block, attention is that of fused kernels, which do not store its matrix"""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        ...
_costs: dict[str, Cost] = {}

def _cost_of(unet: Adapter) -> Cost:
    ...

def network_cost(unet: nn.Module) -> Cost:
    ...

def _check_cost(unet: Adapter, name: str):
    ...

def _read_weights(part: _Part) -> nn.Module:
    ...

def _is_plain(folder: Path, within: Path | None) -> bool:
    ...

def read_design(folder: Path, inside: str='', what: str='U-Net folder', within: Path | None=None):
    ...

def read_weights(design) -> nn.Module:
    ...

def load_network(name: str | Path) -> tuple[UNet2DModel | Adapter, DDPMScheduler | FlowSchedule]:
    ...

def _read_folder(folder: Path, within: Path | None=None) -> tuple:
    ...
_WEIGHT_NAMES = (WEIGHTS, 'diffusion_pytorch_model-*.safetensors', f'{WEIGHTS}.index.json', 'config.json')
_TEXT_NAMES = ('config.json', 'model.safetensors', 'model-*.safetensors', 'model.safetensors.index.json')
_TOKENIZER_NAMES = ('*.json', 'merges.txt', 'spiece.model')
HUB_FILES = ['model_index.json', 'scheduler_config.json', 'scheduler/scheduler_config.json', PROMPT_FILE, *(f'{part}{file}' for part in ('', 'unet/', 'transformer/', 'vae/', 'vqvae/') for file in _WEIGHT_NAMES)]
TEXT_FILES = [*(f'text_encoder{i}/{file}' for i in ('', '_2', '_3') for file in _TEXT_NAMES), *(f'tokenizer{i}/{file}' for i in ('', '_2', '_3') for file in _TOKENIZER_NAMES)]

def _needs_text(folder: Path) -> bool:
    ...

def save_network(path: str | Path, unet: UNet2DModel | Adapter, scheduler: DDPMScheduler | FlowSchedule) -> None:
    ...

def _save_adapter(path: str | Path, unet: Adapter, scheduler):
    ...

def _save_part(folder: Path, part: ModelMixin):
    ...

def _model_index(parts: dict, scheduler) -> dict:
    ...
