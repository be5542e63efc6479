"""What a model card tells of what one may say: a text for people, which keeps no model from loading."""

import os

import pytest

import duplex
from duplex.checkpoints.model_card import ModelCard
from duplex.checkpoints.sources import LocalFolder

CARD = """---
license: apache-2.0
widget:
  - text: What is the capital of France?
  - src: https://example.org/question.wav
  - text: "  Two\\n lines  "
---
# A model
"""


def examples_of(folder, text):
    (folder / "README.md").write_text(text, encoding="utf-8", newline="")
    return ModelCard(LocalFolder(folder)).examples


def test_the_built_in_model_tells_what_it_knows():
    with duplex.load("tiny") as model:
        assert "What is the capital of France?" in model.examples


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("before", ["", "\ufeff"])
def test_examples_of_a_card(tmp_path, ending, before):
    """Those that can be said, each on one line; some editors begin a file with a mark of their own."""
    assert examples_of(tmp_path, before + CARD.replace("\n", ending)) == ("What is the capital of France?", "Two lines")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# A model\n\n---\nwidget:\n---\n",
        "---\nlicense: mit\n---\n",
        "---\nwidget: hello\n---\n",
        "---\nwidget: {text: hello}\n---\n",
        "---\nwidget: [text, {text: 7}, {text: ''}, null, [hello]]\n---\n",
        "---\n- widget\n---\n",
        "---\nwidget: [\n---\n",
        "---\nwidget: !!python/object/apply:os.abort []\n---\n",
        "---\nwidget:\n  - text: " + "a" * 121 + "\n---\n",
        '---\nwidget:\n  - text: "\\e[31mred"\n---\n',
        "---\nwidget:\n  - text: hello\n---\n" + "a" * 1_000_001,
    ],
)
def test_a_card_without_any(tmp_path, text):
    assert examples_of(tmp_path, text) == ()


def test_a_card_that_is_not_text(tmp_path):
    (tmp_path / "README.md").write_bytes(b"---\nwidget:\n  - text: \xff\xfe\n---\n")
    assert ModelCard(LocalFolder(tmp_path)).examples == ()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_card_that_may_not_be_read(tmp_path):
    (tmp_path / "README.md").write_text(CARD)
    (tmp_path / "README.md").chmod(0)
    assert ModelCard(LocalFolder(tmp_path)).examples == ()


def test_no_more_than_anybody_reads(tmp_path):
    listed = "".join(f"  - text: question {n}\n" for n in range(20))
    assert len(examples_of(tmp_path, f"---\nwidget:\n{listed}---\n")) == 6
    assert ModelCard(LocalFolder(tmp_path / "elsewhere")).examples == ()
