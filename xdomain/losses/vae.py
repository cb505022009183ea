"""The loss of variational auto-encoders."""

from torch import Tensor


def kl_divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """Kullback-Leibler divergence of N(mu, exp(logvar)) from N(0, 1), mean over all elements.

    Kingma and Welling 2014, appendix B; the mean instead of the sum, as in the code of Gur et al. 2020.

    Example:
        >>> import torch
        >>> kl_divergence(torch.zeros(2, 3), torch.zeros(2, 3)), kl_divergence(torch.ones(4), torch.zeros(4))
        (tensor(0.), tensor(0.5000))
    """
    divergence: Tensor = (mu.square() + logvar.exp() - 1 - logvar).mean() / 2
    return divergence
