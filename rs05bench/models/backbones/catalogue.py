"""The encoders rs05bench knows: bands, statistics, licence, pretraining data and source of the weights.

Statistics are those the encoders were pretrained with, in reflectance x 10,000, and are never replaced by those of a data set: a frozen
encoder must see what it was taught to see. Sources: TerraTorch 1.2 (Prithvi, TerraMind), TorchGeo 0.9 (Satlas, DOFA weights and their
pinned revisions), Clay's published ``metadata.yaml``, DOFA's published demonstration. Licences and pretraining data are those of the page
each ``source`` names; where several pages disagree, the makers' own word counts (Satlas: the maker's page says ODC-BY, its hub repository
Apache-2.0). Encoders of timm are read from timm's own configuration (`timm_names`).
"""

from __future__ import annotations

from rs05bench.errors import DataError
from rs05bench.models.backbones.bands import Slot
from rs05bench.models.backbones.spec import BackboneSpec, Layout, WeightsSource
from rs05bench.models.backbones.timm_names import EFFICIENTNET_LITE0, PREFIX, WHITE, picture_slots, timm_spec

_HLS6 = ("BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2")
_PRITHVI_SLOTS = tuple(
    Slot(band, mean, std)
    for band, mean, std in zip(
        _HLS6, (1087.0, 1342.0, 1433.0, 2734.0, 1958.0, 1363.0), (2248.0, 2179.0, 2178.0, 1850.0, 1242.0, 1049.0), strict=True
    )
)
_CLAY_SLOTS = (
    Slot("BLUE", 1105.0, 1809.0),
    Slot("GREEN", 1355.0, 1757.0),
    Slot("RED", 1552.0, 1888.0),
    Slot("RED_EDGE_1", 1887.0, 1870.0),
    Slot("RED_EDGE_2", 2422.0, 1732.0),
    Slot("RED_EDGE_3", 2630.0, 1697.0),
    Slot("NIR_BROAD", 2743.0, 1742.0),
    Slot("NIR_NARROW", 2785.0, 1648.0),
    Slot("SWIR_1", 2388.0, 1470.0),
    Slot("SWIR_2", 1835.0, 1379.0),
)
_TERRAMIND_SLOTS = (
    Slot("COASTAL_AEROSOL", 1390.458, 2106.761),
    Slot("BLUE", 1503.317, 2141.107),
    Slot("GREEN", 1718.197, 2038.973),
    Slot("RED", 1853.91, 2134.138),
    Slot("RED_EDGE_1", 2199.1, 2085.321),
    Slot("RED_EDGE_2", 2779.975, 1889.926),
    Slot("RED_EDGE_3", 2987.011, 1820.257),
    Slot("NIR_BROAD", 3083.234, 1871.918),
    Slot("NIR_NARROW", 3132.22, 1753.829),
    Slot("WATER_VAPOR", 3162.988, 1797.379),
    Slot("SWIR_1", 2424.884, 1434.261),
    Slot("SWIR_2", 1857.648, 1334.311),
)

# Satlas reads the 8-bit true-colour image (255 at a reflectance of 0.3558, Sentinel-2 L1C) and the other bands divided by 8160, both
# clipped to 0-1.
_TCI, _SATLAS_RANGE = 3558.0, 8160.0


def _satlas(band: str, top: float, accepts: tuple[str, ...] = ()) -> Slot:
    return Slot(band, 0.0, top, clip=(0.0, top), accepts=accepts)


_SATLAS_S2_SLOTS = (
    _satlas("RED", _TCI),
    _satlas("GREEN", _TCI),
    _satlas("BLUE", _TCI),
    _satlas("RED_EDGE_1", _SATLAS_RANGE),
    _satlas("RED_EDGE_2", _SATLAS_RANGE),
    _satlas("RED_EDGE_3", _SATLAS_RANGE),
    _satlas("NIR_BROAD", _SATLAS_RANGE, accepts=("NIR_NARROW",)),
    _satlas("SWIR_1", _SATLAS_RANGE),
    _satlas("SWIR_2", _SATLAS_RANGE),
)
# Landsat Collection 2 counts are (reflectance + 0.1) / 2e-5 and Satlas takes (count - 4000) / 16320; both put together in reflectance x
# 10,000.
_SATLAS_LANDSAT_SLOTS = tuple(
    Slot(band, -200.0, 3264.0, clip=(-200.0, 3064.0), accepts=accepts)
    for band, accepts in (
        ("COASTAL_AEROSOL", ()),
        ("BLUE", ()),
        ("GREEN", ()),
        ("RED", ()),
        ("NIR_NARROW", ("NIR_BROAD",)),
        ("SWIR_1", ()),
        ("SWIR_2", ()),
    )
)
# Aerial imagery is 8-bit: declare scale 255, so that 1 is white.
_SATLAS_AERIAL_SLOTS = tuple(Slot(band, 0.0, 10_000.0, clip=(0.0, 10_000.0)) for band in ("RED", "GREEN", "BLUE"))


def _dofa(band: str, mean: float, std: float, top: float, accepts: tuple[str, ...] = ()) -> Slot:
    """DOFA publishes means of 8-bit data.

    One count is top / 255 of reflectance x 10,000 (the SatlasPretrain conversion it was trained on).
    """
    return Slot(band, mean * top / 255, std * top / 255, clip=(0.0, top), accepts=accepts)


_DOFA_SLOTS = (
    _dofa("RED", 114.1099739, 77.84352553, _TCI),
    _dofa("GREEN", 114.81779093, 69.96844919, _TCI),
    _dofa("BLUE", 126.63977424, 67.42465279, _TCI),
    _dofa("RED_EDGE_1", 84.33539309, 64.57022983, _SATLAS_RANGE),
    _dofa("RED_EDGE_2", 97.84789168, 61.72545487, _SATLAS_RANGE),
    _dofa("RED_EDGE_3", 103.94461911, 61.34187099, _SATLAS_RANGE),
    _dofa("NIR_BROAD", 101.435633, 60.29744676, _SATLAS_RANGE, accepts=("NIR_NARROW",)),
    _dofa("SWIR_1", 72.32804172, 47.88519516, _SATLAS_RANGE),
    _dofa("SWIR_2", 56.66528851, 42.55886798, _SATLAS_RANGE),
)
_DINO_SLOTS = picture_slots((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

_GALILEO_SLOTS = tuple(
    Slot(band, mean, std)
    for band, mean, std in (
        ("BLUE", 1395.3408730676722, 917.7041440370853),
        ("GREEN", 1338.4026921784578, 913.2988423581528),
        ("RED", 1343.09883810357, 1092.678723527555),
        ("RED_EDGE_1", 1543.8607982512297, 1047.2206083460424),
        ("RED_EDGE_2", 2186.2022069512263, 1048.0101611156767),
        ("RED_EDGE_3", 2525.0932853316694, 1143.6903026819996),
        ("NIR_BROAD", 2410.3377187373408, 1098.979177731649),
        ("NIR_NARROW", 2750.2854646886753, 1204.472755085893),
        ("SWIR_1", 2234.911100061487, 1145.9774063078878),
        ("SWIR_2", 1474.5311266077113, 980.2429840007796),
    )
)
_OLMOEARTH_SLOTS = tuple(
    Slot(band, mean, std)
    for band, mean, std in (
        ("COASTAL_AEROSOL", 1115.8494388252218, 1955.6991794280914),
        ("BLUE", 1188.9412572078477, 1859.1923971769581),
        ("GREEN", 1407.7739105458452, 1727.7387413631088),
        ("RED", 1513.0573882432757, 1740.7757298757895),
        ("RED_EDGE_1", 1890.9893042634167, 1754.7320388511766),
        ("RED_EDGE_2", 2483.7812315422448, 1622.1172720635755),
        ("RED_EDGE_3", 2722.728248756412, 1621.8226170190276),
        ("NIR_BROAD", 2755.481305028308, 1612.2565699990187),
        ("NIR_NARROW", 2885.570263047681, 1611.3587521042082),
        ("WATER_VAPOR", 3269.812554170875, 2651.088425085525),
        ("SWIR_1", 2562.852607796968, 1441.5471830655151),
        ("SWIR_2", 1914.1383249044113, 1328.8914382756407),
    )
)

_VIT = Layout(r"blocks\.\d+")
_SPLIT = Layout(r"blocks\.\d+", split=("attn.q", "attn.k", "attn.v"))
_CLAY_LAYOUT = Layout(r"clay_encoder\.transformer\.layers\.\d+", qkv="0.to_qkv", out="0.to_out", mlp=("1.net.1", "1.net.3"), mlp_module="1")
_SWIN_LAYOUT = Layout(r"swin_model\.features\.[1357]\.\d+", mlp=("mlp.0", "mlp.3"), functional_attention=True)

_PRITHVI_PAPER = "Szwarcman et al. 2024, Prithvi-EO-2.0, arXiv:2412.02732"
# As the makers of OlmoEarth pin them in rslearn; nobody's public code pins the others of Prithvi, Clay, TerraMind, DINOv3 or OlmoEarth.
_PRITHVI_REVISIONS = {
    "Prithvi-EO-2.0-300M": "b2f2520ab889f42a25c5361ba18761fcb4ea44ad",
    "Prithvi-EO-2.0-600M": "87f15784813828dc37aa3197a143cd4689e4d080",
}
_SATLAS_REVISION = "081d6607431bf36bdb59c223777cbb267131b8f2"
_DOFA_REVISION = "b8db318b64a90b9e085ec04ba8851233c5893666"


def _prithvi(
    name: str, builder: str, repository: str, filename: str, *, dim: int, depth: int, patch: int = 16, tl: bool = False
) -> BackboneSpec:
    step = depth // 4
    return BackboneSpec(
        name=name,
        family="prithvi",
        builder=builder,
        slots=_PRITHVI_SLOTS,
        patch=patch,
        dim=dim,
        depth=depth,
        layout=_VIT,
        layers=(step - 1, 2 * step - 1, 3 * step - 1, depth - 1),
        weights=WeightsSource(f"ibm-nasa-geospatial/{repository}", filename, _PRITHVI_REVISIONS.get(repository)),
        licence="Apache-2.0",
        pretraining=("HLS V2 (4.2 million global time series)",),
        source=f"huggingface.co/ibm-nasa-geospatial/{repository}; arXiv:2412.02732",
        citation=_PRITHVI_PAPER,
        frames="native",
        coordinates=builder.endswith("_tl"),
        coordinates_default=tl,
        resolution_m=30.0,
        note="Time and location encodings are off unless coordinates=True." if builder.endswith("_tl") and not tl else "",
    )


def _satlas_swin(name: str, builder: str, slots: tuple[Slot, ...], filename: str, resolution_m: float, note: str = "") -> BackboneSpec:
    return BackboneSpec(
        name=name,
        family="satlas",
        builder=builder,
        slots=slots,
        # Four stages, each halving a stride of 4: anything but a multiple of 32 would be cropped.
        patch=32,
        dim=1024,
        depth=24,
        layout=_SWIN_LAYOUT,
        layers=(0, 1, 2, 3),
        weights=WeightsSource("torchgeo/satlas", filename, _SATLAS_REVISION),
        licence="ODC-BY",
        # Its labels are what a task may overlap with.
        pretraining=(
            "SatlasPretrain",
            "Sentinel-2",
            "Sentinel-1",
            "Landsat 8/9",
            "NAIP",
            "OpenStreetMap",
            "ESA WorldCover",
            "C2S-MS Floods",
            "Microsoft Buildings",
            "NOAA lidar",
        ),
        source="github.com/allenai/satlas (SatlasPretrain.md); github.com/microsoft/torchgeo/issues/1861",
        citation="Bastani et al. 2023, SatlasPretrain, arXiv:2211.15660",
        require_all=False,
        resolution_m=resolution_m,
        note=note,
        widths=(128, 256, 512, 1024),
        white=10_000.0 if slots is _SATLAS_AERIAL_SLOTS else None,
    )


def _galileo(size: str, dim: int, depth: int) -> BackboneSpec:
    step = depth // 4
    return BackboneSpec(
        name=f"galileo-{size}",
        family="galileo",
        builder=size,
        slots=_GALILEO_SLOTS,
        patch=4,
        patches=tuple(range(1, 9)),
        dim=dim,
        depth=depth,
        layout=_SPLIT,
        layers=(step - 1, 2 * step - 1, 3 * step - 1, depth - 1),
        weights=WeightsSource("nasaharvest/galileo", f"models/{size}/encoder.pt", "f039dd5dde966a931baeda47eb680fa89b253e4e"),
        licence="MIT",
        pretraining=(
            "Sentinel-2",
            "Sentinel-1",
            "ERA5",
            "TerraClimate",
            "VIIRS night lights",
            "SRTM",
            "Dynamic World",
            "ESA WorldCereal",
            "LandScan",
        ),
        source="github.com/nasaharvest/galileo (LICENSE); arXiv:2502.09356",
        citation="Tseng et al. 2025, Galileo, arXiv:2502.09356",
        require_all=False,
        frames="native",
        coordinates=True,
        square=True,
        note="Takes whole channel groups only; 8-bit pictures are rescaled by a declared white. Pretrained towards Dynamic World and "
        "WorldCereal: declare the overlap when one of them is the label.",
    )


def _olmoearth(version: str, size: str, dim: int, depth: int) -> BackboneSpec:
    step = depth // 4
    title = {"1": "OlmoEarth-v1", "1.2": "OlmoEarth-v1_2"}[version] + f"-{size.capitalize()}"
    return BackboneSpec(
        name=f"olmoearth-{version}-{size}",
        family="olmoearth",
        builder=f"v{version}/{size}",
        slots=_OLMOEARTH_SLOTS,
        patch=4,
        patches=tuple(range(1, 9)),
        dim=dim,
        depth=depth,
        layout=_SPLIT,
        layers=(step - 1, 2 * step - 1, 3 * step - 1, depth - 1),
        weights=WeightsSource(f"allenai/{title}", "weights.pth"),
        licence="OlmoEarth Artifact License",
        pretraining=("Sentinel-2", "Sentinel-1", "Landsat 8/9", "ESA WorldCover", "OpenStreetMap", "SRTM", "USDA CDL", "WorldCereal"),
        source=f"huggingface.co/allenai/{title}; github.com/allenai/olmoearth_pretrain",
        citation="Herzog et al. 2025, OlmoEarth, arXiv:2511.13655",
        require_all=False,
        frames="native",
        coordinates=True,
        square=True,
        note="Bands that the data lack are filled as the makers' evaluations do. Its licence forbids some uses.",
    )


_SPECS = (
    _prithvi("prithvi-tiny", "prithvi_eo_v2_tiny_tl", "Prithvi-EO-2.0-tiny-TL", "Prithvi_EO_V2_tiny_TL.pt", dim=192, depth=12),
    _prithvi("prithvi-100", "prithvi_eo_v2_100_tl", "Prithvi-EO-2.0-100M-TL", "Prithvi_EO_V2_100M_TL.pt", dim=768, depth=12),
    _prithvi("prithvi-300", "prithvi_eo_v2_300", "Prithvi-EO-2.0-300M", "Prithvi_EO_V2_300M.pt", dim=1024, depth=24),
    _prithvi("prithvi-300-tl", "prithvi_eo_v2_300_tl", "Prithvi-EO-2.0-300M-TL", "Prithvi_EO_V2_300M_TL.pt", dim=1024, depth=24, tl=True),
    _prithvi("prithvi-600", "prithvi_eo_v2_600", "Prithvi-EO-2.0-600M", "Prithvi_EO_V2_600M.pt", dim=1280, depth=32, patch=14),
    _prithvi(
        "prithvi-600-tl",
        "prithvi_eo_v2_600_tl",
        "Prithvi-EO-2.0-600M-TL",
        "Prithvi_EO_V2_600M_TL.pt",
        dim=1280,
        depth=32,
        patch=14,
        tl=True,
    ),
    BackboneSpec(
        name="clay",
        family="clay",
        builder="clay_v1_base",
        slots=_CLAY_SLOTS,
        patch=8,
        dim=768,
        depth=12,
        layout=_CLAY_LAYOUT,
        layers=(2, 5, 8, 11),
        weights=WeightsSource("made-with-clay/Clay-legacy", "v1/clay-v1-base.ckpt"),
        licence="OpenRAIL-M",
        pretraining=("Sentinel-2 L2A", "Sentinel-1 RTC", "Landsat C2 L1 and L2", "NAIP", "LINZ"),
        source="github.com/Clay-foundation/model (specification of release v1.0: code Apache-2.0, weights OpenRAIL-M)",
        citation="Clay Foundation Model v1, 2024",
        require_all=False,
        coordinates=True,
        fixed_size=True,
        note="Takes any subset of its bands by their wavelengths; the ground sampling distance comes from the data. Released under "
        "OpenRAIL-M, whose section 5 forbids some uses.",
    ),
    BackboneSpec(
        name="clay-1.5",
        family="clay-1.5",
        builder="clay_v15",
        slots=_CLAY_SLOTS,
        patch=8,
        dim=1024,
        depth=24,
        layout=_CLAY_LAYOUT,
        # TerraTorch's Clay 1.5 transformer returns its last layer only; the decoder reads that layer four times.
        layers=(23, 23, 23, 23),
        weights=WeightsSource("made-with-clay/Clay", "v1.5/clay-v1.5.ckpt"),
        licence="Apache-2.0",
        pretraining=("Sentinel-2 L2A", "Sentinel-1 RTC", "Landsat C2 L1 and L2", "NAIP", "LINZ", "MODIS"),
        source="github.com/Clay-foundation/model (specification of release v1.5: code and weights Apache-2.0)",
        citation="Clay Foundation Model v1.5, 2024",
        require_all=False,
        coordinates=True,
        square=True,
        note="Takes any subset of its bands by their wavelengths; the ground sampling distance comes from the data.",
    ),
    _satlas_swin("satlas", "satlas_swin_b_sentinel2_si_ms", _SATLAS_S2_SLOTS, "sentinel2_swinb_si_ms-fe22a12c.pth", 10.0),
    _satlas_swin(
        "satlas-landsat",
        "satlas_swin_b_landsat_mi_ms",
        _SATLAS_LANDSAT_SLOTS,
        "landsat_swinb_si-4af978f6.pth",
        30.0,
        "The thermal, panchromatic and cirrus inputs of the checkpoint are left out: surface-reflectance data have none.",
    ),
    _satlas_swin(
        "satlas-aerial",
        "satlas_swin_b_naip_si_rgb",
        _SATLAS_AERIAL_SLOTS,
        "aerial_swinb_si-e4169eb1.pth",
        1.0,
        "8-bit aerial RGB: scale 255.",
    ),
    BackboneSpec(
        name="terramind-tiny",
        family="terramind",
        builder="terramind_v1_tiny",
        slots=_TERRAMIND_SLOTS,
        patch=16,
        dim=192,
        depth=12,
        layout=Layout(r"encoder\.\d+"),
        layers=(2, 5, 8, 11),
        weights=WeightsSource("ibm-esa-geospatial/TerraMind-1.0-tiny", "TerraMind_v1_tiny.pt"),
        licence="Apache-2.0",
        pretraining=("TerraMesh", "Sentinel-2", "Sentinel-1", "Copernicus DEM", "NDVI", "ESRI land use/land cover"),
        source="huggingface.co/ibm-esa-geospatial/TerraMind-1.0-tiny; arXiv:2504.11172 (TerraMesh)",
        citation="Jakubik et al. 2025, TerraMind, arXiv:2504.11171",
        require_all=False,
        note="Pretrained towards a land-cover map: declare the overlap when that map is the label.",
    ),
    BackboneSpec(
        name="dinov3",
        family="timm",
        builder="vit_small_patch16_dinov3",
        slots=_DINO_SLOTS,
        patch=16,
        dim=384,
        depth=12,
        layout=Layout(r"blocks\.\d+"),
        layers=(2, 5, 8, 11),
        weights=WeightsSource("timm/vit_small_patch16_dinov3.lvd1689m", "model.safetensors"),
        licence="DINOv3 License",
        pretraining=("LVD-1689M (web images)",),
        source="huggingface.co/timm/vit_small_patch16_dinov3.lvd1689m; timm's own configuration (dinov3-license)",
        citation="Simeoni et al. 2025, DINOv3, arXiv:2508.10104",
        white=WHITE,
        note="RGB only; reflectance 0-0.3 is stretched to 0-1, and 8-bit pictures are taken as they are.",
    ),
    BackboneSpec(
        name="dofa",
        family="dofa",
        builder="dofa_base_patch16_224",
        slots=_DOFA_SLOTS,
        patch=16,
        dim=768,
        depth=12,
        layout=Layout(r"dofa_model\.blocks\.\d+"),
        layers=(2, 5, 8, 11),
        weights=WeightsSource("torchgeo/dofa", "dofa_base_patch16_224-a0275954.pth", _DOFA_REVISION),
        licence="CC-BY-4.0",
        pretraining=("SatlasPretrain", "Five-Billion-Pixels", "HySpecNet-11k"),
        source="huggingface.co/torchgeo/dofa (CC-BY-4.0); data as in TorchGeo's DOFABase16_Weights",
        citation="Xiong et al. 2024, DOFA, arXiv:2403.15356",
        require_all=False,
        fixed_size=True,
        note="Takes any subset of its bands by their wavelengths; positions are learned, so the image size is fixed when built.",
    ),
    EFFICIENTNET_LITE0,
    *(_galileo(size, dim, depth) for size, dim, depth in (("nano", 128, 4), ("tiny", 192, 12), ("base", 768, 12))),
    *(
        _olmoearth(version, size, dim, depth)
        for version in ("1", "1.2")
        for size, dim, depth in (("nano", 128, 4), ("tiny", 192, 12), ("base", 768, 12))
    ),
)
BACKBONES: dict[str, BackboneSpec] = {spec.name: spec for spec in _SPECS}


def backbone_spec(name: str) -> BackboneSpec:
    """The specification of an encoder.

    Raises:
        DataError: The name is unknown.
    """
    if name not in BACKBONES and name.startswith(PREFIX):
        return timm_spec(name)
    if name not in BACKBONES:
        raise DataError(f"unknown backbone {name!r}", remedy=f"Known: {', '.join(BACKBONES)}, and {PREFIX}<any encoder of timm>.")
    return BACKBONES[name]


def is_backbone(name: str) -> bool:
    """Whether a name is that of an encoder of chips: one of the catalogue, or of timm."""
    return name in BACKBONES or name.startswith(PREFIX)


# Presto reads pixel time series, not chips: it has a module of its own (`rs05bench.models.presto`).
PRESTO_WEIGHTS = WeightsSource("torchgeo/presto", "model-bfa691d3.pth", "40de9c69b1611bb11de7b572cf3d24bb60cb8c82")
PRESTO_LICENCE = "MIT"
PRESTO_PRETRAINING = ("Sentinel-1", "Sentinel-2", "ERA5", "SRTM", "Dynamic World")
PRESTO_CITATION = "Tseng et al. 2023, Presto, arXiv:2304.14065"
