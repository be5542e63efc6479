"""The language model over text, the agent's and the user's streams: one step a frame (section 3.4 of the paper).

Its state holds, besides the temporal transformer's cache, a ring of delayed tokens (see
:mod:`duplex.backends.shared.delays`) and the number of steps each stream has had. The weights of the depth transformer
lie at the top level, as published.
"""

from contextlib import AbstractContextManager, nullcontext

import attrs
import torch
from torch import Tensor, nn

from duplex.backends.shared import delays as delay_rules
from duplex.backends.torch import kernels
from duplex.backends.torch.adapter_bank import AdapterBank
from duplex.backends.torch.conditioning import ConditionProvider
from duplex.backends.torch.depth import DepthTransformer
from duplex.backends.torch.embedding import DemuxedEmbedding, TokenEmbedding
from duplex.backends.torch.guidance import COEFFICIENT, MASKED, Guidance, fed, pairs
from duplex.backends.torch.norm import RmsNorm
from duplex.backends.torch.quantize import Kind
from duplex.backends.torch.sampling import Counters, Sampler, Sampling
from duplex.backends.torch.script import Script
from duplex.backends.torch.state import Call, SlotState, StateSpec, Streaming
from duplex.backends.torch.token_ring import Delays, token_ring
from duplex.backends.torch.transformer import TemporalTransformer
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.errors import UsageError
from duplex.frame_model import UNGENERATED, Conditions
from duplex.options import SessionOptions, unknown_adapter

__all__ = ["ENDED", "HEADS", "LanguageModel", "TimeStep"]

HEADS, CONDITION, ENDED, ADAPTER = "heads", "condition", "ended", "options.adapter"
"""Names in the state: what the extra heads said in the last step, what is added to every step's input, whether the
next step has no user frame but the end of the source, and the number of the session's adapter."""


@attrs.frozen(eq=False)
class TimeStep:
    """The tokens of the time step that a step completed, int64 ``[batch, streams]``, and its text logits."""

    tokens: Tensor
    text_logits: Tensor


class LanguageModel(Streaming):
    """Text, agent and user tokens in, the next text and agent tokens out.

    Built on the meta device it needs :meth:`prepare` once its weights are loaded.
    """

    delays: Tensor
    initial: Tensor
    counters: Counters
    quantized: Kind | None = None
    """What the large weights were rounded to."""
    guided: bool = False
    """Whether each slot has the second row of guidance."""
    script: Script | None = None
    """What a text that is to be said makes of the tokens."""
    adapters: AdapterBank | None = None
    """Of which a session may choose one."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.config = config
        self.ring_length: int = delay_rules.ring_length(config.delays)
        self.agent: slice = slice(1, 1 + config.agent_streams)
        self.user: slice = slice(1 + config.agent_streams, 1 + config.n_q)
        self.emb: nn.ModuleList = nn.ModuleList(
            [TokenEmbedding(config.card + 1, config.dim) for _ in range(config.n_q)]
        )
        text = DemuxedEmbedding if config.demux_second_stream else TokenEmbedding
        self.text_emb: TokenEmbedding = text(config.text_card + 1, config.dim)
        self.transformer: TemporalTransformer = TemporalTransformer(config)
        self.out_norm: RmsNorm = RmsNorm(config.dim)
        self.text_linear: nn.Linear = nn.Linear(config.dim, config.text_choices, bias=False)
        heads = [nn.Linear(config.dim, config.extra_heads_dim, bias=False) for _ in range(config.extra_heads_num_heads)]
        self.extra_heads: nn.ModuleList = nn.ModuleList(heads)
        self.condition_provider: ConditionProvider | None = ConditionProvider(config) if config.conditioners else None
        self.depth: DepthTransformer | None = DepthTransformer(config) if config.agent_streams else None
        self.size: int = sum(weight.numel() for weight in self.parameters())
        """Its weights, however many bits they have later."""
        self.register_buffer("delays", torch.empty(0), persistent=False)
        self.register_buffer("initial", torch.empty(0), persistent=False)
        self.prepare()

    @property
    def guidable(self) -> bool:
        """Whether guidance means anything for the model: it has conditions, or a text to be said."""
        return bool(self.config.conditioners) or self._textless

    def guide(self) -> None:
        """Give each slot a second row, before any state is declared.

        :raises UsageError: if guidance means nothing for the model
        """
        if not self.guidable:
            raise UsageError("this model takes no conditions that guidance could strengthen; leave guidance out")
        self.guided = True
        for part in (self.transformer.ring, *self.transformer.crossing):
            part.copies = 2

    def prepare(self) -> None:
        """Put the constants of a step on the device, so that no step has to: delays, initial tokens, counters."""
        config, device = self.config, self.text_linear.weight.device
        self.counters = Counters.of([config.text_choices] + [config.card] * config.agent_streams, device)
        self.delays = torch.tensor(config.delays, device=device)
        self.initial = torch.tensor([config.text_card] + [config.card] * config.n_q, device=device)

    def state_spec(self, frames_per_call: int = 1) -> dict[str, StateSpec]:
        """Return the token ring, the step counter and each slot's options."""
        config = self.config
        ring = StateSpec((1 + config.n_q, self.ring_length), torch.int64)
        own = {"tokens": ring, "step": StateSpec((), torch.int64), **Sampler.state_spec()}
        if self.extra_heads:
            own[HEADS] = StateSpec((config.extra_heads_num_heads, config.extra_heads_dim), torch.float32)
        if config.model_type == "hibiki":
            own[ENDED] = StateSpec((), torch.int64)
        if config.fuser.sum:
            own[CONDITION] = StateSpec((2, config.dim) if self.guided else (config.dim,))
        if self.guided:
            own |= Guidance.state_spec()
        if self.script is not None:
            own |= self.script.state_spec()
        if self.adapters is not None:
            own[ADAPTER] = StateSpec((), torch.int64)
        return own

    def begin(self, call: Call, options: SessionOptions, conditions: Conditions | None = None) -> None:
        """Set up the token ring, the options and the conditions of freshly reset rows.

        :raises UsageError: if the model has no such condition, or adapter
        """
        assert call.state is not None
        own = {name: call.state.tensors[f"{self.key}.{name}"] for name in self.state_spec()}
        if self.adapters is not None:
            own[ADAPTER].fill_(self.adapters.number(options.adapter))
        elif options.adapter is not None:
            raise unknown_adapter(options.adapter, ())
        own["tokens"].fill_(UNGENERATED)
        Sampler.write(own, options)
        given = conditions or Conditions()
        if self.guided:
            Guidance.write(own, options, given)
        elif options.guidance not in (None, 1) and self.guidable:
            raise UsageError(f"guidance is {options.guidance}, but the model was loaded without; use guidance=True")
        unknown = [] if self.condition_provider else [*given.words, *given.vectors]
        if unknown:
            raise UsageError(f"this model takes no conditions, and {', '.join(unknown)} was given; leave that out")
        rows = (given, given.null or given.dropped()) if self.guided else (given,)
        for copy, row in enumerate(rows):
            self._condition(call.state, copy, row)

    def _condition(self, state: SlotState, copy: int, conditions: Conditions) -> None:
        """Put the conditions of one row of a slot into its state."""
        provider = self.condition_provider
        if self.config.fuser.sum and provider is not None:
            held = state.tensors[f"{self.key}.{CONDITION}"][0]
            (held[copy] if self.guided else held).copy_(provider.sum(conditions))
        if self.config.fuser.cross and provider is not None:
            source = provider.cross(conditions).to(self.text_linear.weight.dtype)
            for layer in self.transformer.crossing:
                layer.remember(state, copy, source)

    def forward(self, user: Tensor | None, call: Call, sampling: Sampling, known: Tensor | None = None) -> TimeStep:
        """Advance by one step: the user's codes, int64 ``[batch, user_streams]``, go in (``None``: the initial step).

        ``sampling`` sums up the rows' options, which :meth:`begin` has put into their state.
        ``known`` int64 ``[batch, 1 + agent_streams]`` stands for the model's choice where it is not ``UNGENERATED``.
        """
        with self.adapting(call, adapted=sampling.adapted):
            return self._advanced(user, call, sampling, known)

    def adapting(self, call: Call, *, adapted: bool) -> AbstractContextManager[None]:
        """Compute what stands in the block with the adapters of a call's rows, if any row has one."""
        if self.adapters is None or not adapted:
            return nullcontext()
        return self.adapters.rows.of(self._own(call, ADAPTER))

    def _advanced(self, user: Tensor | None, call: Call, sampling: Sampling, known: Tensor | None) -> TimeStep:
        delays = Delays(self.delays, self.initial, longest=max(*self.config.delays, 1), length=self.ring_length)
        tokens = token_ring(call, self.key, delays)
        user = self._or_end(user, call)
        columns, step = tokens.begin(user)
        contexts = self.temporal(columns[:, :, None], call)[:, 0]
        guidance = Guidance(self._own(call, COEFFICIENT)[:, None]) if self.guided else None
        context = contexts if guidance is None else pairs(contexts)[0]
        if guidance is None or self._textless:
            logits = self._text_logits(context)
        else:
            logits = guidance.guided(self.text_linear(contexts).float())
        if self.extra_heads:
            told = torch.stack([head(context).float() for head in self.extra_heads], dim=1).softmax(dim=-1)
            call.write(f"{self.key}.{HEADS}", told)
        held = {name: self._own(call, name) for name in Sampler.state_spec()}
        sampler = Sampler.prepare(held, sampling, step, self.counters)
        text = self._text(logits, sampler, step, call, known)
        return TimeStep(tokens.complete(self._chosen(contexts, text, sampler, known, guidance, step, call)), logits)

    def _text_logits(self, context: Tensor) -> Tensor:
        logits = self.text_linear(context)
        if self.adapters is not None and self.adapters.text is not None:
            logits = self.adapters.text.added_to(logits, context)
        return logits.float()

    def _or_end(self, user: Tensor | None, call: Call) -> Tensor | None:
        """Return the user's codes, or, where the source ends in this step, the tokens that say so."""
        if user is None or self.config.model_type != "hibiki":
            return user
        ended = self._own(call, ENDED)
        call.write(f"{self.key}.{ENDED}", torch.zeros_like(ended))
        return torch.where(ended[:, None] > 0, self.config.card, user)

    def temporal(self, tokens: Tensor, call: Call) -> Tensor:
        """Run the temporal transformer over delayed tokens ``[batch, streams, n]`` to ``[batch, n, dim]``, normed.

        With guidance it is ``[2 * batch, n, dim]``, both rows of each slot.
        """
        if self.guided:
            step, masked = self._own(call, "step"), self._own(call, MASKED)
            tokens = fed(tokens, step, masked, self.delays, textless=self._textless)
        x = self._embedded(tokens)
        if self.config.fuser.sum:
            added = self._own(call, CONDITION)
            x = x + (added.flatten(0, 1) if self.guided else added)[:, None]
        return self.out_norm(self.transformer(x, call))

    def _embedded(self, tokens: Tensor) -> Tensor:
        if kernels.apply_to(tokens):
            from duplex.backends.torch.kernels.embedding import sum_embedded  # noqa: PLC0415 -- needs Triton

            rows = tokens.transpose(1, 2).reshape(-1, tokens.shape[1])
            tables = [weight for module in self.emb for weight in module.parameters()]
            shape = (len(tokens), -1, self.config.dim)
            if isinstance(self.text_emb, DemuxedEmbedding):
                return self.text_emb(tokens[:, 0]) + sum_embedded(tables, rows[:, 1:].contiguous()).view(shape)
            return sum_embedded([self.text_emb.weight, *tables], rows).view(shape)
        x = self.text_emb(tokens[:, 0])
        for stream, embedding in enumerate(self.emb, 1):
            x = x + embedding(tokens[:, stream])
        return x

    def _text(self, logits: Tensor, sampler: Sampler, step: Tensor, call: Call, known: Tensor | None) -> Tensor:
        """Return the text, int64 ``[batch]``."""
        text = sampler.sample_text(logits, self.config.existing_text_padding_id)
        if self.script is not None:
            text = self.script.text(text, step, call, self.key)
        return text if known is None else torch.where(known[:, 0] == UNGENERATED, text, known[:, 0])

    def _chosen(
        self,
        contexts: Tensor,
        text: Tensor,
        sampler: Sampler,
        known: Tensor | None,
        guidance: Guidance | None,
        step: Tensor,
        call: Call,
    ) -> Tensor:
        """Return the text and the agent's codes, int64 ``[batch, 1 + agent_streams]``."""
        if self.depth is None:
            return text[:, None]
        codes = self.depth(contexts, text, sampler, None if known is None else known[:, 1:], guidance)
        if self.script is not None:
            codes = self.script.codes(codes, step, call, self.key)
        return torch.cat([text[:, None], codes], dim=1)

    @property
    def _textless(self) -> bool:
        """Whether guidance's second row reads no text, and leaves the text alone."""
        return self.config.model_type == "tts"

    def _own(self, call: Call, name: str) -> Tensor:
        tensor = call.read(f"{self.key}.{name}")
        assert tensor is not None
        return tensor
