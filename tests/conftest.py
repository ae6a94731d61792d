"""What every test can rely on: one thread a process, no network beyond loopback, seeded properties, real data when they are there."""

from __future__ import annotations

import os
import sys

# Libraries read these when they are first imported, so they are set before anything else is.
_ENVIRONMENT = {
    # Two workers share two cores: a thread pool in each would only fight for them.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    # A missing download must fail at once, not after a minute of retries.
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    # Nobody is told that the tests ran.
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    # No window, and the same picture on every machine.
    "MPLBACKEND": "Agg",
    # Compiled clients (GDAL, object stores) and child processes do not pass the guard below: a proxy that nobody listens on stops them.
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "no_proxy": "127.0.0.1,localhost,::1",
    "NO_PROXY": "127.0.0.1,localhost,::1",
}
os.environ.update(_ENVIRONMENT)

import shutil  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

from tests.network import NetworkGuard  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent

# The same examples on every run: a suite that fails on some days teaches people to run it again. No deadline: no test is timed.
settings.register_profile("suite", derandomize=True, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

_GUARD = NetworkGuard()


def pytest_configure(config: pytest.Config) -> None:
    _GUARD.install()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, with the reason, what this machine cannot run."""
    if item.get_closest_marker("browser") and find_chromium() is None:
        pytest.skip("no Chromium on this machine (install the system's package `chromium`)")
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device on this machine")


def find_chromium() -> str | None:
    """The path of a Chromium or Chrome of the system, or None."""
    return next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)


@pytest.fixture(autouse=True)
def _loopback_only() -> Iterator[None]:
    """Fail a test that tried to leave the machine, also where a library swallowed the refusal."""
    _GUARD.attempts.clear()
    yield
    attempts, _GUARD.attempts = _GUARD.attempts, []
    assert not attempts, f"tests talk to loopback only, but this one tried to reach {', '.join(sorted(set(attempts)))}"


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def run_command() -> Callable[..., str]:
    """`run_command("card", "check", path)` runs the command in this process, whose libraries are loaded, and gives what it printed."""
    from typer.testing import CliRunner

    from rs05bench.cli import _register, app

    def run(*arguments: object) -> str:
        _register()
        done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    return run


@pytest.fixture(scope="session")
def chromium() -> str:
    """The executable for `playwright`'s `executable_path`; skips where there is none."""
    found = find_chromium()
    if found is None:
        pytest.skip("no Chromium on this machine (install the system's package `chromium`)")
    return found


@pytest.fixture(scope="session")
def chip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`hls_burn_scars/`, `crop_chips/` and `alphaearth/`: a few small chips with the real names, made once."""
    from tests.chip_files import write_burn_chips, write_crop_chips

    root = tmp_path_factory.mktemp("chips")
    os.environ["RS05BENCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    return write_crop_chips(write_burn_chips(root))


@pytest.fixture(scope="session")
def real() -> Callable[[str], Path]:
    """`real("aef_chip")` is a folder of real data; skips, with the reason, where it is absent."""
    # A relative path is meant from the checkout, so that the suite finds it from any working directory.
    root = (ROOT / os.environ.get("RS05BENCH_REAL", "../shared/real")).resolve()

    def find(name: str) -> Path:
        path = root / name
        if not path.exists():
            pytest.skip(f"no real data {name!r} (set RS05BENCH_REAL to the folder that holds it)")
        return path

    return find


@pytest.fixture(autouse=True)
def _precision_of_products_stays() -> Iterator[None]:
    """No test, and nothing of the package, leaves the precision of matrix products changed, as importing TerraTorch's Clay does."""
    yield
    if (torch := sys.modules.get("torch")) is not None and (found := torch.get_float32_matmul_precision()) != "highest":
        torch.set_float32_matmul_precision("highest")
        pytest.fail(f"the test left matrix products at the precision {found!r}: import TerraTorch inside terratorch_kept_quiet()")
