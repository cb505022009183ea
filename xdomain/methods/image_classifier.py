"""Image classification with what makes classifiers robust: AugMix, Mixup, CutMix; permuted AdaIN is a callback."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xdomain.errors import refuse
from xdomain.losses import jensen_shannon
from xdomain.methods.classifier import Classifier


class ImageClassifier(Classifier):
    """Classifies the images of one domain, as :class:`Classifier`, and trains on mixed or augmented images.

    With ``augmix`` (Hendrycks et al., "AugMix: A Simple Data Processing Method to Improve Robustness and Uncertainty",
    ICLR 2020) the network sees every image and two random views of it, all in one batch, and minimises

        CE(p_image, label) + consistency JS(p_image, p_view1, p_view2)

    Args:
        network: see :class:`Classifier`.
        augmix: makes random views of images [N, C, H, W] in [-1, 1], such as :class:`xdomain.data.AugMix`.
        consistency: weight of the Jensen-Shannon divergence between the answers on the views.
        mix: mixes the images of a batch and their labels: torchvision's ``v2.MixUp`` or ``v2.CutMix``.
        options: see :class:`Classifier`.
    """

    def __init__(
        self,
        network: nn.Module,
        augmix: nn.Module | None = None,
        consistency: float = 12.0,
        mix: nn.Module | None = None,
        **options: Any,
    ) -> None:
        super().__init__(network, **options)
        if augmix is not None and mix is not None:
            refuse(self, "mix", type(mix).__name__, ", but there is augmix, too: give one of them.")
        self.augmix, self.consistency, self.mix = augmix, consistency, mix

    def classification_loss(self, images: Tensor, label: Tensor) -> Tensor:
        if self.augmix is not None:
            logits = self(torch.cat([images, self.augmix(images), self.augmix(images)])).chunk(3)
            loss = F.cross_entropy(logits[0], label, label_smoothing=self.label_smoothing)
            return loss + self.consistency * jensen_shannon(logits)
        if self.mix is not None:
            images, label = self.mix(images, label)
        return super().classification_loss(images, label)
