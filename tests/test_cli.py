"""Settings become flags and YAML keys and come back; what can't be read is told in a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from unteach.attacks import Nearest, Schedule
from unteach.cli import main, parse
from unteach.methods import METHODS, Amun
from unteach.recipe import Recipe
from unteach.settings_to_flags import FLAT
from unteach.types import Method, Refusal
from unteach.verbs import VERBS, Forget, Train


def flags(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting with its default, told without the code under test; optional groups that are off come as None."""
    from unteach.data.augment import Augment
    from unteach.prune import Prune
    from unteach.recipe import Recipe
    from unteach.spectral import Clip
    from unteach.trades import Trades

    optional = {
        "augment": Augment,
        "recipe": Recipe,
        "training": Recipe,
        "trades": Trades,
        "prune": Prune,
        "clip": Clip,
    }
    for item in fields(settings):
        value = getattr(settings, item.name)
        if is_dataclass(value) and not isinstance(value, Method):
            if item.name == "attack" and "|" in str(item.type):
                yield f"{prefix}attack.kind", type(value).__name__.lower()
            yield from flags(value, prefix if item.name in FLAT else f"{prefix}{item.name}.")
        elif isinstance(value, Method):
            yield from flags(value, prefix)
        elif value is None and item.name in optional:
            inner = flags(optional[item.name](), prefix if item.name in FLAT else f"{prefix}{item.name}.")
            yield from ((name, None) for name, _ in inner)
            if str(item.type).count("|") > 1:
                yield f"{prefix}{item.name}.kind", None
        else:
            yield prefix + item.name, value


CHOICES = [
    *[(verb, ()) for verb in VERBS],
    *[("forget", ("--method", name)) for name in METHODS],
    ("forget", ("--attack.kind", "schedule")),
    ("forget", ("--method", "amun-adv-only", "--attack.kind", "schedule")),
]


@pytest.fixture(params=CHOICES, ids=lambda choice: "-".join(part.strip("-") for part in (choice[0], *choice[1])))
def choice(request: pytest.FixtureRequest) -> tuple[str, tuple[str, ...], Any]:
    verb, chosen = request.param
    settings = VERBS[verb]()
    if verb == "forget":
        named = dict(zip(chosen[::2], chosen[1::2]))
        method = METHODS[named.get("--method", "amun")]()
        if "--attack.kind" in named:
            assert isinstance(method, Amun)
            method = replace(method, attack=Schedule())
        settings = replace(settings, method=method)
    return verb, chosen, settings


def test_help_names_every_setting_with_its_default(
    choice: tuple[str, tuple[str, ...], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    verb, chosen, settings = choice
    with pytest.raises(SystemExit) as end:
        main([verb, *chosen, "--help"])
    assert end.value.code == 0
    said = "".join(capsys.readouterr().out.partition("options:")[2].split())
    for name, default in flags(settings):
        _, found, after = said.partition(f"--{name}{name.rpartition('.')[2].upper()}")
        if not found:
            _, found, after = said.partition(f"--{name}{{true,false")
        if not found:
            _, found, after = said.partition(f"--{name}[")
        assert found, f"--{name} is not in the help"
        shown = "null" if default is None else str(list(default) if isinstance(default, tuple) else default)
        assert "default:" + "".join(shown.split()) + ")" in after.split("--")[0] + ")", f"--{name}: {after[:300]}"


def test_no_flags_give_the_defaults_back(choice: tuple[str, tuple[str, ...], Any]) -> None:
    verb, chosen, settings = choice
    assert parse(VERBS[verb], verb, list(chosen)) == settings


def test_a_printed_configuration_gives_the_same_settings(
    choice: tuple[str, tuple[str, ...], Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    verb, chosen, settings = choice
    with pytest.raises(SystemExit):
        main([verb, *chosen, "--print_config"])
    printed = capsys.readouterr().out
    (tmp_path / "all.yaml").write_text(printed)
    assert parse(VERBS[verb], verb, ["--config", str(tmp_path / "all.yaml")]) == settings
    if verb == "forget":
        assert yaml.safe_load(printed)["method"] == dict(zip(chosen[::2], chosen[1::2])).get("--method", "amun")


def test_dotted_flags_and_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("method: amun\nattack: {kind: schedule, steps: 7}\noptim:\n  lr: 0.3\nseed: 5\n")
    arguments = ["--optim.epochs", "9", "--seed", "6", "--config", str(tmp_path / "a.yaml"), "--retrained", "x", "y"]
    made = parse(Forget, "forget", arguments)
    assert made.method == Amun(attack=Schedule(steps=7), optim=replace(Amun().optim, lr=0.3, epochs=9))
    assert made.seed == 6, "a flag wins over a file, wherever it stands"
    assert made.retrained == (Path("x"), Path("y"))
    (tmp_path / "b.yaml").write_text("attack: {kind: schedule}\noptim: {lr: 0.3}\n")
    other = parse(
        Forget, "forget", [f"--config={tmp_path / 'b.yaml'}", "--attack.kind", "nearest", "--attack.cuts", "3"]
    )
    assert other == parse(Forget, "forget", ["--attack.cuts", "3", "--optim.lr", "0.3"]), "also where it is a choice"


def test_a_later_file_wins_over_an_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("method: finetune\nseed: 1\n")
    (tmp_path / "b.yaml").write_text("method: random-label\n")
    made = parse(Forget, "forget", ["--config", str(tmp_path / "a.yaml"), "--config", str(tmp_path / "b.yaml")])
    assert made.method == METHODS["random-label"]()
    assert made.seed == 1


def test_optional_groups_stay_none_unless_something_of_them_is_given(tmp_path: Path) -> None:
    plain = parse(Forget, "forget", [])
    assert plain.recipe is None
    assert plain.method.augment is None
    assert parse(Train, "train", []).training.augment is None
    assert parse(Forget, "forget", ["--recipe.optim.lr", "0.3"]).recipe == Recipe(optim=replace(Recipe().optim, lr=0.3))
    assert parse(Train, "train", ["--augment.flip", "true"]).training.augment.flip is True
    (tmp_path / "none.yaml").write_text("recipe: null\n")
    assert parse(Forget, "forget", ["--config", str(tmp_path / "none.yaml")]).recipe is None


def test_kinds(tmp_path: Path) -> None:
    assert isinstance(parse(Forget, "forget", []).method.attack, Nearest)
    made = parse(Forget, "forget", ["--attack.kind=schedule", "--attack.restart", "true"])
    assert made.method.attack == Schedule(restart=True)
    assert parse(Train, "train", ["--model_args", '{"width": 8}']).model_args == {"width": 8}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fly"], ["a verb", "'fly'"]),
        (["forget", "--fly", "3"], ["--fly"]),
        (["forget", "stray"], ["stray"]),
        (["forget", "--seed", "x"], ["seed", "int", "x"]),
        (["forget", "--seed"], ["--seed"]),
        (["forget", "--seed", "-1"], ["--seed", "-1"]),
        (["forget", "--optim.lr", "fast"], ["optim.lr", "fast"]),
        (["forget", "--optim.epochs", "0"], ["epochs", "0"]),
        (["forget", "--optim.schedule", "sometimes"], ["a schedule", "sometimes"]),
        (["forget", "--augment.crop", "-2"], ["crop", "-2"]),
        (["forget", "--augment.shear", "90"], ["shear", "90"]),
        (["train", "--augment.zoom", "1"], ["zoom", "1"]),
        (["train", "--augment.saturation", "-0.1"], ["saturation", "-0.1"]),
        (["forget", "--gate", "perhaps"], ["gate", "perhaps"]),
        (["forget", "--method", "fly"], ["a method", "'fly'"]),
        (["forget", "--method"], ["a method"]),
        (["forget", "--meth", "finetune"], ["--meth"]),
        (["forget", "--attack.kind", "fly"], ["--attack.kind", "'fly'"]),
        (["forget", "--method", "finetune", "--attack.kind", "nearest"], ["--attack.kind"]),
        (["forget", "--method", "finetune", "--attack.cuts", "3"], ["--attack.cuts"]),
        (["train", "--method", "amun"], ["--method"]),
        (["train", "--model_args", "3"], ["model_args"]),
        (["train", "--data", "fly"], ["a data set", "'fly'"]),
        (["train", "--device", "fly"], ["--device", "'fly'"]),
        (["train", "--devices", "0"], ["device", "0"]),
        (["train", "--precision", "fp8"], ["precision", "'fp8'"]),
        (["train", "--model", "fly"], ["a model name", "'fly'"]),
        (["list", "--method", "fly"], ["a method", "'fly'"]),
        (["audit"], ["--ids"]),
        (["report", "--findings", "nowhere.json"], ["nowhere.json"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) and value[0] in (*VERBS, "fly") else None,
)
def test_what_is_not_there_is_told_in_a_sentence(
    arguments: list[str],
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("unteach: expected ")
    assert said.err.count("\n") == 1
    for word in words:
        assert word in said.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- 1\n- 2\n", ["settings (name: value)", "list"]),
        ("a: [", ["YAML"]),
        ("fly: 3\n", ["fly"]),
        ("method: fly\n", ["a method", "'fly'"]),
        ("seed: null\n", ["seed", "null"]),
        ("seed: many\n", ["seed", "many"]),
        ("optim: 3\n", ["optim", "3"]),
        ("optim: {lr: null}\n", ["optim.lr", "null"]),
        ("attack: {kind: fly}\n", ["attack.kind", "'fly'"]),
    ],
)
def test_a_file_of_settings_that_is_none(text: str, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(Refusal) as refusal:
        parse(Forget, "forget", ["--config", str(tmp_path / "a.yaml")])
    for word in words:
        assert word in str(refusal.value)


def test_a_file_of_settings_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "a.yaml", tmp_path):
        with pytest.raises(Refusal, match="expected a YAML file"):
            parse(Forget, "forget", ["--config", str(path)])


def python(code: str, **more: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, text=True, capture_output=True, env=environment, check=False, **more)


def test_help_and_refusals_do_not_wait_for_torch() -> None:
    ran = python(
        "import contextlib, sys\n"
        "from unteach.cli import main\n"
        "assert main([]) == main(['--help']) == main(['--version']) == 0\n"
        "from unteach.verbs import VERBS\n"
        "for verb in VERBS:\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        main([verb, '--help'])\n"
        "assert main(['forget', '--method', 'fly']) == main(['forget', '--fly']) == main(['fly']) == 2\n"
        "assert 'torch._C' not in sys.modules, 'torch was loaded'\n"
    )
    assert ran.returncode == 0, ran.stderr
    for verb in VERBS:
        assert f"unteach {verb}" in ran.stdout


def test_torch_is_there_once_it_is_used() -> None:
    ran = python(
        "from unteach.cli import _torch_on_demand\n"
        "_torch_on_demand()\n"
        "import torch\n"
        "from unteach.engine import Engine\n"
        "assert float(Engine(accelerator='cpu').logits(torch.nn.Flatten(), torch.ones(2, 3)).sum()) == 6\n"
        "import torch as again\n"
        "assert again.nn is torch.nn and isinstance(again.ones(1), torch.Tensor)\n"
    )
    assert ran.returncode == 0, ran.stderr


def test_a_reader_who_leaves_early_is_no_error() -> None:
    code = "import sys; from unteach.cli import script; sys.argv[1:] = ['list']; script()"
    command = [sys.executable, "-c", code]
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        ran = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True, check=False)
    assert ran.stderr == ""
    assert ran.returncode == 141


def test_kinds_and_short_forms_of_optional_groups(tmp_path: Path) -> None:
    from unteach.prune import Prune
    from unteach.spectral import Clip, Gouk, Miyato

    assert parse(Train, "train", ["--clip", "1.0"]).training.clip == Clip(target=1.0)
    assert parse(Train, "train", ["--clip=0.5"]).training.clip == Clip(target=0.5)
    assert parse(Train, "train", ["--prune", "0.9"]).training.prune == Prune(share=0.9)
    assert parse(Train, "train", ["--clip.kind", "gouk", "--clip.target", "2"]).training.clip == Gouk(target=2.0)
    assert parse(Forget, "forget", ["--recipe.clip.kind", "miyato"]).recipe.clip == Miyato()
    assert parse(Forget, "forget", ["--method", "retrain", "--clip.kind", "gouk"]).method.training.clip == Gouk()
    (tmp_path / "a.yaml").write_text("recipe:\n  clip:\n    kind: gouk\n    every: 3\n")
    assert parse(Forget, "forget", ["--config", str(tmp_path / "a.yaml")]).recipe.clip == Gouk(every=3)
    with pytest.raises(Refusal, match=r"expected --clip\.kind to be one of clip, gouk, miyato, got 'scissors'"):
        parse(Train, "train", ["--clip.kind", "scissors"])
    with pytest.raises(Refusal, match=r"got --lr\.kind x"):
        parse(Train, "train", ["--lr.kind", "x"])
