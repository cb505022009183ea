"""Fine-grained domain labels: closed forms, and what they are with a single class."""

import math

import pytest
import torch
from torch.nn import functional as F

from xdomain.losses import class_evidence, l_fine_grained, l_pixels


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_probabilities_are_cut_at_the_most_and_not_normalised_again():
    logits = torch.tensor([0.95, 0.04, 0.01]).log().view(1, 3, 1, 1)
    evidence = class_evidence(logits, temperature=1.0)
    torch.testing.assert_close(evidence.flatten(), torch.tensor([0.9, 0.04, 0.01]))


def test_the_temperature_flattens_and_no_gradient_reaches_the_classifier():
    logits = random(2, 4, 3, 3).requires_grad_()
    evidence = class_evidence(logits)
    torch.testing.assert_close(evidence, torch.softmax(logits / 1.8, 1))  # none of these is above 0.9
    assert not evidence.requires_grad


@pytest.mark.parametrize("domain", ["source", "target"])
def test_an_undecided_discriminator_pays_log_2k_for_the_mass_of_the_labels(domain):
    evidence = class_evidence(8 * random(2, 5, 4, 4))
    assert evidence.sum(1).mean() < 0.99  # some are cut
    loss = l_fine_grained(torch.full((2, 10, 4, 4), 0.3), evidence, domain)
    assert loss.item() == pytest.approx(math.log(10) * evidence.sum(1).mean().item(), rel=1e-6)


@pytest.mark.parametrize(("domain", "label"), [("source", 0), ("target", 1)])
def test_one_class_is_plain_adversarial_alignment(domain, label):
    logits = random(2, 2, 4, 4)
    expected = F.cross_entropy(logits, torch.full((2, 4, 4), label))
    torch.testing.assert_close(l_fine_grained(logits, torch.ones(2, 1, 4, 4), domain), expected)


@pytest.mark.parametrize(("domain", "first"), [("source", 0), ("target", 3)])
def test_a_sure_label_is_the_cross_entropy_of_its_pair_of_domain_and_class(domain, first):
    logits, classes = random(2, 6, 4, 4), torch.randint(3, (2, 4, 4), generator=torch.Generator().manual_seed(1))
    evidence = F.one_hot(classes, 3).movedim(-1, 1).float()
    torch.testing.assert_close(l_fine_grained(logits, evidence, domain), F.cross_entropy(logits, classes + first))


def test_unknown_pixels_do_not_count():
    logits, labels = random(2, 3, 4, 4), torch.randint(3, (2, 4, 4)).byte()
    whole = l_pixels(logits, labels)
    torch.testing.assert_close(whole, F.cross_entropy(logits, labels.long()))
    labels[1] = 255
    torch.testing.assert_close(l_pixels(logits, labels), l_pixels(logits[:1], labels[:1]))
    assert l_pixels(logits, torch.full_like(labels, 255)) == 0
