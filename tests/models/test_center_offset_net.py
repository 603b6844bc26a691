"""HRNet against timm's with the same weights, the two decoders, the small body: sizes, keys, heads."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from wsis.errors import ConfigError
from wsis.models import CamNet, build_backbone, build_center_offset_net
from wsis.models.hrnet import HRNet
from wsis.models.panoptic_decoder import PanopticResNet


def loud(net):
    """Weights large enough that every path matters."""
    generator = torch.Generator().manual_seed(0)
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            noise = torch.randn(value.shape, generator=generator)
            scale = (2 / max(1, value[0].numel())) ** 0.5 if value.dim() > 1 else 0.1
            value.copy_(noise * scale + (1.0 if name.endswith(("running_var", "weight")) and value.dim() == 1 else 0.0))
            if name.endswith("running_var"):
                value.abs_().add_(0.5)
    return net.eval()


def test_hrnet_equals_timms_with_the_same_weights():
    timm = pytest.importorskip("timm", reason="needs timm (the extra of that name)")
    ours = loud(HRNet(32))
    peer = timm.create_model("hrnet_w32", pretrained=False, features_only=False).eval()
    state = {k: v for k, v in ours.state_dict().items() if k in peer.state_dict()}
    missing, unexpected = peer.load_state_dict(state, strict=False)
    assert not unexpected
    assert len(state) == len(ours.state_dict())
    elsewhere = ("incre_modules", "downsamp_modules", "final_layer", "classifier", "stage4.2.fuse_layers")
    assert all(key.startswith(elsewhere) for key in missing)
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        want = peer.stages(torch.relu(peer.bn2(peer.conv2(torch.relu(peer.bn1(peer.conv1(images)))))))[0]
        got = ours(images)
    assert got.shape == (1, 32, 16, 24)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4 * float(want.abs().max()))


def test_hrnet_takes_sides_that_are_no_multiples_of_32():
    assert HRNet(48).eval()(torch.randn(1, 3, 50, 37)).shape == (1, 48, 13, 10)
    with pytest.raises(ValueError, match="width must be 32 or 48, got 18"):
        HRNet(18)


def test_panoptic_resnet_has_torchvisions_keys_and_two_decoders():
    torchvision = pytest.importorskip("torchvision", reason="needs torchvision")
    for name in ("resnet50", "resnet101"):
        peer = getattr(torchvision.models, name)().state_dict()
        ours = PanopticResNet(name).backbone.state_dict()
        assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in peer.items() if not k.startswith("fc.")}


def test_panoptic_resnet_sizes():
    body = PanopticResNet("resnet50").eval()
    semantic, instance = body(torch.randn(1, 3, 65, 97))
    assert semantic.shape == (1, 256, 17, 25)
    assert instance.shape == (1, 128, 17, 25)
    assert {m.momentum for m in body.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {0.01}


@pytest.mark.parametrize("name", ["tiny", "mobilenet_v2_dilated", "hrnet_w32", "panoptic_resnet50"])
def test_maps_have_the_size_of_the_image(name):
    net = build_center_offset_net(name, 3).eval()
    out = net(torch.randn(2, 3, 64, 96))
    assert [tuple(item.shape) for item in out] == [(2, 4, 64, 96), (2, 3, 64, 96), (2, 2, 64, 96)]
    by_channel = net(torch.randn(2, 3, 64, 96).contiguous(memory_format=torch.channels_last))
    assert all(item.is_contiguous() for item in by_channel), "labels and losses read them channel by channel"
    before = {id(p) for p in net.published_parameters()}
    assert before
    assert before < {id(p) for p in net.parameters()}


def test_a_classifier_is_the_first_guess_at_the_classes():
    torch.manual_seed(0)
    classifier = CamNet(build_backbone("tiny"), 3).eval()
    net = build_center_offset_net("tiny", 3).eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        before = net(images)
        assert not net.activation.weight.any()
        net.begin_with(classifier)
        after = net(images)
        for parameter in net.semantic.parameters():
            parameter.zero_()
        guess = net(images).semantic
        maps = F.interpolate(classifier(images).maps, (16, 24), mode="bilinear", align_corners=False)
    assert not torch.equal(before.semantic, after.semantic)
    assert not guess[:, 0].any(), "the background begins at 0"
    torch.testing.assert_close(guess[:, 1:], F.interpolate(maps, (64, 96), mode="bilinear", align_corners=False))
    learned = {id(p) for p in net.stage_parameters(2)}
    assert id(net.activation.weight) in learned
    first = [layer for stage in net.body.backbone.stages()[:2] for layer in stage]
    assert not learned & {id(p) for layer in first for p in layer.parameters()}
    with pytest.raises(ValueError, match="HRNet learns whole, got first stage 1"):
        build_center_offset_net("hrnet_w32", 3).stage_parameters(1)


def test_hrnet_heads_are_what_the_paper_says():
    net = loud(build_center_offset_net("hrnet_w32", 2))
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        features = net.body(images)
        for name, got in zip(("semantic", "center", "offset"), net(images)):
            first, _, last = getattr(net, name)
            assert first.weight.shape == (256, 32, 3, 3)
            assert last.weight.shape[2:] == (1, 1)
            x = F.conv2d(F.conv2d(features, first.weight, first.bias, padding=1).relu(), last.weight, last.bias)
            want = F.interpolate(x, (64, 64), mode="bilinear", align_corners=False)
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_new_weights_are_small_and_biases_zero():
    net = build_center_offset_net("hrnet_w48", 20)
    for head in (net.semantic, net.center, net.offset):
        assert float(head[0].weight.std()) == pytest.approx(0.001, rel=0.05)
        assert not head[0].bias.any()
        assert not head[2].bias.any()


def test_published_weights_fill_the_body_and_the_classifier_is_left_out(tmp_path):
    state = {k: v.clone() for k, v in loud(HRNet(32)).state_dict().items()}
    state["classifier.weight"] = torch.zeros(1000, 2048)
    state["stage4.2.fuse_layers.1.0.0.0.weight"] = torch.zeros(32, 32, 3, 3)
    path = tmp_path / "hrnet.safetensors"
    save_file(state, path)
    net = build_center_offset_net("hrnet_w32", 2, path)
    assert torch.equal(net.body.stage3[1].branches[2][0].conv1.weight, state["stage3.1.branches.2.0.conv1.weight"])
    del state["stage3.1.branches.2.0.conv1.weight"]
    save_file(state, path)
    with pytest.raises(ConfigError, match=r"missing key stage3\.1\.branches\.2\.0\.conv1\.weight"):
        build_center_offset_net("hrnet_w32", 2, path)


def test_an_unknown_architecture_is_named():
    with pytest.raises(ConfigError, match="did you mean 'hrnet_w32'"):
        build_center_offset_net("hrnet_w33", 2)
    with pytest.raises(ValueError, match="num_classes must be at least 1, got 0"):
        build_center_offset_net("tiny", 0)


@pytest.mark.parametrize(("name", "unit"), [("tiny", 1.0), ("mobilenet_v2", 64.0), ("hrnet_w32", 1.0)])
def test_the_unit_of_the_offset_head(name, unit):
    net = build_center_offset_net(name, 2).eval()
    with torch.no_grad():
        for parameter in net.offset.parameters():
            parameter.zero_()
        net.offset[-1].bias.copy_(torch.tensor([0.5, -0.25]))
        offset = net(torch.randn(1, 3, 32, 32)).offset
    assert torch.equal(offset, torch.tensor([0.5, -0.25]).view(1, 2, 1, 1).expand(1, 2, 32, 32) * unit)
