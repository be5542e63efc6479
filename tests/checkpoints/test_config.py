"""Configurations are read strictly: what is not known fails by its name."""

import attrs
import pytest

from duplex.checkpoints.language_model_config import LanguageModelConfig, gated_hidden_dim
from duplex.checkpoints.mimi_config import MimiConfig
from duplex.errors import ConfigError

SMALL = {"dim": 64, "num_heads": 4, "n_q": 4, "dep_q": 2, "card": 16, "text_card": 40, "delays": [0, 0, 1, 0, 1]}


def model(**changes):
    return LanguageModelConfig.from_dict(SMALL | changes, where="config.json")


def mimi(**changes):
    return MimiConfig.from_dict(changes, where="mimi.json")


def test_defaults_are_moshi_7b():
    config = LanguageModelConfig()
    assert (config.dim, config.num_layers, config.context) == (4096, 32, 3000)
    assert (config.agent_streams, config.user_streams, config.codebooks) == (8, 8, 8)
    assert (config.feedforward, config.depth_feedforwards) == (11264, (2816,) * 8)
    assert len(config.delays) == config.n_q + 1


def test_defaults_are_the_published_mimi():
    config = MimiConfig()
    assert (config.sample_rate, config.frame_size, config.positions_per_frame) == (24000, 1920, 2)
    assert (config.quantizer.n_q, config.quantizer.bins, config.seanet.hop_length) == (32, 2048, 960)
    config.check("mimi.json")


def test_gated_width_by_the_published_rule():
    assert gated_hidden_dim(132, 32) == 88
    assert gated_hidden_dim(4 * 1024, 1024) == 2688


@pytest.mark.parametrize(
    ("kind", "dep_q", "n_q", "agent", "user"),
    [
        ("moshi", 2, 4, 2, 2),
        ("moshi", 1, 4, 1, 3),
        (None, 0, 4, 0, 4),
        ("hibiki", 2, 4, 2, 2),
        ("stt", 0, 4, 0, 4),
        ("personaplex", 4, 4, 2, 2),
        ("tts", 4, 4, 4, 0),
    ],
)
def test_streams_come_from_the_kind_of_checkpoint(kind, dep_q, n_q, agent, user):
    config = model(model_type=kind, dep_q=dep_q, n_q=n_q)
    assert (config.agent_streams, config.user_streams, config.codebooks) == (agent, user, max(agent, user))


@pytest.mark.parametrize(("dep_q", "n_q"), [(1, 2), (0, 1)])
def test_the_codec_s_two_quantizers_are_both_in_use(dep_q, n_q):
    with pytest.raises(ConfigError, match=r"^config\.json: 'n_q'"):
        model(dep_q=dep_q, n_q=n_q, delays=[0] * (n_q + 1))


def test_keys_without_effect_are_let_pass():
    assert model(depformer_causal=True, depformer_context=8, lora_rank=128, conditioners={}, extra_heads_dim=6)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("norm", "layer_norm"),
        ("positional_embedding", "sin"),
        ("depformer_norm", "batch_norm"),
        ("lora", True),
        ("flying_carpets", 1),
        ("dim", 0),
        ("dim", "64"),
        ("dim", True),
        ("num_heads", 5),
        ("hidden_scale", float("nan")),
        ("hidden_scale", float("inf")),
        ("dep_q", 5),
        ("dep_q", -1),
        ("delays", [0, 0]),
        ("delays", [0, 0, -1, 0, 1]),
        ("delays", [0, 0, 1.5, 0, 1]),
        ("delays", "00101"),
        ("existing_text_padding_id", 40),
        ("existing_text_end_padding_id", -1),
        ("context", None),
    ],
)
def test_a_model_that_cannot_run_is_named_by_its_key(key, value):
    with pytest.raises(ConfigError, match=rf"^config\.json: .*'{key}'"):
        model(**{key: value})


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("seanet", "activation", "ReLU"),
        ("seanet", "norm", "weight_norm"),
        ("seanet", "wings", 2),
        ("seanet", "ratios", [8, 6, 5, 7]),
        ("seanet", "ratios", [8, 6, 5, 0]),
        ("seanet", "ratios", 960),
        ("quantizer", "n_q", 1),
        ("quantizer", "bins", 2.5),
        ("quantizer", "input_dimension", 256),
        ("transformer", "norm", "rms_norm"),
        ("transformer", "output_dimensions", [512, 512]),
        ("transformer", "num_heads", 7),
    ],
)
def test_a_codec_that_cannot_run_is_named_by_its_key(section, key, value):
    with pytest.raises(ConfigError, match=rf"^mimi\.json: .*{key}'"):
        mimi(**{section: {key: value}})


@pytest.mark.parametrize("value", [None, 3, [1], "seanet"])
def test_a_section_that_is_no_object(value):
    with pytest.raises(ConfigError, match=r"'seanet' is .* object is wanted"):
        mimi(seanet=value)


@pytest.mark.parametrize("rate", [0, float("inf"), 1e9, "12.5"])
def test_a_frame_rate_that_makes_no_frame(rate):
    with pytest.raises(ConfigError, match="'frame_rate'"):
        mimi(frame_rate=rate)


def test_configurations_are_values():
    assert model() == model()
    assert attrs.evolve(model(), context=7) != model()
