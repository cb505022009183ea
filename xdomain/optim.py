"""Optimisers with the defaults of adversarial training, as classes that a saved config can name."""

from typing import Any

from torch.optim import Adam


class GANAdam(Adam):
    """Adam with the betas (0.5, 0.999) of DCGAN (Radford et al. 2016).

    Args:
        params: parameters to optimise.
        lr: learning rate.
        betas: decay of the running mean and of the running square of the gradient.
        options: everything else that :class:`torch.optim.Adam` takes.
    """

    def __init__(
        self, params: Any, lr: float = 2e-4, betas: tuple[float, float] = (0.5, 0.999), **options: Any
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, **options)
