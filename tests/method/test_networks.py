"Each family of diffusion models: tiny ones of diffusers' own classes, saved and read back, against full passes with plain hooks."

import json
import math
from functools import partial
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from diec.core.rng import generator
from diec.data.images import fit_to
from diec.estimator import DiEC
from diec.features import Extractor, activations, image_noise, join_features, layer_names
from diec.losses import Graph  # noqa: F401 - the module of the losses stands behind the features
from diec.networks import Adapter, FlowSchedule, load_network, network_cost, read_schedule, save_network
from diec.search import searched_layers
from diec.trainer import LossWeights, TrainingConfig
from diec.unet import denoising_loss, load_unet, measure_cost, new_scheduler

pytestmark = pytest.mark.usefixtures("few_starts")
LEVELS = dict(block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=8)
PIXELS = dict(down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, add_attention=False)
TOKENS = dict(num_layers=6, num_attention_heads=2, attention_head_dim=8, sample_size=8, patch_size=2, in_channels=4)


def autoencoder(latent_channels=4, **settings):
    "16x16 pixels to 8x8 latents"
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=8,
        latent_channels=latent_channels,
        **settings,
    )


def class_conditional():
    unet = diffusers.UNet2DModel(sample_size=16, in_channels=3, out_channels=3, num_class_embeds=5, **LEVELS, **PIXELS)
    return {"unet": unet, "scheduler": new_scheduler()}, {}


def latent():
    unet = diffusers.UNet2DModel(sample_size=8, in_channels=3, out_channels=3, **LEVELS, **PIXELS)
    vae = diffusers.VQModel(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=8,
    )
    return {"unet": unet, "vqvae": vae, "scheduler": diffusers.DDIMScheduler()}, {}


def text_unet(**settings):
    return diffusers.UNet2DConditionModel(
        sample_size=8,
        cross_attention_dim=16,
        attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        **LEVELS,
        **settings,
    )


def stable_diffusion():
    scheduler = diffusers.PNDMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    parts = {"unet": text_unet(), "vae": autoencoder(), "scheduler": scheduler}
    return parts, {"encoder_hidden_states": torch.randn(1, 7, 16)}


def stable_diffusion_xl():
    "Its empty prompt is zero"
    unet = text_unet(
        addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=12 + 48
    )
    scheduler = diffusers.EulerDiscreteScheduler(beta_schedule="scaled_linear", prediction_type="v_prediction")
    return {"unet": unet, "vae": autoencoder(scaling_factor=0.13), "scheduler": scheduler}, {}


def dit():
    network = diffusers.DiTTransformer2DModel(out_channels=8, num_embeds_ada_norm=10, norm_num_groups=8, **TOKENS)
    return {"transformer": network, "vae": autoencoder(), "scheduler": diffusers.DDIMScheduler()}, {}


def pixart():
    network = diffusers.PixArtTransformer2DModel(
        out_channels=8,
        caption_channels=12,
        cross_attention_dim=16,
        norm_num_groups=8,
        use_additional_conditions=False,
        **TOKENS,
    )
    prompt = {
        "encoder_hidden_states": torch.randn(1, 5, 12),
        "encoder_attention_mask": torch.tensor([[1.0, 1, 0, 0, 0]]),
    }
    return {"transformer": network, "vae": autoencoder(), "scheduler": diffusers.DPMSolverMultistepScheduler()}, prompt


def stable_diffusion_3():
    network = diffusers.SD3Transformer2DModel(
        joint_attention_dim=12,
        caption_projection_dim=16,
        pooled_projection_dim=10,
        pos_embed_max_size=8,
        **TOKENS | {"in_channels": 16},
    )
    prompt = {"encoder_hidden_states": torch.randn(1, 5, 12), "pooled_projections": torch.randn(1, 10)}
    vae = autoencoder(16, scaling_factor=1.5305, shift_factor=0.0609)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    return {"transformer": network, "vae": vae, "scheduler": scheduler}, prompt


def sana():
    network = diffusers.SanaTransformer2DModel(
        out_channels=4,
        caption_channels=12,
        cross_attention_dim=16,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        **TOKENS,
    )
    vae = diffusers.AutoencoderDC(
        latent_channels=4,
        attention_head_dim=8,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        scaling_factor=0.41,
    )
    scheduler = diffusers.DPMSolverMultistepScheduler(
        use_flow_sigmas=True, flow_shift=3.0, prediction_type="flow_prediction"
    )
    prompt = {
        "encoder_hidden_states": torch.randn(1, 5, 12),
        "encoder_attention_mask": torch.tensor([[1.0, 1, 0, 0, 0]]),
    }
    return {"transformer": network, "vae": vae, "scheduler": scheduler}, prompt


def flux(**settings):
    network = diffusers.FluxTransformer2DModel(
        in_channels=16,
        num_layers=3,
        num_single_layers=3,
        num_attention_heads=2,
        attention_head_dim=16,
        joint_attention_dim=12,
        pooled_projection_dim=10,
        axes_dims_rope=(4, 6, 6),
        **settings,
    )
    prompt = {"encoder_hidden_states": torch.randn(1, 5, 12), "pooled_projections": torch.randn(1, 10)}
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    return {"transformer": network, "vae": autoencoder(shift_factor=0.1), "scheduler": scheduler}, prompt


def flux_with_guidance():
    return flux(guidance_embeds=True)


FAMILIES = [
    class_conditional,
    latent,
    stable_diffusion,
    stable_diffusion_xl,
    dit,
    pixart,
    stable_diffusion_3,
    sana,
    flux,
    flux_with_guidance,
]


IMAGE_LAST = "stable_diffusion_3", "flux", "flux_with_guidance"  # blocks return the text, then the image


def save_folder(folder, make):
    "Save a model as its pipeline does; the parts and the empty prompt"
    torch.manual_seed(0)
    parts, prompt = make()
    for name, part in parts.items():
        part.save_pretrained(folder / name)
        if isinstance(part, torch.nn.Module):
            for i, p in enumerate(part.parameters()):  # some layers start as zeros
                if not p.detach().any():
                    p.data.normal_(std=0.05, generator=torch.Generator().manual_seed(i))
            part.eval().save_pretrained(folder / name)
    index = {"_class_name": make.__name__, "force_zeros_for_empty_prompt": make is stable_diffusion_xl}
    index |= {name: ["diffusers", type(part).__name__] for name, part in parts.items()}
    (folder / "model_index.json").write_text(json.dumps(index))
    if prompt:
        save_file(prompt, folder / "empty_prompt.safetensors")
    return SimpleNamespace(folder=folder, kind=make.__name__, prompt=prompt, **{"vae": None} | parts)


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda make: make.__name__)
def saved(request, tmp_path_factory):
    return save_folder(tmp_path_factory.mktemp("model"), request.param)


@pytest.fixture
def dit_folder(tmp_path):
    return save_folder(tmp_path, dit)


@pytest.fixture(scope="session")
def images():
    "Two kinds of 16x16 pictures, uint8"
    rng = np.random.default_rng(0)
    x = rng.integers(0, 60, (24, 3, 16, 16))
    x[12:, :, 4:12, 4:12] += 180
    return x.astype(np.uint8)


def network_of(model):
    return getattr(model, "unet", None) or model.transformer


# --- what diffusers' classes give, by hand


@torch.no_grad()
def by_hand_latents(model, x):
    if model.vae is not None:
        config = model.vae.config
        if model.kind == "sana":
            return model.vae.encode(x).latent * config.scaling_factor
        return (model.vae.encode(x).latent_dist.mode() - (config.shift_factor or 0)) * config.scaling_factor
    return model.vqvae.encode(x).latents * model.vqvae.config.scaling_factor if hasattr(model, "vqvae") else x


def by_hand_noise(model, x0, noise, t):
    if model.kind in ("stable_diffusion_3", "sana", "flux", "flux_with_guidance"):
        sigma = (t + 1) / 1000
        sigma = 3 * sigma / (1 + 2 * sigma)
        return (1 - sigma) * x0 + sigma * noise, 1000 * sigma
    abar = model.scheduler.alphas_cumprod[t]
    return abar.sqrt() * x0 + (1 - abar).sqrt() * noise, t


def by_hand_call(model, xt, t):
    "A full pass of the network, with the arguments of the family spelled out"
    n, times, net = len(xt), torch.full((len(xt),), t), network_of(model)
    prompt = {k: v.expand(n, *v.shape[1:]) for k, v in model.prompt.items()}
    if model.kind == "class_conditional":
        weight = net.class_embedding.weight.data.clone()
        net.class_embedding.weight.data.zero_()
        try:
            return net(xt, times, class_labels=torch.full((n,), 3)).sample
        finally:
            net.class_embedding.weight.data.copy_(weight)
    if model.kind == "stable_diffusion_xl":
        added = {"text_embeds": torch.zeros(n, 12), "time_ids": torch.tensor([[16.0, 16, 0, 0, 16, 16]]).expand(n, 6)}
        return net(xt, times, torch.zeros(n, 77, 16), added_cond_kwargs=added).sample
    if model.kind == "dit":
        return net(xt, timestep=times, class_labels=torch.full((n,), 10)).sample
    if model.kind == "pixart":
        added = {"resolution": None, "aspect_ratio": None}
        return net(xt, timestep=times, added_cond_kwargs=added, **prompt).sample
    if model.kind.startswith("flux"):
        return by_hand_flux(net, xt, times / 1000, prompt)
    return net(xt, timestep=times, **prompt).sample


def by_hand_flux(net, xt, times, prompt):
    "As the pipeline does it: tokens of 2x2 latents, with the numbers of their row and column"
    n, channels, h, w = xt.shape
    if net.config.guidance_embeds:
        prompt = prompt | {"guidance": torch.ones(n)}
    tokens = xt.view(n, channels, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(n, -1, 4 * channels)
    places = torch.tensor([[0.0, i, j] for i in range(h // 2) for j in range(w // 2)])
    out = net(tokens, timestep=times, img_ids=places, txt_ids=torch.zeros(5, 3), **prompt).sample
    return out.view(n, h // 2, w // 2, channels, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(n, channels, h, w)


def by_hand(model, xt, t, layers):
    "Activations of a full pass, by plain hooks"
    found, net = {}, network_of(model)
    modules = dict(net.named_modules())

    def store(name, module, args, output):
        a = output[-1 if model.kind in IMAGE_LAST else 0] if isinstance(output, tuple) else output
        found[name] = a.transpose(1, 2).unflatten(2, (math.isqrt(a.shape[1]), -1)) if a.ndim == 3 else a

    handles = [modules[name].register_forward_hook(partial(store, name)) for name in layers]
    try:
        prediction = by_hand_call(model, xt, t)
    finally:
        for h in handles:
            h.remove()
    return found, prediction


def inputs(model, images, n=3):
    x = torch.from_numpy(images[:: len(images) // n][:n]).float() / 127.5 - 1
    x = fit_to(x, 128 if model.kind.startswith("flux") else 16, 3)
    x0 = by_hand_latents(model, x)
    return x, x0, torch.randn(x0.shape, generator=generator(5))


# --- the bar: values, early exit, gradients, memory


def test_activations_and_prediction_are_those_of_a_full_pass(saved, images):
    unet, scheduler = load_network(saved.folder)
    x, x0, noise = inputs(saved, images)
    assert unet.encode(x).equal(x0)
    xt, time = by_hand_noise(saved, x0, noise, 300)
    torch.testing.assert_close(scheduler.add_noise(x0, noise, torch.full((len(x),), 300)), xt, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        want, prediction = by_hand(saved, xt, time, layer_names(unet))
        for early in (True, False):
            found = activations(unet, xt, 300, layer_names(unet), early_exit=early)
            for name in want:
                torch.testing.assert_close(found[name], want[name], rtol=1e-5, atol=1e-6)
                assert found[name].ndim == 4
        channels = xt.shape[1]
        torch.testing.assert_close(unet(xt, 300).sample, prediction[:, :channels], rtol=1e-5, atol=1e-6)


def test_embeddings_are_those_of_a_full_pass(saved, images):
    unet, scheduler = load_network(saved.folder)
    layers = searched_layers(unet)
    found = Extractor(unet, scheduler, n_draws=2, random_state=3, batch_size=5, precision="float32")(
        images, layers, 100
    )
    x, x0, _ = inputs(saved, images, 24)
    noise = image_noise(x, 2, 3, tuple(x0.shape[1:]))
    names = sorted({name for l in layers for name in l.split("+")})
    with torch.no_grad():
        draws = [by_hand(saved, *by_hand_noise(saved, x0, eps, 100), names)[0] for eps in noise]
    for l in layers:
        want = sum(join_features(draw, l) for draw in draws) / 2
        np.testing.assert_allclose(found[l], want.numpy(), rtol=1e-3, atol=1e-4)


def test_the_pass_ends_after_the_last_layer(saved, images):
    unet, _ = load_network(saved.folder)
    _, x0, _ = inputs(saved, images)
    layers, ran = unet.layer_names, []
    modules = dict(unet.network.named_modules())
    for name in layers:
        modules[name].register_forward_hook(lambda *_, name=name: ran.append(name))
    middle = layers[len(layers) // 2]
    with torch.no_grad(), FlopCounterMode(display=False) as early:
        activations(unet, x0, 5, middle)
    assert ran == list(layers[: len(layers) // 2 + 1])  # and the layers are named in the order in which they run
    with torch.no_grad(), FlopCounterMode(display=False) as full:
        activations(unet, x0, 5, middle, early_exit=False)
    assert early.get_total_flops() < 0.9 * full.get_total_flops()
    assert not unet.network._forward_hooks


def test_gradients_reach_the_weights_before_the_layer_alone(saved, images):
    unet, scheduler = load_network(saved.folder)
    _, x0, _ = inputs(saved, images)
    names, layer = unet.layer_names, unet.layer_names[1]
    activations(unet, x0, 5, layer)[layer].square().sum().backward()
    modules = dict(unet.network.named_modules())
    assert any(p.grad is not None and p.grad.any() for p in modules[layer].parameters())
    assert all(p.grad is None for p in modules[names[2]].parameters())
    assert unet.vae is None or all(p.grad is None for p in unet.vae.parameters())


def test_cost_is_counted_without_running_and_bounds_the_batch(saved, images):
    unet, scheduler = load_network(saved.folder)
    x, x0, _ = inputs(saved, images)
    weights, cost = list(unet.state_dict().values()), network_cost(unet)
    real = measure_cost(lambda x: unet(unet.encode(x), 0), x, weights)
    with sdpa_kernel(SDPBackend.MATH):  # PyTorch counts no operations of the CPU's fused attention
        flops = measure_cost(lambda x: unet(unet.encode(x), 0), x).flops
    assert cost.flops == pytest.approx(flops, rel=0.01)
    assert cost.n_bytes == pytest.approx(real.n_bytes, rel=0.25)
    with torch.no_grad():
        half = measure_cost(lambda x0: activations(unet, x0, 0, unet.layer_names[1]), x0, weights)
        full = measure_cost(lambda x0: unet(x0, 0), x0, weights)
    assert half.flops < full.flops and half.n_bytes <= full.n_bytes  # what is behind the layer takes no memory
    assert Extractor(unet, scheduler).batch_size == (142 if saved.kind.startswith("flux") else 256)


# --- end to end


SHORT = TrainingConfig(head_epochs=2, warmup_epochs=1)


def test_fit_save_load_and_predict(saved, images, tmp_path):
    d = DiEC(2, saved.folder, timestep=100, search_size=20, training_config=SHORT, random_state=0).fit(images)
    assert d.labels_.shape == (24,) and d.layer_ in searched_layers(d.unet_) and isinstance(d.unet_, Adapter)
    d.save_pretrained(tmp_path / "model")
    again = DiEC.from_pretrained(tmp_path / "model")
    assert np.array_equal(again.transform(images), d.transform(images))
    assert np.array_equal(again.predict(images), d.predict(images))


def test_fit_with_search_on_a_folder_and_on_a_pair(dit_folder, images):
    pair = load_network(dit_folder.folder)
    a, b = (DiEC(2, unet, search_size=20, training_config=SHORT, random_state=0) for unet in (dit_folder.folder, pair))
    assert np.array_equal(a.fit_predict(images), b.fit_predict(images))
    assert a.layer_.startswith("transformer_blocks.") and len(a.search_result_.evaluations) == 3 + 2 * 4
    assert (
        DiEC(None, pair, timestep=100, layer=a.layer_, training_config=SHORT, random_state=0).fit(images).n_clusters_
        > 1
    )


def test_a_saved_network_is_the_same(saved, tmp_path, same):
    unet, scheduler = load_network(saved.folder)
    save_network(tmp_path / "again", unet, scheduler)
    again, noise = load_network(tmp_path / "again")
    assert same(unet, again) and torch.equal(scheduler.alphas_cumprod, noise.alphas_cumprod)
    assert unet.config == again.config


def test_fine_tuning_trains_the_network_and_leaves_the_autoencoder(saved, images, same):
    config = TrainingConfig(head_epochs=1, warmup_epochs=0, joint_epochs=1, lr_unet=1e-3)
    d = DiEC(2, saved.folder, timestep=100, fine_tune_unet=True, training_config=config, random_state=0, search_size=20)
    d.fit(images)
    before = load_network(saved.folder)[0]
    assert not same(before.network, d.unet_.network.cpu())
    assert before.vae is None or same(before.vae, d.unet_.vae.cpu())
    assert np.isfinite(d.history_["diff"][-1])


def test_the_noise_of_latents_belongs_to_the_image(images):
    x = torch.from_numpy(images[:6]).float() / 127.5 - 1
    noise = image_noise(x, 4, 0, (4, 8, 8))
    assert noise.shape == (4, 6, 4, 8, 8) and noise[:, [4, 1]].equal(image_noise(x[[4, 1]], 4, 0, (4, 8, 8)))
    assert image_noise(x, 2, 0).equal(image_noise(x, 2, 0, (3, 16, 16)))


def test_images_are_encoded_once(dit_folder, images):
    unet, scheduler = load_network(dit_folder.folder)
    extract, calls = Extractor(unet, scheduler, batch_size=8), []
    unet.vae.encoder.register_forward_hook(lambda *_: calls.append(1))
    for t in (5, 100, 5):
        extract(images, "transformer_blocks.2", t)
    assert len(calls) == 3


def test_an_inner_module_of_a_transformer_is_a_layer(dit_folder, images):
    unet, scheduler = load_network(dit_folder.folder)
    assert Extractor(unet, scheduler)(images, "transformer_blocks.1.attn1", 5)["transformer_blocks.1.attn1"].shape == (
        24,
        16 * 16,
    )
    with pytest.raises(ValueError, match="transformer_blocks.0.*'mid_block'"):
        DiEC(2, dit_folder.folder, layer="mid_block").fit(images)


# --- a plain U-Net stays what it is


def test_a_plain_unet_gets_no_adapter(same):
    unet, scheduler = load_network("digits")
    assert type(unet) is diffusers.UNet2DModel and same(unet, load_unet("digits")[0])
    inner = ("down_blocks.1", "down_blocks.2", "mid_block", "up_blocks.0", "up_blocks.1")
    assert searched_layers(unet) == (*inner, "mid_block+up_blocks.0")


# --- noise


@pytest.mark.parametrize(
    "kind",
    [
        "DDIMScheduler",
        "PNDMScheduler",
        "EulerDiscreteScheduler",
        "DPMSolverMultistepScheduler",
        "UniPCMultistepScheduler",
    ],
)
def test_noise_is_that_of_training_whatever_the_sampler(kind):
    sampler = getattr(diffusers, kind)(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    schedule = read_schedule(json.loads(sampler.to_json_string()), "scheduler_config.json")
    assert torch.equal(schedule.alphas_cumprod, sampler.alphas_cumprod)
    if kind == "EulerDiscreteScheduler":  # its noised sample, as its network sees it
        x0, noise, t = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.tensor([500, 500])
        sigma = ((1 - sampler.alphas_cumprod) / sampler.alphas_cumprod)[500].sqrt()
        seen = (x0 + sigma * noise) / (sigma**2 + 1).sqrt()
        torch.testing.assert_close(schedule.add_noise(x0, noise, t), seen)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_noise_of_flow_matching(shift):
    flow = FlowSchedule(diffusers.FlowMatchEulerDiscreteScheduler(shift=shift))
    x0, noise, t = torch.randn(4, 2, 3, 3), torch.randn(4, 2, 3, 3), torch.tensor([0, 250, 500, 999])
    sigma = (t + 1) / 1000
    sigma = (shift * sigma / (1 + (shift - 1) * sigma)).view(-1, 1, 1, 1)
    torch.testing.assert_close(flow.add_noise(x0, noise, t), (1 - sigma) * x0 + sigma * noise)
    assert flow.times[999] == 1000 and (flow.times.diff() > 0).all()
    ideal = lambda xt, t: SimpleNamespace(sample=noise - x0)  # noqa: E731
    assert denoising_loss(ideal, flow, x0, t, noise).abs().max() < 1e-6


# --- folders


def change(folder, file, **settings):
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.mark.parametrize(
    "file, settings, says",
    [
        ("transformer/config.json", {"_class_name": "AuraFlowTransformer2DModel"}, "one of UNet2DModel, .*AuraFlow"),
        ("transformer/config.json", {"_class_name": "os.system"}, "got 'os.system'"),
        ("transformer/config.json", {"num_layers": 10**6}, "num_layers must be an integer in 1..256"),
        ("transformer/config.json", {"num_attention_heads": 5}, "must have the shape"),
        ("transformer/config.json", {"in_channels": 3}, "must have the shape|in_channels"),
        ("vae/config.json", {"_class_name": "AutoencoderOobleck"}, "vae/config.json: .*AutoencoderKL, AutoencoderDC"),
        ("scheduler/scheduler_config.json", {"_class_name": "ScoreSdeVeScheduler"}, "_class_name must be one of DDPM"),
        ("scheduler/scheduler_config.json", {"beta_start": 7}, "beta_start"),
    ],
)
def test_a_wrong_folder_is_named(dit_folder, file, settings, says):
    change(dit_folder.folder, file, **settings)
    with pytest.raises(ValueError, match=says) as e:
        load_network(dit_folder.folder)
    assert file.split("/")[-1] in str(e.value) or "safetensors" in str(e.value)


def test_weights_of_another_shape_pickles_and_missing_files(dit_folder, marker):
    weights = dit_folder.folder / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    save_file(tensors | {"more": torch.zeros(1)}, weights)
    with pytest.raises(ValueError, match="more.*does not belong"):
        load_network(dit_folder.folder)
    tensors["pos_embed.proj.weight"][0] = torch.nan
    save_file(tensors, weights)
    with pytest.raises(ValueError, match="pos_embed.proj.weight must be finite"):
        load_network(dit_folder.folder)
    weights.unlink()
    (weights.parent / "diffusion_pytorch_model.bin").write_bytes(marker[0])
    with pytest.raises(FileNotFoundError, match="diffusion_pytorch_model.safetensors"):
        load_network(dit_folder.folder)
    assert not marker[1].exists()


def test_weights_in_several_files(dit_folder, same):
    want = load_network(dit_folder.folder)[0]
    part = dit_folder.folder / "transformer"
    (part / "diffusion_pytorch_model.safetensors").unlink()
    dit_folder.transformer.save_pretrained(part, max_shard_size="20KB")
    assert len(list(part.glob("*.safetensors"))) > 2
    assert same(load_network(dit_folder.folder)[0], want)
    index = part / "diffusion_pytorch_model.safetensors.index.json"
    for bad in ("../vae/diffusion_pytorch_model.safetensors", 5):
        change(part, index.name, weight_map={"a": bad})
        with pytest.raises(ValueError, match="weight_map"):
            load_network(dit_folder.folder)


def test_half_precision_is_read_as_float32(dit_folder):
    weights = dit_folder.folder / "transformer" / "diffusion_pytorch_model.safetensors"
    save_file({k: v.half() for k, v in load_file(weights).items()}, weights)
    assert {p.dtype for p in load_network(dit_folder.folder)[0].parameters()} == {torch.float32}


def test_an_old_transformer_is_known_by_its_norm(dit_folder, same):
    want = load_network(dit_folder.folder)[0]
    change(dit_folder.folder, "transformer/config.json", _class_name="Transformer2DModel", norm_type="ada_norm_zero")
    assert same(load_network(dit_folder.folder)[0], want)


def test_the_empty_prompt_must_be_there(tmp_path, monkeypatch):
    model = save_folder(tmp_path, stable_diffusion)
    prompt = tmp_path / "empty_prompt.safetensors"
    prompt.unlink()
    with pytest.raises(FileNotFoundError, match="empty_prompt.safetensors"):
        load_network(tmp_path)
    change(tmp_path, "model_index.json", tokenizer=["os", "system"], text_encoder=["transformers", "CLIPTextModel"])
    with pytest.raises(ValueError, match="tokenizer must be one of CLIP"):
        load_network(tmp_path)
    change(tmp_path, "model_index.json", tokenizer=["transformers", "CLIPTokenizer"])
    monkeypatch.setattr(diffusers.utils, "is_transformers_available", lambda: False)
    with pytest.raises(ImportError, match="install transformers"):
        load_network(tmp_path)
    save_file({"encoder_hidden_states": torch.zeros(1, 7, 15)}, prompt)
    with pytest.raises(ValueError, match=r"encoder_hidden_states must have the shape \(1, d, 16\), got \(1, 7, 15\)"):
        load_network(tmp_path)
    save_file(model.prompt, prompt)
    load_network(tmp_path)


def test_a_hub_id_fetches_no_pickles(dit_folder, monkeypatch, same):
    asked = []
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, **kw: asked.append((name, kw)) or str(dit_folder.folder)
    )
    assert same(load_network("facebook/DiT@v1")[0], load_network(dit_folder.folder)[0])
    ((name, kw),) = asked
    assert name == "facebook/DiT" and kw["revision"] == "v1"
    assert all(p.endswith((".json", ".safetensors", ".txt", "spiece.model")) for p in kw["allow_patterns"])


def test_loss_weights_without_denoising(dit_folder, images):
    config = TrainingConfig(head_epochs=1, warmup_epochs=0, joint_epochs=1)
    d = DiEC(2, dit_folder.folder, layer="transformer_blocks.3", timestep=50, fine_tune_unet=True)
    d.set_params(training_config=config, loss_weights=LossWeights(lambda_diff=0.0), random_state=0).fit(images)
    assert d.history_["diff"][-1] is None
