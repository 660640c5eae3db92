"""The promises around the code: how it installs, how it looks, what it names."""

import os
import re
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
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


def test_torch_is_pinned_where_it_is_asked_for():
    assert required()["torch"] == "==2.13.0"


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
import sys
from llmpipe import open_source, load_tokenizer, QualityFilter, chunk, RollingBuffer, BlockDataset
from llmpipe import Ledger, World, run_ranks, ClassificationDataset, BucketBatchSampler
heavy = {"torch", "transformers", "matplotlib", "ray", "datasets"} & set(sys.modules)
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


def test_a_lower_module_never_imports_a_higher_one():
    """Data flows one way; the order is the one of the README's table of modules."""
    order = re.findall(r"^\| `(\w+)(?:\.py|/)` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    package = ROOT / "llmpipe"
    modules = {path.stem for path in package.glob("*.py")} - {"__init__"}
    modules |= {path.parent.name for path in package.glob("*/__init__.py")} - {"kit"}
    assert set(order) == modules
    checked = 0
    for position, name in enumerate(order):
        for path in [*package.glob(f"{name}.py"), *package.glob(f"{name}/*.py")]:
            text = path.read_text()
            imported = re.findall(r"from llmpipe\.(\w+)[.\w]* import", text)
            imported += re.findall(r"from llmpipe import (\w+)", text)
            assert set(imported) <= {name, *order[:position]}, f"{path} imports {imported}"
            checked += len(imported)
    assert checked > 10


def test_environment_of_ci_is_known():
    """CI must not skip the tests on real data without being seen to."""
    if os.environ.get("CI") and (ROOT.parent / "shared" / "mirror").exists():
        assert os.environ.get("LLMPIPE_MIRROR")
