"""Settings: YAML and dotted overrides → one frozen, strict record. An unknown or ill-typed key is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import Field, ValidationError

from prismrec.data.dataset import Dataset
from prismrec.errors import PrismError, nearest
from prismrec.evaluate import METRICS, protocol
from prismrec.metrics import parse
from prismrec.models import Model, Strict, model_named
from prismrec.plugins import PLUGINS, Plugin, plugin_named
from prismrec.recipes import expand, label
from prismrec.train import TrainConfig

S = TypeVar("S", bound=Strict)
Tree = dict[str, Any]
_SECTIONS = ("model", "plugins", "train", "run")
_EXAMPLES = {"model": "{name: bpr}", "plugins": "{clear: {rank: 4}}", "train": "{lr: 0.001}", "run": "{seed: 1}"}


class RunSettings(Strict):
    """What is neither model nor training: seed, device, threads, protocol, metrics."""

    seed: int = Field(999, ge=0)
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")
    threads: int = Field(0, ge=0, description="CPU threads; 0: all cores that the process may use")
    protocol: Literal["default", "mmrec"] = "default"
    missing: Literal["mean", "learned"] = Field(
        "mean", description="what stands in for features that an item lacks: the mean of the others', or a learnt row"
    )
    neighbour_recall: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of an item's true neighbours that item graphs must hold; below 1: found by faiss",
    )
    eval_users: int = Field(
        0, ge=0, description="validate and test on so many users, drawn by the seed; 0: on all who have held-out items"
    )
    metrics: list[str] = Field(default_factory=lambda: list(METRICS), min_length=1)


@dataclass(frozen=True)
class RunConfig:
    """A run as resolved: every setting has a value."""

    model: type[Model]
    model_cfg: Strict
    plugins: tuple[tuple[type[Plugin], Strict], ...]
    train: TrainConfig
    run: RunSettings

    @property
    def label(self) -> str:
        """``freedom``, ``freedom+clear``, or the name of a recipe."""
        return label(self.model.name, [plugin.name for plugin, _ in self.plugins])

    def tree(self) -> Tree:
        """As a tree of plain values, from which ``resolve`` makes the same record."""
        return {
            "model": {"name": self.model.name, **self.model_cfg.model_dump()},
            "plugins": {plugin.name: cfg.model_dump() for plugin, cfg in self.plugins},
            "train": self.train.model_dump(),
            "run": self.run.model_dump(),
        }


def resolve(tree: Mapping[str, Any]) -> RunConfig:
    """A tree of settings (``model`` with a ``name``, ``plugins``, ``train``, ``run``) → the record, checked."""
    check_sections(tree)
    tree = expand(tree)
    given = dict(tree.get("model") or {})
    model = model_named(str(given.pop("name", "") or _missing_model()))
    run = section(RunSettings, tree.get("run"), "run")
    rules = protocol(run.protocol)
    stopping = {"metric": rules.metric, "patience": rules.patience, "epochs": rules.epochs}
    plugins = []
    for name, settings in (tree.get("plugins") or {}).items():
        plugin = plugin_named(name)
        plugins.append((plugin, section(plugin.Config, settings, f"plugins.{name}")))
    train = section(TrainConfig, {**stopping, **(tree.get("train") or {})}, "train")
    (decides,) = parse([train.metric])
    return RunConfig(
        model=model,
        model_cfg=section(model.Config, given, "model"),
        plugins=tuple(plugins),
        train=train.model_copy(update={"metric": str(decides)}),
        run=run.model_copy(update={"metrics": [str(metric) for metric in parse(run.metrics)]}),
    )


def check_sections(tree: Mapping[str, Any]) -> None:
    """Refuse unknown sections, and sections that are not made of named settings."""
    for key, value in tree.items():
        if key not in _SECTIONS:
            raise PrismError(f"Unknown setting {key!r}. {nearest(str(key), _SECTIONS)}")
        if value is not None and not isinstance(value, Mapping):
            raise PrismError(f"{key} is {value!r}; expected settings by name, such as {key}: {_EXAMPLES[key]}.")


def section(kind: type[S], settings: Any, where: str) -> S:
    """Check one section; the first fault becomes a sentence with the offending key and value."""
    if settings is not None and not isinstance(settings, Mapping):
        raise PrismError(f"{where} is {settings!r}; expected settings by name.")
    try:
        return kind.model_validate(dict(settings or {}))
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            raise PrismError(f"Unknown setting {where}.{key}. {nearest(key, kind.model_fields)}") from None
        field = str(fault["loc"][0])
        ways = [other for other in error.errors() if other["loc"][0] == field and other["input"] is fault["input"]]
        if len(ways) > 1:  # neither of several types: pydantic tells why for each of them
            key = field
        expected = " or ".join(dict.fromkeys(_expected(way["type"], way["msg"]) for way in ways))
        if fault["type"] == "string_pattern_mismatch":
            expected = str(kind.model_fields[field].description)
        raise PrismError(f"{where}.{key} is {fault['input']!r}; expected {expected}.") from None


def _expected(kind: str, message: str) -> str:
    """What pydantic wanted, in words that go on from "expected"."""
    if kind == "too_short":
        return "at least one entry"
    text = message.removeprefix("Input should be ").replace("a valid integer", "an integer").replace("a valid ", "a ")
    return f"a number {text}" if text.startswith(("greater", "less")) else text


def override(tree: Tree, assignments: Sequence[str]) -> Tree:
    """``section.key=value`` texts laid over a tree; values are YAML."""
    for text in assignments:
        path, equals, value = text.partition("=")
        if not equals:
            raise PrismError(f"--set {text!r} is no assignment; expected section.key=value, such as model.layers=3.")
        tree = assign(tree, path.strip(), parse_yaml(value, f"--set {text}"))
    return tree


def assign(tree: Tree, path: str, value: Any) -> Tree:
    """A tree with the value at ``section.key``; ``clear.rank`` is short for ``plugins.clear.rank``."""
    keys = path.split(".")
    if len(keys) < 2 or not all(keys):
        raise PrismError(f"{path!r} names no setting; expected section.key, such as model.layers.")
    plugins = tree.get("plugins") or {}
    if keys[0] not in _SECTIONS:
        if keys[0] not in plugins and keys[0] in {plugin.name for plugin in PLUGINS}:
            raise PrismError(
                f"{path!r} sets the plug-in {keys[0]!r}, which this run does not use; add --plugin {keys[0]}, "
                f"in Python plugins=['{keys[0]}']."
            )
        if keys[0] not in plugins:
            raise PrismError(f"{path!r}: there is no section {keys[0]!r}. {nearest(keys[0], [*_SECTIONS, *plugins])}")
        keys.insert(0, "plugins")
    out = merge({}, tree)
    branch: Any = out
    for key in keys[:-1]:
        if branch.get(key) is None:
            branch[key] = {}
        branch = branch[key]
        if not isinstance(branch, dict):
            raise PrismError(f"{path!r}: {key} holds {branch!r} and has no settings below it.")
    branch[keys[-1]] = value
    return out


def value_at(tree: Mapping[str, Any], path: str) -> Any:
    """The value at ``section.key`` of a tree of settings, as ``assign`` has it; None if there is none."""
    keys = path.split(".")
    here: Any = tree
    for key in keys if keys[0] in _SECTIONS else ["plugins", *keys]:
        here = here.get(key) if isinstance(here, Mapping) else None
    return here


def merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> Tree:
    """``top`` laid over ``base``, section by section; neither is changed."""
    out: Tree = {key: merge(value, {}) if isinstance(value, Mapping) else value for key, value in base.items()}
    for key, value in top.items():
        below = out.get(key)
        if isinstance(value, Mapping):
            out[key] = merge(below if isinstance(below, Mapping) else {}, value)
        else:
            out[key] = value
    return out


class _Loader(yaml.SafeLoader):
    """YAML as people write it: 1e-3 is a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"),
    list("-+0123456789."),
)


def parse_yaml(text: str, where: str) -> Any:
    """YAML text → plain values; a fault is a sentence with its place."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise PrismError(f"{where} is not valid YAML{place}: {problem}.") from None


def read_yaml(path: Path) -> Tree:
    """The settings of a YAML file."""
    if not path.is_file():
        raise PrismError(f"The configuration {path} does not exist.")
    try:
        tree = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError:
        raise PrismError(f"{path} is not UTF-8 text; expected a YAML file of settings.") from None
    if not isinstance(tree, dict):
        raise PrismError(f"{path} holds {type(tree).__name__}; expected settings such as 'model: {{name: bpr}}'.")
    return tree


def settings_of(tree: Tree) -> Tree:
    """A file's settings, without what it says of the data it is for, of plug-ins not used, and of what was measured."""
    return {key: value for key, value in tree.items() if key not in ("data", "with", "measured")}


def published(model: str, plugins: Sequence[str], dataset: Dataset) -> tuple[str, Tree] | None:
    """The packaged settings of a model or recipe for this data, and their name; None if there are none.

    What a file says ``with`` a plug-in (its settings, and others that suit the pair) counts where that plug-in is used. A
    file names the ``interactions`` that it is for, by fingerprint; one whose settings hang on the features as well names
    the whole content, as ``fingerprint``. One for ``any`` data serves where no other does.
    """
    folder = resources.files("prismrec") / "configs" / model
    if not folder.is_dir():
        return None
    trees = {entry.name: parse_yaml(entry.read_text(encoding="utf-8"), entry.name) for entry in folder.iterdir()}
    for name, tree in sorted(trees.items(), key=lambda found: (found[1]["data"] == "any", found[0])):
        if _is_for(tree["data"], dataset):
            out = settings_of(tree)
            for plugin in plugins:
                out = merge(out, (tree.get("with") or {}).get(plugin, {}))
            return f"{model}/{name}", out
    return None


def _is_for(meant: Any, dataset: Dataset) -> bool:
    if meant == "any":
        return True
    whole = "fingerprint" not in meant or meant["fingerprint"] == dataset.fingerprint
    return bool(whole and meant["interactions"] == dataset.interactions_fingerprint)


def _missing_model() -> str:
    raise PrismError("No model is named. Give --model NAME, or model: {name: NAME} in the configuration.")
