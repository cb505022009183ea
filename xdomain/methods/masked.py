"""Mask based content transfer."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from xdomain.batch import Batch
from xdomain.errors import refuse
from xdomain.methods.confusion import ConfusionMethod
from xdomain.methods.content import Codes, Task
from xdomain.networks import CodeDecoder, CodeEncoder
from xdomain.networks.codes import Norm, trunk


class MaskedTransfer(ConfusionMethod):
    """Content is drawn into an image only where a learned mask says so; all other pixels stay unchanged.

    Mokady, Benaim, Wolf, Bermano, "Mask Based Unsupervised Content Transfer", ICLR 2020; (n) are its losses. The first
    domain has the content ("plus"), the second lacks it ("plain"). E_1 is the common encoder, E_2 the content encoder,
    D_A decodes whole images without content, D_B an image and the mask that blends it over a background, d is the
    discriminator of common codes.

    Args:
        sep: channels of the content code.
        common: channels of the common code; None takes the rest of the trunk's last layer beside the content code, as
            in the paper. A short code leaves less room for what d does not detect.
        width: channels after the first layer; 32 in the paper.
        depth: number of layers that halve the image; None goes down to 2x2 as in the paper.
        gamma: weight of (1), plus images reconstructed over D_A's image of them.
        delta: weight of (2), plain images reconstructed by D_A.
        alpha1: weight of (3), plus images reconstructed over themselves; alpha1 and alpha2 keep the mask small.
        alpha2: weight of (4), plain images reconstructed over themselves.
        beta1: weight of (5), the common code of a translation.
        beta2: weight of (6), the content code of a translation.
        confusion: weight of (7), the domain confusion; this, ``ramp``, ``confusion_target``, ``d_steps`` and
            ``discriminant`` are those of :class:`xdomain.methods.confusion.ConfusionMethod`.
        mask_slope: factor of the logits of all masks; 1 as in the paper. With a larger factor masks learn faster, and
            get closer to 0 or 1 in a short training. Under a weak mask the content has to be exaggerated, and then
            looks faint on any other image.
        threshold: removal replaces the pixels whose mask is above this value.
        dilation: removal also replaces all pixels within this distance, row-wise and column-wise; 0 as in the paper.
            Masks are soft, and a thin rim left at their edge still looks like the content.
        mask_range: range of mask values that is stretched to [0, 1] when content is added and for the task ``masks``;
            (0, 1), as in the paper, changes nothing. Otherwise content under the weak masks of a short training is
            barely visible. ``threshold`` applies to masks before stretching.
        norm: ``batch`` as in the paper, or ``instance``.
        one_decoder: decode images without content by D_B, too, with an empty content code, instead of by a separate
            D_A. Both images then agree exactly where the content changes nothing, and a mask gains nothing there. Two
            decoders blur outlines differently, and masks mix them.
        content_start: number of batches in which the content code is kept empty and the mask losses are off. The common
            code first learns what it can carry, and the short content code then learns the rest: the content.
        alpha_ramp: number of batches after ``content_start`` over which alpha1 and alpha2 grow from 0. A mask that is
            pushed to be small before the content is drawn stays empty.
        joint: pass both domains through a network as one batch. In separate batches, as in the paper, BatchNorm removes
            differences between the domains in training, so that d does not see them, but not in evaluation.
        clip: largest gradient norm.
        options: see :class:`xdomain.methods.content.ContentMethod`.
    """

    masked = True

    def __init__(
        self,
        sep: int = 25,
        common: int | None = None,
        width: int = 32,
        depth: int | None = None,
        gamma: float = 7.0,
        delta: float = 5.0,
        alpha1: float = 0.7,
        alpha2: float = 0.7,
        beta1: float = 0.0,
        beta2: float = 0.001,
        confusion: float = 0.005,
        mask_slope: float = 1.0,
        threshold: float = 0.1,
        dilation: int = 0,
        mask_range: tuple[float, float] = (0.0, 1.0),
        norm: Norm = "batch",
        one_decoder: bool = False,
        content_start: int = 0,
        alpha_ramp: int = 0,
        joint: bool = False,
        clip: float | None = 5.0,
        **options: Any,
    ) -> None:
        super().__init__(confusion, clip=clip, **options)
        self.contents = self.domains[:1]
        self.weights = {
            "l_plus": gamma,
            "l_plain": delta,
            "l_plus_kept": alpha1,
            "l_plain_kept": alpha2,
            "l_cycle_common": beta1,
            "l_cycle_content": beta2,
            **self.weights,
        }
        if dilation < 0:
            refuse(self, "dilation", dilation, "give a number of pixels, or 0 for none.")
        if mask_slope <= 0:
            refuse(self, "mask_slope", mask_slope, "give a number above 0; 1 changes nothing.")
        low, high = mask_range
        if not 0 <= low < high <= 1:
            refuse(self, "mask_range", [low, high], "give two rising numbers from 0 to 1.")
        self.mask_range, self.mask_slope = (low, high), mask_slope
        self.threshold, self.dilation = threshold, dilation
        self.content_start, self.alpha_ramp = content_start, alpha_ramp
        self.one_decoder, self.joint = one_decoder, joint
        channels, size = self.channels[0], self.image_size
        *hidden, last = trunk(size, width, depth)
        common = last - sep if common is None else common
        self.E_1 = CodeEncoder(channels, [*(min(c, last - sep) for c in hidden), common], size, norm)
        self.E_2 = CodeEncoder(channels, [*(min(c, last // 4) for c in hidden), sep], size, norm)
        if not one_decoder:
            self.D_A = CodeDecoder(channels, size, width, depth, norm, slope=0.2, inputs=common + sep)
        self.D_B = CodeDecoder(channels + 1, size, width, depth, norm, slope=0.2, inputs=common + sep)
        self.build_adversaries(self.E_1.dim, last)
        self.build_readouts(self.E_1.dim, self.E_2.dim)

    def build_optimizers(self) -> dict[str, Optimizer]:
        networks = [self.E_1, self.E_2, self.D_B, *([] if self.one_decoder else [self.D_A])]
        autoencoder = [p for net in networks for p in net.parameters()]
        return {"g": self.optimizer(autoencoder), "d": self.optimizer(self.d.parameters())}

    def current_weights(self) -> dict[str, float]:
        weights = super().current_weights()
        kept = ("l_plus_kept", "l_plain_kept")
        return weights | {n: self.ramped(weights[n], self.alpha_ramp, self.content_start) for n in kept}

    def plain(self, common: Tensor) -> Tensor:
        """Decode by D_A: whole images [N, C, H, W] in [-1, 1] without content."""
        empty = common.new_zeros(common.shape[0], self.E_2.dim)
        if self.one_decoder:
            return self.layer(common, empty)[1]
        result: Tensor = self.D_A(torch.cat([common, empty], 1)).tanh()
        return result

    def layer(self, common: Tensor, content: Tensor) -> tuple[Tensor, Tensor]:
        """Decode by D_B: masks [N, 1, H, W] in [0, 1] and images [N, C, H, W] in [-1, 1]."""
        return self.split(self.D_B(torch.cat([common, content], 1)))

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        p, n = batch["a"].image, batch["b"].image
        waiting = self.trainer.global_step < self.content_start

        def autoencoder_loss() -> Tensor:
            c_p, c_n = self._each(self.E_1, p, n)
            s_p = c_p.new_zeros(len(p), self.E_2.dim) if waiting else self.E_2(p)
            empty = torch.zeros_like(s_p)
            with_own, with_none = torch.cat([c_p, s_p], 1), torch.cat([c_n, empty], 1)
            shaven, with_guide = torch.cat([c_p, empty], 1), torch.cat([c_n, s_p], 1)
            if self.one_decoder:
                drawn = self._each(self.D_B, with_own, with_guide, with_none, shaven)
                own, guided, kept, (_, shaved) = map(self.split, drawn)
                plain = kept[1]
            else:
                own, guided, kept = map(self.split, self._each(self.D_B, with_own, with_guide, with_none))
                shaved, plain = (y.tanh() for y in self._each(self.D_A, shaven, with_none))
            losses = {
                "l_plus": F.l1_loss(blend(*own, shaved), p),  # (1)
                "l_plain": F.l1_loss(plain, n),  # (2)
                "l_plus_kept": F.l1_loss(blend(*own, p), p),  # (3)
                "l_plain_kept": F.l1_loss(blend(*kept, n), n),  # (4)
                **self.confusion_losses(c_p, c_n),  # (7)
            }
            t = blend(*guided, n)
            if self.weights["l_cycle_common"] and not waiting:
                losses["l_cycle_common"] = F.mse_loss(self.E_1(t), c_n)  # (5)
            if self.weights["l_cycle_content"] and not waiting:
                losses["l_cycle_content"] = F.mse_loss(self.E_2(t), s_p)  # (6)
            self.log_dict({"mask_mean": own[0].detach().mean(), "mask_mean_transfer": guided[0].detach().mean()})
            return self.weighted(losses)

        self.log("l_g", self.step("g", autoencoder_loss), prog_bar=True)
        self.train_discriminator(lambda: self._each(self.E_1, p, n))  # (8)

    def _each(self, network: nn.Module, *inputs: Tensor) -> list[Tensor]:
        """Outputs of a network for batches of equal size: in one pass if ``joint``, else one after another."""
        if self.joint:
            return list(network(torch.cat(inputs)).chunk(len(inputs)))
        return [network(x) for x in inputs]

    def common(self, images: Tensor) -> Tensor:
        code: Tensor = self.E_1(images)
        return code

    def separate(self, images: Tensor, domain: str) -> Tensor:
        code: Tensor = self.E_2(images)
        return code

    def mask(self, images: Tensor, guide: Tensor | None = None) -> Tensor:
        with self.evaluating():
            content = self.read_separate(images if guide is None else guide, self.contents[0])
            return self.stretched(self.layer(self.read_common(images), content)[0])

    def stretched(self, mask: Tensor) -> Tensor:
        """The mask with ``mask_range`` stretched to [0, 1]."""
        low, high = self.mask_range
        return ((mask - low) / (high - low)).clamp(0, 1)

    def recombine(self, images: Tensor, source: str, given: str | None, guide: Tensor | None, task: Task) -> Tensor:
        if source in self.contents and task != "add" and guide is not images:  # its own guide: keeps its content
            images = self._removed(images)
        if guide is None:
            return images  # plain images have no content to remove
        with self.evaluating():
            content = self.contents[0]
            codes = {"common": self.read_common(images), content: self.read_separate(guide, content)}
            return self.draw(codes, images)

    def _removed(self, images: Tensor) -> Tensor:
        with self.evaluating():
            common = self.read_common(images)
            mask, _ = self.layer(common, self.read_separate(images, self.contents[0]))
            inside = F.max_pool2d((mask > self.threshold).float(), 2 * self.dilation + 1, 1, self.dilation)
            return torch.where(inside > 0, self.plain(common), images)

    def decode(self, codes: Codes, images: Tensor) -> Tensor:
        if (content := codes.get(self.contents[0])) is None:
            return self.plain(codes["common"])
        mask, drawn = self.layer(codes["common"], content)
        return blend(self.stretched(mask), drawn, images)

    def split(self, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """Split the output of D_B, [N, 1 + C, H, W], into a mask [N, 1, H, W] in [0, 1] and an image in [-1, 1]."""
        return (self.mask_slope * drawn[:, :1]).sigmoid(), drawn[:, 1:].tanh()


def blend(mask: Tensor, image: Tensor, background: Tensor) -> Tensor:
    """Blend an image over a background with a mask in [0, 1]."""
    return mask * image + (1 - mask) * background
