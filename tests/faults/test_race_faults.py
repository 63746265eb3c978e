"""What befalls a race as a whole: Ctrl-C, a killed parent, a full disk, another race in its folder."""

import random
import shutil
import signal
import time

import pytest

from tests.faults.conftest import found

MOMENTS, KILLS = 10, 4


@pytest.fixture(scope="module")
def undisturbed(zygote_path, model, data, tmp_path_factory):
    """A race that nothing happened to, and how long it took."""
    from tests.faults.conftest import Bench

    bench = Bench(zygote_path, model, data, tmp_path_factory.mktemp("undisturbed"))
    bench.run(worker=bench.stub(0.2))  # the next one finds the dry runs of memory done, like those that are disturbed
    shutil.rmtree(bench.out)
    started = time.monotonic()
    assert bench.run(worker=bench.stub(0.2)).code == 0
    bench.duration_s = time.monotonic() - started
    return bench


def begun_like(undisturbed, bench):
    """A folder in which a race was killed after it had planned as the undisturbed one did."""
    bench.out.mkdir()
    records = (undisturbed.out / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (bench.out / "journal.jsonl").write_bytes(b"".join(records[:2]))


@pytest.mark.fault("Ctrl-C at a random moment")
def test_ctrl_c_leaves_nothing_running_and_an_answer_from_what_was_measured(undisturbed, bench, record_property):
    record_property("injected", MOMENTS)
    random_share = random.Random(3)
    for _ in range(MOMENTS):
        shutil.rmtree(bench.out, ignore_errors=True)
        advisor = bench.start(worker=bench.stub(0.2))
        time.sleep(random_share.random() * undisturbed.duration_s)
        advisor.kill(signal.SIGINT)
        code = advisor.wait()
        assert "Traceback" not in advisor.said
        assert bench.workers_running() == []
        if any("outcome" in record for record in bench.journal()):
            result = bench.result()
            # Ctrl-C in the second in which the answer is written down finds everything done.
            assert (code, result["race"]["interrupted"]) in ((130, True), (0, False))
            assert result["recommendation"]["name"]
            assert (bench.out / "report.html").exists()
        else:
            assert code == 130


@pytest.mark.fault("SIGTERM, as when a machine is taken back")
def test_sigterm_counts_as_ctrl_c(undisturbed, bench):
    advisor = bench.start(worker=bench.stub(0.5))
    advisor.wait_until(lambda: any("outcome" in record for record in bench.journal()))
    advisor.kill(signal.SIGTERM)
    assert advisor.wait() == 130
    result = bench.result()
    assert result["race"]["interrupted"]
    assert all(c["reason"] for c in result["candidates"] if c["status"] == "not tried")
    assert bench.workers_running() == []


@pytest.mark.fault("parent killed (SIGKILL), then resumed")
def test_killed_and_resumed_again_and_again_it_ends_as_if_undisturbed(undisturbed, bench, record_property):
    begun_like(undisturbed, bench)
    record_property("injected", KILLS)
    share = len(undisturbed.journal()) // (KILLS + 1)
    for _ in range(KILLS):
        wanted = len(bench.journal()) + share
        advisor = bench.start("--resume", worker=bench.stub(0.2))
        advisor.wait_until(lambda wanted=wanted: len(bench.journal()) >= wanted)
        advisor.kill()
        assert advisor.wait() == -signal.SIGKILL
        assert bench.workers_running() == []
    assert bench.run("--resume", worker=bench.stub()).code == 0
    assert found(bench.result()) == found(undisturbed.result())
    finished = [(r["outcome"]["id"], r["outcome"]["last_step"]) for r in bench.journal() if "outcome" in r]
    assert len(finished) == len(set(finished))  # nothing was trained twice


@pytest.mark.fault("disk full")
def test_a_full_disk_ends_the_race_with_what_is_known_and_room_lets_it_go_on(undisturbed, bench):
    begun_like(undisturbed, bench)
    size = (undisturbed.out / "journal.jsonl").stat().st_size
    advisor = bench.run("--resume", worker=bench.stub(), file_bytes=size // 2)
    assert advisor.code == 1
    assert "No room for" in advisor.messages.read_text() or "could not be written" in advisor.messages.read_text()
    assert "Traceback" not in advisor.said
    assert "LoRA" in advisor.output.read_text()  # the summary, though no file of it could be written
    assert bench.workers_running() == []
    assert bench.run("--resume", worker=bench.stub()).code == 0
    assert found(bench.result()) == found(undisturbed.result())


@pytest.mark.fault("two races in one folder")
def test_a_second_race_in_a_folder_is_refused_and_the_first_goes_on(undisturbed, bench):
    first = bench.start(worker=bench.stub(0.5))
    first.wait_until(bench.journal)
    second = bench.run("--resume", worker=bench.stub())
    assert second.code == 2
    assert "Another race is writing" in second.messages.read_text()
    assert first.wait() == 0
    assert bench.result()["recommendation"]["name"]
