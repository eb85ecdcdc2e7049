"""An answerer on the real engine: a bad adapter is refused in one clear line, and the old one goes on serving."""

import json
import shutil

import pytest

from agents.answerer.agent import Answerer
from agents.answerer.releases import LoadedAdapters, ServedReleases
from infra.adapters.files import adapter_id_of, install
from infra.adapters.store import FolderAdapters
from infra.memory.retriever import MemoryRetriever
from schemas.promotions import AdapterPromoted
from tests.agents.answerer.room import NOW, TASKS, question, received

BIG = 20_000_000


def changed_byte(folder):
    path = folder / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def with_nan(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "adapter_model.safetensors")
    first = next(iter(tensors))
    tensors[first][0, 0] = float("nan")
    save_file(tensors, folder / "adapter_model.safetensors")


def for_another_base(folder):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": "org/Other-7B"}))


def too_big(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "adapter_model.safetensors")
    save_file({**tensors, "more": tensors[next(iter(tensors))].repeat(2500, 1)}, folder / "adapter_model.safetensors")


def another_ones_probes(folder, other):
    shutil.copy(other / "probes.json", folder / "probes.json")


@pytest.fixture
def store(tmp_path, random_adapters):
    shutil.copytree(random_adapters["red"], tmp_path / "adapters" / random_adapters["red"].name)
    return tmp_path / "adapters"


@pytest.fixture
async def answerer(store, random_adapters, transformers_engine):
    adapters = FolderAdapters(store, max_bytes=BIG)
    answerer = Answerer(
        tasks=TASKS,
        retriever=MemoryRetriever([]),
        engine=transformers_engine,
        releases=ServedReleases(LoadedAdapters(transformers_engine, adapters, unprobed=False)),
        context_tokens=200,
        now=lambda: NOW,
    )
    await release(answerer, 1, random_adapters["red"].name)
    assert answerer.releases.problem is None
    return answerer


async def release(answerer, sequence, adapter_id):
    await answerer.follow(received(AdapterPromoted(task="routing", sequence=sequence, champion=adapter_id)))


async def answered(answerer):
    (outcome,) = await answerer.answer([received(question("Where is my parcel?", task="routing"))])
    return outcome.outputs[0].event


def as_new(breaks):
    """Stores the adapter as a training does, so that its id is right and only its content is bad."""

    def make(blue, store):
        folder = store.parent / "made"
        shutil.copytree(blue, folder)
        breaks(folder)
        adapter_id, path = install(folder, store)
        shutil.copy(blue / "probes.json", path)
        return adapter_id

    return make


def after_install(breaks):
    """Installs a good adapter and then damages it."""

    def make(blue, store):
        folder = store / blue.name
        shutil.copytree(blue, folder)
        breaks(folder)
        return blue.name

    return make


BAD = {
    "gone": (lambda blue, store: blue.name, "is not in "),
    "a changed byte": (after_install(changed_byte), "were changed"),
    "NaN": (as_new(with_nan), "no numbers"),
    "a pickle": (after_install(lambda folder: (folder / "adapter_model.bin").write_bytes(b"\x80\x04.")), "pickle"),
    "another base": (as_new(for_another_base), "was trained on Other-7B"),
    "a vector for a matrix": (as_new(lambda folder: flat(folder)), "does not fit smollm2-135m-instruct"),
    "too big": (as_new(too_big), "bytes, and 20000000 are allowed"),
    "never validated": (after_install(lambda folder: (folder / "probes.json").unlink()), "was never validated"),
    "damaged probes": (after_install(lambda folder: (folder / "probes.json").write_text("[{}]")), "is damaged"),
}


async def test_bad_adapters_are_one_clear_line_each_and_the_old_one_goes_on_serving(answerer, store, random_adapters):
    before = await answered(answerer)
    for sequence, (kind, (make, reason)) in enumerate(BAD.items(), 2):
        shutil.rmtree(store.parent / "made", ignore_errors=True)
        shutil.rmtree(store / random_adapters["blue"].name, ignore_errors=True)
        await release(answerer, sequence, make(random_adapters["blue"], store))
        assert reason in answerer.releases.problem, kind
        assert "\n" not in answerer.releases.problem, kind
        assert answerer.serves()[0].adapters == (random_adapters["red"].name,), kind
    after = await answered(answerer)
    assert (after.adapter_id, after.release_sequence, after.text) == (random_adapters["red"].name, 1, before.text)


async def test_an_adapter_with_the_probes_of_another_is_not_served(answerer, store, random_adapters):
    blue = store / random_adapters["blue"].name
    shutil.copytree(random_adapters["blue"], blue)
    another_ones_probes(blue, random_adapters["red"])
    await release(answerer, 2, blue.name)
    assert "does not answer as it did when it was validated" in answerer.releases.problem
    assert (await answered(answerer)).adapter_id == random_adapters["red"].name


async def test_an_adapter_whose_base_model_has_changed_is_not_served(store, random_adapters, transformers_engine):
    adapter_id = random_adapters["red"].name
    weight = transformers_engine._slots._plain.get_input_embeddings().weight
    before = weight.data.clone()
    try:
        weight.data = weight.data.roll(1, 0)
        fresh = Answerer(
            tasks=TASKS,
            retriever=MemoryRetriever([]),
            engine=transformers_engine,
            releases=ServedReleases(LoadedAdapters(transformers_engine, FolderAdapters(store), unprobed=False)),
            context_tokens=200,
            now=lambda: NOW,
        )
        await release(fresh, 1, adapter_id)
        problem = fresh.releases.problem or ""
        assert "release 1 is not served, the base model answers" in problem
        assert "does not answer as it did when it was validated" in problem
        assert (await answered(fresh)).adapter_id is None
    finally:
        weight.data = before


def flat(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "adapter_model.safetensors")
    first = next(name for name in tensors if "lora_A" in name)
    save_file({**tensors, first: tensors[first].flatten()}, folder / "adapter_model.safetensors")


async def test_a_good_one_is_served_after_bad_ones(answerer, store, random_adapters):
    await release(answerer, 2, "gone")
    blue = random_adapters["blue"]
    shutil.copytree(blue, store / blue.name)
    assert adapter_id_of(store / blue.name) == blue.name
    await release(answerer, 3, blue.name)
    assert answerer.releases.problem is None
    assert (await answered(answerer)).adapter_id == blue.name
