"""What the original package is given, so that it builds the same model."""

import json
from pathlib import Path

import pytest

from cli_support import DELAY2, SMALL
from duplex.bench.original import model_arguments
from duplex.checkpoints import checkpoint
from duplex.checkpoints.language_model_config import LanguageModelConfig

LOADERS_OWN = {"moshi_name", "mimi_name", "mimi_config_name", "tokenizer_name", "model_type", "lm_gen_config"}
"""Keys of a published configuration that the original's loader takes out, and its model does not know."""


@pytest.mark.parametrize("folder", [SMALL, DELAY2])
def test_the_originals_model_is_given_what_its_configuration_says(folder):
    published = {
        key: value for key, value in json.loads((Path(folder) / "config.json").read_text()).items() if value is not None
    }
    config = checkpoint.resolve(str(folder)).language_model
    given = json.loads(json.dumps(model_arguments(config)))
    assert not given.keys() & LOADERS_OWN
    kept = published.keys() - LOADERS_OWN - LanguageModelConfig.IGNORED_KEYS
    assert {key: given[key] for key in kept} == {key: published[key] for key in kept}
    assert "conditioners" not in given
    assert "fuser" not in given
