"""A stand-in of the Earth Engine endpoints that `earthengine-api` calls, on loopback.

It serves the discovery document and the list of algorithms that come with the client, and answers `image:computePixels`,
`table:computeFeatures` and `table:export` by reading the expression the client sent: which features, reducers, grid and year.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from tests.embeddings.tiles import BANDS


class EarthEngineServer:
    """Answers with the values a function gives for coordinates.

    Args:
        value: (zone, x, y, year) -> (64,) components, NaN where masked; x and y in the zone's CRS.
    """

    def __init__(self, value: Callable[[str, float, float, int], np.ndarray]) -> None:
        import ee

        self.value, self.requests, self.broken = value, [], False
        shipped = Path(ee.__file__).parent / "tests"
        self._discovery = (shipped / "cloud_api_discovery_document.json").read_bytes()
        self._algorithms = (shipped / "algorithms.json").read_bytes()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.requests.append(self.path.partition("?")[0])
                body = server._discovery if "discovery" in self.path else server._algorithms
                self.reply(200, body, "application/json")

            def do_POST(self) -> None:
                server.requests.append(self.path.partition("?")[0])
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if server.broken:
                    body = json.dumps(
                        {"error": {"code": 400, "message": "User memory limit exceeded.", "status": "INVALID_ARGUMENT"}}
                    ).encode()
                    return self.reply(400, body, "application/json")
                body, kind = server.answer(self.path, request)
                return self.reply(200, body, kind)

            def reply(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> EarthEngineServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, request: dict) -> tuple[bytes, str]:
        graph = request["expression"]["values"]
        root = resolve(graph, graph[request["expression"]["result"]])
        year, zone = int(find(root, "ImageCollection.load|Collection.filter", "start")[:4]), find_zone(root)
        if path.partition("?")[0].endswith(":computePixels"):
            return self._pixels(request["grid"], zone, year), "application/octet-stream"
        rows = self._features(root, zone, year)
        if path.partition("?")[0].endswith(":export"):
            self.exported = request, rows
            return json.dumps({"name": "projects/mine/operations/TASK1", "metadata": {"state": "PENDING"}}).encode(), "application/json"
        return json.dumps({"type": "FeatureCollection", "features": rows}).encode(), "application/json"

    def _pixels(self, grid: dict, zone: str, year: int) -> bytes:
        shape, affine = grid["dimensions"], grid["affineTransform"]
        assert grid["crsCode"] == f"EPSG:{(32600 if zone[-1] == 'N' else 32700) + int(zone[:-1])}"
        out = np.zeros((shape["height"], shape["width"]), dtype=[(band, "<f4") for band in BANDS])
        for row in range(shape["height"]):
            for column in range(shape["width"]):
                x = affine["translateX"] + affine["scaleX"] * (column + 0.5)
                y = affine["translateY"] + affine["scaleY"] * (row + 0.5)
                vector = self.value(zone, x, y, year)
                out[row, column] = tuple(np.where(np.isnan(vector), -9, vector))  # what unmask(-9) gives
        stream = io.BytesIO()
        np.save(stream, out)
        return stream.getvalue()

    def _features(self, root: Any, zone: str, year: int) -> list[dict]:
        from pyproj import Transformer

        reduction = next(call for call in calls(root) if call["functionName"] == "Image.reduceRegions")["arguments"]
        assert reduction["scale"] == 10
        epsg = int(
            str(reduction["crs"]["arguments"]["crs"] if isinstance(reduction["crs"], dict) else reduction["crs"]).removeprefix("EPSG:")
        )
        change = Transformer.from_crs(4326, epsg, always_xy=True)
        names = [call["functionName"] for call in calls(reduction["reducer"])]
        outputs = [name for key, name in (("Reducer.mean", "mean"), ("Reducer.max", "max"), ("Reducer.stdDev", "stdDev")) if key in names]
        rows = []
        for feature in (call["arguments"] for call in calls(reduction["collection"]) if call["functionName"] == "Feature"):
            coordinates = np.array(feature["geometry"]["arguments"]["coordinates"], dtype=float)
            points = coordinates.reshape(-1, 2)[: max(1, coordinates.size // 2 - 1)]
            vector = self.value(zone, *change.transform(*points.mean(axis=0)), year)
            properties = dict(feature["metadata"])
            if "Reducer.first" in names or len(outputs) == 1:
                made = dict(zip(BANDS, vector, strict=True))
            else:
                made = {f"{band}_{name}": v + shift for shift, name in enumerate(outputs) for band, v in zip(BANDS, vector, strict=True)}
            # Earth Engine leaves out what is masked.
            properties |= {key: float(v) for key, v in made.items() if not np.isnan(v)}
            rows.append({"type": "Feature", "geometry": None, "properties": properties})
        return rows[::-1]  # in no promised order


def resolve(graph: dict, node: Any) -> Any:
    """An expression with its references followed and its constants unwrapped."""
    if "constantValue" in node:
        return node["constantValue"]
    if "valueReference" in node:
        return resolve(graph, graph[node["valueReference"]])
    if "arrayValue" in node:
        return [resolve(graph, item) for item in node["arrayValue"]["values"]]
    if "dictionaryValue" in node:
        return {key: resolve(graph, item) for key, item in node["dictionaryValue"]["values"].items()}
    if "functionInvocationValue" in node:
        call = node["functionInvocationValue"]
        return {
            "functionName": call["functionName"],
            "arguments": {key: resolve(graph, item) for key, item in call.get("arguments", {}).items()},
        }
    raise AssertionError(f"an expression node this stand-in does not know: {list(node)}")


def calls(node: Any) -> list[dict]:
    """Every function call in a resolved expression."""
    found = []
    if isinstance(node, dict):
        if "functionName" in node:
            found.append(node)
        for item in node.values():
            found += calls(item)
    elif isinstance(node, list):
        for item in node:
            found += calls(item)
    return found


def find(root: Any, _where: str, name: str) -> Any:
    """The first argument of a name anywhere."""
    return next(call["arguments"][name] for call in calls(root) if isinstance(call["arguments"].get(name), str))


def find_zone(root: Any) -> str:
    """The zone the collection is filtered by."""
    for call in calls(root):
        arguments = call["arguments"]
        if call["functionName"] == "Filter.equals" and arguments.get("leftField") == "UTM_ZONE":
            return str(arguments["rightValue"])
    raise AssertionError("the collection was not filtered by zone")
