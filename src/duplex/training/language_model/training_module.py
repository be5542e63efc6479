"""The language model's training module: the torch backend's :class:`LanguageModel` with losses and an auxiliary head.

Step s has index s - 1 of every delayed stream as input and index s of text and agent as target, as in
:mod:`duplex.backends.shared.delays`; a segment is treated as if the dialogue began there.
"""

import functools
import itertools
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import checkpoint

from duplex.backends.torch.depth import DepthTransformer
from duplex.backends.torch.language_model import LanguageModel
from duplex.backends.torch.state import Call
from duplex.frame_model import UNGENERATED, ZERO
from duplex.training.distributed import DistributedContext
from duplex.training.language_model.adapters import Adapters
from duplex.training.language_model.settings import LanguageModelSettings
from duplex.training.language_model.teacher import Teacher

__all__ = ["LanguageModelTrainingModule"]

IGNORED = UNGENERATED


class LanguageModelTrainingModule(nn.Module):
    """A language model with its losses, and a head that predicts the user's words.

    With ``settings.lora`` its parameters are those of adapters alone: the model is used, but is no part of it.

    Where several processes have a share of a batch each, what is drawn for a segment does not depend on whose it is,
    and the mean of their losses is the loss on the whole batch.
    """

    def __init__(
        self,
        model: LanguageModel,
        settings: LanguageModelSettings,
        distributed: DistributedContext | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__()
        self.model: LanguageModel
        self.settings = settings
        self.teacher = teacher
        self._distributed = distributed or DistributedContext(torch.device("cpu"))
        self.generator: torch.Generator = torch.Generator().manual_seed(settings.seed)
        """Random numbers of a step; seeding it makes a step reproducible."""
        self.adapters: Adapters | None = None
        if settings.lora is None:
            self.model = model
        else:
            self.__dict__["model"] = model  # not registered: its weights are neither moved, nor saved, nor learnt
            self.adapters = Adapters(model, settings.lora, settings.seed)
        if settings.unaided_share >= 1 and settings.lora is None:
            for embedding in itertools.islice(model.emb, model.config.agent_streams):
                for weight in embedding.parameters():
                    nn.init.zeros_(weight)  # inputs that never occur in training must have no effect in inference
        self.user_text_head: nn.Linear | None = None
        if settings.user_text_weight > 0:
            self.user_text_head = nn.Linear(model.config.dim, model.config.text_card)
            nn.init.zeros_(self.user_text_head.weight)
            nn.init.zeros_(self.user_text_head.bias)
        if settings.checkpointing:
            for layer in model.transformer.layers:
                layer.forward = _recomputed(layer.forward)

    def forward(self, tokens: Tensor, *, unaided: bool = False) -> dict[str, Tensor]:
        """Return the losses on segments, with their weighted sum as ``total``.

        ``tokens`` is int64 ``[batch, 2 + n_q, frames]``: text, agent, user, the user's text, undelayed. ``unaided``
        drops the agent's own codes from the inputs.
        """
        model, config = self.model, self.model.config
        delayed = self._apply_delays(tokens[:, :-1])
        inputs = _shift_right(delayed, model.initial)
        context = model.temporal(self._mask_inputs(inputs, unaided=unaided), Call())
        text, agent = delayed[:, 0], delayed[:, model.agent]
        logits = model.text_linear(context)
        words = (text != IGNORED) & (text != config.existing_text_padding_id)
        right = (logits.detach().argmax(dim=-1) == text) & words
        exact = _token_losses(logits, text)
        losses = {
            "text": self._weighted_mean(exact, text),
            "words_wrong": self._mean((words & ~right).sum(), words.sum()),
        }
        weighted = [losses["text"]]
        if self.teacher is not None and self.training:
            losses["taught"] = self._weighted_mean(self.teacher.blend(exact, logits, text, inputs), text)
            weighted = [losses["taught"]]
        if model.depth is not None:
            chosen = self._sample_frames(*text.shape).to(text.device)
            columns = agent.transpose(1, 2).flatten(0, 1)
            codes = self._code_losses(
                model.depth, context.flatten(0, 1)[chosen], text.flatten()[chosen], columns[chosen]
            )
            weights = codes.new_ones(len(codes))
            weights[0] = self.settings.semantic_weight
            losses |= {"codes": (codes * weights).sum() / weights.sum(), "acoustic": codes[1:].mean().detach()}
        if self.user_text_head is not None:
            late = self.settings.user_text_delay
            said = functional.pad(tokens[:, -1], (late, 0), value=config.existing_text_padding_id)[:, : tokens.shape[2]]
            losses["user_text"] = self._weighted_mean(_token_losses(self.user_text_head(context), said), said)
            weighted.append(self.settings.user_text_weight * losses["user_text"])
        if model.depth is not None:
            weighted.append(losses["codes"])
        return losses | {"total": sum(weighted, context.new_zeros(()))}

    def _apply_delays(self, tokens: Tensor) -> Tensor:
        """Return tokens ``[batch, streams, frames]`` shifted by each stream's delay, padded with ``IGNORED``."""
        frames = tokens.shape[2]
        rows = [
            functional.pad(row, (delay, 0), value=IGNORED)[:, :frames]
            for row, delay in zip(tokens.unbind(1), self.model.config.delays, strict=True)
        ]
        return torch.stack(rows, dim=1)

    def _mask_inputs(self, tokens: Tensor, *, unaided: bool) -> Tensor:
        """Return the inputs, ``[batch, streams, frames]``; in training, some codes are dropped."""
        text, agent, user = tokens[:, :1], tokens[:, self.model.agent], tokens[:, self.model.user]
        if self.training:
            user = torch.where(self._dropped_codes(user).to(user.device), ZERO, user)
            alone = self._draw(len(agent), 1, 1) < self.settings.unaided_share
            agent = torch.where(alone.to(agent.device), ZERO, agent)
        elif unaided:
            agent = torch.full_like(agent, ZERO)
        return torch.cat([text, agent, user], dim=1)

    def _dropped_codes(self, user: Tensor) -> Tensor:
        """Return the dropout mask of the user's codes, bool ``[batch, codebooks, frames]``."""
        batch, codebooks, frames = user.shape
        chance = self._draw(batch, codebooks, frames)
        coarse = self._draw(batch, 1, 1) < self.settings.coarse_share
        finest = 1 + (self._draw(batch, 1, 1) * codebooks).long()
        fine = torch.arange(codebooks)[:, None] >= finest
        missed = self._draw(batch, 1, frames) < self.settings.missed_share
        return (chance < self.settings.unheard_share) | (coarse & fine) | missed

    def _sample_frames(self, batch: int, frames: int) -> Tensor:
        """Return which of ``batch * frames`` frames the depth transformer sees: in training some of each segment."""
        every = torch.arange(batch * frames).view(batch, frames)
        if not self.training:
            return every.flatten()
        count = max(1, round(self.settings.depth_share * frames))
        return every.gather(1, self._draw(batch, frames).argsort(dim=1)[:, :count]).flatten()

    def _draw(self, batch: int, *shape: int) -> Tensor:
        """Return random numbers from 0 to 1, ``[batch, *shape]``: of those for all processes the rows of this one."""
        own = slice(self._distributed.rank * batch, (self._distributed.rank + 1) * batch)
        return torch.rand(self._distributed.world_size * batch, *shape, generator=self.generator)[own]

    def _mean(self, total: Tensor, count: Tensor) -> Tensor:
        """Return what is summed up here over the mean count of all processes: then the mean of that is over all."""
        return total * self._distributed.world_size / self._distributed.sum(count).clamp(min=1)

    def _weighted_mean(self, losses: Tensor, wanted: Tensor) -> Tensor:
        """Return the mean of the losses of text tokens, both ``[batch, frames]``, with less weight on padding."""
        config = self.model.config
        weights = losses.new_ones(config.text_card)
        weights[config.existing_text_end_padding_id] = self.settings.end_of_padding_weight
        weights[config.existing_text_padding_id] = self.settings.padding_weight
        # Without a transcript of the user, all targets are ignored.
        each = weights[wanted.clamp(min=0)].where(wanted != IGNORED, 0.0)
        return self._mean((losses * each).sum(), each.sum())

    def _code_losses(self, depth: DepthTransformer, context: Tensor, text: Tensor, codes: Tensor) -> Tensor:
        """Return the cross entropy of each codebook, ``[codebooks]``."""
        past = depth.begin()
        losses: list[Tensor] = []
        previous = torch.where(text == IGNORED, self.model.config.text_card, text)
        for codebook, wanted in enumerate(codes.unbind(1)):
            logits = depth.logits(context, previous, codebook, past)
            losses.append(functional.cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="sum"))
            previous = torch.where(wanted == IGNORED, self.model.config.card, wanted)
        return self._mean(torch.stack(losses), (codes != IGNORED).sum(dim=0))


def _token_losses(logits: Tensor, wanted: Tensor) -> Tensor:
    """Return each token's cross entropy, float32 ``[batch, frames]``, of logits ``[batch, frames, vocabulary]``."""
    logits = logits.float().flatten(0, 1)
    each = functional.cross_entropy(logits, wanted.flatten(), ignore_index=IGNORED, reduction="none")
    return each.view(wanted.shape)


def _shift_right(delayed: Tensor, initial: Tensor) -> Tensor:
    """Return the tokens shifted right by one step, with the initial token where there is none before."""
    before = functional.pad(delayed, (1, 0), value=IGNORED)[:, :, :-1]
    return torch.where(before == IGNORED, initial[None, :, None], before)


def _recomputed(forward: Any) -> Any:
    """Return a layer's ``forward`` that keeps nothing but its inputs where gradients are wanted."""
    return functools.partial(cast(Any, checkpoint).checkpoint, forward, use_reentrant=False)
