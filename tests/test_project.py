"""The promises around the code: how it installs, how it looks, what it names."""

import ast
import json
import os
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import llmpipe

ROOT = Path(__file__).parents[1]
if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def required():
    """Every direct dependency, extras included, as {name: specifier}."""
    lines = [*project()["dependencies"], *chain(*project()["optional-dependencies"].values())]
    return {canonicalize_name(r.name): str(r.specifier) for r in map(Requirement, lines)}


def constrained():
    """{name: [Requirement, ...]}: a package can have a line for each range of Python versions."""
    pins = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            pin = Requirement(line)
            pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    return pins


def test_constraints_pin_every_version_and_satisfy_the_project():
    pins = constrained()
    for name, lines in pins.items():
        for pin in lines:
            assert [s.operator for s in pin.specifier] == ["=="], f"{name} is not pinned: {pin}"
    for name, specifier in required().items():
        for pin in pins[name]:
            version = next(iter(pin.specifier)).version
            assert Requirement(f"x{specifier}").specifier.contains(version), f"{name} {version}"


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13", "3.14"])
@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_every_dependency_has_one_version_for_each_python_and_platform(python, platform):
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "sys_platform": platform,
        "platform_machine": {"linux": "x86_64", "darwin": "arm64", "win32": "AMD64"}[platform],
        "implementation_name": "cpython",
        "os_name": "nt" if platform == "win32" else "posix",
    }
    pins = constrained()
    for name in required():
        chosen = [p for p in pins[name] if p.marker is None or p.marker.evaluate(environment)]
        assert len(chosen) == 1, f"{name} on {python} {platform}: {chosen}"


def test_conda_gets_the_same_contents():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(item["pip"] for item in conda if isinstance(item, dict))
    named = [Requirement(item) for item in conda if isinstance(item, str)]
    named += [Requirement(item) for item in pip if not item.startswith("-e")]
    theirs = {canonicalize_name(r.name): str(r.specifier) for r in named}
    theirs["torch"] = theirs.pop("pytorch")
    assert theirs.pop("python") == project()["requires-python"]
    assert theirs.pop("pip") == ""
    assert theirs == required()
    assert "-e ." in pip


def test_torch_is_a_range_and_its_pin_a_constraint():
    assert required()["torch"].startswith(">=")
    assert [str(pin.specifier) for pin in constrained()["torch"]] == ["==2.13.0"]


@pytest.mark.parametrize(
    ("platform", "machine", "absent"),
    [
        ("linux", "x86_64", set()),
        ("linux", "aarch64", set()),
        ("darwin", "arm64", set()),
        ("win32", "AMD64", set()),
        ("win32", "ARM64", {"nanotoken"}),
        ("linux", "riscv64", {"gigatoken", "nanotoken"}),
    ],
)
def test_a_fast_tokenizer_is_asked_for_where_it_has_a_wheel(platform, machine, absent):
    environment = {"sys_platform": platform, "platform_machine": machine}
    lines = map(Requirement, project()["dependencies"])
    skipped = {r.name for r in lines if r.marker and not r.marker.evaluate(environment)}
    assert skipped == absent


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_ruff_is_content(command):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, str(ROOT)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def tracked_files():
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / line for line in listing.stdout.splitlines() if (ROOT / line).exists()]


def test_the_top_level_holds_what_the_plan_says():
    allowed = {"labs", "llmpipe", "tests", "environment.yml", "pyproject.toml", "README.md"}
    allowed |= {"LICENSE", "constraints.txt", ".gitignore", ".ci"}
    top = {path.relative_to(ROOT).parts[0] for path in tracked_files()}
    assert top <= allowed
    assert {"labs", "llmpipe", "tests", "README.md", "environment.yml"} <= top


def test_no_file_holds_a_secret_or_a_path_of_somebodys_machine():
    secret = re.compile(
        rb"hf_[A-Za-z0-9]{30,}|/home/\w+/|/Users/\w+/|--allow-root|allow_root\s*=\s*True|token=''"
    )
    checked = 0
    for path in tracked_files():
        if path != Path(__file__):
            found = secret.search(path.read_bytes())
            assert not found, f"{path}: {found}"
            checked += 1
    assert checked > 20


def test_readme_has_one_line_to_run_and_one_to_test():
    lines = (ROOT / "README.md").read_text().splitlines()
    run = [line for line in lines if line.endswith("bin/python labs/streaming_shard_gpt2.py")]
    tests = [line for line in lines if line.endswith("bin/pytest")]
    assert len(run) == len(tests) == 1
    for line in run + tests:
        assert "-c constraints.txt" in line
        assert line.startswith("python3 -m venv")


def test_the_example_of_the_readme_prints_what_it_says(mirror):
    text = (ROOT / "README.md").read_text()
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    printed = re.search(r"```text\n(.*?)```", text, re.DOTALL)[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == printed, done.stderr


IMPORTS = """
import sys, llmpipe
streams = {"BlockStream", "ClassificationStream"}
for name in set(llmpipe.__all__) - streams:
    getattr(llmpipe, name)
heavy = {"torch", "transformers", "matplotlib", "ray", "datasets", "pandas"} & set(sys.modules)
sys.exit(f"imported too early: {heavy}" if heavy else 0)
"""


def test_importing_the_names_imports_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_logging_is_quiet_by_default():
    code = "import logging, llmpipe; logging.getLogger('llmpipe.x').warning('heard')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == ""
    with_root = code.replace("llmpipe;", "llmpipe; logging.basicConfig();")
    done = subprocess.run([sys.executable, "-c", with_root], capture_output=True, text=True)
    assert "heard" in done.stderr


# The house


def places():
    """What stands in the package, in the order of the README's tree: a place a line."""
    tree = re.search(r"^llmpipe/\n((?:  .*\n)+)", (ROOT / "README.md").read_text(), re.MULTILINE)[1]
    return [line.split()[0].rstrip("/").removesuffix(".py") for line in tree.splitlines()]


def file_of(module):
    """The file of `llmpipe.x.y`, None where that is a name inside a module."""
    path = ROOT.joinpath(*module.split("."))
    found = [path.with_suffix(".py"), path / "__init__.py"]
    return next((file for file in found if file.exists()), None)


def imported_by(file):
    """Our modules that a file imports, inside its functions too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "llmpipe":
            for name in (alias.name for alias in node.names):
                home = llmpipe._HOMES.get(name) if node.module == "llmpipe" else None
                inner = f"llmpipe.{home}" if home else f"{node.module}.{name}"
                found.add(inner if file_of(inner) else node.module)
    return found


def opened_by_a_reader_of(*modules):
    """All modules with code that these lead to, themselves among them; the sample left out."""
    seen, left = set(), [f"llmpipe.{module}" for module in modules]
    while left:
        module = left.pop()
        if module not in seen:
            seen.add(module)
            left += imported_by(file_of(module))
    files = {module: file_of(module).name for module in seen}
    return [m for m, name in files.items() if name != "__init__.py" and ".sample" not in m]


def test_the_readme_draws_what_is_there():
    package = ROOT / "llmpipe"
    there = {path.stem for path in package.glob("*.py")} - {"__init__"}
    there |= {path.parent.name for path in package.glob("*/__init__.py")}
    assert sorted(places()) == sorted(there)


def test_a_lower_place_never_imports_a_higher_one():
    """Data flows one way, in the order of the README's tree; the first four are one ground."""
    order, ground, checked = places(), set(places()[:4]), 0
    for position, place in enumerate(order):
        allowed = {*order[: position + 1], *(ground if place in ground else ())}
        files = [*(ROOT / "llmpipe").glob(f"{place}.py"), *(ROOT / "llmpipe" / place).rglob("*.py")]
        for file in files:
            for module in imported_by(file) - {"llmpipe"}:
                assert module.split(".")[1] in allowed, f"{file} imports {module}"
                checked += 1
    assert checked > 100


def test_imports_make_no_circle():
    files = [file for file in (ROOT / "llmpipe").rglob("*.py") if file.name != "__init__.py"]
    modules = {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in files}
    graph = {name: imported_by(file) & set(modules) for name, file in modules.items()}
    list(TopologicalSorter(graph).static_order())  # raises CycleError


def test_a_reader_opens_few_files_to_understand_one_thing():
    assert len(opened_by_a_reader_of("streaming.block_stream")) <= 17
    assert len(opened_by_a_reader_of("launching.launch")) <= 6
    pipeline = ("filtering", "tokenization.tokenizer", "chunking.blocks")
    assert len(opened_by_a_reader_of(*pipeline)) <= 9
    of_sources = [m for m in opened_by_a_reader_of("sharding.share") if ".sources" in m]
    assert sorted(of_sources) == ["llmpipe.sources.guards", "llmpipe.sources.parts"]


LOADED = """
import sys
from importlib import import_module
for name in sys.argv[1:]:
    import_module(f"llmpipe.{name}")
ours = [m for m in sys.modules.values() if m.__name__.startswith("llmpipe.")]
print(*(m.__name__ for m in ours if not m.__file__.endswith("__init__.py")))
"""


def test_a_process_loads_no_more_than_a_reader_opens():
    for module in ("streaming.block_stream", "launching.launch", "classification.stream"):
        command = [sys.executable, "-c", LOADED, module]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        loaded = set(done.stdout.split())
        assert f"llmpipe.{module}" in loaded
        assert loaded <= set(opened_by_a_reader_of(module))


# What the field has a word for is called by that: virtual shard, span, section, interleave,
# fingerprint, processor, worker state, ledger, batches, iterator, redistribute, special tokens.
OLD_WORDS = re.compile(
    r"\b(lanes?|pieces?|piles?|num_piles|mix|handover|recipes?|made_with|accounts?|given_out|"
    r"part_reading|dealt|deals?|evened|lasting|long_turns|doubled|control[ _](ids?|tokens?))\b|"
    r"\bllmpipe[./]kit\b|\bids/s\b|[\"']go on[\"']",
    re.IGNORECASE,
)


def test_our_own_words_are_gone():
    checked = 0
    for path in tracked_files():
        if path.suffix not in (".py", ".md", ".toml", ".ipynb") or path == Path(__file__):
            continue
        text = path.read_text(encoding="utf-8").replace("word pieces", "")
        if path.suffix == ".ipynb":
            cells = json.loads(text)["cells"]
            text = "\n".join("".join(cell["source"]) for cell in cells)
        found = sorted({match[0] for match in OLD_WORDS.finditer(text)})
        assert not found, f"{path.relative_to(ROOT)}: {found}"
        checked += 1
    assert checked > 80


def test_environment_of_ci_is_known():
    """CI must not skip the tests on real data without being seen to."""
    if os.environ.get("CI") and (ROOT.parent / "shared" / "mirror").exists():
        assert os.environ.get("LLMPIPE_MIRROR")
