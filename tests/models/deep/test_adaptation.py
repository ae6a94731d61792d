"""What a tier declares trainable trains, and nothing else moves."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2

from rs05bench.errors import BenchError
from rs05bench.models.adaptation import (
    TIERS,
    Adaptation,
    adapt,
    block_paths,
    merged,
    parameter_groups,
    select_blocks,
    trainable_names,
)
from rs05bench.models.backbones import backbone_spec, build_backbone
from rs05bench.models.heads import DecoderHead, LinearHead
from rs05bench.models.networks import EncoderNetwork, parameter_counts

HLS6 = ["B02", "B03", "B04", "B8A", "B11", "B12"]
EVERYWHERE = ("q", "k", "v", "o", "mlp")
LIGHT = ["prithvi-tiny", "terramind-tiny", "galileo-nano", "olmoearth-1.2-nano", "timm-tf_efficientnet_lite0"]


def network(name: str, adaptation: Adaptation, *, linear: bool = False) -> EncoderNetwork:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        backbone = build_backbone(name, bands=HLS6, image_size=32, pretrained=False)
    adapt(backbone.encoder, backbone.spec.layout, adaptation)
    pyramid = backbone.spec.pyramid
    head = LinearHead(backbone.channels, 2, pyramid=pyramid) if linear else DecoderHead(backbone.channels, 2, width=16, pyramid=pyramid)
    return EncoderNetwork(backbone, head, adaptation)


def train_steps(module: nn.Module, forward, steps: int = 3) -> set[str]:
    """Names of the parameters that moved; every trainable one must have got a gradient."""
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    optimizer = torch.optim.SGD([value for value in module.parameters() if value.requires_grad], lr=0.5)
    generator = torch.Generator().manual_seed(0)
    touched: set[str] = set()
    for _ in range(steps):
        output = forward()
        loss = (output * torch.randn(output.shape, generator=generator)).mean() * 10
        optimizer.zero_grad()
        loss.backward()
        touched |= {name for name, value in module.named_parameters() if value.grad is not None and value.grad.abs().sum() > 0}
        optimizer.step()
    assert set(trainable_names(module)) <= touched, sorted(set(trainable_names(module)) - touched)[:5]
    return {name for name, value in module.named_parameters() if not torch.equal(value, before[name])}


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name", LIGHT)
def test_only_declared_parameters_change(name: str, tier: str):
    targets = ("conv",) if backbone_spec(name).layout.convolutional else EVERYWHERE
    net = network(name, Adaptation(tier, targets=targets), linear=tier == "frozen").train()
    if backbone_spec(name).layout.convolutional:
        net.eval()  # in training a batch norm takes the mean away, and a bias in front of it has no gradient
    declared = set(trainable_names(net))
    moved = train_steps(net, lambda: net({"image": torch.rand(2, 6, 32, 32) * 0.4}))
    assert moved == declared
    encoder = [entry for entry in declared if entry.startswith("backbone.")]
    expected = {"frozen": (), "decoder": (), "adapter": ("adapter_",), "lora": ("lora_",), "full": ("",)}[tier]
    assert bool(encoder) == bool(expected)
    assert all(any(part in entry for part in expected) for entry in encoder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tier"), [("satlas", "lora"), ("satlas", "full"), ("clay", "lora"), ("dofa", "adapter"), ("dinov3", "full")]
)
def test_every_declared_parameter_of_other_encoders_gets_a_gradient(name: str, tier: str):
    # In evaluation mode: Swin drops half of its deepest branches at random while it trains, and two steps need not meet all of them.
    net = network(name, Adaptation(tier, targets=EVERYWHERE)).eval()  # type: ignore[arg-type]
    declared = set(trainable_names(net))
    assert train_steps(net, lambda: net({"image": torch.rand(1, 6, 32, 32) * 0.4}), steps=2) <= declared


def test_patterns_are_anchored_at_the_blocks():
    net = network("prithvi-tiny", Adaptation("lora", targets=EVERYWHERE))
    encoder = [name for name in trainable_names(net) if name.startswith("backbone.")]
    assert encoder
    assert all(".blocks." in name for name in encoder)
    assert not any("patch_embed" in name for name in encoder)


def test_lora_starts_as_the_frozen_encoder_and_merges_to_1e5():
    image = torch.rand(2, 6, 32, 32) * 0.4
    net = network("prithvi-tiny", Adaptation("lora", rank=4, alpha=16, targets=EVERYWHERE)).eval()
    plain = network("prithvi-tiny", Adaptation("frozen")).eval()
    with torch.no_grad():
        for one, two in zip(net.backbone(image), plain.backbone(image), strict=False):
            assert torch.allclose(one, two, atol=1e-5)
        for name, value in net.named_parameters():
            if "lora_B" in name:
                value.copy_(torch.randn(value.shape, generator=torch.Generator().manual_seed(1)) * 0.02)
        apart = net({"image": image})
        with merged(net):
            together = net({"image": image})
        assert torch.allclose(apart, together, atol=1e-5)
        assert not torch.allclose(apart[..., :1], plain({"image": image})[..., :1], atol=1e-3)
        assert torch.allclose(net({"image": image}), apart, atol=1e-5), "unmerging must give the adapted encoder back"


@pytest.fixture
def small_swin() -> nn.Module:
    torch.manual_seed(0)
    swin = SwinTransformer(
        patch_size=[4, 4],
        embed_dim=16,
        depths=[2, 2, 2, 2],
        num_heads=[1, 2, 4, 8],
        window_size=[4, 4],
        block=SwinTransformerBlockV2,
        downsample_layer=PatchMergingV2,
        stochastic_depth_prob=0.0,
    )
    return nn.ModuleDict({"swin_model": swin})


@pytest.mark.parametrize("targets", [("q", "v"), ("o",), EVERYWHERE])
def test_lora_reaches_a_swin_that_reads_its_weights_itself(small_swin: nn.Module, targets: tuple[str, ...]):
    """A PEFT wrapper around torchvision's qkv would get no gradient and say nothing."""
    layout = backbone_spec("satlas").layout
    image = torch.rand(2, 3, 64, 64)
    swin = small_swin["swin_model"].eval()  # type: ignore[index]
    with torch.no_grad():
        before = swin.features(image)
    adapt(small_swin, layout, Adaptation("lora", targets=targets, blocks="all"))
    with torch.no_grad():
        assert torch.allclose(swin.features(image), before, atol=1e-5)
    moved = train_steps(small_swin, lambda: swin.features(image))
    assert moved == set(trainable_names(small_swin))
    assert all("lora_" in name for name in moved)
    with torch.no_grad():
        adapted = swin.features(image)
        with merged(small_swin):
            assert torch.allclose(swin.features(image), adapted, atol=1e-5)
    assert not torch.allclose(adapted, before, atol=1e-3)


def test_dropout_that_a_swin_would_ignore_is_refused(small_swin: nn.Module):
    layout = backbone_spec("satlas").layout
    with pytest.raises(BenchError, match=r"dropout=0\.1: ModuleDict reads the weights of its attention"):
        adapt(small_swin, layout, Adaptation("lora", targets=("q", "mlp"), dropout=0.1))
    adapt(small_swin, layout, Adaptation("lora", targets=("mlp",), dropout=0.1))
    assert any(isinstance(module, nn.Dropout) and module.p == 0.1 for name, module in small_swin.named_modules() if "lora_dropout" in name)


def test_query_and_value_alone_leave_the_key_alone(small_swin: nn.Module):
    adapt(small_swin, backbone_spec("satlas").layout, Adaptation("lora", targets=("q", "v")))
    swin = small_swin["swin_model"]  # type: ignore[index]
    layer = swin.features[1][0].attn.qkv
    original = layer.parametrizations.weight.original.clone()
    with torch.no_grad():
        for name, value in small_swin.named_parameters():
            if "lora_B" in name:
                value.fill_(0.1)
    size = layer.weight.shape[0] // 3
    assert torch.equal(layer.weight[size : 2 * size], original[size : 2 * size])
    assert not torch.equal(layer.weight[:size], original[:size])


def test_blocks_choose_where_an_update_goes():
    encoder = build_backbone("prithvi-tiny", bands=HLS6, pretrained=False, image_size=32).encoder
    layout = backbone_spec("prithvi-tiny").layout
    assert len(block_paths(encoder, layout)) == 12
    adapt(encoder, layout, Adaptation("lora", blocks="top2"))
    assert {name.split(".")[1] for name in trainable_names(encoder)} == {"10", "11"}


def test_full_tuning_of_the_top_leaves_the_rest_and_the_stem():
    encoder = build_backbone("prithvi-tiny", bands=HLS6, pretrained=False, image_size=32).encoder
    adapt(encoder, backbone_spec("prithvi-tiny").layout, Adaptation("full", blocks="top3"))
    assert {name.split(".")[1] for name in trainable_names(encoder)} == {"9", "10", "11"}


def test_layer_decay_slows_the_layers_near_the_input():
    adaptation = Adaptation("full", layer_decay=0.5)
    net = network("prithvi-tiny", adaptation)
    groups = parameter_groups(net, net.backbone.spec.layout, adaptation, 1.0)
    assert len(groups) == 13
    rates = sorted(group["lr"] for group in groups)
    assert rates[-1] == 1.0
    assert rates[0] == pytest.approx(0.5**12)
    assert sum(len(group["params"]) for group in groups) == len(trainable_names(net))
    stem = next(group for group in groups if group["lr"] == rates[0])
    assert any(value is net.backbone.encoder.patch_embed.proj.weight for value in stem["params"])


@pytest.mark.parametrize("blocks", ["top13", "12", "middle", "top0"])
def test_blocks_that_are_not_there_are_refused(blocks: str):
    with pytest.raises(BenchError):
        select_blocks(12, blocks)


def test_tiers_cost_what_they_should():
    trainable = {tier: parameter_counts(network("prithvi-tiny", Adaptation(tier)))[1] for tier in TIERS}
    assert trainable["decoder"] < trainable["lora"] < trainable["full"]
    assert trainable["decoder"] < trainable["adapter"] < trainable["full"]
    assert parameter_counts(network("prithvi-tiny", Adaptation("frozen"), linear=True))[1] == 2 * 192 + 192 * 2 + 2


def test_a_frozen_encoder_never_leaves_evaluation_mode():
    net = network("prithvi-tiny", Adaptation("decoder")).train()
    assert not net.backbone.encoder.training
    assert net.head.training
    assert network("prithvi-tiny", Adaptation("full")).train().backbone.encoder.training


@pytest.mark.parametrize("decoder", ["unet", "upernet", "fpn"])
@pytest.mark.parametrize("size", [32, 48, 80])
def test_decoders_give_logits_of_the_image_size(decoder: str, size: int):
    backbone = build_backbone("prithvi-tiny", bands=HLS6, pretrained=False, image_size=size)
    net = EncoderNetwork(backbone, DecoderHead(backbone.channels, 3, decoder=decoder, width=16), Adaptation("decoder")).eval()
    with torch.no_grad():
        assert net({"image": torch.rand(1, 6, size, size) * 0.4}).shape == (1, 3, size, size)
