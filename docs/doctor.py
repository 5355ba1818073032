"""The doctor's verdicts before training against what training then does, and what its remedies rescue.

    python docs/doctor.py            # prints the tables; a quarter of an hour on one core
    python docs/doctor.py --write    # and puts them into docs/doctor.md

Each net of docs/nets.py is examined as it is begun, then trained by plain SGD with momentum at three rates; the best
of the three is its fate. Nets that do not learn are begun anew by the safe remedy that the doctor chooses, and trained
again in the same way.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from isometry.doctor import Examination, Treatment, examine, treat
from isometry.doctor.verdict import last_hidden, log_gain
from nets import DEEP_NETS, HELD_OUT_NETS, MEMORY_NETS, OTHER_NETS, Net, Outcome, cross_entropy, train
from page import fill

PAGE = Path(__file__).with_suffix(".md")


class Case(NamedTuple):
    net: Net
    found: Examination
    fate: Outcome

    @property
    def is_condemned(self) -> bool:
        """Fatal; or, where an early step must be remembered, found to forget."""
        is_forgetful = any(finding.name == "forgetting" for finding in self.found.findings)
        return self.found.verdict == "fatal" or (self.net in MEMORY_NETS and is_forgetful)

    @property
    def is_right(self) -> bool:
        return self.is_condemned != self.fate.learns


class Rescue(NamedTuple):
    net: Net
    treatment: Treatment
    before: Outcome
    after: Outcome


def examined(net: Net) -> Examination:
    torch.manual_seed(0)
    return examine(net.make(), net.batch(), cross_entropy)


def rescued(case: Case) -> Rescue:
    torch.manual_seed(0)
    treatment = treat(case.net.make(), case.net.batch(), cross_entropy)

    def treated() -> torch.nn.Module:
        model = case.net.make()
        treat(model, case.net.batch(), cross_entropy)
        return model

    return Rescue(case.net, treatment, case.fate, train(case.net._replace(make=treated)))


def confusion(cases: list[Case]) -> Iterator[str]:
    """Lines of a table: verdict by fate."""
    yield "| verdict | learned | did not learn |"
    yield "|---|---|---|"
    for name, is_condemned in (("condemned", True), ("not condemned", False)):
        counts = [sum(c.is_condemned == is_condemned and c.fate.learns == learns for c in cases) for learns in (1, 0)]
        yield f"| {name} | {counts[0]} | {counts[1]} |"


def verdicts(cases: list[Case]) -> Iterator[str]:
    yield "| network | verdict | gradient (nats) | cosine of two inputs | findings | loss after training | learned |"
    yield "|---|---|---|---|---|---|---|"
    for case in cases:
        found = case.found
        hidden = last_hidden(found.forward.rows) if found.forward else None
        cosine = hidden.correlation if hidden else None
        names = ", ".join(f.name for f in found.findings if f.severity != "note") or "–"
        mark = "" if case.is_right else " **(wrong)**"
        yield (
            f"| {case.net.name} | {found.verdict or 'none'}{mark} | {_number(log_gain(found), '+.1f')} | "
            f"{_number(cosine, '.2f')} | {names} | {case.fate.loss:.3f} | {'yes' if case.fate.learns else 'no'} |"
        )


def rescues(rows: list[Rescue]) -> Iterator[str]:
    yield "| network | remedy | gradient before (nats) | after | loss after training before | after | learns now |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        gains = [_number(log_gain(found), "+.1f") for found in (row.treatment.before, row.treatment.after)]
        yield (
            f"| {row.net.name} | {'; '.join(row.treatment.remedies) or 'none helps'} | {gains[0]} | {gains[1]} | "
            f"{row.before.loss:.3f} | {row.after.loss:.3f} | {'yes' if row.after.learns else 'no'} |"
        )


def tables() -> Iterator[str]:
    deep = [Case(net, examined(net), train(net)) for net in DEEP_NETS]
    other = [Case(net, examined(net), train(net)) for net in OTHER_NETS]
    memory = [Case(net, examined(net), train(net)) for net in MEMORY_NETS]
    held_out = [Case(net, examined(net), train(net)) for net in HELD_OUT_NETS]
    lost = [rescued(case) for case in deep + other + held_out if not case.fate.learns]
    every = deep + other + memory + held_out
    yield f"Right in {sum(case.is_right for case in every)} of {len(every)},"
    yield f"{sum(case.is_right for case in held_out)} of {len(held_out)} held out."
    yield ""
    yield from ("## Fifty layers", "", *confusion(deep), "", *verdicts(deep), "")
    yield from ("## Other architectures", "", *confusion(other), "", *verdicts(other), "")
    yield from ("## Memory", "", *confusion(memory), "", *verdicts(memory), "")
    yield from ("## Held out", "", *confusion(held_out), "", *verdicts(held_out), "")
    n_rescued = sum(row.after.learns for row in lost)
    yield from (f"## Remedies: {n_rescued} of {len(lost)} nets rescued", "", *rescues(lost))


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def main() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    lines = []
    for line in tables():
        print(line, flush=True)
        lines.append(line)
    if "--write" in sys.argv[1:]:
        fill(PAGE, "\n".join(lines), "tables")


if __name__ == "__main__":
    main()
