"""What the tests of bad input share."""

from cli_support import (
    SMALL,
    run,
)


def process(*inputs, out, model=SMALL, options=()):
    return run("process", *inputs, "--out", out, "--model", model, *options)


def folder(path):
    path.mkdir()
