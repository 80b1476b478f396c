import pytest
import torch
from torch import nn
from torch.nn import functional

from elr_mri.errors import BadInput
from elr_mri.learning.blocks import Blocks, NormReluPool
from elr_mri.learning.networks import build, final_side, n_parameters, smallest_crop

NAMES = ("wide", "wide-paper", "alexnet", "resnet18")


@pytest.mark.parametrize("width, count", [(1, 9_878_571), (2, 19_180_883), (4, 40_005_795), (8, 90_536_771)])
def test_wide_has_the_published_number_of_parameters(width: int, count: int) -> None:
    """Reference: the released checkpoint at f = 8 and the same table at other widths."""
    with torch.device("meta"):
        net = build("wide", width=width)
    assert n_parameters(net) == count


def test_wide_shrinks_as_released_and_wide_paper_as_tabled() -> None:
    assert (final_side("wide", 96), final_side("wide-paper", 96)) == (5, 1)
    assert final_side("wide", 48, first_pool=False) == 5
    assert final_side("alexnet", 48, first_pool=False) == final_side("alexnet", 96) == 2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("age", ["sinusoid", "scalar", "none"])
def test_logits_have_one_row_per_scan(name: str, age: str) -> None:
    net = build(name, width=1, age=age, crop=48, first_pool=False).eval()
    volumes = torch.randn(2, 1, 48, 48, 48)
    with torch.inference_mode():
        logits = net(volumes, torch.tensor([61.0, 80.5]))
        ageless = net(volumes)
    assert logits.shape == (2, 3)
    assert torch.isfinite(logits).all()
    assert torch.equal(logits, ageless) == (age == "none")


@pytest.mark.parametrize("name", NAMES)
def test_two_channels_are_both_looked_at(name: str) -> None:
    torch.manual_seed(0)
    net = build(name, width=1, crop=48, first_pool=False, channels=2).eval()
    volumes = torch.randn(2, 2, 48, 48, 48)
    with torch.inference_mode():
        told = net(volumes)
        for channel in range(2):
            other = volumes.clone()
            other[:, channel] += torch.randn(48, 48, 48)
            assert not torch.equal(net(other), told)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("first_pool", [True, False])
def test_the_smallest_crop_works_and_one_less_is_refused_by_name(name: str, first_pool: bool) -> None:
    least = smallest_crop(name, first_pool=first_pool)
    net = build(name, width=1, crop=least, first_pool=first_pool)
    assert net(torch.randn(1, 1, least, least, least), torch.tensor([70.0])).shape == (1, 3)
    with pytest.raises(BadInput, match=f"at least {least} voxels, got {least - 1}"):
        build(name, width=1, crop=least - 1, first_pool=first_pool)


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(BadInput, match="expected one of wide, wide-paper, alexnet, resnet18, got 'vgg'"):
        build("vgg")


@pytest.mark.parametrize("norm", ["instance", "batch", "group", "none"])
def test_every_norm_trains(norm: str) -> None:
    net = build("wide", width=1, norm=norm, crop=48, first_pool=False, age="none")
    net(torch.randn(2, 1, 48, 48, 48)).square().sum().backward()
    gradient = net.blocks[2].weight.grad
    assert gradient is not None and torch.isfinite(gradient).all() and gradient.abs().max() > 0


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("pool", [3, 5])
def test_pooling_first_equals_normalising_first(layout: torch.memory_format, pool: int) -> None:
    torch.manual_seed(0)
    maps = (3 + 2 * torch.randn(2, 8, 15, 13, 14)).contiguous(memory_format=layout)
    fast, plain = maps.clone(memory_format=torch.preserve_format).requires_grad_(), maps.clone().requires_grad_()
    ours = NormReluPool(nn.InstanceNorm3d(8), pool)(fast)
    theirs = functional.max_pool3d(functional.relu(functional.instance_norm(plain)), pool, stride=2)
    weights = torch.randn_like(theirs)
    (ours * weights).sum().backward()
    (theirs * weights).sum().backward()
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(fast.grad, plain.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("pool", [3, None])
@pytest.mark.parametrize("spread", [2.0, 0.01])
def test_the_first_block_in_closed_form_equals_its_layers(pool: int | None, spread: float) -> None:
    """Also its gradients by the scan, which saliency needs, and by the weights where the norm's epsilon leaves any; the layers in float64."""
    torch.manual_seed(0)
    volumes = 1 + spread * torch.randn(2, 1, 15, 13, 14)
    convolution = nn.Conv3d(1, 8, 1)
    assert (convolution.weight > 0).any() and (convolution.weight < 0).any()
    layers = nn.Sequential(convolution, nn.InstanceNorm3d(8), nn.ReLU(), *([nn.MaxPool3d(pool, 2)] if pool else []))
    told = []
    for net, dtype in ((Blocks(convolution, NormReluPool(layers[1], pool)), torch.float32), (layers, torch.float64)):
        seen = volumes.to(dtype, copy=True).requires_grad_()
        convolution.to(dtype).zero_grad()
        maps = net(seen)
        weights = torch.randn(maps.shape, generator=torch.Generator().manual_seed(1))
        (maps * weights).sum().backward()
        told.append([part.double() for part in (maps, seen.grad, convolution.weight.grad)])
        assert dtype == torch.float64 or maps.is_contiguous(memory_format=torch.channels_last_3d)
    for ours, theirs in list(zip(*told))[: 3 if spread < 1 else 2]:
        torch.testing.assert_close(ours, theirs, atol=1e-5 * max(1, theirs.abs().max().item()), rtol=1e-4)


def test_only_a_pointwise_block_of_one_channel_with_instance_norm_has_a_closed_form() -> None:
    """Any other first block is computed layer by layer, and the rest of the network is the same."""
    torch.manual_seed(0)
    for channels, norm in ((2, "instance"), (1, "batch"), (1, "none"), (1, "instance")):
        net = build("wide", width=1, crop=35, first_pool=False, age="none", channels=channels, norm=norm).eval()
        volumes = torch.randn(1, channels, 35, 35, 35)
        maps = volumes
        for layer in net.blocks:
            maps = layer(maps)
        torch.testing.assert_close(net.blocks(volumes), maps, atol=1e-4, rtol=1e-4)
