"""Tables out of measurements: paired ratios per round, their medians and quartiles."""

import datetime
import os
import platform
import re
from pathlib import Path
from statistics import median, quantiles

from load import CASES, FAR
from processes import BENCH, WORK

BEGIN, END = "<!-- last run: begin -->", "<!-- last run: end -->"

# The least CPU ratio (peer / bearerd) to hold, by peer and case; "*" is every other case.
GOALS = {
    "nginx": {"get32": 1.00, "get256": 1.00, "post": 1.00, "body64k": 0.90, "body1m": 0.90,
              "get1": 0.95, "newconn": 0.95, "rate1k": 0.95, "rate5k": 0.95, "rate10k": 0.95},
    "haproxy": {"get32": 1.10},
    "envoy": {"*": 1.70},
    "floor": {"get32": 0.65},
}
MEMORY_GOALS = (8, 20, 40)
START_GOAL = 20


def goal(peer, case):
    goals = GOALS.get(peer, {})
    return goals.get(case, goals.get("*"))


def paired(ours, theirs, value):
    """Peer over ours, round by round."""
    return [value(their) / value(our) for our, their in zip(ours, theirs)]


def absent(by_name, *names):
    """Whether one of them cannot take part in the case."""
    return any(name not in by_name for name in names)


def middle(by_name, name, value, form):
    return "-" if absent(by_name, name) else format(median(map(value, by_name[name])), form)


def spread(ratios):
    text = f"{median(ratios):.2f}"
    if len(ratios) >= 3:
        low, _, high = quantiles(ratios, n=4, method="inclusive")
        text += f" ({low:.2f}-{high:.2f})"
    return text


def table(header, rows):
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header))]

    def line(cells):
        padded = [str(c).ljust(w) if i == 0 else str(c).rjust(w)
                  for i, (c, w) in enumerate(zip(cells, widths))]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":"
                          for i, w in enumerate(widths)) + "|"
    return "\n".join([line(header), rule, *map(line, rows)])


def machine():
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    load = os.getloadavg()[0]
    return (f"{os.cpu_count()} cores, {model[1] if model else platform.machine()}, "
            f"Linux {platform.release()}, load {load:.1f} at the start")


def describe(cells, memory, starts, subjects, skipped, rounds, seconds, reference, about_machine,
             shortest):
    names = [subject.name for subject in subjects]
    peers = [name for name in names if name != reference]
    parts = [
        f"{datetime.date.today()}; {about_machine}.",
        "Subjects: " + "; ".join(f"{s.name} = {s.version()}" for s in subjects) + "."
        + "".join(f" {name} was skipped: it could not be had." for name in skipped),
    ]
    noise = disturbance(cells, shortest) if cells else ""
    cells = {case: steady_rounds(by_name, shortest) for case, by_name in cells.items()}
    if cells:
        parts.append(f"{rounds} rounds of {seconds} s a cell, order rotated, medians.")
    if cells and peers:
        rows, short = [], []
        for case, by_name in cells.items():
            row = [CASES[case].title]
            for peer in peers:
                if absent(by_name, reference, peer):
                    row.append("-")
                    continue
                ratios = paired(by_name[reference], by_name[peer], lambda cell: cell.cpu_us)
                mark = ""
                wanted = goal(peer, case) if reference == "bearerd" else None
                if wanted and median(ratios) < wanted:
                    mark = " !"
                    short.append(f"{case} against {peer}: {median(ratios):.2f} < {wanted:.2f}")
                row.append(spread(ratios) + mark)
            rows.append(row)
        parts.append(f"### CPU time per request, peer / {reference}\n\n"
                     f"Paired per round, median (quartiles); above 1, {reference} is cheaper.\n\n"
                     + table(["case", *peers], rows))
        if short:
            parts.append("Short of the goal (!): " + "; ".join(short) + ".")
        rows = [[CASES[case].title,
                 *("-" if absent(by_name, reference, peer) else
                   spread([1 / r for r in paired(by_name[reference], by_name[peer],
                                                 lambda cell: cell.per_second)])
                   for peer in peers)]
                for case, by_name in cells.items() if not CASES[case].rate]
        if rows:
            parts.append(f"### Requests per second, {reference} / peer\n\n"
                         f"Paired per round, median (quartiles); above 1, {reference} is faster.\n\n"
                         + table(["case", *peers], rows))
    if cells:
        rows = [[CASES[case].title,
                 *(middle(by_name, name, lambda cell: cell.cpu_us, ".1f") for name in names)]
                for case, by_name in cells.items()]
        parts.append("### CPU time per request, us\n\n" + table(["case", *names], rows))
        rows = [[CASES[case].title,
                 *(middle(by_name, name, lambda cell: cell.per_second, ",.0f") for name in names)]
                for case, by_name in cells.items() if not CASES[case].rate]
        if rows:
            parts.append("### Requests per second\n\n" + table(["case", *names], rows))
        rows = [[CASES[case].title,
                 *(f"{median(c.p50_us for c in by_name[name]):.0f} / "
                   f"{median(c.p99_us for c in by_name[name]):.0f}" for name in names)]
                for case, by_name in cells.items() if CASES[case].rate]
        if rows:
            parts.append("### Latency at a fixed rate, us, p50 / p99\n\n"
                         + table(["case", *names], rows))
    if memory:
        titles = ("idle", "1,000 idle connections", "256 active 64 KiB streams")
        rows = [[title, *(f"{memory[name][i]:.1f}" for name in names)]
                for i, title in enumerate(titles)]
        parts.append("### Resident memory, MiB\n\n" + table(["state", *names], rows))
    if starts:
        rows = [["exec to first answer", *(f"{median(starts[name]):.1f}" for name in names)]]
        parts.append("### Start, ms\n\n" + table(["", *names], rows))
    if reference == "bearerd":
        missed = []
        if memory and any(got > most for got, most in zip(memory[reference], MEMORY_GOALS)):
            missed.append("memory (goal " + " / ".join(map(str, MEMORY_GOALS)) + " MiB)")
        if starts and median(starts[reference]) > START_GOAL:
            missed.append(f"start (goal {START_GOAL} ms)")
        if missed:
            parts.append("Short of the goal: " + ", ".join(missed) + ".")
    if noise:
        parts.append(noise)
    return "\n\n".join(parts) + "\n"


def steady_rounds(by_name, shortest):
    """The rounds in which the cores were near each other all the time; all, if those are few."""
    rounds = list(zip(*by_name.values()))
    steady = [r for r in rounds if all(cell.distance_ns <= FAR * shortest for cell in r)]
    if len(steady) < min(3, len(rounds)):
        steady = rounds
    return dict(zip(by_name, zip(*steady)))


def disturbance(cells, shortest):
    shares, left_out, mixed = [], [], []
    for case, by_name in cells.items():
        shares += [cell.waited for row in by_name.values() for cell in row]
        rounds = list(zip(*by_name.values()))
        far = sum(any(cell.distance_ns > FAR * shortest for cell in r) for r in rounds)
        if len(rounds) - far < min(3, len(rounds)):
            mixed.append(case)
        elif far:
            left_out.append(f"{far} of {case}")
    disturbed = sum(share > 0.05 for share in shares)
    text = (f"Noise: in {disturbed} of {len(shares)} cells the subject waited for its core for more "
            f"than 5 % of its run time (median {median(shares):.1%}).")
    if disturbed > len(shares) // 10:
        text += " Something else was using that core: take these figures as a sketch only."
    text += f" The two cores were {shortest} ns apart (there and back)."
    if left_out:
        text += (f" Rounds left out because they were more than {FAR:.0f} times as far apart: "
                 + ", ".join(left_out) + ".")
    if mixed:
        text += (" NOT COMPARABLE, because the cores were hardly ever near each other: "
                 + ", ".join(mixed) + ".")
    return text


def save(text, write_readme):
    (WORK / "last.md").write_text(text)
    if write_readme:
        readme = BENCH / "README.md"
        before, _, rest = readme.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        readme.write_text(f"{before}{BEGIN}\n{text}{END}{after}")
