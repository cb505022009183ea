"""Linear probes of codes and features."""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

ROWS = 2000


def probe_balanced_accuracy(
    train_codes: Tensor, train_truth: Tensor, test_codes: Tensor, test_truth: Tensor, seed: int = 0
) -> Tensor:
    """Balanced accuracy of a linear classifier of a label with V values from codes; 1 / V is chance, 1 is perfect.

    Logistic regression (L2, C = 0.1, classes weighted equally) on codes standardised to mean 0 and deviation 1 over the
    training rows. Dimensions that are constant there are ignored.

    Args:
        train_codes: codes [N, D].
        train_truth: labels, integers [N], such as 0 and 1.
        test_codes: codes [M, D].
        test_truth: labels [M].
        seed: seed of the choice of 2,000 training rows, if there are more.

    Returns:
        Balanced accuracy in [0, 1] on the test rows; NaN if a part has one label only.

    Example:
        >>> codes, truth = torch.tensor([[0.0, 7.0], [1.0, 7.0]] * 9), torch.tensor([0, 1] * 9)
        >>> probe_balanced_accuracy(codes, truth, codes, truth)
        tensor(1.)
    """
    chosen = np.random.default_rng(seed).permutation(len(train_codes))[:ROWS]
    x, y = train_codes[chosen].double().cpu().numpy(), train_truth[chosen].long().cpu().numpy()
    truth = test_truth.long().cpu().numpy()
    if len(np.unique(y)) < 2 or len(np.unique(truth)) < 2:
        return torch.tensor(torch.nan)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=500))
    predicted = probe.fit(x, y).predict(test_codes.double().cpu().numpy())
    return torch.tensor(balanced_accuracy_score(truth, predicted), dtype=torch.float32)


def proxy_a_distance(train_a: Tensor, train_b: Tensor, test_a: Tensor, test_b: Tensor, seed: int = 0) -> Tensor:
    """How far apart two domains are in their features: 2 (1 - 2 e), where e is the error of a linear probe.

    Ben-David et al., "Analysis of Representations for Domain Adaptation", NIPS 2006. The probe is that of
    :func:`probe_balanced_accuracy`.

    Args:
        train_a: features [N, D] of the first domain that the probe is fitted to.
        train_b: the same of the second domain, [M, D].
        test_a: features of the first domain for the error.
        test_b: the same of the second domain.
        seed: see :func:`probe_balanced_accuracy`.

    Returns:
        2 if the probe tells the domains apart without error, about 0 if it cannot.

    Example:
        >>> a, b = torch.zeros(9, 1), torch.ones(9, 1)
        >>> proxy_a_distance(a, b, a, b)
        tensor(2.)
    """
    (fitted, truth), (tested, answer) = (
        (torch.cat(sides), torch.arange(2).repeat_interleave(torch.tensor([len(side) for side in sides])))
        for sides in ((train_a, train_b), (test_a, test_b))
    )
    return 2 * (2 * probe_balanced_accuracy(fitted, truth, tested, answer, seed) - 1)
