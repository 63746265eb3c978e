"""Where on a Ray cluster there is place for workers."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from knowledge.errors import AdvisorError

START_S = 30.0  # to hear from a node how large its cards are
REACH_S = 5.0


class ClusterUnavailable(AdvisorError):
    """Ray is not installed, or its cluster cannot be reached or has no place for a worker."""


@dataclass(frozen=True)
class Place:
    """What one worker takes of a node. `gpus` is a share of one card, 0 where it trains on the processor."""

    node_id: str
    address: str
    cpus: float
    gpus: float


def connect(address: str | None) -> bool:
    """Connects this process to a cluster; False where it already was. Raises ClusterUnavailable, also where it is
    connected to another one than that of `address`."""
    try:
        import ray
    except ImportError:
        raise ClusterUnavailable(
            "The Ray executor needs Ray: pip install 'peft-advisor[ray]', or use --executor process."
        ) from None
    if ray.is_initialized():
        check_same(address, ray.get_runtime_context().gcs_address)
        return False
    if address := address or os.environ.get("RAY_ADDRESS"):
        check_reachable(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # of a cluster that is started here
    here = {} if address else {"include_dashboard": False}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **here)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise ClusterUnavailable(_no_cluster(address or "this machine", str(error).splitlines()[0])) from error
    return True


def check_same(asked: str | None, connected: str) -> None:
    """Raises ClusterUnavailable where `asked` for is another cluster than the one that this process is `connected` to.
    Both are 'host:port'; other forms of an address are Ray's to judge. One host can have several names."""
    port = (asked or "").rpartition(":")[2]
    if port.isdigit() and "://" not in asked and port != connected.rpartition(":")[2]:
        raise ClusterUnavailable(
            f"This process is connected to the Ray cluster at {connected}, and the one at {asked} was asked for. "
            "Call ray.shutdown() first, or leave the address out."
        )


def check_reachable(address: str) -> None:
    """Raises ClusterUnavailable where nothing listens at 'host:port' or 'ray://host:port': Ray itself would try for
    minutes. Other forms of an address are Ray's to judge."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=REACH_S).close()
    except OSError as error:
        raise ClusterUnavailable(_no_cluster(address, error.strerror or str(error))) from error


def _no_cluster(address: str, reason: str) -> str:
    return (
        f"No Ray cluster answers at {address}: {reason}. Give the address that `ray start --head` printed as "
        "--ray-address."
    )


def find_places(workers: int | None, memory_bytes: int | None, threads: int) -> list[Place]:
    """The places of the cluster, at most `workers`. Raises ClusterUnavailable where there is none."""
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"]]
    cards = _card_bytes([n["NodeID"] for n in nodes if n["Resources"].get("GPU")]) if memory_bytes else {}
    places = places_of(nodes, memory_bytes, threads, cards)[:workers]
    if not places:
        raise ClusterUnavailable(
            f"The Ray cluster has no place for a worker: none of its {len(nodes)} node(s) offers a GPU or {threads} "
            "processor(s). Add nodes, or use --executor process."
        )
    return places


def places_of(
    nodes: Sequence[Mapping[str, Any]], memory_bytes: int | None, threads: int, card_bytes: Mapping[str, int]
) -> list[Place]:
    """One place per GPU where the cluster has any, several where `memory_bytes` fits more than once into the smallest
    card of the node (`card_bytes` by node); else one for every `threads` processors. Spread over the nodes in turn.

    A node whose cards are smaller than `memory_bytes` has no place, unless that is so for all of them: what does not
    fit there will run out of memory, and that is a result.
    """
    on_gpus = any(node["Resources"].get("GPU") for node in nodes)
    per_node: list[list[Place]] = []
    for node in nodes:
        resources, id, address = node["Resources"], node["NodeID"], node["NodeManagerAddress"]
        if on_gpus:
            known = memory_bytes and card_bytes.get(id)
            per_card = card_bytes[id] // memory_bytes if known else 1
            share = 1 / per_card if per_card else 0
            per_node.append([Place(id, address, 0.0, share)] * (int(resources.get("GPU", 0)) * per_card))
        else:
            per_node.append([Place(id, address, float(threads), 0.0)] * int(resources.get("CPU", 0) // threads))
    if on_gpus and not any(per_node):
        return places_of(nodes, None, threads, card_bytes)
    longest = max((len(places) for places in per_node), default=0)
    return [places[turn] for turn in range(longest) for places in per_node if turn < len(places)]


def _card_bytes(node_ids: Sequence[str]) -> dict[str, int]:
    """Memory of the smallest card of each node; a node whose driver cannot be asked is left out."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def ask(node_id: str) -> Any:
        there = NodeAffinitySchedulingStrategy(node_id, soft=False)
        return ray.remote(_smallest_card_bytes).options(num_cpus=0, num_gpus=0.001, scheduling_strategy=there).remote()

    asked = {ask(id): id for id in node_ids}
    answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=START_S)
    found = {}
    for answer in answered:
        try:
            found[asked[answer]] = ray.get(answer)
        except ray.exceptions.RayError:
            continue
    return {id: size_bytes for id, size_bytes in found.items() if size_bytes}


def _smallest_card_bytes() -> int:
    from probes.nvml import read_gpus

    return min((gpu.total_bytes for gpu in read_gpus().gpus), default=0)
