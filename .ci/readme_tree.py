"""Writes the tree of the README: every module with the first sentence of its docstring.

python .ci/readme_tree.py          # rewrites README.md
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("knowledge", "probes", "advisor")
WIDTH = 34


def tree() -> str:
    """One line per file, folders first named by themselves."""
    lines = []
    for package in PACKAGES:
        lines.append(f"{package + '/':<{WIDTH}}{_phrase(ROOT / package / '__init__.py')}".rstrip())
        lines += _folder(ROOT / package, 1)
    return "\n".join(lines)


def _folder(folder: Path, depth: int) -> list[str]:
    indent, lines = "  " * depth, []
    for path in sorted(folder.iterdir(), key=lambda p: (p.is_dir(), p.name)):
        if path.is_dir() and (path / "__init__.py").exists():
            lines.append(f"{indent + path.name + '/':<{WIDTH}}{_phrase(path / '__init__.py')}".rstrip())
            lines += _folder(path, depth + 1)
        elif path.suffix == ".py" and path.name != "__init__.py":
            lines.append(f"{indent + path.name:<{WIDTH}}{_phrase(path)}".rstrip())
    return lines


def _phrase(path: Path) -> str:
    """The first sentence of a module's docstring, without its full stop."""
    text = " ".join((ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0].split())
    return re.split(r"(?<=\.)\s", text)[0].rstrip(".:")


def with_tree(readme: str) -> str:
    """The README with its tree renewed."""
    return re.sub(r"(checked for drift[^\n]*\n```\n).*?(```)", lambda m: f"{m[1]}{tree()}\n{m[2]}", readme, flags=re.S)


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(with_tree(path.read_text(encoding="utf-8")), encoding="utf-8")
