import pytest
import torch
from torch import nn
from torch.nn import functional

from elr_mri import variants
from elr_mri.config import Model, Train
from elr_mri.errors import BadInput
from elr_mri.learning import recipe
from elr_mri.learning.architectures import BLOCKS
from elr_mri.learning.blocks import Blocks, NormReluPool
from elr_mri.learning.networks import arguments, build, final_side, n_parameters, smallest_crop
from elr_mri.sections.learning import OWN

NAMES = ("wide", "wide-paper", "alexnet", "resnet18")
WIDTHS = (1, 2, 4, 8)
#: With the sinusoidal age. `wide`: the released checkpoint at width 8 and the same table at other widths. The others: counted by
#: hand from their tables, see `counted`; `resnet18`: MONAI's at width 8.
COUNTS = {
    "wide": (9_878_571, 19_180_883, 40_005_795, 90_536_771),
    "wide-paper": (1_752_107, 2_927_955, 7_499_939, 25_525_059),
    "alexnet": (1_057_131, 2_885_459, 9_646_755, 35_587_907),
    "resnet18": (818_395, 2_408_371, 8_694_115, 33_688_771),
}
#: (output channels per width, kernel) of every convolution; voxels of the last map.
TABLES = {
    "wide": (((4, 1), (32, 3), (64, 5), (64, 3)), 125),
    "wide-paper": (((4, 1), (32, 3), (64, 5), (64, 3)), 1),
    "alexnet": (((8, 11), (24, 5), (48, 3), (32, 3), (32, 3)), 8),
}
SINUSOID = 512 * 512 + 512 + 2 * 512


def counted(name: str, width: int, age: str) -> int:
    """Parameters by hand: convolutions, head and age encoder of the published tables."""
    convolutions, voxels = TABLES[name]
    total, before = 0, 1
    for per_width, kernel in convolutions:
        total += width * per_width * (before * kernel**3 + 1)
        before = width * per_width
    sizes = (1024, 512, 3) if name != "alexnet" else (512 * width, 512 * width, 3)
    before *= voxels
    for size in sizes:
        total, before = total + size * (before + 1), size
    encoder = {"none": 0, "sinusoid": SINUSOID, "scalar": 512 + 512 + 2 * 512}[age]
    return total + encoder + (sizes[0] * 513 if age != "none" else 0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("age", ["sinusoid", "scalar", "none"])
def test_every_width_has_its_shape_and_number_of_parameters(name: str, width: int, age: str) -> None:
    norm = "batch" if name == "resnet18" else "instance"
    with torch.device("meta"):
        net = build(name, width=width, age=age, norm=norm)
        logits = net(torch.empty(2, 1, 96, 96, 96), torch.empty(2))
    assert logits.shape == (2, 3)
    if age == "sinusoid":
        assert n_parameters(net) == COUNTS[name][WIDTHS.index(width)]
    if name != "resnet18":
        assert n_parameters(net) == counted(name, width, age)


@pytest.mark.parametrize("width", WIDTHS)
def test_resnet18_is_monai_s_at_its_widths(width: int) -> None:
    from monai.networks.nets import ResNet, resnet18

    with torch.device("meta"):
        ours = build("resnet18", width=width, norm="batch", age="none")
        theirs = (
            resnet18(spatial_dims=3, n_input_channels=1, num_classes=3, conv1_t_stride=2)
            if width == 8
            else ResNet("basic", [2] * 4, [c * width for c in (8, 16, 32, 64)], n_input_channels=1, num_classes=3)
        )
    assert n_parameters(ours) == n_parameters(theirs)
    channels = [net.layer4[1].conv2.out_channels for net in (ours.blocks, theirs)]
    assert channels == [64 * width] * 2
    states = [{name: part.shape for name, part in net.state_dict().items()} for net in (ours.blocks, theirs)]
    assert states[0] == {name: shape for name, shape in states[1].items() if not name.startswith("fc.")}


def plain_wide(width: int, pools: tuple[int | None, ...], voxels: int) -> nn.Sequential:
    """The network without age, as the released code executes it and as the paper tables it, in torch's own layers."""

    def block(n_in: int, n_out: int, pool: int | None, **convolution: int) -> list[nn.Module]:
        own = [nn.Conv3d(n_in, n_out, **convolution), nn.InstanceNorm3d(n_out), nn.ReLU()]
        return own if pool is None else [*own, nn.MaxPool3d(pool, stride=2)]

    f = width
    return nn.Sequential(
        *block(1, 4 * f, pools[0], kernel_size=1),
        *block(4 * f, 32 * f, pools[1], kernel_size=3, dilation=2),
        *block(32 * f, 64 * f, pools[2], kernel_size=5, padding=2, dilation=2),
        *block(64 * f, 64 * f, pools[3], kernel_size=3, padding=1, dilation=2),
        nn.Flatten(),
        nn.Linear(64 * f * voxels, 1024),
        nn.Linear(1024, 512),
        nn.Linear(512, 3),
    )


@pytest.mark.parametrize("name, pools, voxels", [("wide", (3, 3, 5, None), 125), ("wide-paper", (3, 3, 3, 5), 1)])
def test_logits_equal_those_of_a_plain_implementation(name: str, pools: tuple, voxels: int) -> None:
    torch.manual_seed(0)
    ours, theirs = build(name, width=1, age="none").eval(), plain_wide(1, pools, voxels).eval()
    weights = list(ours.state_dict().values())
    theirs.load_state_dict(dict(zip(theirs.state_dict(), weights, strict=True)))
    with torch.no_grad():
        for last in (ours.classifier[-1], theirs[-1]):
            last.weight *= 10  # from 0.01: logits of a size that a difference shows in
    volumes = torch.rand(1, 1, 96, 96, 96)
    with torch.inference_mode():
        mine, plain = ours(volumes), theirs.double()(volumes.double())
    assert plain.std() > 0.01
    torch.testing.assert_close(mine.double(), plain, atol=3e-5, rtol=0)


@pytest.mark.parametrize("name", ["wide", "wide-paper", "alexnet"])
def test_a_deeper_network_has_further_blocks_and_the_same_head(name: str) -> None:
    published = len(BLOCKS[name])
    assert variants.DEPTHS[name] == published
    with torch.device("meta"):
        plain, same, deep = (build(name, width=2, depth=depth) for depth in (None, published, published + 2))
        assert deep(torch.empty(1, 1, 96, 96, 96), torch.empty(1)).shape == (1, 3)
    channels = 2 * BLOCKS[name][-2].channels
    assert n_parameters(same) == n_parameters(plain)
    assert n_parameters(deep) - n_parameters(plain) == 2 * (27 * channels**2 + channels)
    assert deep.embed.state_dict().keys() == plain.embed.state_dict().keys()
    with pytest.raises(BadInput, match=f"a depth of {published} or more, got depth {published - 1}"):
        build(name, depth=published - 1)


@pytest.mark.parametrize("name", NAMES)
def test_a_larger_first_kernel_alone_keeps_the_maps(name: str) -> None:
    plain = (96, final_side(name, 96))
    kernels = {"alexnet": (11, 9, 13), "resnet18": (7, 5, 9)}.get(name, (1, 3, 5))
    assert all((96, final_side(name, 96, first_kernel=kernel)) == plain for kernel in kernels)
    with torch.device("meta"):
        counts = [n_parameters(build(name, width=1, first_kernel=k, norm="batch")) for k in (*kernels, None)]
    first = {"wide": 4, "wide-paper": 4}.get(name, 8)
    assert counts[0] == counts[3]
    assert counts[1] - counts[0] == first * (kernels[1] ** 3 - kernels[0] ** 3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("varied", [{"first_kernel": 5}, {"first_stride": 3}, {"first_kernel": 4, "first_stride": 2}])
def test_the_crop_check_follows_the_first_convolution(name: str, varied: dict) -> None:
    """The maps are followed through the real layers, on torch's `meta` device."""
    least = smallest_crop(name, first_pool=False, **varied)
    with torch.device("meta"):
        net = build(name, width=1, first_pool=False, norm="instance", age="none", crop=least, **varied)
        assert net(torch.empty(1, 1, least, least, least)).shape == (1, 3)
        with pytest.raises(BadInput, match=f"first_.*at least {least} voxels, got {least - 1}"):
            build(name, width=1, first_pool=False, norm="instance", crop=least - 1, **varied)


def test_a_stride_in_place_of_the_first_pool_keeps_the_maps() -> None:
    assert final_side("wide", 96, first_stride=2, first_pool=False) == final_side("wide", 96)
    assert final_side("wide", 96, first_stride=2) is None


def test_what_makes_no_sense_is_refused_in_one_line() -> None:
    for name, asked, told in (
        ("resnet18", {"depth": 18}, "ResNet-18 has its own"),
        ("resnet18", {"norm": "none"}, "expected instance, batch or group norm"),
        ("wide", {"first_stride": 300}, "Lower first_kernel or first_stride"),
    ):
        with pytest.raises(BadInput, match=told) as refused:
            build(name, **asked)
        assert "\n" not in str(refused.value)


def test_every_key_of_a_model_that_shapes_its_network_is_passed_on() -> None:
    """What is left is not the network's."""
    varied = Model(
        network="wide", width=2, norm="group", age="scalar", first_pool=False, first_kernel=3, first_stride=1, depth=5
    )
    told = arguments(varied, crop=48, n_classes=3, channels=2)
    assert set(Model.model_fields) - set(told) - {"network"} == OWN | {"elr", "sop", "gce"}
    with torch.device("meta"):
        net = build(**told)
    first = net.blocks[0]
    assert (first.in_channels, first.out_channels, first.kernel_size) == (2, 8, (3, 3, 3))
    assert len(net.blocks) == 2 * 5 and isinstance(net.blocks[1].norm, nn.GroupNorm) and net.age.code == "scalar"


@pytest.mark.parametrize(
    "keys, held",
    [
        ({}, {"weights": 1, "biases": 4}),
        ({"first_kernel": 3}, {"weights": 0, "biases": 4}),
        ({"norm": "batch"}, {"weights": 0, "biases": 0}),
        ({"network": "alexnet"}, {"weights": 0, "biases": 5}),
        ({"network": "alexnet", "first_kernel": 1}, {"weights": 1, "biases": 5}),
        ({"network": "resnet18", "first_kernel": 1}, {"weights": 0, "biases": 0}),
    ],
)
def test_only_what_instance_norm_takes_out_is_left_as_drawn(keys: dict, held: dict) -> None:
    model = Model(**{"network": "wide", "width": 1, **keys})
    net = build(**arguments(model, crop=96, n_classes=3, channels=1))
    recipe.optimizer(net, Train(optimizer="sgd"), model)
    names = [name for name, part in net.named_parameters() if not part.requires_grad]
    assert all(name.startswith("blocks.") for name in names)
    assert {"weights": sum("weight" in n for n in names), "biases": sum("bias" in n for n in names)} == held
    reference = build(**arguments(model, crop=96, n_classes=3, channels=1))
    recipe.optimizer(reference, Train(recipe="reference"), model)
    assert all(part.requires_grad for name, part in reference.named_parameters() if "weight" in name)


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
