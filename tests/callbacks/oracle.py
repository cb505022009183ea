"""A method that knows the true pairs of data."""

import torch

from xdomain.batch import to_float
from xdomain.methods import CycleGAN
from xdomain.networks import PatchDiscriminator, ResnetGenerator


class Oracle(CycleGAN):
    """Knows the true pairs, and answers with them or with what a function makes of them."""

    answer = staticmethod(lambda truth, images: truth)

    def translate(self, images, source, target):
        world, role = self.data, self.data.role_of(source)
        for split in ("val", "test"):
            known = to_float(torch.from_numpy(world.data(role, split).images.copy()))
            wanted = to_float(torch.from_numpy(world.data(world.role_of(target), split).images.copy()))
            rows = [next((i for i, x in enumerate(known) if torch.equal(x, image)), None) for image in images.cpu()]
            if None not in rows:
                return type(self).answer(wanted[rows], images)
        raise AssertionError("images that are in no part")


def oracle(answer=None, domains=("photo", "labels")):
    """A method that answers with ``answer(true images, source images)``, by default with the true images."""
    method = Oracle(
        generator=lambda x, y: ResnetGenerator(x, y, 4, 1),
        discriminator=lambda x: PatchDiscriminator(x, 4, 1),
        domains=domains,
        channels=(3, 3),
        image_size=16,
    )
    type(method).answer = staticmethod(answer or (lambda truth, images: truth))
    return method
