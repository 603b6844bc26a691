"""Peak attention by hand, VGG-16's layout, and the network on any backbone."""

from __future__ import annotations

import pytest
import torch

from wsis.errors import ConfigError
from wsis.models import build_peak_net
from wsis.models.peak_net import VGG16, PeakAttention


def test_peak_attention_keeps_what_reaches_its_share_of_the_maximum():
    x = torch.tensor([[[[1.0, 0.7, 0.699], [-1.0, 0.2, 0.9]], [[-2.0, -3.0, -1.0], [-5.0, -1.0, -1.0]]]])
    want = torch.tensor([[[[1.0, 0.7, 0.0], [0.0, 0.0, 0.9]], [[0.0] * 3] * 2]])
    assert torch.equal(PeakAttention(0.7)(x), want)
    assert torch.equal(PeakAttention(0.0)(x), x.relu())
    assert torch.equal(PeakAttention(1.0)(x)[0, 0], torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    with pytest.raises(ValueError, match=r"alpha must lie in 0\.\.1, got 1\.5"):
        PeakAttention(1.5)


def test_no_gradient_flows_where_attention_is_zero():
    x = torch.tensor([[[[1.0, 0.5, 0.8]]]], requires_grad=True)
    PeakAttention(0.7)(x).sum().backward()
    assert torch.equal(x.grad, torch.tensor([[[[1.0, 0.0, 1.0]]]]))


def test_vgg_has_torchvisions_keys_and_a_stride_of_8():
    net = VGG16()
    convolutions = [k for k in net.state_dict() if k.endswith("weight")]
    numbers = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    assert convolutions == [f"features.{n}.weight" for n in numbers]
    assert net(torch.randn(1, 3, 64, 83))[0].shape == (1, 512, 8, 10)
    dilated = [m.dilation for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    assert dilated == [(1, 1)] * 10 + [(2, 2)] * 3


@pytest.mark.parametrize(("name", "stride"), [("vgg16", 8), ("tiny", 16), ("mobilenet_v2_dilated", 16)])
def test_maps_and_logits(name, stride):
    net = build_peak_net(name, 4, alpha=0.6, width=32).eval()
    logits, maps = net(torch.randn(2, 3, 64, 64))
    assert maps.shape == (2, 4, 64 // stride, 64 // stride)
    torch.testing.assert_close(logits, maps.mean((2, 3)))
    assert [m.alpha for m in net.extra if isinstance(m, PeakAttention)] == [0.6] * 3


def test_new_weights_have_the_papers_variance():
    net = build_peak_net("vgg16", 20)
    assert float(net.extra[0].weight.var()) == pytest.approx(2 / (9 * 512), rel=0.01)
    assert not net.extra[0].bias.any()
    assert net.classifier.weight.shape == (20, 512, 1, 1)


def test_an_unknown_backbone_is_named():
    with pytest.raises(ConfigError, match="did you mean 'vgg16'"):
        build_peak_net("vgg19", 2)
