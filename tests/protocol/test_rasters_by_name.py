"""A raster from outside is opened as what its name says: a list of other files under the name of a GeoTIFF reads none of them."""

import ast
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import RasterioError

import rs05bench
from rs05bench.datasets.rasters import read_header
from rs05bench.errors import DataError
from rs05bench.protocol.cog import open_raster_file, write_cog
from rs05bench.protocol.labels import write_masks
from rs05bench.protocol.map_predictions import MapPredictions, MapPredictionWriter
from rs05bench.protocol.pixel_grid import Grid
from tests.protocol.test_labels import chips_card

PLACE = Grid("EPSG:32610", 5e5, 4e6, 30, 30, 16, 16)
MASK = np.zeros((16, 16), np.int16)


def vrt(source: str, kind: str) -> str:
    return (
        f'<VRTDataset rasterXSize="16" rasterYSize="16"><SRS>EPSG:32610</SRS><GeoTransform>500000,30,0,4000000,0,-30</GeoTransform>'
        f'<VRTRasterBand dataType="{kind}" band="1"><SimpleSource><SourceFilename relativeToVRT="0">{source}</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )


@pytest.fixture
def asked():
    """Paths that a loopback server was asked for, and its address."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield seen, f"/vsicurl/http://127.0.0.1:{server.server_port}/secret.tif"
    server.shutdown()
    server.server_close()


def label_pack(tmp_path):
    pack = write_masks(tmp_path / "pack", chips_card(), [("chip", MASK, PLACE)])
    return pack.directory / str(pack.table.loc["chip", "file"]), lambda: pack.read("chip")


def predictions(tmp_path):
    with MapPredictionWriter(tmp_path / "maps", ("no", "burn")) as writer:
        writer.write("chip", "test_ood", np.full((2, 16, 16), 0.5), PLACE)
    found = MapPredictions.read(tmp_path / "maps")
    file = str(found.table["file"].iloc[0])
    return found.directory / file, lambda: found.band(file)


def dataset_file(tmp_path):
    path = tmp_path / "x_merged.tif"
    write_cog(path, MASK, PLACE)
    return path, lambda: read_header(path)


@pytest.mark.parametrize("made", [label_pack, predictions, dataset_file])
@pytest.mark.parametrize("kind", ["Byte", "Float32"])
def test_a_list_of_files_named_tif_is_refused_and_asks_nobody(tmp_path, asked, made, kind):
    seen, address = asked
    path, read = made(tmp_path)
    read()
    elsewhere = tmp_path / "elsewhere.tif"
    write_cog(elsewhere, MASK.astype(np.uint8 if kind == "Byte" else np.float32), PLACE)
    for source in (address, str(elsewhere)):
        path.write_text(vrt(source, kind))
        with pytest.raises(DataError, match=path.name):
            read()
    assert seen == []


def test_a_name_of_no_known_kind_is_opened_as_it_is(tmp_path):
    write_cog(tmp_path / "a.tif", MASK.astype(np.uint8), PLACE)
    (tmp_path / "a.vrt").write_text(vrt(str(tmp_path / "a.tif"), "Byte"))
    with open_raster_file(tmp_path / "a.vrt") as raster:
        assert raster.driver == "VRT"
    with open_raster_file(tmp_path / "a.tif") as raster:
        assert raster.driver == "GTiff"


def test_another_format_under_a_tif_s_name_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    with rasterio.open(tmp_path / "a.png", "w", driver="PNG", width=4, height=4, count=1, dtype="uint8") as raster:
        raster.write(np.ones((1, 4, 4), np.uint8))
    path.write_bytes((tmp_path / "a.png").read_bytes())
    with pytest.raises(RasterioError):
        open_raster_file(path)


def test_every_raster_of_the_package_is_opened_by_its_driver():
    package = Path(rs05bench.__file__).parent
    guessed = [
        f"{path.relative_to(package)}:{call.lineno}"
        for path in sorted(package.rglob("*.py"))
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "rasterio.open"
        # Keywords of a profile (`**profile`) are those of a file that is written.
        if not any(keyword.arg in ("driver", None) for keyword in call.keywords)
    ]
    assert guessed == []
