"""Nothing that is read can run: no pickle, no `torch.load`, no `eval`, no shell, in no module of the packages.

What this cannot hold back is told in the README: a model's own code where the user asks for it, and the hub.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(path for package in ("advisor", "probes", "knowledge") for path in (ROOT / package).rglob("*.py"))

FORBIDDEN_IMPORTS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
# Names of functions, with the module where that matters; "" stands for a call without one.
FORBIDDEN_CALLS = {
    ("", "eval"), ("", "exec"), ("", "compile"), ("", "__import__"), ("torch", "load"), ("os", "system"),
    ("os", "popen"), ("subprocess", "getoutput"), ("yaml", "load"), ("yaml", "unsafe_load"), ("yaml", "full_load"),
}  # fmt: skip


def faults(source: str) -> list[str]:
    """What a module does that could run what it reads, as `line: words`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"{node.lineno}: imports {m}" for m in modules if m.partition(".")[0] in FORBIDDEN_IMPORTS]
        if isinstance(node, ast.Call):
            if _called(node.func) in FORBIDDEN_CALLS:
                found.append(f"{node.lineno}: calls {ast.unparse(node.func)}")
            for option in node.keywords:
                value = getattr(option.value, "value", None)
                if (option.arg, value) in {("shell", True), ("allow_pickle", True), ("weights_only", False)}:
                    found.append(f"{node.lineno}: {option.arg}={value}")
                if option.arg == "trust_remote_code" and value is True:
                    found.append(f"{node.lineno}: trusts remote code without being asked")
                if option.arg in ("use_safetensors", "safe_serialization") and value is not True:
                    found.append(f"{node.lineno}: reads or writes weights other than safetensors")
    return found


def _called(function: ast.expr) -> tuple[str, str]:
    if isinstance(function, ast.Name):
        return "", function.id
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        return function.value.id, function.attr
    return "?", ""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_runs_nothing_that_it_reads(path):
    assert faults(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from pickle import loads", "import torch\ntorch.load(path)", "eval(text)", "exec(text)",
        "numpy.load(path, allow_pickle=True)", "subprocess.run(line, shell=True)", "yaml.load(text)",
        "torch.load(path, weights_only=False)", "from_pretrained(x, trust_remote_code=True)",
        "from_pretrained(x, use_safetensors=False)",
    ],
)  # fmt: skip
def test_each_way_is_seen(source):
    assert faults(source)


def test_weights_are_read_from_safetensors_alone():
    """`from_pretrained` of a model must say so, for transformers would fall back to pickled weights."""
    loads = [
        node
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "from_pretrained"
        and "_auto_class" in ast.unparse(node.func)
    ]
    assert loads and all(any(option.arg == "use_safetensors" for option in node.keywords) for node in loads)
