"""The command line: help at once, clear messages, the documented exit codes, stdout for the result alone."""

import json
import subprocess
import sys

import pytest

from advisor.recommendation import Result
from tests import zygote
from tests.advisor.tiny_run import save_tiny, write_rows


@pytest.fixture
def advisor(zygote_path, tmp_path):
    """advisor(ARGUMENT, ...): the command as a process of its own that has ended."""
    folder = tmp_path / "said"
    folder.mkdir()

    def run(*arguments):
        return zygote.run_advisor(zygote_path, [str(each) for each in arguments], folder, {"COLUMNS": "80"})

    return run


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("model"), "llama")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("data") / "sums.jsonl", "causal-lm")


def test_help_loads_nothing_heavy():
    heavy = "{'torch', 'transformers', 'peft', 'datasets', 'sklearn', 'pandas'}"
    code = (
        "import sys\n"
        "from advisor.cli import main\n"
        "try: main(['--help'])\n"
        f"except SystemExit: print('LOADED', sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "LOADED []" in done.stdout
    assert "recommend" in done.stdout


@pytest.mark.parametrize(
    ("model", "name"),
    [("Qwen/Qwen2.5-0.5B", "Qwen2.5-0.5B"), ("m/llama-3.1-8b.Q4_K_M.gguf", "llama-3.1-8b.Q4_K_M"), ("..", "model")],
)
def test_the_folder_of_the_results_has_the_whole_name_of_the_model(model, name):
    from advisor.cli.recommend import _default_folder

    assert str(_default_folder(model)).startswith(f"runs/{name}-2")


@pytest.mark.parametrize(
    "error", ["BadInput('m cannot be loaded')", "ImportError('initialization failed')", "KeyboardInterrupt"]
)
def test_ctrl_c_and_an_error_that_a_library_made_of_it_are_told_as_ctrl_c(error):
    code = (
        "import signal\n"
        "from advisor import api\n"
        "from advisor.cli import main\n"
        "from knowledge.errors import BadInput\n"
        "def run(*_, **__):\n"
        "    try: signal.raise_signal(signal.SIGINT)\n"
        f"    except KeyboardInterrupt: raise {error} from None\n"
        "api.run = run\n"
        "main(['recommend', '--model', 'm', '--data', 'd', '--out', 'unused'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "advisor: interrupted\n")


def test_json_alone_is_on_stdout_and_fits_the_schema(advisor, model, data, tmp_path):
    done = advisor(
        *("recommend", "--model", model, "--data", data, "--budget", 1, "--max-steps", 20, "--json"),
        *("--methods", "lora", "--methods", "ia3", "--out", tmp_path / "out"),
    )
    assert done.returncode == 0, done.stderr
    result = Result.model_validate_json(done.stdout)
    assert result.recommendation is not None
    assert json.loads(done.stdout) == json.loads((tmp_path / "out" / "recommendation.json").read_text())
    assert "rung" in done.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty"),
        ("not json\n" * 30, "line 1"),
        ('{"question": "a", "reply": "b"}\n' * 30, "question"),
    ],
)
def test_data_that_cannot_be_used_is_explained_before_the_model_loads(advisor, model, tmp_path, content, message):
    path = tmp_path / "bad.jsonl"
    path.write_text(content)
    done = advisor("recommend", "--model", model, "--data", path, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert message in done.stderr.lower()
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "out" / "recommendation.json").exists()


def test_a_missing_file_and_all_bad_options_are_named(advisor, model, tmp_path):
    done = advisor("recommend", "--model", model, "--data", tmp_path / "no.jsonl")
    assert done.returncode == 2
    assert "no.jsonl" in done.stderr
    done = advisor("recommend", "--model", model, "--data", "x", "--epochs", 1, "--max-steps", 5, "--vram", "big")
    assert done.returncode == 2
    assert "max_steps" in done.stderr
    done = advisor("recommend", "--model", model, "--data", "x", "--methods", "lorra")
    assert done.returncode == 2


def test_a_model_out_of_reach_has_its_own_exit_code_and_a_next_step(advisor, data):
    done = advisor("recommend", "--model", "llama", "--data", data)
    assert done.returncode == 4
    assert "--no-probe" in done.stderr
    assert "Llama-3.2-3B" in done.stderr


def test_nothing_fits_has_its_own_exit_code(advisor, model, data, tmp_path):
    done = advisor(
        *("recommend", "--model", model, "--data", data, "--vram", "1MB", "--methods", "lora", "--budget", 1),
        *("--out", tmp_path / "out"),
    )
    assert done.returncode == 3
    assert "Nothing fits" in done.stderr


def test_where_requirements_leave_nothing_the_exit_code_tells_and_the_measurements_are_kept(
    advisor, model, data, tmp_path
):
    done = advisor(
        *("recommend", "--model", model, "--data", data, "--budget", 1, "--max-steps", 10, "--methods", "lora"),
        *("--require", "max-forgetting=1e-9", "--require", "mergeable", "--out", tmp_path / "out"),
    )
    assert done.returncode == 3, done.stderr
    words = " ".join(done.stdout.split())
    assert "No recommendation" in words
    assert "Without --require max-forgetting=1e-9 1 method comes back: LoRA. Or loosen its limit." in words
    assert "max-forgetting=1e-9: 1 method removed (LoRA)" in words
    assert "mergeable: 0 methods removed" in words
    stored = Result.model_validate_json((tmp_path / "out" / "recommendation.json").read_text())
    assert [effect.methods for effect in stored.requirements] == [("LoRA",), ()]
