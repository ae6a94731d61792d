"""A large board: what it weighs, how long its site takes to build, how long it takes to verify one more, and so what 1,000 would take.

The verdicts are those of our own baselines under other names, so every one has the size that a real one has; nothing of this is shown
anywhere as a result.

    python studies/board_size.py [submissions ...]
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rs05bench.protocol.submission import verify_submission
from rs05bench.protocol.submission.board import Board
from rs05bench.protocol.submission.faults import Faults
from rs05bench.protocol.submission.folder import read_record, submission_digest
from rs05bench.report.site import build_site
from tests.protocol.submission.world import make_world, write_submission

ROOT = Path(__file__).resolve().parents[1]
SIZES = (25, 75)
GOAL = 1000
FILES = ("submission.yaml", "verdict.json", "standing.json")


def fill(board: Path, count: int) -> None:
    """Copies the real board's submissions under new names until there are so many."""
    real = sorted(path for path in (ROOT / "leaderboard/submissions").iterdir() if path.is_dir())
    for number in range(count):
        source, slug = real[number % len(real)], f"copy-{number:04d}"
        target = board / "submissions" / slug
        target.mkdir(parents=True)
        for name in FILES:
            text = (source / name).read_text(encoding="utf-8").replace(source.name, slug)
            (target / name).write_text(text.replace("baseline of rs05bench", f"copy {number}"), encoding="utf-8")
        record = read_record(target / "submission.yaml", Faults())
        assert record is not None
        assert record.predictions is not None
        digest = submission_digest(record, record.predictions.sha256, record.predictions.files)
        for name in FILES[1:]:
            (target / name).write_text(json.dumps(json.loads((target / name).read_text(encoding="utf-8")) | {"digest": digest}))


def megabytes(folder: Path) -> float:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def packed(folder: Path) -> float:
    """Bytes of a git repository that holds nothing but these files, as it is cloned."""
    with tempfile.TemporaryDirectory(prefix="board-git-") as work:
        git = ["git", "-c", "user.name=study", "-c", "user.email=study@example.org", "--git-dir", work, "--work-tree", str(folder)]
        for step in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "board"], ["gc", "--quiet"]):
            subprocess.run([*git, *step], check=True, capture_output=True)
        return megabytes(Path(work) / "objects")


def extended(one: tuple[float, ...], other: tuple[float, ...]) -> tuple[float, ...]:
    """The row of the goal on the line through two rows."""
    share = (GOAL - one[0]) / (other[0] - one[0])
    return GOAL, 3 * GOAL, *(first + share * (second - first) for first, second in zip(one[2:], other[2:], strict=True))


def main() -> None:
    """Measures and prints the page."""
    sizes = [int(text) for text in sys.argv[1:]] or SIZES
    rows = []
    with tempfile.TemporaryDirectory(prefix="board-") as folder:
        root = Path(folder)
        make_world(root / "world")
        sent = write_submission(root / "sent", root / "world", Board.load(root / "world/board"))
        for size in sizes:
            board = root / f"board-{size}"
            shutil.copytree(ROOT / "leaderboard", board, ignore=shutil.ignore_patterns("submissions"))
            fill(board, size)
            began = time.process_time()
            build_site(board, root / f"site-{size}")
            built = time.process_time() - began
            began = time.process_time()
            verdict = verify_submission(sent, root / "world/board", truth=root / "world/truth", others=board / "submissions")
            verified = time.process_time() - began
            assert verdict.outcome == "accepted", verdict.faults
            site = megabytes(root / f"site-{size}")
            rows.append((size, 3 * size, megabytes(board / "submissions"), packed(board / "submissions"), built, site, verified))
            print(rows[-1], file=sys.stderr)
            shutil.rmtree(board)
            shutil.rmtree(root / f"site-{size}")
    if len(rows) > 1:
        rows.append(extended(*rows[-2:]))
    print("# A board of 1,000 submissions\n")
    print("Verdicts of our own baselines under other names. Times are seconds of one processor.")
    print(f"The last row, {GOAL:,}, lies on the line through the two before it; give the number as an argument to measure it.\n")
    columns = ("submissions", "files", "MB in the work tree", "MB in a clone", "site built, s", "per submission, ms", "site, MB")
    print(f"| {' | '.join(columns)} | one more verified, s |")
    print("|---|---|---|---|---|---|---|---|")
    for size, files, tree, clone, built, site, verified in rows:
        times = f"{built:.1f} | {1000 * built / size:.0f} | {site:.1f} | {verified:.1f}"
        print(f"| {size:,} | {files:,} | {tree:.0f} | {clone:.1f} | {times} |")
    print("\nPredictions are not in the repository. What is verified is compared with every submission on the board; its own part is")
    print("30 cells. The copies are alike, so git packs them better than real ones: the work tree's size is the upper bound.")


if __name__ == "__main__":
    main()
