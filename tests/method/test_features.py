"Activations: the same as the whole pass gives, wherever they are read, and nothing left behind."

import shutil
from unittest import mock

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel, UNet2DModel
from torch.profiler import ProfilerActivity, profile

from diec.core.distributed import has_fast_bfloat16
from diec.features import (
    NOISE_SHARE,
    CompiledTrunk,
    Extractor,
    Trunk,
    _has_trunk,
    activations,
    image_noise,
    layer_names,
    noise_share,
    pool_features,
    split_layers,
)
from diec.unet import new_scheduler, new_unet


def attention_unet(in_channels=1):
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=8,
        in_channels=in_channels,
        out_channels=in_channels,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    ).eval()


UNETS = {
    "plain": lambda: new_unet(8, block_out_channels=(8, 16, 16)).eval(),
    "attention": attention_unet,
    "color": lambda: attention_unet(3),
}


@pytest.fixture(scope="module", params=list(UNETS))
def unet(request):
    return UNETS[request.param]()


def noisy(unet, n=3):
    return torch.randn(n, unet.config.in_channels, 8, 8, generator=torch.Generator().manual_seed(1))


def whole_pass(unet, xt, t):
    "The first output of every module that has one, in the order in which they come, copied when it came"
    seen, names = {}, {m: n for n, m in unet.named_modules() if n}

    def keep(module, args, output):
        output = output[0] if isinstance(output, tuple) else output
        if isinstance(output, torch.Tensor):
            seen.setdefault(names[module], output.clone())

    handles = [m.register_forward_hook(keep) for m in names]
    with torch.no_grad():
        unet(xt, t)
    for h in handles:
        h.remove()
    return seen


def hooks(unet):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in unet.modules())


# --- activations


@torch.no_grad()
def test_every_module_gives_what_the_whole_pass_gives(unet):
    xt = noisy(unet)
    truth = whole_pass(unet, xt, 500)
    assert len(truth) > 40 and set(layer_names(unet)) <= set(truth)
    for name, expected in truth.items():
        for early_exit in (True, False):
            found = activations(unet, xt, 500, [name], early_exit)
            assert list(found) == [name] and torch.equal(found[name], expected), (name, early_exit)


@torch.no_grad()
def test_all_at_once_and_in_any_order(unet):
    xt = noisy(unet)
    truth = whole_pass(unet, xt, torch.tensor([3, 500, 999]))
    for names in (list(truth), list(truth)[::-1], list(truth)[::7] * 2):
        for early_exit in (True, False):
            found = activations(unet, xt, torch.tensor([3, 500, 999]), names, early_exit)
            assert list(found) == list(dict.fromkeys(names))
            assert all(torch.equal(found[n], truth[n]) for n in names)


def test_the_names_are_in_the_order_of_execution(unet):
    names = layer_names(unet)
    ran = [n for n in whole_pass(unet, noisy(unet), 5) if n in names]
    assert tuple(ran) == names and "mid_block" in names


def test_an_early_exit_is_early(unet):
    ran = []
    handle = unet.conv_out.register_forward_hook(lambda *args: ran.append(1))
    activations(unet, noisy(unet), 5, ["mid_block"])
    assert not ran
    activations(unet, noisy(unet), 5, ["mid_block"], early_exit=False)
    assert ran
    handle.remove()


def test_gradients_pass_through():
    unet = UNETS["plain"]()
    xt = noisy(unet).requires_grad_()
    activations(unet, xt, 5, ["mid_block"])["mid_block"].square().sum().backward()
    assert (
        xt.grad.abs().max() > 0
        and unet.conv_in.weight.grad is not None
        and unet.up_blocks[0].resnets[0].conv1.weight.grad is None
    )


class Trouble(Exception):
    pass


@pytest.mark.parametrize("error", [Trouble, KeyboardInterrupt])
def test_no_hook_is_left_after_an_error_in_the_middle(error):
    unet = UNETS["plain"]()

    def fail(*args, **kwargs):
        raise error

    unet.mid_block.forward = fail
    for layers in (["conv_in", "up_blocks.0"], ["mid_block"], list(layer_names(unet))):
        with pytest.raises(error):
            activations(unet, noisy(unet), 5, layers)
        assert not hooks(unet)
    extract = Extractor(unet, new_scheduler())
    with pytest.raises(error):
        extract(np.zeros((3, 1, 8, 8), np.float32), ["mid_block"], 5)
    assert not hooks(unet)
    batches = Extractor(UNETS["plain"](), new_scheduler()).draw_batch(
        torch.zeros(3, 1, 8, 8), split_layers("mid_block"), 5
    )
    next(batches)  # left half-way
    batches.close()
    assert not hooks(unet)


def test_no_hook_is_left_after_success_or_a_wrong_name(unet):
    xt = noisy(unet)
    for layers in (["mid_block"], ["conv_in", "conv_out"], []):
        for early_exit in (True, False):
            activations(unet, xt, 5, layers, early_exit)
    for wrong in (
        ["nope"],
        ["mid_block", "nope"],
        ["down_blocks"],
        [""],
        [None],
    ):  # `down_blocks` is only a list of blocks
        with pytest.raises(ValueError, match="layer"):
            activations(unet, xt, 5, wrong)
    assert not hooks(unet)


def test_an_unknown_layer_is_named_with_those_there_are(unet):
    with pytest.raises(ValueError, match="layer must be one of .*'conv_in'.*'mid_block'.*got 'middle'"):
        activations(unet, noisy(unet), 5, ["middle"])


@pytest.mark.parametrize(
    "call",
    [lambda u, x: activations(u, x, 5, "mid_block"), lambda u, x: Extractor(u, new_scheduler())(x, "mid_block", 5)],
)
def test_a_single_name_is_understood_or_refused_as_such(call):
    "A text is a sequence of letters in Python; a complaint about layer 'm' would be no help"
    unet = UNETS["plain"]()
    try:
        assert list(call(unet, noisy(unet).clamp(-1, 1))) == ["mid_block"]
    except (TypeError, ValueError) as e:
        assert "'mid_block'" in str(e).split("got")[-1]


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_as_it_was(training, same):
    unet = UNETS["plain"]().train(training)
    unet.down_blocks.requires_grad_(False)
    unet.mid_block.train(not training)  # not even a mixture is tidied up
    before = [(m.training, {n: p.requires_grad for n, p in m.named_parameters()}) for m in unet.modules()]
    weights = {k: v.clone() for k, v in unet.state_dict().items()}
    Extractor(unet, new_scheduler())(np.zeros((3, 1, 8, 8), np.float32), layer_names(unet), 5)
    activations(unet, noisy(unet), 5, ["mid_block"])
    assert before == [(m.training, {n: p.requires_grad for n, p in m.named_parameters()}) for m in unet.modules()]
    assert same(unet.state_dict(), weights) and all(p.grad is None for p in unet.parameters())
    assert torch.is_grad_enabled()


def text_conditioned():
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(8, 8),
        norm_num_groups=8,
        cross_attention_dim=8,
        attention_head_dim=4,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    )


def class_conditional(**kwargs):
    return UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(8, 8),
        norm_num_groups=8,
        add_attention=False,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        **kwargs,
    )


@pytest.mark.parametrize(
    "make, words",
    [
        (text_conditioned, "UNet2DConditionModel"),
        (lambda: class_conditional(num_class_embeds=3), "unconditional"),
        (lambda: class_conditional(class_embed_type="timestep"), "unconditional"),
        (lambda: torch.nn.Conv2d(1, 1, 1), "Conv2d"),
        (lambda: None, "NoneType"),
    ],
)
def test_other_networks_are_refused(make, words):
    unet = make()
    with pytest.raises(TypeError, match=words):
        Extractor(unet, new_scheduler())
    with pytest.raises(TypeError, match=words):
        activations(unet, torch.zeros(1, 1, 8, 8), 5, ["mid_block"])


# --- the embedding

IMAGES = np.random.default_rng(0).uniform(-1, 1, (11, 1, 8, 8)).astype(np.float32)


@torch.no_grad()
def test_the_embedding_by_hand(unet):
    x0 = torch.from_numpy(
        np.random.default_rng(0).uniform(-1, 1, (4, unet.config.in_channels, 8, 8)).astype(np.float32)
    )
    scheduler = new_scheduler()
    extract = Extractor(unet, scheduler, n_draws=3, random_state=5, precision="float32")
    a = scheduler.alphas_cumprod[700]
    by_hand = {"mid_block": [], "conv_in": []}
    for eps in image_noise(x0, 3, 5):
        seen = whole_pass(unet, a.sqrt() * x0 + (1 - a).sqrt() * eps, 700)
        by_hand["mid_block"].append(seen["mid_block"].flatten(1))
        by_hand["conv_in"].append(torch.nn.functional.avg_pool2d(seen["conv_in"], 2).flatten(1))  # 8x8 to at most 4x4
    draws, mean = (f(x0, list(by_hand), 700) for f in (extract.draws, extract))
    for layer, expected in by_hand.items():
        assert draws[layer].dtype == mean[layer].dtype == np.float32
        assert np.allclose(draws[layer], torch.stack(expected), atol=1e-5)
        assert np.allclose(mean[layer], torch.stack(expected).mean(0), atol=1e-5)


def test_noise_is_standard_normal_and_belongs_to_the_image():
    noise = image_noise(torch.rand(50, 1, 8, 8), 8, 0)
    assert noise.shape == (8, 50, 1, 8, 8) and torch.equal(noise[1::2], -noise[::2])  # pairs of opposite sign
    assert abs(noise[::2].mean()) < 0.02 and abs(noise.std() - 1) < 0.02
    assert (
        torch.corrcoef(noise[::2].flatten(1))[0, 1:].abs().max() < 0.1
        and torch.corrcoef(noise[0].flatten(1)).fill_diagonal_(0).abs().max() < 0.7
    )
    x = torch.from_numpy(IMAGES)
    assert torch.equal(image_noise(x, 2, 3)[:, 5:7], image_noise(x[5:7], 2, 3))
    assert torch.equal(image_noise(x, 4, 3)[:2], image_noise(x, 2, 3))  # more draws go on where fewer stopped
    assert not torch.equal(image_noise(x, 2, 3), image_noise(x, 2, 4))
    state = torch.get_rng_state()
    image_noise(x, 2, 3)
    assert torch.equal(state, torch.get_rng_state())


def test_the_trunk_is_the_pass_with_hooks_to_the_bit(unet):
    x, t = torch.randn(3, unet.config.in_channels, 8, 8, generator=torch.Generator().manual_seed(0)), 321
    names = layer_names(unet)
    with torch.no_grad():
        expected = whole_pass(unet, x, t)
        for name in names:
            found = Trunk(unet, split_layers(name))(x, torch.full((3,), t))
            assert list(found) == [name] and torch.equal(found[name], expected[name])
        both = Trunk(unet, split_layers(f"{names[-1]}+{names[0]}"))(x, torch.full((3,), t))
        assert set(both) == {names[-1], names[0]} and all(torch.equal(both[n], expected[n]) for n in both)


def test_other_layers_and_networks_are_read_with_hooks():
    class Other(type(UNETS["plain"]())):
        def forward(self, sample, timestep, *args, **kwargs):
            return super().forward(2 * sample, timestep, *args, **kwargs)

    plain = UNETS["plain"]()
    own = Other.from_config(plain.config).eval()
    own.load_state_dict(plain.state_dict())
    images, read = (
        IMAGES[:4],
        lambda unet, layer: Extractor(unet, new_scheduler(), precision="float32")(images, layer, 9),
    )
    with mock.patch("diec.features.Trunk", side_effect=AssertionError("the trunk has another forward pass")):
        inside = read(plain, "mid_block.resnets.0")["mid_block.resnets.0"]
        doubled = read(own, "mid_block")["mid_block"]
    assert inside.shape[0] == 4 and not np.allclose(doubled, read(plain, "mid_block")["mid_block"], atol=1e-2)


def test_bfloat16_changes_an_embedding_by_little_and_only_where_it_is_asked_for(unet):
    images = np.random.default_rng(0).uniform(-1, 1, (6, unet.config.in_channels, 8, 8)).astype(np.float32)
    plain, half, auto = (
        Extractor(unet, new_scheduler(), precision=p)(images, "mid_block", 200)["mid_block"]
        for p in ("float32", "bfloat16", "auto")
    )
    assert half.dtype == np.float32 and 0 < np.linalg.norm(half - plain) < 0.02 * np.linalg.norm(plain)
    fast = has_fast_bfloat16(torch.device("cpu"))
    assert np.array_equal(auto, half if fast else plain)


def test_a_cached_embedding_is_not_taken_for_one_of_another_precision(tmp_path):
    new = lambda precision: Extractor(UNETS["plain"](), new_scheduler(), precision=precision, cache_dir=tmp_path)
    found = [new(p)(IMAGES, "mid_block", 200)["mid_block"] for p in ("float32", "bfloat16", "float32")]
    assert np.array_equal(found[0], found[2]) and not np.array_equal(found[0], found[1])


@pytest.mark.parametrize("precision", ["half", None, 16, "Float32"])
def test_an_unknown_precision_is_refused(precision):
    with pytest.raises(ValueError, match="precision must be one of .*auto.*float32.*bfloat16"):
        Extractor(UNETS["plain"](), new_scheduler(), precision=precision)


def test_one_draw_is_enough_where_draws_agree():
    unet, images = UNETS["plain"](), torch.from_numpy(IMAGES)
    extract, layers = Extractor(unet, new_scheduler(), n_draws=4), split_layers("mid_block")
    shares = [extract.noise_shares(images, layers, t)["mid_block"] for t in (0, 300, 900)]
    assert shares == sorted(shares) and shares[0] < NOISE_SHARE < shares[-1]
    assert extract.enough_draws(images, layers, 0) == 1 and extract.enough_draws(images, layers, 900) == 4
    assert Extractor(unet, new_scheduler(), n_draws=1).enough_draws(images, layers, 900) == 1
    assert extract.enough_draws(torch.zeros(5, 1, 8, 8), layers, 0) == 4  # equal images: nothing to compare with
    same = noise_share(torch.eye(3), torch.eye(3))
    assert same == 0 and noise_share(torch.eye(3), -torch.eye(3)) == float("inf")


def test_compiling_is_for_many_passes_in_bfloat16_on_a_cpu_that_has_it():
    unet, layers = UNETS["plain"](), split_layers("mid_block")
    new = lambda precision: Extractor(unet, new_scheduler(), precision=precision)
    for fast in (True, False):
        with mock.patch("diec.features.has_fast_bfloat16", return_value=fast):
            assert new("bfloat16").compiling_pays(layers, 10**12) == fast
            assert not new("bfloat16").compiling_pays(layers, 1000)
            assert not new("float32").compiling_pays(layers, 10**12)
            assert not new("bfloat16").compiling_pays(split_layers("mid_block.resnets.0"), 10**12)


@pytest.fixture
def a_compiler(monkeypatch):
    "Whatever earlier tests found, and without a trace in later ones"
    monkeypatch.setattr(Extractor, "compiler_fails", False)


def test_an_image_has_the_same_embedding_whatever_was_read_before(a_compiler):
    "A compiled trunk rounds differently, so it serves the long calls alone"
    layers, images = split_layers("mid_block"), torch.from_numpy(IMAGES)
    extract = Extractor(UNETS["plain"](), new_scheduler(), batch_size=4, precision="bfloat16")
    pays = lambda self, layers, n: n >= 10
    other = lambda trunk, **kwargs: lambda x, t: {name: a + 1 for name, a in trunk(x, t).items()}
    with mock.patch.object(Extractor, "compiling_pays", pays), mock.patch("torch.compile", other):
        few = extract.embed(images[:5], layers, 200)["mid_block"]
        many = extract.embed(images, layers, 200)["mid_block"]
        assert not np.allclose(many[:5], few) and isinstance(next(iter(extract.compiled.values())), CompiledTrunk)
        assert np.array_equal(extract.embed(images[:5], layers, 200)["mid_block"], few)
        draws = extract.draws(images, layers, 200)["mid_block"]
        assert np.allclose(draws.mean(0), many) and not extract.runs_compiled
        with extract.compiled_for(layers, 10):  # as in a prediction, block by block
            blocks = [extract.embed(block, layers, 200)["mid_block"] for block in images.split(4)]
        assert np.array_equal(np.concatenate(blocks), many)


@pytest.mark.parametrize("change", ["forward", "hook", "pre-hook"])
def test_a_network_that_was_changed_in_place_is_read_with_hooks(change):
    unet, x = UNETS["plain"](), torch.from_numpy(IMAGES)
    layers = split_layers("mid_block")
    assert _has_trunk(unet, layers)
    if change == "forward":
        forward = unet.forward
        unet.forward = lambda x, *args, **kwargs: forward(2 * x, *args, **kwargs)
    elif change == "hook":
        unet.register_forward_hook(lambda *args: None)
    else:
        unet.register_forward_pre_hook(lambda module, args: (2 * args[0], *args[1:]))
    assert not _has_trunk(unet, layers)
    extract = Extractor(unet, new_scheduler(), precision="float32")
    with torch.no_grad():
        assert torch.equal(extract.read(x, 200, layers)["mid_block"], activations(unet, x, 200, layers)["mid_block"])


def test_without_a_compiler_the_trunk_runs_as_it_is_and_says_so_once(caplog, a_compiler):
    extract = Extractor(UNETS["plain"](), new_scheduler(), precision="float32")
    reference = extract(IMAGES, "mid_block", 200)["mid_block"]
    broken = mock.Mock(side_effect=RuntimeError("No working C++ compiler found"))
    with (
        mock.patch.object(Extractor, "compiling_pays", return_value=True),
        mock.patch("torch.compile", return_value=broken),
    ):
        found = [extract(IMAGES, "mid_block", 200)["mid_block"] for _ in range(2)]
        found.append(
            Extractor(extract.unet, extract.scheduler, precision="float32")(IMAGES, "mid_block", 200)["mid_block"]
        )
    assert all(np.array_equal(f, reference) for f in found)
    assert [r.message for r in caplog.records if "uncompiled" in r.message] == [
        "the U-Net runs uncompiled, and slower: RuntimeError: No working C++ compiler found"
    ]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_compiled_embeddings_are_those_of_the_trunk(precision, tmp_path, monkeypatch, a_compiler):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    new = lambda: Extractor(UNETS["plain"](), new_scheduler(), batch_size=4, precision=precision)
    reference, extract = new()(IMAGES, "mid_block", 200)["mid_block"], new()
    with mock.patch.object(Extractor, "compiling_pays", return_value=True):
        found = extract(IMAGES, "mid_block", 200)["mid_block"]  # 11 images: the last batch has 3
    assert isinstance(next(iter(extract.compiled.values())), CompiledTrunk)
    tolerance = 1e-5 if precision == "float32" else 0.02
    assert np.linalg.norm(found - reference) < tolerance * np.linalg.norm(reference)


def test_order_batch_size_and_company_do_not_matter(unet):
    images = np.random.default_rng(0).uniform(-1, 1, (11, unet.config.in_channels, 8, 8)).astype(np.float32)
    layers, new = ["conv_in", "mid_block", "up_blocks.1"], lambda **k: Extractor(unet, new_scheduler(), n_draws=2, **k)
    reference, order = new()(images, layers, 300), np.random.default_rng(1).permutation(11)
    close = lambda found, which=slice(None): all(np.allclose(found[l], reference[l][which], atol=1e-5) for l in layers)
    assert all(close(new(batch_size=b)(images, layers, 300)) for b in (1, 4, 11, 1000))
    assert close(new()(images[order], layers, 300), order)
    assert close(new()(images[[7]], layers, 300), [7])
    assert close(new()(np.concatenate([images, images[:3]]), layers, 300), list(range(11)) + [0, 1, 2])
    assert close(new()(images, layers[::-1], 300)) and close(
        new()(images, layers[1:2] * 2, 300) | new()(images, [layers[0], layers[2]], 300)
    )
    assert not close(new(random_state=1)(images, layers, 300)) and not close(
        new()(images, layers, 301)
    )  # else all of this would be easy


def test_the_way_in_which_pixels_are_written_does_not_matter():
    "255 levels as uint8, as float32 and as float64 differ in the last bit after scaling; the noise must not hang on that"
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8)).astype(np.uint8)
    extract = Extractor(UNETS["plain"](), new_scheduler(), n_draws=2)
    reference = extract(pixels, ["mid_block"], 300)["mid_block"]
    for same in (
        pixels[:, None],
        torch.from_numpy(pixels),
        pixels / 127.5 - 1,
        pixels / 255 * 2 - 1,
        (pixels / 127.5 - 1).astype(np.float32),
        (pixels.astype(np.float32) / 255 - np.float32(0.5)) / np.float32(0.5),
    ):
        assert np.allclose(extract(same, ["mid_block"], 300)["mid_block"], reference, atol=1e-4)


def test_images_are_not_changed(digits_unet):
    for images in (IMAGES.copy(), torch.from_numpy(IMAGES.copy())):
        Extractor(*digits_unet, n_draws=1)(images, ["mid_block"], 300)
        assert np.array_equal(np.asarray(images), IMAGES)


def test_flat():
    a = torch.arange(2 * 3 * 8 * 8.0).view(2, 3, 8, 8)
    assert torch.equal(pool_features(a), torch.nn.functional.avg_pool2d(a, 2).flatten(1))
    assert torch.equal(pool_features(a, 8), a.flatten(1)) and pool_features(a, 1).shape == (2, 3)
    assert torch.equal(
        pool_features(a[..., :2]), torch.nn.functional.avg_pool2d(a[..., :2], (2, 1)).flatten(1)
    )  # never enlarged
    assert torch.equal(pool_features(a[:, :, 0, 0]), a[:, :, 0, 0])


@pytest.mark.parametrize(
    "kwargs, words",
    [
        ({name: value}, (name, repr(value), "1 or more"))
        for name in ("n_draws", "batch_size", "max_side")
        for value in (0, -3, 2.5, "two", None, True)
    ]
    + [({"random_state": value}, ("random_state", repr(value), "0 or")) for value in (-1, 1.5, "x")],
)
def test_bad_settings_are_named(kwargs, words):
    with pytest.raises((ValueError, TypeError)) as e:
        Extractor(UNETS["plain"](), new_scheduler(), **kwargs)(IMAGES, ["mid_block"], 5)
    assert all(w in str(e.value) for w in words), str(e.value)


@pytest.mark.parametrize("t", [-1, 1000, 10**9, 1.0, "5", None, True, np.float32(5), [5]])
def test_bad_timesteps_are_named(t):
    extract = Extractor(UNETS["plain"](), new_scheduler())
    for call in (extract, extract.draws, extract.embed):
        with pytest.raises(ValueError) as e:
            call(torch.from_numpy(IMAGES), split_layers("mid_block"), t)
        assert "timestep must be" in str(e.value) and "0..999" in str(e.value) and repr(t) in str(e.value)


@pytest.mark.parametrize("T, t", [(1000, 0), (1000, 999), (1000, np.int64(999)), (50, 49)])
def test_the_ends_of_the_schedule_are_allowed(T, t):
    extract = Extractor(UNETS["plain"](), new_scheduler(T), n_draws=1)
    assert np.isfinite(extract(IMAGES, ["mid_block"], t)["mid_block"]).all()
    with pytest.raises(ValueError, match=rf"0\.\.{T - 1}"):
        extract(IMAGES, ["mid_block"], T)


# --- memory


def peak(f):
    "The most bytes that torch held at a time on the CPU during f(), by its own profiler's record of every allocation"
    f()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        f()
    events = sorted(
        (e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"), key=lambda e: e.start_ns()
    )
    return int(np.cumsum([e.nbytes() for e in events]).max())


@pytest.fixture(scope="module")
def demand():
    "Extraction from 16x16 images as a function of R and the layers: (peak, bytes of the noise of one draw)"
    unet, images = (
        new_unet(16, block_out_channels=(16, 16, 16)).eval(),
        np.random.default_rng(0).uniform(-1, 1, (16, 1, 16, 16)).astype(np.float32),
    )
    return (
        lambda n_draws, layers: peak(lambda: Extractor(unet, new_scheduler(), n_draws)(images, layers, 100)),
        images.nbytes,
        layer_names(unet),
    )


def test_the_measurement_of_memory_can_be_trusted():
    assert 8e6 <= peak(lambda: torch.ones(10**6) + 1) < 8.1e6
    assert 4e6 <= peak(lambda: [torch.ones(10**6).sum() for _ in range(5)]) < 4.1e6


@pytest.mark.parametrize("which", [["conv_in"], ["mid_block"], "all"])
def test_memory_does_not_grow_with_the_draws(demand, which):
    "But for the noise itself, and the pooled vectors that are averaged"
    bytes_of, noise, names = demand
    layers = list(names) if which == "all" else which
    pooled = 16 * 4 * 4 * 4 * 16 * len(layers)  # images, cells, bytes, channels
    assert bytes_of(24, layers) - bytes_of(2, layers) < 22 * (3 * noise + 2 * pooled) + 1e5


def test_memory_does_not_grow_with_the_layers(demand):
    "But for what these layers hold in one pass"
    bytes_of, noise, names = demand
    held = (
        sum(
            {
                "conv_in": 16,
                "down_blocks.0": 8,
                "down_blocks.1": 4,
                "down_blocks.2": 4,
                "mid_block": 4,
                "up_blocks.0": 8,
                "up_blocks.1": 16,
                "up_blocks.2": 16,
            }[n]
            ** 2
            for n in names
        )
        * 16
        * 16
        * 4
    )
    assert bytes_of(16, list(names)) - bytes_of(16, [names[-1]]) < held + 16 * 2 * 16 * 4 * 4 * 4 * 16 * len(names)
