"""Networks between parameters and pictures: shapes, sizes, and what they take."""

import pytest
import torch

from xdomain.networks import ParameterClassifier, ParameterDecoder, ParameterEncoder

LAYOUT = (("choice", 3), ("continuous", 1), ("periodic", 2))


@pytest.mark.parametrize("size", [8, 32, 64])
def test_shapes(size):
    images = torch.rand(3, 1, size, size) * 2 - 1
    c, e = ParameterEncoder(1, size, LAYOUT, width=8, hidden=16), ParameterDecoder(6, 1, size, width=32, hidden=16)
    soft = c(images)
    assert soft.shape == c.raw(images).shape == (3, 6)
    drawn = e(soft)
    assert drawn.shape == images.shape
    assert drawn.abs().max() <= 1
    f = ParameterClassifier(1, 6, size, width=8, dim=5)
    assert f.features(images).shape == (3, 5)
    assert f(images).shape == (3, 6)


def test_an_image_is_read_alone():
    torch.manual_seed(0)
    c, e = ParameterEncoder(3, 16, LAYOUT, width=8), ParameterDecoder(6, 3, 16, width=32)
    images = torch.rand(4, 3, 16, 16)
    torch.testing.assert_close(c(images)[1:2], c(images[1:2]))
    torch.testing.assert_close(e(c(images))[1:2], e(c(images[1:2])))


def test_a_size_that_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match="the nearest is 32"):
        ParameterEncoder(3, 30, LAYOUT)
    with pytest.raises(ValueError, match="the nearest is 32"):
        ParameterDecoder(6, 3, 30)
