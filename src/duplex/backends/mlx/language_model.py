"""The language model over text, the agent's and the user's streams: one step a frame (section 3.4 of the paper).

Its state holds, besides the temporal transformer's cache, a ring of delayed tokens (see
:mod:`duplex.backends.shared.delays`) and the number of steps the stream has had. Its modules are named as in files
published for MLX.
"""

from pathlib import Path

import attrs
import mlx.core as mx

from duplex.backends.mlx.arrays import named_modules
from duplex.backends.mlx.conditioning import ConditionProvider
from duplex.backends.mlx.cross_attention import CROSS, CrossAttention
from duplex.backends.mlx.depth import DepthTransformer
from duplex.backends.mlx.embedding import DemuxedEmbedding, TokenEmbedding
from duplex.backends.mlx.guidance import COEFFICIENT, MASKED, Guidance, put_back, taken_rows
from duplex.backends.mlx.linear import Linear, Packing
from duplex.backends.mlx.sampling import Sampler, Sampling
from duplex.backends.mlx.script import Script
from duplex.backends.mlx.state import Call, SlotState, StateSpec, Streaming
from duplex.backends.mlx.transformer import RmsNorm, TemporalTransformer
from duplex.backends.mlx.weights import load_language_model_weights
from duplex.backends.shared import delays as delay_rules
from duplex.backends.shared.snapshots import LANGUAGE_MODEL, NULL
from duplex.checkpoints.adapters import Adapter
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.errors import UsageError
from duplex.frame_model import UNGENERATED, ZERO, Conditions
from duplex.options import SessionOptions

__all__ = ["LanguageModel", "TimeStep", "load_language_model"]

CONDITION = "lm.condition"
"""What is added to every step's input, in a state."""
END_OF_TEXT = 2
"""The token, in all published tokenizers."""


def load_language_model(
    config: LanguageModelConfig,
    weights: Path,
    *,
    dtype: mx.Dtype,
    packing: Packing | None,
    adapter: Adapter | None = None,
) -> "LanguageModel":
    """Load the language model of a published file, of torch's layout or of MLX's; quantize it if ``packing`` says so.

    An ``adapter`` is added to the weights before.

    :raises WeightsError: if the file is damaged or does not fit the configuration
    :raises UsageError: if it cannot be quantized as asked
    """
    model = LanguageModel(config)
    load_language_model_weights(model, config, weights, dtype=dtype, packing=packing, adapter=adapter)
    if config.model_type == "hibiki":  # as its own program: the end of the source sounds like padding
        model.text_emb.repeat_row(config.existing_text_padding_id, END_OF_TEXT)
    for _, part in named_modules(model):
        if isinstance(part, CrossAttention):
            part.divide()
    if dtype == mx.float32 and mx.default_device() == mx.cpu:
        for _, part in named_modules(model):
            if isinstance(part, Linear):
                part.lay_across()
    return model


@attrs.frozen(eq=False)
class TimeStep:
    """The tokens of the time step that a step completed, int32 ``[batch, streams]``, and its text logits.

    ``heads`` float32 ``[batch, extra_heads, extra_classes]`` are the extra heads' probabilities, where there are any.
    """

    tokens: mx.array
    text_logits: mx.array
    heads: mx.array | None


class LanguageModel(Streaming):
    """Text, agent and user tokens in, the next text and agent tokens out."""

    script: Script | None = None
    """What a text that is to be said makes of the tokens."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.config = config
        self.ring_length: int = delay_rules.ring_length(config.delays)
        self.agent: slice = slice(1, 1 + config.agent_streams)
        self.user: slice = slice(1 + config.agent_streams, 1 + config.n_q)
        self.audio_embs: list[TokenEmbedding] = [TokenEmbedding(config.card + 1, config.dim) for _ in range(config.n_q)]
        text = DemuxedEmbedding if config.demux_second_stream else TokenEmbedding
        self.text_emb: TokenEmbedding = text(config.text_card + 1, config.dim)
        self.transformer: TemporalTransformer = TemporalTransformer(config)
        self.out_norm: RmsNorm = RmsNorm(config.dim)
        self.text_linear: Linear = Linear(config.dim, config.text_choices)
        self.extra_heads: list[Linear] = [
            Linear(config.dim, config.extra_heads_dim) for _ in range(config.extra_heads_num_heads)
        ]
        if config.conditioners:
            self.condition_provider: ConditionProvider = ConditionProvider(config)
        if config.agent_streams:
            self.depformer: DepthTransformer = DepthTransformer(config)

    def state_spec(self, frames_per_call: int = 1) -> dict[str, StateSpec]:
        """Return the token ring, the step counter and a slot's options."""
        ring = StateSpec((1 + self.config.n_q, self.ring_length), mx.int32)
        own = {"tokens": ring, "step": StateSpec((), mx.int32), **Sampler.state_spec()}
        return own if self.script is None else own | self.script.state_spec()

    def begin(self, state: SlotState, options: SessionOptions, conditions: Conditions | None = None) -> None:
        """Set up the token ring, the options, the conditions and the row of guidance of a fresh state.

        :raises UsageError: if the model has no such condition
        """
        state[f"{self.key}.tokens"] = mx.full((1 + self.config.n_q, self.ring_length), UNGENERATED, mx.int32)
        Sampler.write(state, self.key, options)
        given = conditions or Conditions()
        coefficient = 1.0 if options.guidance is None else options.guidance
        if coefficient != 1 and (self.config.conditioners or self._textless):
            ring = f"{self.transformer.ring.key}."
            second = {name: mx.zeros_like(state[name]) for name in state if name.startswith(ring)}
            del second[self._position]
            second |= self._conditioned(given.null or given.dropped(), second[next(iter(second))].dtype)
            state |= {NULL + name.removeprefix(LANGUAGE_MODEL): value for name, value in second.items()}
            state[COEFFICIENT] = mx.array(coefficient, mx.float32)
            state[MASKED] = mx.array(given.masked_until, mx.int32)
        state |= self._conditioned(given, state[f"{self.transformer.ring.key}.cache.0"].dtype)

    def _conditioned(self, conditions: Conditions, dtype: mx.Dtype) -> SlotState:
        """Return what a row's state holds of its conditions.

        :raises UsageError: if the model has no such condition
        """
        if not self.config.conditioners:
            unknown = [*conditions.words, *conditions.vectors]
            if unknown:
                raise UsageError(f"this model takes no conditions, and {', '.join(unknown)} was given; leave that out")
            return {}
        made: SlotState = {}
        total, source = self.condition_provider.sum(conditions), self.condition_provider.cross(conditions)
        if self.config.fuser.sum:
            made[CONDITION] = total.astype(dtype)
        if self.config.cross_attention:
            for index, layer in enumerate(self.transformer.layers):
                made[f"{CROSS}.{index}"] = layer.cross_attention.remembered(source.astype(dtype))
        return made

    def __call__(
        self, user: mx.array | None, call: Call, sampling: Sampling, known: mx.array | None = None
    ) -> TimeStep:
        """Advance by one step: the user's codes, int32 ``[batch, user_streams]``, go in.

        ``None`` is for the initial step, and for models that hear nothing. ``known`` int32
        ``[batch, 1 + agent_streams]`` stands for the model's choice where it is not ``UNGENERATED``.
        """
        config = self.config
        step, ring = self._own(call, "step"), self._own(call, "tokens")
        if user is not None:
            index = step[:, None] - 1 + mx.array(config.delays[self.user], mx.int32)
            ring = self._write(ring, self.user, index, user)
        context = self.temporal(self._read(ring, step)[:, :, None], call)[:, 0]
        guidance = Guidance.of(call, f"{self.key}.step")
        logits = self.text_linear(context).astype(mx.float32)
        if guidance is not None:
            logits = logits[: len(call.rows)] if self._textless else guidance.guided(logits)
        held = {name: self._own(call, name) for name in Sampler.state_spec()}
        sampler = Sampler.prepare(held, sampling, step, [config.text_choices] + [config.card] * config.agent_streams)
        text = self._text(logits, sampler, step, call, known)
        chosen = self._chosen(context, text, sampler, known, guidance, step, call)
        written = mx.broadcast_to(step[:, None], chosen.shape)
        ring = self._write(ring, slice(0, self.agent.stop), written, chosen)
        call.write(f"{self.key}.tokens", ring)
        call.advance(f"{self.key}.step", 1)
        return TimeStep(self._completed(ring, step), logits, self._heads(context[: len(call.rows)]))

    def temporal(self, tokens: mx.array, call: Call) -> mx.array:
        """Run the temporal transformer over delayed tokens ``[batch, streams, n]`` to ``[batch, n, dim]``, normed.

        The second rows of guidance come after the batch's own.
        """
        guidance = Guidance.of(call, f"{self.key}.step")
        if guidance is None:
            return self.out_norm(self.transformer(self._embedded(tokens, call), call))
        second = guidance.rows
        taken = taken_rows(call, second, self._position)
        both = Call([*call.rows, *taken], call.filled)
        fed = mx.concatenate([tokens, self._dropped(tokens[mx.array(second)], guidance)])
        context = self.out_norm(self.transformer(self._embedded(fed, both), both))
        put_back(call, second, taken, self._position)
        return context

    def _embedded(self, tokens: mx.array, call: Call) -> mx.array:
        x = self.text_emb(tokens[:, 0])
        for stream, embedding in enumerate(self.audio_embs, 1):
            x = x + embedding(tokens[:, stream])
        return x + call.read(CONDITION)[:, None] if self.config.fuser.sum else x

    def _dropped(self, tokens: mx.array, guidance: Guidance) -> mx.array:
        """Return what guidance's second rows read of ``tokens``, ``[batch, streams, n]``, where they read less.

        Initial tokens they always read; of synthesis no text after them, and nothing of a beginning that is masked.
        """
        step = guidance.step[:, None, None] + mx.arange(tokens.shape[2], dtype=mx.int32)
        delays = mx.array(self.config.delays, mx.int32)[:, None]
        hidden = step <= delays + guidance.masked[:, None, None]
        if self._textless:
            hidden = hidden | (mx.arange(tokens.shape[1]) == 0)[:, None]
        return mx.where(hidden & (step > delays), ZERO, tokens)

    @property
    def _textless(self) -> bool:
        return self.config.model_type == "tts"

    @property
    def _position(self) -> str:
        """The counter that both rows of a session share."""
        return f"{self.transformer.ring.key}.position"

    def _heads(self, context: mx.array) -> mx.array | None:
        if not self.extra_heads:
            return None
        return mx.softmax(mx.stack([head(context).astype(mx.float32) for head in self.extra_heads], axis=1), axis=-1)

    def _text(self, logits: mx.array, sampler: Sampler, step: mx.array, call: Call, known: mx.array | None) -> mx.array:
        """Return the text, int32 ``[batch]``."""
        text = sampler.sample_text(logits, self.config.existing_text_padding_id)
        if self.script is not None:
            text = self.script.text(text, step, call, self.key)
        return text if known is None else mx.where(known[:, 0] == UNGENERATED, text, known[:, 0])

    def _chosen(
        self,
        context: mx.array,
        text: mx.array,
        sampler: Sampler,
        known: mx.array | None,
        guidance: Guidance | None,
        step: mx.array,
        call: Call,
    ) -> mx.array:
        """Return the text and the agent's codes, int32 ``[batch, 1 + agent_streams]``."""
        if not self.config.agent_streams:
            return text[:, None]
        codes = self.depformer(context, text, sampler, None if known is None else known[:, 1:], guidance)
        if self.script is not None:
            codes = self.script.codes(codes, step, call, self.key)
        return mx.concatenate([text[:, None], codes], axis=1)

    def _read(self, ring: mx.array, step: mx.array) -> mx.array:
        """Return what step ``step`` reads, ``[batch, streams]``."""
        config = self.config
        index = mx.broadcast_to(((step - 1) % self.ring_length)[:, None, None], (*ring.shape[:2], 1))
        held = mx.take_along_axis(ring, index, axis=2)[..., 0]
        initial = mx.array([config.text_card] + [config.card] * config.n_q, mx.int32)
        return mx.where(step[:, None] <= mx.array(config.delays, mx.int32), initial, held)

    def _write(self, ring: mx.array, streams: slice, index: mx.array, tokens: mx.array) -> mx.array:
        """Return the ring with ``tokens`` ``[batch, n]`` at ``index`` ``[batch, n]`` of these delayed sequences."""
        place = mx.arange(self.ring_length, dtype=mx.int32) == (index % self.ring_length)[..., None]
        written = mx.where(place, tokens[..., None], ring[:, streams])
        return mx.concatenate([ring[:, : streams.start], written, ring[:, streams.stop :]], axis=1)

    def _completed(self, ring: mx.array, step: mx.array) -> mx.array:
        """Return the tokens of the time step that step ``step`` completed, ``[batch, streams]``."""
        time = step - max(*self.config.delays, 1)
        index = (time[:, None] + mx.array(self.config.delays, mx.int32)) % self.ring_length
        return mx.take_along_axis(ring, index[..., None], axis=2)[..., 0]

    def _own(self, call: Call, name: str) -> mx.array:
        return call.read(f"{self.key}.{name}")
