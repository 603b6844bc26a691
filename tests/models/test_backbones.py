"""Backbones: sizes of the taps, key layouts, and equality with formulations written down independently."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from wsis.errors import ConfigError
from wsis.models import build_backbone
from wsis.models.mobilenet import MobileNetV2, same_padding

STRIDES = (4, 4, 8, 16, 16)


@pytest.mark.parametrize("name", ["tiny", "mobilenet_v2", "mobilenet_v2_dilated", "resnet50"])
@pytest.mark.parametrize("size", [(33, 50), (64, 64), (1, 7)])
def test_taps_have_the_promised_sizes(name, size):
    net = build_backbone(name).eval()
    with torch.no_grad():
        taps = net(torch.randn(2, 3, *size))
    for tap, channels, stride in zip(taps, net.channels, STRIDES):
        assert tap.shape == (2, channels, (size[0] - 1) // stride + 1, (size[1] - 1) // stride + 1)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_100", "convnext_atto"])
@pytest.mark.parametrize("size", [(33, 50), (64, 96)])
def test_timm_taps_have_the_promised_sizes(name, size):
    pytest.importorskip("timm")
    net = build_backbone(f"timm:{name}").eval()
    with torch.no_grad():
        taps = net(torch.randn(1, 3, *size))
    for tap, channels, stride in zip(taps, net.channels, STRIDES):
        assert tap.shape == (1, channels, (size[0] - 1) // stride + 1, (size[1] - 1) // stride + 1)


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2"])
def test_keys_are_torchvisions(name):
    models = pytest.importorskip("torchvision.models")
    theirs = getattr(models, name)(weights=None).state_dict()
    ours = build_backbone(name).state_dict()
    kept = {key: value.shape for key, value in theirs.items() if not key.startswith(("fc.", "classifier."))}
    assert {key: value.shape for key, value in ours.items()} == kept


def test_resnet_equals_torchvision_with_stride_one_in_layer4():
    models = pytest.importorskip("torchvision.models")
    theirs = models.resnet50(weights=None).eval()
    theirs.layer4[0].conv2.stride = (1, 1)
    theirs.layer4[0].downsample[0].stride = (1, 1)
    ours = build_backbone("resnet50").eval()
    ours.load_state_dict({k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")})
    x = torch.randn(1, 3, 65, 47)
    with torch.no_grad():
        taps = ours(x)
        y = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        assert torch.equal(taps[0], y)
        for tap, layer in zip(taps[1:], (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4)):
            y = layer(y)
            torch.testing.assert_close(tap, y)


@pytest.mark.parametrize("size", range(1, 12))
def test_same_padding_is_tensorflows(size):
    """TensorFlow: total = max((ceil(n/2) - 1) * 2 + 3 - n, 0), half of it (rounded down) before."""
    total = max(((size + 1) // 2 - 1) * 2 + 3 - size, 0)
    assert same_padding(size) == (total // 2, total - total // 2)
    for phase in (0, 1):
        before, after = same_padding(size, phase)
        assert (size + before + after - 3) // 2 + 1 == (size + 1) // 2
        assert before == 1 - phase
        assert after >= 0


def _reference_mobilenet(state, x, dilated):
    """MobileNetV2 with TensorFlow's padding, from the state dict alone: a list of (repeat, stride) and
    functions.
    """

    def conv(x, name, stride, groups, dilation=1):
        if stride == 2:
            total = [max(((n + 1) // 2 - 1) * 2 + 3 - n, 0) for n in x.shape[-2:]]
            (h, w) = total
            x = F.pad(x, (w // 2, w - w // 2, h // 2, h - h // 2))
        weight = state[f"{name}.weight"]
        return F.conv2d(
            x,
            weight,
            None,
            stride,
            dilation * (weight.shape[-1] // 2) if stride == 1 else 0,
            dilation,
            groups,
        )

    def norm(x, name):
        mean, var, scale, shift = (
            state[f"{name}.{key}"].view(1, -1, 1, 1) for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    taps = []
    x = norm(conv(x, "features.0.0", 2, 1), "features.0.1").clamp(0, 6)
    for index in range(1, 18):
        stride = 2 if index in (2, 4, 7) else 1
        base, shortcut = f"features.{index}.conv", x
        start = 0
        if index > 1:
            x = norm(conv(x, f"{base}.0.0", 1, 1), f"{base}.0.1").clamp(0, 6)
            start = 1
        dilation = 2 if dilated and index > 14 else 1
        x = norm(conv(x, f"{base}.{start}.0", stride, x.shape[1], dilation), f"{base}.{start}.1").clamp(0, 6)
        x = norm(conv(x, f"{base}.{start + 1}", 1, 1), f"{base}.{start + 2}")
        if x.shape == shortcut.shape:
            x = x + shortcut
        if index in (2, 3, 6, 13):
            taps.append(x)
    return [*taps, norm(conv(x, "features.18.0", 1, 1), "features.18.1").clamp(0, 6)]


def _randomise_norms(net):
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.1)


@pytest.mark.parametrize("size", [(64, 64), (53, 38)])
@pytest.mark.parametrize("dilated", [False, True])
def test_mobilenet_equals_tensorflow_semantics(size, dilated):
    torch.manual_seed(0)
    net = MobileNetV2(dilated, "same").double().eval()
    _randomise_norms(net)
    x = torch.randn(1, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        for ours, theirs in zip(net(x), _reference_mobilenet(net.state_dict(), x, dilated)):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("size", [(64, 64), (53, 38), (16, 80)])
def test_dilated_convolutions_are_the_same_with_and_without_gradient(size):
    torch.manual_seed(0)
    net = MobileNetV2(dilated=True).eval()
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        without = net(x)
    for one, other in zip(net(x), without):
        torch.testing.assert_close(one, other)
    layer = net.features[16].conv[1][0]
    x = torch.randn(2, 960, 5, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn_like(layer.weight, dtype=torch.float64, requires_grad=True)
    ours = torch.autograd.grad(torch.func.functional_call(layer, {"weight": weight}, x).square().sum(), (x, weight))
    plain = F.conv2d(x, weight, padding=2, dilation=2, groups=960)
    for one, other in zip(ours, torch.autograd.grad(plain.square().sum(), (x, weight))):
        torch.testing.assert_close(one, other)


def test_mobilenet_aligned_cells_do_not_depend_on_the_size():
    """Away from the border, aligned features of an image and of the image with one more row and column
    agree.
    """
    torch.manual_seed(0)
    net = MobileNetV2().double().eval()
    _randomise_norms(net)
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        small, large = net(x)[1], net(F.pad(x, (0, 1, 0, 1)))[1]
    torch.testing.assert_close(small[..., :12, :12], large[..., :12, :12])


def test_gradient_is_cut_and_batch_norm_stands_still():
    net = build_backbone("mobilenet_v2").train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    net(torch.randn(2, 3, 32, 32), gradient_from=3)[4].sum().backward()
    learned = {id(p) for p in net.stage_parameters(3)}
    assert learned
    for parameter in net.parameters():
        assert (parameter.grad is not None) == (id(parameter) in learned)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet50", "timm:resnet18"])
def test_the_mode_changes_nothing(name):
    if name.startswith("timm"):
        pytest.importorskip("timm")
    net = build_backbone(name).eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = net(x)[4]
        assert torch.equal(net.train()(x)[4], before)


def test_unknown_backbone_is_named():
    with pytest.raises(ConfigError, match=r"resnet5.*did you mean 'resnet50'"):
        build_backbone("resnet5")


def test_weights_from_a_file(tmp_path):
    source = build_backbone("tiny")
    torch.save(
        {"module." + k: v for k, v in source.state_dict().items()} | {"fc.bias": torch.ones(3)},
        tmp_path / "a.pth",
    )
    target = build_backbone("tiny", tmp_path / "a.pth")
    assert all(torch.equal(a, b) for a, b in zip(source.state_dict().values(), target.state_dict().values()))
    with pytest.raises(ConfigError, match="missing key"):
        build_backbone("mobilenet_v2", tmp_path / "a.pth")
    with pytest.raises(ConfigError, match="does not exist"):
        build_backbone("tiny", tmp_path / "b.pth")


class _Attack:
    def __reduce__(self):
        return exec, ("raise SystemError('executed')",)


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    torch.save({"stem": _Attack()}, tmp_path / "bad.pth")
    with pytest.raises(ConfigError, match="refused"):
        build_backbone("tiny", tmp_path / "bad.pth")


def test_sparse_and_infinite_weights_are_refused(tmp_path):
    state = build_backbone("tiny").state_dict()
    keys = list(state)
    state[keys[0]] = state[keys[0]].to_sparse()
    state[keys[1]] = state[keys[1]] * float("nan")
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(ConfigError) as caught:
        build_backbone("tiny", tmp_path / "a.pth")
    assert "not a dense tensor" in str(caught.value)
    assert "not finite" in str(caught.value)
