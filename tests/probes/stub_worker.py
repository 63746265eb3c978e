"""A worker process without a model, for tests of executors: a job's learning rate says how it behaves.

    python stub_worker.py [fatal] [pids=FILE] [seconds=SECONDS] [broken=FILE]

9 is killed, 8 hangs, 7 ends in the middle of a message, 6 ends as failed, 5 too, but hangs then; all others finish,
with losses that are the same for the same candidate and step. A job goes on from its checkpoint and writes one. Each
worker adds its process id to FILE, and each job takes SECONDS. Once a job has ended as failed, no new worker can load
where `broken` is given.
"""

import json
import os
import signal
import sys
import time
import zlib
from pathlib import Path

options = dict(argument.partition("=")[::2] for argument in sys.argv[1:])


def send(**message):
    print(json.dumps(message), flush=True)


def main():
    context = json.loads(sys.stdin.readline())["context"]
    if "pids" in options:
        with Path(options["pids"]).open("a") as file:
            file.write(f"{os.getpid()}\n")
    if "fatal" in options or ("broken" in options and Path(options["broken"]).exists()):
        send(fatal="no such model")
        sys.exit(1)
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "9":
        sys.exit(4)
    send(baseline={"eval_loss": 2.0, "metric": 0.1, "load_s": 0.1, "eval_s": 0.1, "eval_tokens": 10})
    for line in sys.stdin:
        run(json.loads(line)["job"], Path(context["work_folder"]))


def run(job, folder):
    behaviour = job["learning_rate"]
    if behaviour == 9:
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == 8:
        time.sleep(600)
    if behaviour == 7:
        print("{half a line", end="", flush=True)
        os._exit(3)
    if behaviour in (5, 6):
        if "broken" in options:
            Path(options["broken"]).touch()
        send(outcome={"id": job["id"], "status": "failed", "reason": "raised"})
        time.sleep(600 if behaviour == 5 else 0)
        sys.exit(0)
    stored = folder / job["id"] / "checkpoint.safetensors"
    first_step = int(stored.read_text()) if stored.exists() else 0
    if job["start_step"] is not None and first_step > job["start_step"]:
        first_step = 0
    for step in range(first_step + 1, job["stop_step"] + 1):
        time.sleep(float(options.get("seconds", 0)) / (job["stop_step"] - first_step))
        send(step={"id": job["id"], "step": step, "loss": 1.5})
        if step in (*job["eval_steps"], job["stop_step"]):
            send(point={"id": job["id"], "step": step, "eval_loss": loss_of(job["id"], step)})
    stored.parent.mkdir(exist_ok=True)
    written = stored.with_suffix(".new")
    written.write_text(str(job["stop_step"]))
    written.replace(stored)  # like the checkpoint of a real worker, whole or not there, whenever it is killed
    outcome = {"id": job["id"], "status": "finished", "first_step": first_step, "last_step": job["stop_step"]}
    send(outcome=outcome)


def loss_of(id, step):
    """Falls with the steps from 3 towards a floor that is the candidate's own, between 1 and 2."""
    floor = 1 + zlib.crc32(id.encode()) % 1000 / 1000
    return floor + (3 - floor) / (1 + step / 10)


if __name__ == "__main__":
    main()
