"""The front page of the command: what people do first, commands in groups, an example in the help of each."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

FIRST = """rs05bench compares public embeddings with fine-tuned models under one fair protocol. Three things to do first:

  rs05bench demo                          see a whole comparison on simulated data
  rs05bench card init parcels.csv         describe your own table or folder of chips, then
  rs05bench advise parcels.yaml           learn which method to use, and what to expect
  rs05bench audit --train a.csv --test b.csv --id id      ask whether a split leaks

rs05bench --help lists every command; rs05bench COMMAND --help has an example of each.
"""

SECTIONS: dict[str, dict[str, str]] = {
    "Your own data": {
        "card": "Describe a table or a folder of chips, and check it.",
        "advise": "Recommend a method for a card, with what to expect.",
        "map": "Draw the map of a model, with its confidence.",
        "demo": "Run the embedded benchmark on simulated data.",
    },
    "Data": {
        "download": "Fetch a public dataset, resumed and checked.",
        "extract": "Read an embedding product at points or polygons.",
        "layers": "Add terrain, climate, distances, counts to a table.",
        "build": "Make a task from public source files.",
        "simulate": "Write simulated data in the real file formats.",
        "tasks": "List the tasks that can be run.",
        "models": "List the models, or check one of your own.",
    },
    "Protocol": {
        "audit": "Find what lets a model know a test unit.",
        "splits": "List the split rules, or the splits of a card.",
        "manifest": "Build, show, verify and compare frozen splits.",
        "budgets": "Write which labels each budget shows.",
        "labels": "Build and verify label packs with their digest.",
        "score": "Score predictions against a manifest and labels.",
        "rules": "Check the rules of the protocol over results.",
    },
    "Runs": {
        "sweep": "Run models x splits x folds x budgets x seeds.",
        "plan": "Predict the time and memory of a sweep.",
        "status": "Show what is done and what is left.",
        "resume": "Continue an interrupted sweep.",
        "fit-predict": "Fit one model on one fold and write predictions.",
    },
    "Results": {
        "results": "Print scores in-domain and held out.",
        "report": "Write results as one page that opens offline.",
        "errors": "Write maps of errors and typical failures.",
        "hypotheses": "Judge the three hypotheses from results.",
    },
    "Leaderboard": {
        "submit": "Write and check a submission.",
        "leaderboard": "Verify, rank and reproduce submissions.",
        "hub": "Exchange manifests and results on the Hub.",
    },
}
MORE = {
    "retry-failed": "Run the failed cells again.",
    "prune": "Remove results that no grid asks for.",
    "import": "Take in another team's results, scored again.",
    "export-terratorch": "Write a budget as a TerraTorch training run.",
}
"""Commands that are named in one line, not listed."""

EXAMPLES: dict[str, str] = {
    "advise": "rs05bench advise parcels.yaml --labels 50",
    "audit": "rs05bench audit --train train.csv --test test.csv --id id --lat lat --lon lon --group tile",
    "budgets": "rs05bench budgets parcels.yaml --out labels.csv",
    "build": "rs05bench build landcover-small --root exports --out landcover",
    "card check": "rs05bench card check parcels.yaml",
    "card sensitivity": "rs05bench card sensitivity parcels.yaml --out runs",
    "card init": "rs05bench card init parcels.csv",
    "card show": "rs05bench card show parcels.yaml --map",
    "demo": "rs05bench demo",
    "download": "rs05bench download hls-burn-scars --root data",
    "errors": "rs05bench errors runs --out errors",
    "export-terratorch": "rs05bench export-terratorch card.yaml --data chips --model prithvi-300/lora --split leave-state-out --out t",
    "extract": "rs05bench extract fields.gpkg --from mirror --years 2024 --out fields.parquet",
    "fit-predict": "rs05bench fit-predict parcels.yaml --data . --model alphaearth/logistic --split leave-county-out --out predictions",
    "hub pull": "rs05bench hub pull OWNER/NAME --out here --revision COMMIT",
    "hub push": "rs05bench hub push OWNER/NAME --manifest crop/leave-state-out@v1",
    "hypotheses": "rs05bench hypotheses runs",
    "import": "rs05bench import theirs --out runs",
    "labels build": "rs05bench labels build card.yaml --data data --out labels",
    "labels verify": "rs05bench labels verify labels",
    "layers": "rs05bench layers parcels.csv --layers terrain,climate-zone --out with-layers.csv",
    "leaderboard add": "rs05bench leaderboard add mine --truth truth",
    "leaderboard build": "rs05bench leaderboard build --out site",
    "leaderboard freeze": "rs05bench leaderboard freeze runs --task crops --splits leave-state-out --budgets 20-units,50-units",
    "leaderboard reproduce": "rs05bench leaderboard reproduce --all-baselines --data aef-landcover=DATA",
    "leaderboard seal": "rs05bench leaderboard seal mine --round leaderboard/rounds/cdl-2027.yaml",
    "leaderboard sign-off": "rs05bench leaderboard sign-off SLUG --by NAME --record ADDRESS",
    "leaderboard standing": "rs05bench leaderboard standing",
    "leaderboard truth": "rs05bench leaderboard truth aef-landcover --data DATA --out truth",
    "leaderboard verify": "rs05bench leaderboard verify mine --truth truth",
    "manifest build": "rs05bench manifest build parcels.yaml --data . --splits leave-county-out --out manifests",
    "manifest diff": "rs05bench manifest diff one.parquet other.parquet",
    "manifest list": "rs05bench manifest list",
    "manifest pull": "rs05bench manifest pull crop/leave-state-out@v1",
    "manifest show": "rs05bench manifest show crop/leave-state-out@v1",
    "manifest verify": "rs05bench manifest verify crop/leave-state-out@v1",
    "map": "rs05bench map parcels.yaml --model alphaearth/logistic --area county.gpkg --years 2024 --from mirror --out map",
    "models": "rs05bench models",
    "models check": "rs05bench models check my_model.py:MyModel",
    "plan": "rs05bench plan grid.yaml",
    "prune": "rs05bench prune runs",
    "report": "rs05bench report runs --out report",
    "results": "rs05bench results runs",
    "resume": "rs05bench resume runs",
    "retry-failed": "rs05bench retry-failed runs",
    "rules": "rs05bench rules runs",
    "score": "rs05bench score predictions --manifest manifest.parquet --labels labels",
    "simulate": "rs05bench simulate --out simulated --size tiny",
    "splits": "rs05bench splits --card parcels.yaml",
    "status": "rs05bench status runs",
    "submit card": "rs05bench submit card runs --model alphaearth/logistic --out mycard.yaml",
    "submit check": "rs05bench submit check mine",
    "submit make": "rs05bench submit make runs --card mycard.yaml --model alphaearth/logistic --out mine",
    "submit pin": "rs05bench submit pin mine --address hf://datasets/OWNER/NAME --revision COMMIT",
    "submit template": "rs05bench submit template aef-landcover --out mine",
    "sweep": "rs05bench sweep parcels.yaml --models shallow --seeds 0-4 --out runs",
    "tasks": "rs05bench tasks",
}


class Grouped(TyperGroup):
    """Lists commands in groups, each with a whole sentence."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes the list of commands of the help."""
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(list(commands.items()))
        with formatter.section("More"):
            formatter.write_text(", ".join(MORE))


def add_examples(app: typer.Typer) -> None:
    """Puts the example of each command at the end of its help, and its sentence into the lists that name it."""
    lines = {name: line for commands in (*SECTIONS.values(), MORE) for name, line in commands.items()}
    for command in app.registered_commands:
        name = str(command.name)
        command.short_help, command.epilog = lines.get(name), _example(name)
    for group in app.registered_groups:
        inner = group.typer_instance
        group.epilog = _example(str(group.name))
        if inner is None:
            continue
        inner.info.epilog = _example(str(group.name))
        for command in inner.registered_commands:
            command.epilog = _example(f"{group.name} {command.name}")


def _example(name: str) -> str | None:
    return f"Example: {EXAMPLES[name]}" if name in EXAMPLES else None
