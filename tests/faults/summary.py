"""Counts the faults that tests inject, and prints after the tests how many were survived.

@pytest.mark.fault("worker killed")                 one fault, of this row of the table
record_property("injected", 10)                     in such a test: so many
"""

from __future__ import annotations

from collections import Counter


def pytest_configure(config):
    config.addinivalue_line("markers", "fault(row): injects a fault, for the table printed at the end")


def pytest_itemcollected(item):
    # Properties travel with the reports of parallel processes; markers do not.
    item.user_properties += [("fault", mark.args[0]) for mark in item.iter_markers("fault")]


def pytest_terminal_summary(terminalreporter):
    injected, survived = Counter(), Counter()
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, ()):
            properties = dict(report.user_properties)
            if "fault" in properties and report.when == "call":
                injected[properties["fault"]] += properties.get("injected", 1)
                survived[properties["fault"]] += properties.get("injected", 1) * (outcome == "passed")
    if not injected:
        return
    terminalreporter.section("faults")
    for row in sorted(injected):
        terminalreporter.write_line(f"{survived[row]:>5} of {injected[row]:<5} {row}")
    terminalreporter.write_line(f"{survived.total()} of {injected.total()} injected faults survived")
