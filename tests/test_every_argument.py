"""Every argument of every tool with wrong values: one line that names it, exit code 2, nothing written."""

from __future__ import annotations

import argparse
import json
import logging
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.runs import write_run
from tests.scripts import script

REPO = Path(__file__).resolve().parents[1]
DEMO = str(REPO / "projects/MGOT/configs/demo.yml")
GRID = str(REPO / "projects/MGOT/ablations/demo.yml")

# What each tool takes beside the argument in question, right in itself; {} is the folder that the fixture fills.
COMMANDS: dict[str, list[str]] = {
    "ablate": ["--config-file", DEMO, "--grid", GRID, "--output", "{}/out"],
    "benchmark loader": [],
    "benchmark pseudo-labels": [],
    "benchmark scoring": [],
    "benchmark step": [],
    "check_dataset": ["SYSUMM01", "--root", "{}/empty"],
    "compare": ["{}/run", "--output", "{}/out"],
    "export_onnx": ["--config-file", DEMO, "--weights", "{}/weights.pth", "--output", "{}/out.onnx"],
    "make_demo_data": ["--root", "{}/out"],
    "pretrain_demo": ["--output", "{}/out.pth"],
    "rehearse": ["--config-file", DEMO, "OUTPUT_DIR", "{}/out"],
    "report": ["{}/run", "--output", "{}/out.html"],
    "search": ["--weights", "{}/weights.pth", "--gallery", "{}/gallery", "--query", "{}/gallery/1.png",
               "--output", "{}/out.jpg", "--index", "{}/out.npz"],
    "train_net": ["--config-file", DEMO, "OUTPUT_DIR", "{}/out"],
    "train_regdb": ["--output", "{}/out"],
    "visualize": ["{}/run", "--output", "{}/out"],
}  # fmt: skip
HUGE = "99999999999999999999"
WRONG_NUMBERS = ("x", "", "1.5x", "-1", "nan", "1e999", HUGE)
TAKE_HUGE = ("search", "train_net")  # more images than there are; more machines than can be waited for

# Arguments that are text: wrong values in the place of the command's own, and what the last line must say.
MISSING, FILE, FOLDER = "{}/missing", "{}/file", "{}/empty"
PLACES: list[tuple[str, str, str, str]] = [
    *(("ablate", "--config-file", wrong, "--config-file") for wrong in (MISSING, FOLDER)),
    ("ablate", "--config-file", "", "MODEL.META_ARCHITECTURE must be DEN"),  # nothing but fast-reid's defaults
    ("ablate", "--row", "Nobody", "--row"),
    ("ablate", "--config-file", FILE, "not a safe YAML mapping"),
    *(("ablate", "--grid", wrong, "--grid") for wrong in (MISSING, FOLDER, FILE, "")),
    *(("ablate", "--output", wrong, "--output") for wrong in (FILE, f"{FILE}/deep")),
    *(("ablate", "--seeds", wrong, "--seeds takes numbers") for wrong in ("x", "-1", "²", "99999999999")),
    *(("ablate", "--roots", wrong, "--roots") for wrong in (MISSING, FILE)),
    *(("benchmark step", "--config-file", wrong, "--config-file") for wrong in (MISSING, FOLDER)),
    *(("check_dataset", "name", wrong, "there is no data set") for wrong in ("Nobody", "")),
    *(("check_dataset", "--folder", wrong, "--folder") for wrong in (MISSING, "../out", "")),
    *(("check_dataset", "--root", wrong, "SYSU-MM01") for wrong in (MISSING, FILE, FOLDER)),
    *(("compare", "run", wrong, "OUTPUT_DIR of a run") for wrong in (MISSING, FILE, FOLDER)),
    *(("compare", "--output", wrong, "--output") for wrong in (FILE, f"{FILE}/deep")),
    *(("export_onnx", "--config-file", wrong, "--config-file") for wrong in (MISSING, FOLDER, "")),
    *(("export_onnx", "--weights", wrong, "--weights") for wrong in (MISSING, FOLDER, "")),
    ("export_onnx", "--weights", FILE, "not a readable checkpoint"),
    *(("export_onnx", "--output", wrong, "--output") for wrong in (FOLDER, f"{FILE}/deep.onnx", "")),
    *(("make_demo_data", "--root", wrong, "--root") for wrong in (FILE, f"{FILE}/deep")),
    *(("make_demo_data", "--figure", wrong, "figure") for wrong in (FOLDER, f"{FILE}/deep.jpg", "", "{}/no.suffix")),
    *(("pretrain_demo", "--output", wrong, "--output") for wrong in (FOLDER, f"{FILE}/deep.pth", "")),
    *(("rehearse", "--config-file", wrong, "--config-file") for wrong in (MISSING, FOLDER)),
    ("rehearse", "--config-file", FILE, "not a safe YAML mapping"),
    *(("report", "run", wrong, "OUTPUT_DIR of a run") for wrong in (MISSING, FILE, FOLDER)),
    *(("report", "--output", wrong, "--output") for wrong in (FOLDER, f"{FILE}/deep.html", "")),
    *(("report", "--root", wrong, "--root") for wrong in (MISSING, FILE)),
    *(("search", "--weights", wrong, "--weights") for wrong in (MISSING, FOLDER, "")),
    ("search", "--weights", FILE, "config.yaml"),
    *(("search", "--gallery", wrong, "--gallery") for wrong in (MISSING, FILE)),
    *(("search", "--query", wrong, "--query") for wrong in (MISSING, FOLDER, "")),
    *(("search", "--config-file", wrong, "--config-file") for wrong in (MISSING, FOLDER)),
    *(("search", "--index", wrong, "--index") for wrong in (FOLDER, f"{FILE}/deep.npz")),
    *(("search", "--output", wrong, "--output") for wrong in (FOLDER, "", "{}/no.suffix")),
    *(("train_net", "--config-file", wrong, "--config-file") for wrong in (MISSING, FOLDER)),
    ("train_net", "--config-file", FILE, "not a safe YAML mapping"),
    *(("train_net", "--num-machines", wrong, "--num-machines") for wrong in ("0", "-3")),
    *(("train_net", "--num-gpus", wrong, "--num-gpus") for wrong in ("0", "-3", "99")),
    *(("train_net", "--machine-rank", wrong, "--machine-rank") for wrong in ("1", "-3")),
    ("train_net", "--dist-url", "nowhere", "--dist-url"),
    *(("train_regdb", "--config-file", wrong, "--config-file") for wrong in (MISSING, FOLDER)),
    ("train_regdb", "--config-file", FILE, "not a safe YAML mapping"),
    *(("train_regdb", "--output", wrong, "--output") for wrong in (FILE, f"{FILE}/deep")),
    *(("train_regdb", "--trials", wrong, "--trials") for wrong in ("0", "11")),
    *(("visualize", "run", wrong, "OUTPUT_DIR of a run") for wrong in (MISSING, FILE, FOLDER)),
    *(("visualize", "--output", wrong, "--output") for wrong in (FILE, f"{FILE}/deep")),
]
PAIRS = ("ablate", "benchmark step", "export_onnx", "rehearse", "train_net", "train_regdb")  # end in KEY VALUE pairs


def load(tool: str) -> ModuleType:
    return script(f"tools/{tool}.py")


class Parsed(Exception):
    """Carries the parser of a tool out of it."""


def parser_of(command: str, monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    """The parser that a command, tool and perhaps subcommand, reads its arguments by."""
    tool, _, sub = command.partition(" ")
    if tool == "train_net":
        load(tool)  # which readies fast-reid
        from fastreid.engine import default_argument_parser

        return default_argument_parser()

    def carry(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        raise Parsed(parser)

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", carry)
        with pytest.raises(Parsed) as caught:
            load(tool).parse([])
    parser: argparse.ArgumentParser = caught.value.args[0]
    if not sub:
        return parser
    (choice,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return choice.choices[sub]


def actions_of(command: str, monkeypatch: pytest.MonkeyPatch) -> list[argparse.Action]:
    """The arguments that take a value."""
    return [each for each in parser_of(command, monkeypatch)._actions if each.nargs != 0 and each.dest != "opts"]


def is_number(action: argparse.Action) -> bool:
    return action.type not in (None, str, Path)


@pytest.fixture(autouse=True)
def fixture_process() -> Iterator[None]:
    """Tools set up logging, signals and threads for their process; other tests get theirs back."""
    loggers = [logging.getLogger(name) for name in ("mgot", "fastreid")]
    before = [(each, each.propagate, each.level, list(each.handlers)) for each in loggers]
    handler, threads = signal.getsignal(signal.SIGTERM), torch.get_num_threads()
    yield
    signal.signal(signal.SIGTERM, handler)
    torch.set_num_threads(threads)
    for each, propagate, level, handlers in before:
        each.propagate, each.handlers = propagate, handlers
        each.setLevel(level)


@pytest.fixture(name="folder")
def fixture_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run, a gallery of one image that is none, a file that is no YAML, an empty folder, and weights of nothing."""
    for name in ("empty", "gallery"):
        (tmp_path / name).mkdir()
    (tmp_path / "gallery/1.png").write_text("no image")
    (tmp_path / "file").write_text("- no mapping\n")
    torch.save({"model": {}}, tmp_path / "weights.pth")
    write_run(tmp_path / "run")
    monkeypatch.chdir(REPO)
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "empty"))
    return tmp_path


Refused = Callable[..., None]


@pytest.fixture(name="refused")
def fixture_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs a command with an argument changed; sees one last line, exit code 2, and a folder as it was."""

    def check(command: str, option: str, value: str, *told: str) -> None:
        tool, _, sub = command.partition(" ")
        argv = [word.format(folder) for word in with_value(COMMANDS[command], option, value)]
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
        module = load(tool)
        main = module.launch if tool == "train_net" else module.main
        try:
            status = main([sub, *argv] if sub else argv)
        except SystemExit as end:
            status = end.code
        captured = capsys.readouterr()
        assert status == 2, captured.err
        assert "Traceback" not in captured.err + captured.out
        last = captured.err.strip().splitlines()[-1]
        assert all(word in last for word in told), last
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before

    return check


def with_value(argv: list[str], option: str, value: str) -> list[str]:
    """The command with an option's value changed, added before the KEY VALUE pairs, or its positional replaced."""
    if option in argv:
        at = argv.index(option) + 1
        return [*argv[:at], value, *argv[at + 1 :]]
    return [option, value, *argv] if option.startswith("-") else [value, *argv[1:]]


def test_every_tool_is_walked() -> None:
    tools = {path.stem for path in (REPO / "tools").glob("*.py")}
    assert {command.split()[0] for command in COMMANDS} == tools
    benchmarks = load("benchmark").commands()
    assert [command.split()[1] for command in COMMANDS if command.startswith("benchmark ")] == benchmarks


@pytest.mark.parametrize("command", COMMANDS)
def test_numbers_that_are_none_or_out_of_range(command: str, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    for action in actions_of(command, monkeypatch):
        for value in WRONG_NUMBERS if is_number(action) else ():
            if value == HUGE and command in TAKE_HUGE:
                continue
            refused(command, action.option_strings[0], value, action.option_strings[0])


@pytest.mark.parametrize("command", COMMANDS)
def test_choices_that_are_not_offered(command: str, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    for action in actions_of(command, monkeypatch):
        if action.choices is not None:
            option = (*action.option_strings, action.dest)[0]
            refused(command, option, "nonsense", option, "invalid choice: 'nonsense'")


@pytest.mark.parametrize(("command", "option", "value", "told"), PLACES)
def test_places_that_are_not_there_or_of_the_wrong_kind(
    command: str, option: str, value: str, told: str, refused: Refused
) -> None:
    refused(command, option, value, told)


@pytest.mark.parametrize("command", PAIRS)
@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        (["SEED"], "'SEED' has no value"),
        (["SEEED", "1"], "did you mean 'SEED'"),
        (["MGOT.CLUSTER.EPS", "7"], "MGOT.CLUSTER.EPS must be between 0 and 1, not 7.0"),
    ],
)
def test_key_value_pairs(command: str, pairs: list[str], told: str, refused: Refused, monkeypatch: Any) -> None:
    monkeypatch.setitem(COMMANDS, command, [*COMMANDS[command], *pairs])
    refused(command, "--config-file", DEMO, told)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_argument_is_left_out(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    walked = {option.lstrip("-").replace("-", "_") for name, option, *_ in PLACES if name == command}
    walked |= {"runs", "run"} if "run" in walked else set()
    left = [
        action.dest
        for action in actions_of(command, monkeypatch)
        if not is_number(action) and action.choices is None and action.dest not in walked
    ]
    assert left == []


def test_a_damaged_table_of_an_ablation(folder: Path, refused: Refused) -> None:
    (folder / "out").mkdir()
    (folder / "out/table.json").write_text("{")
    refused("ablate", "--seeds", "0", "table.json is damaged")


def test_a_damaged_result_of_a_trial(folder: Path, refused: Refused) -> None:
    (folder / "out/trial_1").mkdir(parents=True)
    (folder / "out/trial_1/results.json").write_text(json.dumps([]))
    refused("train_regdb", "--trials", "1", "results.json is damaged")
