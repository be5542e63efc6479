"""What a checkpoint is, as ``duplex info`` tells it."""

from typing import Any

import attrs

from duplex.checkpoints.adapters import AdapterInfo
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.checkpoints.mimi_config import MimiConfig
from duplex.checkpoints.sources import SourceKind
from duplex.checkpoints.weights_file import Header
from duplex.codec import CodecSpec
from duplex.options import SessionOptions

__all__ = ["CheckpointInfo", "codebooks_used"]


@attrs.frozen(kw_only=True)
class CheckpointInfo:
    """What ``duplex info`` shows of a checkpoint. ``kind`` is the kind of its source.

    ``weights`` and ``mimi_weights`` are the headers of the files. ``language_model`` is ``None`` for a codec alone.
    """

    name: str
    kind: SourceKind
    revision: str | None
    model_type: str
    language_model: LanguageModelConfig | None
    mimi: MimiConfig
    weights: Header | None
    mimi_weights: Header
    tokenizer_pieces: int | None
    defaults: SessionOptions | None
    voices: tuple[str, ...]
    """Names; of a repository only whether there are any is known without a download, and then ``"voices.tgz"``."""
    note: str
    adapter: AdapterInfo | None = None
    adapters: tuple[AdapterInfo, ...] = ()
    """Those that sessions may choose."""

    def as_json(self) -> dict[str, Any]:
        """Return the information as plain values, to print or to write as JSON."""
        quantizer = self.mimi.quantizer
        used = CodecSpec(
            sample_rate=self.mimi.sample_rate,
            frame_size=self.mimi.frame_size,
            codebooks=codebooks_used(self.language_model, self.mimi),
            vocabulary=quantizer.bins,
        )
        codec = {
            "sample_rate": self.mimi.sample_rate,
            "frame_rate": self.mimi.frame_rate,
            "frame_size": self.mimi.frame_size,
            "codebooks": quantizer.n_q,
            "codebooks_used": used.codebooks,
            "codebook_size": quantizer.bins,
            "bits_per_second": used.bitrate,
            "dimension": self.mimi.seanet.dimension,
            "transformer_layers": self.mimi.transformer.num_layers,
            "weights": _weights_summary(self.mimi_weights),
        }
        whole = {"name": self.name, "kind": self.kind, "revision": self.revision, "model_type": self.model_type}
        adapter = None
        if self.adapter is not None:
            adapter = {**self.adapter.as_json(), "weights": _weights_summary(self.adapter.header)}
        return {**whole, "model": self._model(), "adapter": adapter, "codec": codec, "note": self.note}

    def _model(self) -> dict[str, Any] | None:
        config = self.language_model
        if config is None or self.weights is None or self.defaults is None:
            return None
        sampling = attrs.asdict(
            self.defaults,
            filter=attrs.filters.include("temperature", "text_temperature", "top_k", "text_top_k", "guidance"),
        )
        return {
            "layers": config.num_layers,
            "dimension": config.dim,
            "heads": config.num_heads,
            "depth_layers": config.depformer_num_layers,
            "depth_dimension": config.depformer_dim,
            "depth_heads": config.depformer_num_heads,
            "agent_streams": config.agent_streams,
            "user_streams": config.user_streams,
            "codebooks": config.codebooks,
            "delays": list(config.delays),
            "context": config.context,
            "context_seconds": config.context / self.mimi.frame_rate,
            "text_vocabulary": config.text_card,
            "audio_vocabulary": config.card,
            "tokenizer_pieces": self.tokenizer_pieces,
            "sampling": sampling,
            "voices": list(self.voices),
            "weights": _weights_summary(self.weights),
        }


def codebooks_used(model: LanguageModelConfig | None, mimi: MimiConfig) -> int:
    """Return the number of the codec's active codebooks."""
    return mimi.quantizer.n_q if model is None else model.codebooks


def _weights_summary(header: Header) -> dict[str, Any]:
    return {
        "tensors": len(header),
        "parameters": header.elements,
        "bytes": header.bytes,
        "total_parameters": sum(header.elements.values()),
        "total_bytes": sum(header.bytes.values()),
    }
