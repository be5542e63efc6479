"""The layouts of a CPU's weights: what follows from timings, and what is made of them from one start to the next."""

import json
import math
import threading
from collections import Counter

import numpy as np
import pytest
import torch

import duplex
from duplex.backends.torch.linear import linear
from duplex.backends.torch.onednn import OneDnnInt8
from duplex.backends.torch.products import cache as cache_module
from duplex.backends.torch.products import selector as selector_module
from duplex.backends.torch.products import timing as timing_module
from duplex.backends.torch.products.cache import TimingCache
from duplex.backends.torch.products.choice import Product, choose, row_counts, settled
from duplex.backends.torch.products.layouts import DTYPES, fixed, laid_out, layouts_of
from duplex.backends.torch.products.selector import ProductSelector, pins
from duplex.backends.torch.products.timing import time_product
from duplex.errors import UsageError

LARGE = Product("float32", 1024, 1024)
OTHER = Product("float32", 512, 1024, 2)


@pytest.fixture(autouse=True)
def _timed(monkeypatch, tmp_path):
    """Nothing is pinned or known, and nothing stays."""
    monkeypatch.delenv("DUPLEX_PRODUCTS", raising=False)
    monkeypatch.setenv("DUPLEX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache_module, "_KEPT", {})


@pytest.fixture
def timings(monkeypatch):
    """Let products be timed by a table, ``{layout: seconds}``, and tell which were."""
    table, timed = {"rows": 3e-4, "columns": 1e-4, "blocks": 2e-4, "blocks4": 4e-4}, []

    def look_up(product, rows, _):
        timed.append((str(product), tuple(rows)))
        return {count: {layout: table[layout] for layout in layouts_of(product.kind)} for count in rows}

    monkeypatch.setattr(selector_module, "time_product", look_up)
    return table, timed


@pytest.mark.parametrize(
    ("timings", "layout"),
    [
        ({1: {"rows": 1.0, "columns": 0.5, "blocks4": 0.8}}, "columns"),
        ({1: {"rows": 1.0, "columns": 0.79, "blocks4": 0.8}}, "blocks4"),  # the usual one, as good as the best
        (
            {1: {"rows": 1.0, "columns": 0.5, "blocks4": 1.0}, 8: {"rows": 4.0, "columns": 1.8, "blocks4": 1.0}},
            "columns",
        ),
        (
            {1: {"rows": 1.0, "columns": 0.9, "blocks4": 1.2}, 8: {"rows": 4.0, "columns": 4.0, "blocks4": 1.0}},
            "blocks4",
        ),
        ({1: {"rows": 1.0, "columns": 0.1}, 2: {"rows": 1.0, "blocks4": 2.0}}, "rows"),  # what is known of both
        ({1: {"columns": 1.0}, 2: {"rows": 1.0}}, "blocks4"),
        ({}, "blocks4"),
    ],
)
def test_the_nearest_to_the_best_is_chosen(timings, layout):
    assert choose(timings, "blocks4") == layout


def test_numbers_of_rows():
    assert row_counts(1, 1) == [1]
    assert row_counts(2, 1) == [2]
    assert row_counts(1, 6) == [1, 2, 4]
    assert row_counts(2, 8) == [2, 4, 8, 16]
    assert row_counts(1, 1000) == [1, 2, 4, 8, 16, 32, 64]
    assert row_counts(480, 4) == [480]


@pytest.mark.slow
def test_timings_that_do_not_agree_are_none():
    assert settled([5.0, 1.0, 1.1, 9.0]) == 1.0
    assert settled([5.0, 1.0, 2.0]) is None
    assert settled([1.0]) is None
    assert settled([]) is None


def test_what_was_timed_is_known_at_the_next_start(timings):
    table, timed = timings
    first = ProductSelector.of(sessions=2, deterministic=False)
    assert set(first.choose([LARGE, OTHER, OTHER]).values()) == {"columns"}
    assert sorted(timed) == [(str(LARGE), (1, 2)), (str(OTHER), (2, 4))]
    cache_module._KEPT.clear()  # as another process begins
    table["rows"] = 1e-9
    second = ProductSelector.of(sessions=2, deterministic=False)
    assert second.choose([LARGE, OTHER]) == {LARGE: "columns", OTHER: "columns"}
    assert len(timed) == 2
    more = ProductSelector.of(sessions=4, deterministic=False)
    more.choose([LARGE])
    assert timed[2:] == [(str(LARGE), (4,))], "only what is new"


@pytest.mark.parametrize("circumstance", ["threads", "ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "torch", "processor"])
def test_other_circumstances_have_timings_of_their_own(timings, monkeypatch, circumstance):
    _, timed = timings
    ProductSelector.of(sessions=1, deterministic=False).choose([LARGE])
    if circumstance == "threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    elif circumstance == "torch":
        monkeypatch.setattr(torch, "__version__", "99.0")
    elif circumstance == "processor":
        monkeypatch.setattr(cache_module, "processor", lambda: "Abacus")
    else:
        monkeypatch.setenv(circumstance, "AVX2")
    ProductSelector.of(sessions=1, deterministic=False).choose([LARGE])
    assert len(timed) == 2


DAMAGES = [
    b"",
    b"{",
    b"\xff\xfe",
    b"[]",
    b"[" * 100_000,
    b'{"circumstances": {}, "microseconds": {}}',
    b'{"microseconds": 7}',
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_costs_the_timing(timings, damage):
    _, timed = timings
    ProductSelector.of(sessions=1, deterministic=False).choose([LARGE])
    (path,) = TimingCache.read(torch.get_num_threads()).path.parent.glob("*.json")
    path.write_bytes(damage)
    cache_module._KEPT.clear()
    assert ProductSelector.of(sessions=1, deterministic=False).choose([LARGE]) == {LARGE: "columns"}
    assert len(timed) == 2
    assert json.loads(path.read_bytes())["microseconds"], "it is whole again"


@pytest.mark.parametrize("times", [{"rows": "fast"}, {"rows": -1.0}, {"rows": 1.0}, None, [], {"rows": math.nan}, {}])
def test_damaged_entries_are_timed_again(timings, times):
    _, timed = timings
    ProductSelector.of(sessions=1, deterministic=False).choose([LARGE])
    path = TimingCache.read(torch.get_num_threads()).path
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"microseconds": {str(LARGE): times}}))
    for known in (2, 2):
        cache_module._KEPT.clear()
        assert ProductSelector.of(sessions=1, deterministic=False).choose([LARGE]) == {LARGE: "columns"}
        assert len(timed) == known


def test_a_folder_that_cannot_be_written(timings, tmp_path, monkeypatch):
    """Within a process the choice stays what it is."""
    _, timed = timings
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("DUPLEX_CACHE", str(tmp_path / "file"))
    for _ in range(2):
        assert ProductSelector.of(sessions=1, deterministic=False).choose([LARGE]) == {LARGE: "columns"}
    assert len(timed) == 1


def test_many_write_at_once():
    """Each adds what it knows to what is there, and no reader finds half a file."""
    products = [Product("float32", 1024, 64 * (index + 1)) for index in range(8)]

    def write(product):
        for _ in range(5):
            cache = TimingCache.read(1)
            cache.put(product, {1: dict.fromkeys(layouts_of("float32"), 1e-4)})
            cache.write()

    writers = [threading.Thread(target=write, args=(product,)) for product in products]
    for writer in writers:
        writer.start()
    path = TimingCache(1).path
    while any(writer.is_alive() for writer in writers):
        if path.exists():
            json.loads(path.read_bytes())
    for writer in writers:
        writer.join()
    assert json.loads(path.read_bytes())["microseconds"]
    assert not list(path.parent.glob("*.part"))


def test_who_comes_second_takes_over_what_is_there(timings):
    table, _ = timings
    late = TimingCache.read(torch.get_num_threads())
    ProductSelector.of(sessions=1, deterministic=False).choose([LARGE])
    late.put(LARGE, {1: table | {"rows": 1e-9}})
    late.write()
    cache_module._KEPT.clear()
    assert ProductSelector.of(sessions=1, deterministic=False).choose([LARGE]) == {LARGE: "columns"}


def test_a_deterministic_model_has_the_fixed_table(timings):
    """Whatever the cache knows, and nothing is timed."""
    ProductSelector.of(sessions=1, deterministic=False).choose([LARGE])
    _, timed = timings
    chosen = ProductSelector.of(sessions=1, deterministic=True).choose([LARGE, OTHER])
    assert chosen == {each: fixed(each.kind, each.outputs, each.inputs) for each in (LARGE, OTHER)}
    assert len(timed) == 1


def test_pinned(timings, tmp_path, monkeypatch):
    """As a run before it had it; what that does not name has the fixed table."""
    run = tmp_path / "run.json"
    run.write_text(json.dumps({"products": {str(LARGE): "rows", "float32 1x1 rows 1": "blocks"}, "seed": 0}))
    monkeypatch.setenv("DUPLEX_PRODUCTS", str(run))
    selector = ProductSelector.of(sessions=1, deterministic=False)
    assert selector.choose([LARGE, OTHER])[LARGE] == "rows"
    assert selector.chosen[str(LARGE)].why == "pinned"
    assert selector.chosen[str(OTHER)].why == "fixed"
    monkeypatch.setenv("DUPLEX_PRODUCTS", "fixed")
    assert ProductSelector.of(sessions=1, deterministic=False).choose([LARGE]) == {LARGE: "blocks4"}
    assert not timings[1]


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", '{"products": 3}', '{"products": {"float32": "diagonal"}}'])
def test_a_pin_that_cannot_be_used_is_told(tmp_path, content):
    path = tmp_path / "pin.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=r"DUPLEX_PRODUCTS.*'timed', 'fixed'"):
        pins(str(path))


def test_a_machine_that_is_too_busy_has_the_table(monkeypatch):
    monkeypatch.setattr(selector_module, "time_product", lambda *_: None)
    selector = ProductSelector.of(sessions=1, deterministic=False)
    assert selector.choose([LARGE]) == {LARGE: "blocks4"}
    assert TimingCache.read(torch.get_num_threads()).entries == {}


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8"])
@pytest.mark.slow
def test_timing(kind):
    """Of all layouts there are, for each number of rows; without the time for it there are none."""
    found = time_product(Product(kind, 320, 256), [1, 4], 60.0)
    if found is not None:  # the machine is not too busy
        assert list(found) == [1, 4]
        assert all(times.keys() == set(layouts_of(kind)) for times in found.values())
        assert all(seconds > 0 for times in found.values() for seconds in times.values())
    assert time_product(Product(kind, 320, 256), [1], 0.0) is None


def test_a_layout_that_is_hopeless_is_not_timed_on(monkeypatch):
    """Where oneDNN has no fast program for 8 bits, a product took a thousand times as long, and a start 12 s."""
    now, products = [0.0], Counter()

    def product(_, weight):
        slow = isinstance(weight, OneDnnInt8)
        products["blocks" if slow else "rows"] += 1
        now[0] += 100.0 if slow else 1.0

    monkeypatch.setattr(timing_module, "clock", lambda: now[0])
    monkeypatch.setattr(timing_module, "linear", product)
    monkeypatch.setattr(timing_module, "layouts_of", lambda _: ("rows", "blocks", "blocks4"))
    found = time_product(Product("int8", 320, 256), [1, 4], 1000.0)
    assert found == {rows: {"rows": 1.0, "blocks": 100.0, "blocks4": 100.0} for rows in (1, 4)}
    assert products["blocks"] == 2  # for a single number of rows, and as it is
    assert products["rows"] > 2 * 2 * timing_module.MATRICES


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
@pytest.mark.parametrize(("outputs", "inputs"), [(96, 48), (66, 24), (40, 33), (1, 7), (257, 130)])
def test_a_product_is_the_same_in_every_layout(kind, outputs, inputs):
    """Also where blocks are not full: rounding apart, which may be one in the last place of each number."""
    generator, dtype = torch.Generator().manual_seed(0), DTYPES[kind]
    weight = torch.randn(outputs, inputs, generator=generator).to(dtype)
    for rows in (1, 2, 3, 8):
        x = torch.randn(rows, inputs, generator=generator).to(dtype)
        exact = x.double() @ weight.double().T
        for layout in layouts_of(kind):
            found = linear(x, laid_out(weight, layout))
            assert torch.allclose(found.double(), exact, rtol=4 * torch.finfo(dtype).eps, atol=1e-4), layout


@pytest.mark.slow
@pytest.mark.parametrize("layout", layouts_of("float32"))
def test_tokens_and_codes_are_the_same_whatever_is_chosen(checkpoint_reference, run, greedy, layout, monkeypatch):
    """The greatest score is the same score, however sums are rounded; the choice stands in the state."""
    check_the_same(checkpoint_reference, run, greedy, layout, monkeypatch)


def test_the_layout_is_in_a_state_and_changes_no_token(small, run, greedy, monkeypatch):
    check_the_same(small, run, greedy, "blocks", monkeypatch)


def check_the_same(reference, run, greedy, layout, monkeypatch):
    monkeypatch.setattr(ProductSelector, "_choice", lambda *_: selector_module.Choice(layout, "pinned"))
    monkeypatch.setattr(selector_module, "MIDDLING", 0)
    model = reference.load(deterministic=False)
    monkeypatch.undo()
    said = run(model, 0, greedy).hear(reference.frames[:20])
    usual = run(reference.load(), 0, greedy).hear(reference.frames[:20])
    assert set(model.products.values()) == {layout}
    assert np.argwhere(said.tokens != usual.tokens).tolist() == []
    assert json.loads(model.export(0).metadata["products"]) == model.products
    model.close()


def test_a_model_tells_what_was_chosen(monkeypatch):
    monkeypatch.setenv("DUPLEX_PRODUCTS", "fixed")
    with duplex.load("tiny", device="cpu") as model:
        assert model.products["float32 256x2048 rows 2"] == "blocks4"
    assert duplex.load_codec("tiny", device="cpu").products["float32 256x2048 rows 2"] == "blocks4"
