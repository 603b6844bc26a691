"""Published checkpoints, made up: the names and shapes, and the forward described in the papers, written plainly."""

from __future__ import annotations

import pickle
import struct
import zipfile

import pytest
import torch
import torch.nn.functional as F

from wsis.__main__ import main
from wsis.data.artifacts import file_sha256
from wsis.data.categories import VOC
from wsis.errors import ConfigError
from wsis.models import checked_state, peak_state, published_kind
from wsis.steps import convert
from wsis.training.checkpoint import load_network, read_meta


class _Maker:
    """A state dict of random tensors, scaled so that signals neither die nor explode."""

    def __init__(self):
        self.state = {}
        self.random = torch.Generator().manual_seed(0)

    def conv(self, name, inputs, outputs, kernel, bias=False):
        scale = (2 / (inputs * kernel * kernel)) ** 0.5
        weight = torch.empty(outputs, inputs, kernel, kernel).uniform_(-1.7, 1.7, generator=self.random)
        self.state[f"{name}.weight"] = weight * scale
        if bias:
            self.state[f"{name}.bias"] = torch.randn(outputs, generator=self.random) * 0.1

    def norm(self, name, width, statistics=True):
        self.state[f"{name}.weight"] = 1 + 0.1 * torch.randn(width, generator=self.random)
        self.state[f"{name}.bias"] = 0.1 * torch.randn(width, generator=self.random)
        if statistics:
            self.state[f"{name}.running_mean"] = 0.1 * torch.randn(width, generator=self.random)
            self.state[f"{name}.running_var"] = 1 + 0.1 * torch.rand(width, generator=self.random)
            self.state[f"{name}.num_batches_tracked"] = torch.tensor(7)


def _norm(state, name, x):
    mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    return F.batch_norm(x, mean, var, state[f"{name}.weight"], state[f"{name}.bias"])


def _unit(state, conv, norm, x, stride=1):
    weight = state[f"{conv}.weight"]
    return _norm(state, norm, F.conv2d(x, weight, None, stride, weight.shape[-1] // 2))


def _bottleneck_keys(make, name, inputs, width, project):
    for k, (a, b, size) in enumerate(((inputs, width, 1), (width, width, 3), (width, 4 * width, 1)), 1):
        make.conv(f"{name}.conv{k}", a, b, size)
        make.norm(f"{name}.bn{k}", b)
    if project:
        make.conv(f"{name}.downsample.0", inputs, 4 * width, 1)
        make.norm(f"{name}.downsample.1", 4 * width)


def _bottleneck(state, name, x, stride=1):
    y = _unit(state, f"{name}.conv1", f"{name}.bn1", x).relu()
    y = _unit(state, f"{name}.conv2", f"{name}.bn2", y, stride).relu()
    y = _unit(state, f"{name}.conv3", f"{name}.bn3", y)
    if f"{name}.downsample.0.weight" in state:
        x = _unit(state, f"{name}.downsample.0", f"{name}.downsample.1", x, stride)
    return (x + y).relu()


def _resnet_state():
    """``resnet50.*`` as IRNet publishes it."""
    make = _Maker()
    make.conv("resnet50.conv1", 3, 64, 7)
    make.norm("resnet50.bn1", 64)
    inputs = 64
    for layer, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 1):
        for block in range(blocks):
            _bottleneck_keys(make, f"resnet50.layer{layer}.{block}", inputs, width, block == 0)
            inputs = 4 * width
    return make


def _resnet_taps(state, x):
    """Strides of conv1, layer2, layer3, layer4: 2, 2, 2, 1."""
    x = _unit(state, "resnet50.conv1", "resnet50.bn1", x, 2).relu()
    taps = [F.max_pool2d(x, 3, 2, 1)]
    for layer, (blocks, stride) in enumerate(((3, 1), (4, 2), (6, 2), (3, 1)), 1):
        x = taps[-1]
        for block in range(blocks):
            x = _bottleneck(state, f"resnet50.layer{layer}.{block}", x, stride if block == 0 else 1)
        taps.append(x)
    return taps


def _save(tmp_path, state, name="published.pth"):
    torch.save(state, tmp_path / name)
    return str(tmp_path / name)


def _convert(tmp_path, path, **options):
    result = convert.run(convert.Config(path, str(tmp_path / "out" / "net"), **options))
    return load_network(result.network), result


def _close(got, want):
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4 * float(want.abs().max()))


@torch.no_grad()
def test_irnets_classifier(tmp_path):
    make = _resnet_state()
    make.conv("classifier", 2048, 20, 1)
    state = make.state
    copies = {"stage1.0.weight": "resnet50.conv1.weight", "newly_added.0.weight": "classifier.weight"}
    published = state | {copy: state[key] for copy, key in copies.items()}
    net, result = _convert(tmp_path, _save(tmp_path, published, "res50_cam.pth.pth"))
    assert (result.kind, result.architecture) == ("cam_net", "resnet50")
    meta = read_meta(result.network)
    assert meta["categories"][14] == "person"
    assert meta["converted"]["published"] == "irnet_cam"
    images = torch.randn(2, 3, 64, 50)
    maps = F.conv2d(_resnet_taps(state, images)[4], state["classifier.weight"])
    _close(net(images).maps, maps)
    _close(net(images).logits, maps.mean((2, 3)))


def _irnet_state(make):
    """The two branches on top of a backbone."""
    widths = (64, 256, 512, 1024, 2048)
    for k, inputs in enumerate(widths, 1):
        make.conv(f"fc_edge{k}.0", inputs, 32, 1)
        make.norm(f"fc_edge{k}.1", 32, statistics=False)
    make.conv("fc_edge6", 160, 1, 1, bias=True)
    outputs = (64, 128, 256, 256, 256, 256, 256)
    for k, (inputs, width) in enumerate(zip((*widths, 768, 448), outputs), 1):
        make.conv(f"fc_dp{k}.0", inputs, width, 1)
        make.norm(f"fc_dp{k}.1", width, statistics=False)
    make.conv("fc_dp7.3", 256, 2, 1)
    return {**make.state, "mean_shift.running_mean": torch.tensor([0.5, -1.25])}


@torch.no_grad()
def test_irnets_boundary_and_displacement(tmp_path):
    state = _irnet_state(_resnet_state())
    published = {**state, "fc_dp7.4.running_mean": state["mean_shift.running_mean"]}
    net, result = _convert(tmp_path, _save(tmp_path, {f"module.{k}": v for k, v in published.items()}))
    assert (result.kind, result.architecture) == ("irnet", "resnet50")
    images = torch.randn(1, 3, 70, 64)
    taps = _resnet_taps(state, images)

    def branch(name, x, groups, factor=1):
        x = F.conv2d(x, state[f"{name}.0.weight"])
        x = F.group_norm(x, groups, state[f"{name}.1.weight"], state[f"{name}.1.bias"])
        if factor > 1:
            x = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
        return x.relu()

    def cropped(x, like):
        return x[..., : like.shape[-2], : like.shape[-1]]

    edges = [branch(f"fc_edge{k + 1}", taps[k], 4, f) for k, f in enumerate((1, 1, 2, 4, 4))]
    edge = torch.cat([cropped(x, taps[1]) for x in edges], 1)
    _close(net(images).boundary_logits, F.conv2d(edge, state["fc_edge6.weight"], state["fc_edge6.bias"])[:, 0])
    d = [branch(f"fc_dp{k + 1}", taps[k], (8, 16, 16, 16, 16)[k], (1, 1, 1, 2, 2)[k]) for k in range(5)]
    up = branch("fc_dp6", torch.cat([d[2], cropped(d[3], d[2]), cropped(d[4], d[2])], 1), 16, 2)
    last = branch("fc_dp7", torch.cat([d[0], d[1], cropped(up, d[1])], 1), 16)
    moved = F.conv2d(last, state["fc_dp7.3.weight"]) - state["mean_shift.running_mean"].view(1, 2, 1, 1)
    _close(net(images).displacement, moved)


_PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)


def _pam_state():
    make = _Maker()
    widths = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
    inputs = 3
    for place, width in zip(_PLACES, widths):
        make.conv(f"features.{place}", inputs, width, 3, bias=True)
        inputs = width
    for k in range(1, 4):
        make.conv(f"extra_conv{k}", 512, 512, 3, bias=True)
    make.conv("extra_conv4", 512, 20, 1, bias=True)
    return make.state


@torch.no_grad()
def test_the_peak_attention_module(tmp_path):
    state, places = _pam_state(), _PLACES
    names = [f"layer{b}_conv{k}" for b, n in enumerate((2, 2, 3, 3, 3), 1) for k in range(1, n + 1)]
    copies = {f"{n}.{x}": state[f"features.{p}.{x}"] for n, p in zip(names, places) for x in ("weight", "bias")}
    net, result = _convert(tmp_path, _save(tmp_path, {"model": state | copies, "epoch": 15}))
    assert (result.kind, result.architecture) == ("peak_net", "vgg16")
    x = images = torch.randn(1, 3, 64, 72)
    for place in places:
        reach = 2 if place >= 24 else 1
        weight, bias = state[f"features.{place}.weight"], state[f"features.{place}.bias"]
        x = F.conv2d(x, weight, bias, padding=reach, dilation=reach).relu()
        if place in (2, 7, 14):
            x = F.max_pool2d(x, 2)
        elif place == 21:
            x = F.max_pool2d(x, 3, 1, 1)
    for k in range(1, 4):
        x = F.conv2d(x, state[f"extra_conv{k}.weight"], state[f"extra_conv{k}.bias"], padding=1).relu()
        x = torch.where(x < 0.7 * F.adaptive_max_pool2d(x, 1), torch.zeros(()), x)
    maps = F.conv2d(x, state["extra_conv4.weight"], state["extra_conv4.bias"])
    _close(net(images).maps, maps)
    copies["layer3_conv2.weight"] = copies["layer3_conv2.weight"] + 1
    with pytest.raises(ConfigError, match=r"layer3_conv2.weight and features.12.weight differ"):
        peak_state(state | copies)


def _hrnet_state(width):
    make = _Maker()
    make.conv("conv1", 3, 64, 3)
    make.norm("bn1", 64)
    make.conv("conv2", 64, 64, 3)
    make.norm("bn2", 64)
    for block in range(4):
        _bottleneck_keys(make, f"layer1.{block}", 64 if block == 0 else 256, 64, block == 0)
    before = [256]
    for stage, modules in ((2, 1), (3, 4), (4, 3)):
        widths = [width * 2**b for b in range(stage)]
        for b, w in enumerate(widths):
            name = f"transition{stage - 1}.{b}"
            if b >= len(before):
                make.conv(f"{name}.0.0", before[-1], w, 3)
                make.norm(f"{name}.0.1", w)
            elif before[b] != w:
                make.conv(f"{name}.0", before[b], w, 3)
                make.norm(f"{name}.1", w)
        for m in range(modules):
            _module_keys(make, f"stage{stage}.{m}", widths, 1 if (stage, m) == (4, 2) else stage)
        before = widths
    for head, outputs in (("seg", 21), ("center", 20), ("offset", 2)):
        make.conv(f"{head}.0", width, 256, 3, bias=True)
        make.conv(f"{head}.2", 256, outputs, 1, bias=True)
    return make.state


def _module_keys(make, name, widths, rows):
    for b, w in enumerate(widths):
        for block in range(4):
            for k in (1, 2):
                make.conv(f"{name}.branches.{b}.{block}.conv{k}", w, w, 3)
                make.norm(f"{name}.branches.{b}.{block}.bn{k}", w)
    for i in range(rows):
        for j in range(len(widths)):
            if j > i:
                make.conv(f"{name}.fuse_layers.{i}.{j}.0", widths[j], widths[i], 1)
                make.norm(f"{name}.fuse_layers.{i}.{j}.1", widths[i])
            for k in range(i - j):
                target = widths[i] if k == i - j - 1 else widths[j]
                make.conv(f"{name}.fuse_layers.{i}.{j}.{k}.0", widths[j], target, 3)
                make.norm(f"{name}.fuse_layers.{i}.{j}.{k}.1", target)


def _hrnet(state, x):
    for k in (1, 2):
        x = _unit(state, f"conv{k}", f"bn{k}", x, 2).relu()
    for block in range(4):
        x = _bottleneck(state, f"layer1.{block}", x)
    branches = [x]
    for stage, modules in ((2, 1), (3, 4), (4, 3)):
        name, fresh = f"transition{stage - 1}", []
        for b in range(stage):
            old = branches[min(b, len(branches) - 1)]
            if f"{name}.{b}.0.0.weight" in state:
                old = _unit(state, f"{name}.{b}.0.0", f"{name}.{b}.0.1", branches[-1], 2).relu()
            elif f"{name}.{b}.0.weight" in state:
                old = _unit(state, f"{name}.{b}.0", f"{name}.{b}.1", old).relu()
            fresh.append(old)
        branches = fresh
        for m in range(modules):
            branches = _module(state, f"stage{stage}.{m}", branches, 1 if (stage, m) == (4, 2) else stage)
    return branches[0]


def _module(state, name, branches, rows):
    for block in range(4):
        inner = []
        for b, x in enumerate(branches):
            place = f"{name}.branches.{b}.{block}"
            y = _unit(state, f"{place}.conv1", f"{place}.bn1", x).relu()
            inner.append((_unit(state, f"{place}.conv2", f"{place}.bn2", y) + x).relu())
        branches = inner
    fused = []
    for i in range(rows):
        total = 0
        for j, x in enumerate(branches):
            place = f"{name}.fuse_layers.{i}.{j}"
            if j > i:
                x = _unit(state, f"{place}.0", f"{place}.1", x)
                x = F.interpolate(x, scale_factor=2 ** (j - i), mode="nearest")
            for k in range(i - j):
                x = _unit(state, f"{place}.{k}.0", f"{place}.{k}.1", x, 2)
                x = x.relu() if k < i - j - 1 else x
            total = total + x
        fused.append(total.relu())
    return fused


@torch.no_grad()
def test_bestie_on_hrnet_w48(tmp_path):
    """The whole network, 63.9 million numbers."""
    state = _hrnet_state(48)
    path = _save(tmp_path, {f"module.{k}": v for k, v in state.items()}, "bestie.pt")
    net, result = _convert(tmp_path, path)
    assert (result.kind, result.architecture) == ("center_offset_net", "hrnet_w48")
    meta = read_meta(result.network)
    assert (meta["sha256"], meta["converted"]["sha256"]) == (file_sha256(result.network), file_sha256(path))
    images = torch.randn(1, 3, 64, 64)
    features = _hrnet(state, images)
    for head, got in zip(("seg", "center", "offset"), net(images)):
        x = F.conv2d(features, state[f"{head}.0.weight"], state[f"{head}.0.bias"], padding=1).relu()
        x = F.conv2d(x, state[f"{head}.2.weight"], state[f"{head}.2.bias"])
        _close(got, F.interpolate(x, images.shape[2:], mode="bilinear", align_corners=False))


@pytest.mark.parametrize("kind", ["irnet_cam", "irnet", "bestie", "pam"])
def test_every_name_and_shape_counts(kind):
    """One tensor missing, one too many and one of another shape are named in one answer, whatever the network."""
    state = _published(kind)
    _, net, renamed = convert._network(kind, dict(state), VOC)
    wanted = net.state_dict()
    assert checked_state(renamed, wanted, "file").keys() == wanted.keys()
    gone, bent = [key for key, value in renamed.items() if value.dim() == 4][1:3]
    wrong = {**renamed, "more.weight": torch.zeros(2), bent: renamed[bent][:1]}
    del wrong[gone]
    with pytest.raises(ConfigError) as caught:
        checked_state(wrong, wanted, "file")
    for text in (f"missing key {gone} ", f"{bent} has shape [1, ", "unexpected key more.weight"):
        assert text in str(caught.value)
    assert len(caught.value.problems) == 3


def _published(kind):
    """State dicts as the authors' code would write them, without the copies."""
    if kind == "bestie":
        return _hrnet_state(32)
    if kind == "pam":
        return _pam_state()
    make = _resnet_state()
    if kind == "irnet_cam":
        make.conv("classifier", 2048, 20, 1)
        return make.state
    return _irnet_state(make)


def on_gpu(path):
    """Rewrite a file of ``torch.save`` so that every storage says that it lay on cuda:0."""
    with zipfile.ZipFile(path) as file:
        entries = {info.filename: file.read(info) for info in file.infolist()}
    name = next(name for name in entries if name.endswith("/data.pkl"))
    words = [b"X" + struct.pack("<I", len(word)) + word for word in (b"cpu", b"cuda:0")]
    assert words[0] in entries[name]
    entries[name] = entries[name].replace(*words)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        for name, data in entries.items():
            file.writestr(name, data)


@torch.no_grad()
def test_a_checkpoint_of_a_gpu_in_half_precision_is_read_on_a_cpu(tmp_path):
    state = _pam_state()
    half = {key: value.half() for key, value in state.items()}
    path = _save(tmp_path, half, "pam.pth")
    on_gpu(path)
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="on a CUDA device"):
            torch.load(path, weights_only=True)
    net, _ = _convert(tmp_path, path)
    assert all(p.device.type == "cpu" and p.dtype == torch.float32 for p in net.parameters())
    for key, value in peak_state(half).items():
        assert torch.equal(net.state_dict()[key], value.float()), key


class _Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_what_is_refused(tmp_path, capsys):
    make = _Maker()
    make.conv("extra_conv4", 512, 20, 1)
    cases = {
        "half.pth": ({"extra_conv4.weight": make.state["extra_conv4.weight"]}, "missing key"),
        "other.pth": ({"fc.weight": torch.zeros(2)}, "are those of no published network"),
        "text.pth": ({"model": {"extra_conv4.weight": "text"}}, "is no tensor"),
        "nan.pth": ({"extra_conv4.bias": torch.full((20,), float("nan")), **make.state}, "not finite"),
        "classes.pth": ({"extra_conv4.weight": torch.zeros(7, 512, 1, 1)}, r"\[7, 512, 1, 1\], expected \[20"),
    }
    for name, (state, text) in cases.items():
        with pytest.raises(ConfigError, match=text):
            _convert(tmp_path, _save(tmp_path, state, name))
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"a": _Evil()}))
    (tmp_path / "page.pth").write_text("<html>404</html>")
    for name in ("evil.pth", "page.pth", "gone.pth"):
        with pytest.raises(ConfigError, match=name):
            _convert(tmp_path, str(tmp_path / name))
    assert "executed" not in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    assert main(["convert", str(tmp_path / "gone.pth"), f"--out={tmp_path / 'x'}"]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_kinds_are_told_by_their_names():
    one = torch.zeros(1)
    assert published_kind({"module.fc_edge6.weight": one, "resnet50.conv1.weight": one}) == "irnet"
    assert published_kind({"resnet50.conv1.weight": one}) == "irnet_cam"
