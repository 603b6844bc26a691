"""CamNet and IRNet: sizes, published keys, and equality with functional formulations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from wsis.errors import ConfigError
from wsis.models import CamNet, IRNet, build_backbone, published_state

HEADS = {
    **{f"fc_edge{i}.0.weight": (32, c, 1, 1) for i, c in enumerate((64, 256, 512, 1024, 2048), 1)},
    **{f"fc_edge{i}.1.{key}": (32,) for i in range(1, 6) for key in ("weight", "bias")},
    "fc_edge6.weight": (1, 160, 1, 1),
    "fc_edge6.bias": (1,),
    **{
        f"fc_dp{i}.0.weight": (width, c, 1, 1)
        for i, (c, width) in enumerate(
            ((64, 64), (256, 128), (512, 256), (1024, 256), (2048, 256), (768, 256), (448, 256)), 1
        )
    },
    **{
        f"fc_dp{i}.1.{key}": (width,)
        for i, width in enumerate((64, 128, 256, 256, 256, 256, 256), 1)
        for key in ("weight", "bias")
    },
    "fc_dp7.3.weight": (2, 256, 1, 1),
    "mean_shift.running_mean": (2,),
}


def test_heads_have_the_published_keys_and_shapes():
    net = IRNet(build_backbone("resnet50"))
    heads = {k: tuple(v.shape) for k, v in net.state_dict().items() if not k.startswith("backbone.")}
    assert heads == HEADS


@pytest.mark.parametrize("size", [(64, 64), (33, 50), (17, 5), (1, 1)])
def test_sizes(size):
    h, w = ((n - 1) // 4 + 1 for n in size)
    images = torch.randn(2, 3, *size)
    out = IRNet(build_backbone("tiny")).eval()(images)
    assert out.boundary_logits.shape == (2, h, w)
    assert out.displacement.shape == (2, 2, h, w)
    logits, maps = CamNet(build_backbone("tiny"), 7)(images)
    assert logits.shape == (2, 7)
    assert maps.shape == (2, 7, (size[0] - 1) // 16 + 1, (size[1] - 1) // 16 + 1)


def test_cam_logits_are_the_classifier_on_pooled_features():
    net = CamNet(build_backbone("tiny"), 5)
    images = torch.randn(3, 3, 40, 56)
    with torch.no_grad():
        pooled = net.backbone(images)[4].mean((2, 3))
        expected = pooled @ net.classifier.weight[:, :, 0, 0].T
        torch.testing.assert_close(net(images).logits, expected)


def _reference_irnet(state, taps):
    """The two branches from the state dict and the five taps, written from the paper's description."""

    def up(x, factor):
        return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False) if factor > 1 else x

    def unit(x, name, groups, factor=1):
        x = F.conv2d(x, state[f"{name}.0.weight"])
        x = F.group_norm(x, groups, state[f"{name}.1.weight"], state[f"{name}.1.bias"])
        return up(x, factor).relu()

    h, w = taps[1].shape[-2:]
    edges = [unit(taps[i], f"fc_edge{i + 1}", 4, f)[..., :h, :w] for i, f in enumerate((1, 1, 2, 4, 4))]
    boundary = F.conv2d(torch.cat(edges, 1), state["fc_edge6.weight"], state["fc_edge6.bias"])
    d = [unit(taps[i], f"fc_dp{i + 1}", g, f) for i, (g, f) in enumerate(((8, 1), (16, 1), (16, 1), (16, 2), (16, 2)))]
    h3, w3 = d[2].shape[-2:]
    joined = unit(torch.cat([d[2], d[3][..., :h3, :w3], d[4][..., :h3, :w3]], 1), "fc_dp6", 16, 2)[..., :h, :w]
    joined = unit(torch.cat([d[0], d[1], joined], 1), "fc_dp7", 16)
    return boundary[:, 0], F.conv2d(joined, state["fc_dp7.3.weight"])


def test_irnet_equals_the_functional_formulation():
    torch.manual_seed(0)
    net = IRNet(build_backbone("tiny")).double().eval()
    net.mean_shift.running_mean.copy_(torch.tensor([0.5, -2.0]))
    images = torch.randn(2, 3, 50, 37, dtype=torch.float64)
    with torch.no_grad():
        out = net(images)
        boundary, displacement = _reference_irnet(net.state_dict(), net.backbone(images))
    torch.testing.assert_close(out.boundary_logits, boundary)
    torch.testing.assert_close(out.displacement, displacement - torch.tensor([0.5, -2.0]).view(1, 2, 1, 1).double())


def test_mean_shift_rests_while_training():
    net = IRNet(build_backbone("tiny"))
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        trained = net.train()(images).displacement
        net.mean_shift.running_mean.fill_(3.0)
        assert torch.equal(net(images).displacement, trained)
        torch.testing.assert_close(net.eval()(images).displacement, trained - 3.0)


def test_the_backbone_is_fixed():
    net = IRNet(build_backbone("tiny"))
    out = net(torch.randn(1, 3, 32, 32))
    (out.boundary_logits.sum() + out.displacement.sum()).backward()
    assert all(p.grad is None for p in net.backbone.parameters())
    parameters = net.boundary_parameters() + net.displacement_parameters()
    assert all(p.grad is not None for p in parameters)
    heads = sum(1 for name, _ in net.named_parameters() if not name.startswith("backbone."))
    assert len(parameters) == heads


def _publish(net):
    """A state dict with the names and copies of the published files."""
    out = {}
    for key, value in net.state_dict().items():
        out[
            "module." + key.replace("backbone.", "resnet50.", 1) if key.startswith("backbone.") else "module." + key
        ] = value
    out["module.stage1.0.weight"] = net.state_dict()["backbone.conv1.weight"]
    out["module.backbone.0.0.weight"] = net.state_dict()["backbone.conv1.weight"]
    if "mean_shift.running_mean" in net.state_dict():
        out["module.fc_dp7.4.running_mean"] = net.state_dict()["mean_shift.running_mean"]
        out["module.edge_layers.0.0.weight"] = net.state_dict()["fc_edge1.0.weight"]
    else:
        out["module.newly_added.0.weight"] = net.state_dict()["classifier.weight"]
    return out


@pytest.mark.parametrize("kind", ["cam_net", "irnet"])
def test_published_checkpoints_load_strictly(kind):
    backbone = build_backbone("resnet50")
    net = CamNet(backbone, 20) if kind == "cam_net" else IRNet(backbone)
    state = published_state(_publish(net))
    assert set(state) == set(net.state_dict())
    net.load_state_dict(state, strict=True)


def test_published_copies_must_agree():
    state = _publish(CamNet(build_backbone("resnet50"), 3))
    state["module.newly_added.0.weight"] = state["module.newly_added.0.weight"] + 1
    with pytest.raises(ConfigError, match="differ"):
        published_state(state)
