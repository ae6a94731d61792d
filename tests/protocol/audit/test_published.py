"""The worked examples of docs/audit.md print what the page says, on the real files."""

import re
import shlex

import pytest
import typer
from typer.testing import CliRunner

from rs05bench.cli.protocol import register
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```console\n\$ rs05bench (.*?)\n(.*?)\n```", PAGE, flags=re.DOTALL)


def test_the_page_has_its_examples():
    assert len(BLOCKS) == 5


@pytest.mark.real
@pytest.mark.parametrize(
    ("command", "printed"), BLOCKS, ids=[f"{'wildfire' if 'split' in c else 'crop'}-{i + 1}" for i, (c, _) in enumerate(BLOCKS)]
)
def test_the_example_prints_what_the_page_says(command, printed, real, tmp_path, monkeypatch):
    for file in real("wildfire_events" if "spatiotemporal" in command else "hls_crop_chips").iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "two.yaml").write_text("cases: 2\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    result = CliRunner().invoke(app, shlex.split(command), catch_exceptions=False)
    assert result.exit_code == 1
    assert result.stdout.rstrip() == printed


def test_what_the_page_concludes_stands_in_what_is_printed():
    crop = BLOCKS[4][1]
    assert "762 of 771 test units have a tile that also trains" in crop
    assert "536 of 771 test footprints touch" in crop
    for _, printed in BLOCKS[:4]:
        n = re.search(r"^test .*  ([\d,]+) units$", printed, flags=re.MULTILINE)[1]
        assert f"shared groups: year: {n} of {n} test units" in printed
    shares = [
        [int(v.replace(",", "")) for v in re.search(r"groups: state: ([\d,]+) of ([\d,]+)", printed).groups()] for _, printed in BLOCKS[:4]
    ]
    assert (round(100 * min(a / b for a, b in shares)), round(100 * max(a / b for a, b in shares))) == (78, 96)
