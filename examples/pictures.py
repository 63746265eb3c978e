"""Makes the README's pictures from a recommendation: the summary in the terminal, and the report in a browser.

python -m examples.pictures demo-out [--browser chromium]
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from advisor.report.terminal import print_summary
from advisor.save import HTML_FILE, load

PICTURES = Path(__file__).parent / "pictures"
COLUMNS = 100
REPORT_SIZE = (1100, 1260)


def terminal(folder: Path, command: str) -> Path:
    """The summary as an SVG."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    print_summary(load(folder), console, Path("demo-out"))
    # Rich's template fetches a font from the network; a picture in a README must not.
    template = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.S)
    path = PICTURES / "terminal.svg"
    path.write_text(console.export_svg(title=command, code_format=template, unique_id="summary"), encoding="utf-8")
    return path


def report(folder: Path, browser: str) -> Path:
    """The top of the report as a PNG, drawn by a headless browser."""
    path, (width, height) = PICTURES / "report.png", REPORT_SIZE
    with tempfile.TemporaryDirectory() as profile:
        options = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--user-data-dir={profile}"]
        page = (folder / HTML_FILE).resolve().as_uri()
        picture = [f"--screenshot={path}", f"--window-size={width},{height}"]
        subprocess.run([browser, *options, *picture, page], check=True, capture_output=True)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the --out folder of a recommendation")
    parser.add_argument("--browser", default="chromium", help="a Chromium or Chrome")
    arguments = parser.parse_args()
    if shutil.which(arguments.browser) is None:
        parser.error(f"no browser {arguments.browser!r} on the path: name one with --browser")
    PICTURES.mkdir(exist_ok=True)
    command = "advisor recommend --model SmolLM2-135M-Instruct --data examples/data/demo.jsonl"
    for path in (terminal(arguments.folder, command), report(arguments.folder, arguments.browser)):
        print(path)


if __name__ == "__main__":
    main()
