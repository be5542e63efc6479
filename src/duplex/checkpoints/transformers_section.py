"""One object of a configuration that Hugging Face transformers wrote: keys are taken out of it until none is left."""

from collections.abc import Mapping
from typing import Any, cast

from duplex.errors import ConfigError
from duplex.parsing import shown

__all__ = ["AS_PUBLISHED", "Section"]

AS_PUBLISHED = (
    "give the same model as its authors published it, such as kyutai/moshika-pytorch-bf16 (`duplex models` lists more)"
)
_WITHOUT_EFFECT = frozenset(
    """_attn_implementation_autoset _name_or_path add_cross_attention architectures attention_dropout auto_map
    bad_words_ids begin_suppress_tokens bos_token_id chunk_size_feed_forward cross_attention_hidden_size
    decoder_start_token_id diversity_penalty do_sample dtype early_stopping encoder_no_repeat_ngram_size eos_token_id
    exponential_decay_length_penalty finetuning_task forced_bos_token_id forced_eos_token_id id2label initializer_range
    is_decoder is_encoder_decoder label2id length_penalty max_length max_position_embeddings min_length model_type
    no_repeat_ngram_size num_beam_groups num_beams num_return_sequences output_attentions
    output_hidden_states output_scores pad_token_id prefix problem_type pruned_heads remove_invalid_values
    repetition_penalty return_dict return_dict_in_generate sep_token_id suppress_tokens task_specific_params
    temperature tf_legacy_loss tie_encoder_decoder tie_word_embeddings tokenizer_class top_k top_p torch_dtype
    torchscript transformers_version typical_p use_bfloat16 use_cache use_streaming""".split()  # noqa: SIM905 -- a list of words, written as words
)
"""What the library writes into every configuration, and what only its own training and generation read."""


class Section:
    """One object of the configuration: each key is taken once, and none may be left over."""

    def __init__(self, mapping: Mapping[str, Any], where: str) -> None:
        self._left = {key: value for key, value in mapping.items() if key not in _WITHOUT_EFFECT}
        self.where = where

    def take(self, key: str, default: Any = None) -> Any:
        """Return a key's value; where it is missing or null the default, unless that is ``None`` too.

        :raises ConfigError: if it is missing and has no default
        """
        value = self._left.pop(key, None)
        if value is None and default is None:
            raise ConfigError(
                f"{self.where}: key '{key}' is missing from this configuration of Hugging Face transformers; copy the "
                f"whole checkpoint, or {AS_PUBLISHED}"
            )
        return default if value is None else value

    def integer(self, key: str, default: int | None = None) -> int:
        """Return a key's value, a positive whole number.

        :raises ConfigError: if it is none
        """
        value = self.take(key, default)
        if type(value) is not int or value < 1:
            raise ConfigError(f"{self.where}: '{key}' is {shown(value)}, but a positive whole number is wanted")
        return value

    def section(self, key: str) -> "Section":
        """Return an object within.

        :raises ConfigError: if it is none
        """
        value = self.take(key)
        if not isinstance(value, dict):
            raise ConfigError(f"{self.where}: '{key}' is {shown(value)}, but an object is wanted")
        return Section(cast("dict[str, Any]", value), f"{self.where}: {key}")

    def expect(self, **values: Any) -> None:
        """Check that keys have the only values that are run here; one that is missing or null has it.

        :raises ConfigError: naming the key that has another
        """
        for key, value in values.items():
            found = self._left.pop(key, None)
            if found is not None and (found != value or isinstance(found, bool) != isinstance(value, bool)):
                raise ConfigError(
                    f"{self.where}: '{key}' is {shown(found)}, which this version cannot run (it runs: {value!r})"
                )

    def heads(self, dim: int, default: int) -> tuple[int, int]:
        """Return the number of heads of a width, and how many of them share a key and a value.

        :raises ConfigError: if they do not fit the width
        """
        heads = self.integer("num_attention_heads", default)
        shared = self.integer("num_key_value_heads", heads)
        if dim % heads or heads % shared:
            raise ConfigError(f"{self.where}: 'num_attention_heads' does not fit the rest of the configuration")
        self.expect(head_dim=dim // heads)
        return heads, heads // shared

    def period(self) -> Any:
        """Return the period of the slowest rotation, in either spelling.

        :raises ConfigError: if positions are stretched
        """
        parameters = self._left.pop("rope_parameters", None)
        if not isinstance(parameters, dict):
            self.expect(rope_scaling={})
            return self.take("rope_theta", 10000.0)
        within = Section(cast("dict[str, Any]", parameters), f"{self.where}: rope_parameters")
        within.expect(rope_type="default")
        period = within.take("rope_theta", 10000.0)
        within.done()
        self._left.pop("rope_theta", None)
        return period

    def halved(self) -> bool:
        """Return whether it is of a codec without its encoder, or its decoder."""
        return bool({"encoder_config", "decoder_config"} & self._left.keys())

    def done(self) -> None:
        """Check that no key is left.

        :raises ConfigError: naming one
        """
        if self._left:
            raise ConfigError(
                f"{self.where}: unknown key '{min(self._left)[:100]}'; this version does not know this kind of model "
                "of Hugging Face transformers, a newer one may"
            )
