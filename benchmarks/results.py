"""`make results`: what the engine does with real text, measured, as tables in docs/results.md.

Every row is a whole `steep run`, kept below `runs/results`; one that is complete is not run again, and an interrupted one goes on.
The material lies in ../shared/data. Groups: `recipes` (the packaged tiny base on two corpora) and `defaults` (novels-5M on 2.0M
tokens of PEPs, what each ingredient contributes).

    python benchmarks/results.py [--only TEXT] [--list] [--tables]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
RUNS = ROOT / "runs" / "results"
PAGE = ROOT / "docs" / "results.md"
SEEDS_MIXES = (0.85, 0.7, 0.5)  # the defaults of evaluation.interpolate
BEGIN, END = "<!-- {}: begin -->", "<!-- {}: end -->"

TINY_BASE = ROOT / "src" / "steep" / "data" / "tiny-base"
NOVELS_BASE = DATA / "weights" / "novels-5M"
CORPORA = {
    "python_peps": {"path": str(DATA / "domain" / "python_peps"), "include": ["**/*.rst", "**/*.txt"]},
    "medical_qa": {"path": str(DATA / "domain" / "medical_qa"), "text_field": "text"},
}
NOVELS = {"path": str(DATA / "general" / "novels"), "name": "novels", "split_documents": "paragraphs"}
SPEECHES = {"path": str(DATA / "general" / "us_speeches"), "name": "speeches", "include": ["**/*.txt"]}


@dataclass(frozen=True)
class Trial:
    """One run: what differs from the defaults, and the words for its row."""

    group: str
    name: str
    label: str
    base: Path
    corpus: str
    budget: str
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def directory(self) -> Path:
        return RUNS / self.group / self.name

    def job(self) -> dict[str, Any]:
        """The job spec. Where novels are not the replay text, they are a general hold-out."""
        spec: dict[str, Any] = {
            "name": self.name,
            "base": str(self.base),
            "corpus": {"sources": [CORPORA[self.corpus]], "holdout": "5%"},
            "replay": {"source": "self"},
            "training": {"budget": self.budget},
            "evaluation": {"general": [NOVELS, SPEECHES], "forgetting_budget": 0.05, "max_tokens": "50k"},
            "checkpoints": {"keep_last": 1, "every": "1M tokens"},
        }
        for key, value in self.settings.items():
            node = spec
            *parents, last = key.split(".")
            for parent in parents:
                node = node.setdefault(parent, {})
            node[last] = value
        if isinstance(spec["replay"]["source"], dict):
            spec["evaluation"]["general"] = [SPEECHES]  # a part of the replay text is always a hold-out of its own
        return spec

    def run(self) -> None:
        """Run it, or go on with it."""
        if (self.directory / "export" / "config.json").exists():
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        job = self.directory.with_suffix(".yaml")
        job.write_text(yaml.safe_dump(self.job(), sort_keys=False))
        command = [str(Path(sys.executable).with_name("steep")), "run", str(job), "--dir", str(self.directory)]
        subprocess.run(command, check=True)

    def results(self) -> dict[str, Any] | None:
        file = self.directory / "results.json"
        return json.loads(file.read_text()) if file.exists() else None

    def seconds(self) -> float:
        """Time of the train stage, all attempts together."""
        reports = map(json.loads, (self.directory / "reports.jsonl").read_text().splitlines())
        return sum(r.get("seconds", 0.0) for r in reports if r["kind"] == "stage" and r["stage"] == "train")


def replay(source: dict[str, Any] | str, share: str | None) -> dict[str, Any]:
    return {"source": source} if share is None else {"source": source, "share": share}


def recipes() -> Iterator[Trial]:
    for corpus in CORPORA:
        variants = {
            "none": ("no replay", {"source": "self", "share": 0.0}),
            "novels-05": ("5 % novels", replay(NOVELS, "5%")),
            "novels-10": ("10 % novels", replay(NOVELS, "10%")),
            "novels-25": ("25 % novels", replay(NOVELS, "25%")),
            "self": ("from self, preset", replay("self", None)),
        }
        for name, (label, value) in variants.items():
            yield Trial("recipes", f"{corpus}-{name}", label, TINY_BASE, corpus, "500k tokens", {"replay": value})


def defaults() -> Iterator[Trial]:
    def trial(name: str, label: str, **settings: Any) -> Trial:
        settings = {"replay": replay(NOVELS, None), **{key.replace("__", "."): v for key, v in settings.items()}}
        return Trial("defaults", name, label, NOVELS_BASE, "python_peps", "2M tokens", settings)

    for seed in (17, 18, 19):
        yield trial(f"default-seed-{seed}", f"defaults, replay of novels, seed {seed}", seed=seed)
    yield trial("next-token", "the base does not teach", replay__distill=0.0)
    yield trial("rate-3e-4", "learning rate 3e-4", training__learning_rate=3e-4)
    yield trial("decay-20", "decay in the last fifth", training__decay=0.2)
    yield trial("cosine", "cosine schedule", training__schedule="cosine")
    yield trial("beta-95", "second beta 0.95", training__betas=[0.9, 0.95])
    yield trial("no-replay", "no replay", replay={"source": "self", "share": 0.0})
    yield trial("replay-10", "10 % replay", replay=replay(NOVELS, "10%"))
    yield trial("replay-self", "replay from self", replay=replay("self", None))
    yield trial("average", "average of the last fifth of the steps", training__average=0.2)


def row(trial: Trial, results: dict[str, Any], score: dict[str, Any], label: str) -> list[str]:
    base = results["scores"][0]
    change = {name: score["general"][name] - bpb for name, bpb in base["general"].items()}
    return [
        label,
        f"{score['tokens_seen'] / 1e6:.2f}M" if score["step"] else "-",
        f"{score['domain_bpb']:.3f}",
        f"{score['gain']:+.3f}" if score["step"] else "-",
        *(f"{change[name]:+.3f}" if score["step"] else f"{base['general'][name]:.3f}" for name in sorted(change)),
        "yes" if score["selected"] else "",
        f"{trial.seconds():.0f}" if score["kind"] == "checkpoint" and score["step"] else "",
    ]


def table(trials: list[Trial], before: str = "") -> str:
    """The base, each run's last checkpoint and its mixes with the base.

    Args:
        trials: in the order of their rows.
        before: the table as it was: rows of runs that are not here stay as they are.
    """
    kept = [line for line in before.splitlines() if line.startswith("| ")]
    head, base = (kept[0], kept[2]) if kept else ("", "")
    body: list[str] = []
    for trial in trials:
        results = trial.results()
        if results is None:
            body += [line for line in kept if line[2:].split(" | ")[0].split(";")[0] == trial.label]
            continue
        scores = results["scores"]
        general = sorted(scores[0]["general"])
        if not head:
            head = _line(["run", "tokens", "domain", "gain", *general, "selected", "seconds"])
            base = _line(row(trial, results, scores[0], "base"))
        last = max((s for s in scores if s["kind"] == "checkpoint"), key=lambda s: s["step"])
        shown = [(last, trial.label)]
        shown += [(s, f"{trial.label}; {s['alpha']:g} x it + base") for s in scores if s["kind"] == "interpolation"]
        shown += [(s, f"{trial.label}; average") for s in scores if s["kind"] == "average"]
        body += [_line(row(trial, results, score, label)) for score, label in shown]
    if not body:
        return "Not measured yet.\n"
    rule = _line(["---"] + ["---:"] * (head.count(" | ")))
    return "\n".join([head, rule, base, *body]) + "\n"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def seeds(trials: list[Trial]) -> str:
    """Gain and novels forgetting over the seeds of the defaults: of the last checkpoint, and of its mixes with the base."""
    found = [trial.results() for trial in trials if trial.name.startswith("default-seed")]
    rows: dict[float, list[tuple[float, float]]] = {}
    for results in filter(None, found):
        base, *scores = results["scores"]
        last = max(score["step"] for score in scores if score["kind"] == "checkpoint")
        for score in scores:
            if score["step"] == last and score["alpha"] in (None, *SEEDS_MIXES) and score["kind"] != "average":
                change = score["general"]["novels"] - base["general"]["novels"]
                rows.setdefault(score["alpha"] or 1.0, []).append((score["gain"], change))
    lines = ["| share of the last checkpoint | seeds | gain | novels |", "| ---: | ---: | ---: | ---: |"]
    for alpha, values in sorted(rows.items(), reverse=True):
        gains, changes = zip(*values, strict=True)
        lines.append(f"| {alpha:g} | {len(values)} | {spread(gains)} | {spread(changes)} |")
    return "\n".join(lines) + "\n\n" if rows else ""


def spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):+.3f} ({min(values):+.3f} to {max(values):+.3f})"


def body_of(name: str, trials: list[Trial], before: str) -> str:
    """What stands between the markers of a group. The recipes have a table for each corpus, whose bases differ."""
    if name == "defaults":
        first, _, rest = before.partition("| run |")
        return (seeds(trials) or first) + table(trials, "| run |" + rest if rest else "")
    tables = []
    for corpus in CORPORA:
        mine = before.partition(f"### {corpus}\n")[2].partition("### ")[0]
        tables.append(f"### {corpus}\n\n{table([t for t in trials if t.corpus == corpus], mine)}")
    return "\n".join(tables)


def write_page(groups: dict[str, list[Trial]]) -> None:
    """Put the tables between their markers in docs/results.md."""
    text = PAGE.read_text()
    for name, trials in groups.items():
        begin, end = BEGIN.format(name), END.format(name)
        head, _, rest = text.partition(begin)
        before, _, rest = rest.partition(end)
        text = f"{head}{begin}\n\n{body_of(name, trials, before.strip())}\n{end}{rest}"
    PAGE.write_text(text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="trials whose group/name contains this")
    parser.add_argument("--list", action="store_true", help="name the trials and stop")
    parser.add_argument("--tables", action="store_true", help="write the tables of what was measured, run nothing")
    options = parser.parse_args()
    if not DATA.exists():
        print("make results needs the material in ../shared/data, which is not here; nothing was measured.")
        return 0
    groups = {"defaults": list(defaults()), "recipes": list(recipes())}
    chosen = [t for trials in groups.values() for t in trials if options.only in f"{t.group}/{t.name}"]
    for trial in chosen:
        if options.list:
            print(f"{trial.group}/{trial.name}")
        elif not options.tables:
            print(f"=== {trial.group}/{trial.name}", flush=True)
            trial.run()
            write_page(groups)
    if options.tables:
        write_page(groups)
    return 0


if __name__ == "__main__":
    sys.exit(main())
