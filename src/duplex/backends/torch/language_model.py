"""The language model over text, the agent's and the user's streams: one step a frame (section 3.4 of the paper).

Its state holds, besides the temporal transformer's cache, a ring of delayed tokens (see
:mod:`duplex.backends.shared.delays`) and the number of steps each stream has had. The weights of the depth transformer
lie at the top level, as published.
"""

import functools
from pathlib import Path

import attrs
import torch
from torch import Tensor, nn

from duplex.backends.shared import delays as delay_rules
from duplex.backends.shared.support import check_runs
from duplex.backends.torch import kernels
from duplex.backends.torch.conditioning import ConditionProvider
from duplex.backends.torch.depth import DepthTransformer
from duplex.backends.torch.embedding import TokenEmbedding
from duplex.backends.torch.norm import RmsNorm
from duplex.backends.torch.prepacking import prepack
from duplex.backends.torch.quantize import Kind
from duplex.backends.torch.sampling import Counters, Sampler, Sampling
from duplex.backends.torch.state import Call, StateSpec, Streaming
from duplex.backends.torch.token_ring import Delays, token_ring
from duplex.backends.torch.transformer import TemporalTransformer
from duplex.backends.torch.weights import load_weights
from duplex.checkpoints.adapters import Adapter
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.checkpoints.weight_names import projection_rows
from duplex.errors import UsageError
from duplex.frame_model import UNGENERATED, Conditions
from duplex.options import SessionOptions

__all__ = ["ENDED", "HEADS", "LanguageModel", "TimeStep", "load_language_model", "read_language_model"]

HEADS, CONDITION, ENDED = "heads", "condition", "ended"
"""Names in the state: what the extra heads said in the last step, what is added to every step's input, and whether the
next step has no user frame but the end of the source."""
END_OF_TEXT = 2
"""The token, in all published tokenizers."""


_NOT_RUN = ("cross_attention", "demux_second_stream", "depformer_low_rank_embeddings")


def load_language_model(
    config: LanguageModelConfig,
    weights: Path,
    *,
    dtype: torch.dtype,
    device: torch.device,
    quantize: Kind | None = None,
    int8_cache: bool = False,
    adapter: Adapter | None = None,
) -> "LanguageModel":
    """Load a language model for whoever steps it: as :func:`read_language_model`, laid out as a step reads it.

    On request its past is held in 8 bits.

    :raises WeightsError: if the file is damaged or does not fit the configuration
    """
    model = read_language_model(config, weights, dtype=dtype, device=device, quantize=quantize, adapter=adapter)
    model.transformer.ring.quantized = int8_cache
    prepack(model)
    return model


def read_language_model(
    config: LanguageModelConfig,
    weights: Path,
    *,
    dtype: torch.dtype,
    device: torch.device,
    quantize: Kind | None = None,
    adapter: Adapter | None = None,
) -> "LanguageModel":
    """Read the language model of a published file, on request with an adapter, and with few bits for its weights.

    :raises WeightsError: if the file is damaged or does not fit the configuration
    """
    check_runs(config, _NOT_RUN)
    with torch.device("meta"):
        model = LanguageModel(config)
    # Published files keep the depth transformer's parts at the top level.
    load_weights(
        model,
        weights,
        dtype=dtype,
        device=device,
        published=lambda name: name.removeprefix("depth."),
        rows=functools.partial(projection_rows, config),
        quantize=quantize,
        adapter=adapter,
    )
    model.quantized = quantize
    if config.model_type == "hibiki":  # as its own program: the end of the source sounds like padding
        model.text_emb.weight[END_OF_TEXT] = model.text_emb.weight[config.existing_text_padding_id]
    model.prepare()
    return model


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

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.config = config
        self.ring_length: int = delay_rules.ring_length(config.delays)
        self.agent: slice = slice(1, 1 + config.agent_streams)
        self.user: slice = slice(1 + config.agent_streams, 1 + config.n_q)
        self.emb: nn.ModuleList = nn.ModuleList(
            [TokenEmbedding(config.card + 1, config.dim) for _ in range(config.n_q)]
        )
        self.text_emb: TokenEmbedding = TokenEmbedding(config.text_card + 1, config.dim)
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
            own[CONDITION] = StateSpec((config.dim,))
        return own

    def begin(self, call: Call, options: SessionOptions, conditions: Conditions | None = None) -> None:
        """Set up the token ring, the options and the conditions of freshly reset rows.

        :raises UsageError: if the model has no such condition
        """
        assert call.state is not None
        own = {name: call.state.tensors[f"{self.key}.{name}"] for name in self.state_spec()}
        own["tokens"].fill_(UNGENERATED)
        Sampler.write(own, options)
        given = conditions or Conditions()
        if self.condition_provider is not None:
            own[CONDITION].copy_(self.condition_provider.sum(given.words)[None])
        elif given.words:
            raise UsageError(f"this model takes no conditions, and {', '.join(given.words)} was given; leave that out")

    def forward(self, user: Tensor | None, call: Call, sampling: Sampling, known: Tensor | None = None) -> TimeStep:
        """Advance by one step: the user's codes, int64 ``[batch, user_streams]``, go in (``None``: the initial step).

        ``sampling`` sums up the rows' options, which :meth:`begin` has put into their state.
        ``known`` int64 ``[batch, 1 + agent_streams]`` stands for the model's choice where it is not ``UNGENERATED``.
        """
        delays = Delays(self.delays, self.initial, longest=max(*self.config.delays, 1), length=self.ring_length)
        tokens = token_ring(call, self.key, delays)
        user = self._or_end(user, call)
        columns, step = tokens.begin(user)
        context = self.temporal(columns[:, :, None], call)[:, 0]
        logits = self.text_linear(context).float()
        if self.extra_heads:
            told = torch.stack([head(context).float() for head in self.extra_heads], dim=1).softmax(dim=-1)
            call.write(f"{self.key}.{HEADS}", told)
        held = {name: self._own(call, name) for name in Sampler.state_spec()}
        sampler = Sampler.prepare(held, sampling, step, self.counters)
        return TimeStep(tokens.complete(self._chosen(context, logits, sampler, known)), logits)

    def _or_end(self, user: Tensor | None, call: Call) -> Tensor | None:
        """Return the user's codes, or, where the source ends in this step, the tokens that say so."""
        if user is None or self.config.model_type != "hibiki":
            return user
        ended = self._own(call, ENDED)
        call.write(f"{self.key}.{ENDED}", torch.zeros_like(ended))
        return torch.where(ended[:, None] > 0, self.config.card, user)

    def temporal(self, tokens: Tensor, call: Call) -> Tensor:
        """Run the temporal transformer over delayed tokens ``[batch, streams, n]`` to ``[batch, n, dim]``, normed."""
        x = self._embedded(tokens)
        if self.config.fuser.sum:
            x = x + self._own(call, CONDITION)[:, None]
        return self.out_norm(self.transformer(x, call))

    def _embedded(self, tokens: Tensor) -> Tensor:
        if kernels.apply_to(tokens):
            from duplex.backends.torch.kernels.embedding import sum_embedded  # noqa: PLC0415 -- needs Triton

            rows = tokens.transpose(1, 2).reshape(-1, tokens.shape[1])
            tables = [self.text_emb.weight, *(weight for module in self.emb for weight in module.parameters())]
            return sum_embedded(tables, rows).view(len(tokens), -1, self.config.dim)
        x = self.text_emb(tokens[:, 0])
        for stream, embedding in enumerate(self.emb, 1):
            x = x + embedding(tokens[:, stream])
        return x

    def _chosen(self, context: Tensor, logits: Tensor, sampler: Sampler, known: Tensor | None) -> Tensor:
        """Return the text and the agent's codes, int64 ``[batch, 1 + agent_streams]``."""
        text = sampler.sample_text(logits)
        if known is not None:
            text = torch.where(known[:, 0] == UNGENERATED, text, known[:, 0])
        if self.depth is None:
            return text[:, None]
        codes = self.depth(context, text, sampler, None if known is None else known[:, 1:])
        return torch.cat([text[:, None], codes], dim=1)

    def _own(self, call: Call, name: str) -> Tensor:
        tensor = call.read(f"{self.key}.{name}")
        assert tensor is not None
        return tensor
