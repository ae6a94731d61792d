"""A folder of chips and masks becomes a task by a YAML card; what does not fit is one clear error."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
import typer
import yaml
from PIL import Image
from rasterio.transform import from_origin
from typer.testing import CliRunner

from rs05bench.cli import card as card_family
from rs05bench.datamodules.chip_datamodule import ChipDataModule
from rs05bench.datamodules.chipsource import ChipSource, chip_card, open_chips
from rs05bench.datasets.burn_scars import HLSBurnScars
from rs05bench.datasets.chip_folder import ChipFolder
from rs05bench.datasets.chip_init import look_at_chips, questions_of_chips
from rs05bench.datasets.chip_layout import ChipLayout, PlaceBands
from rs05bench.datasets.chip_pairs import holds_chips
from rs05bench.errors import DataError
from rs05bench.experiment.map_scene import ImageRequest, NetworkReads, image_scenes
from rs05bench.models.sliding_windows import Window
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.manifest import build_manifest
from tests.datasets.data import write_raster

SIDE = 32
RGB = {"images": "**/images/*.tif", "masks": "**/masks/*.png", "bands": ["RED", "GREEN", "BLUE"], "scale": 255, "labels": {1: "a", 4: "b"}}


def write_folder(root, *, mask="png", count=6, crs="EPSG:4326"):
    """8-bit pictures in degrees, over three longitude bands, in training/ and validation/; masks hold 1, 4 and 9."""
    for number in range(count):
        rng = np.random.default_rng(number)
        part = root / ("training" if number < count - 2 else "validation")
        image = rng.integers(1, 255, (3, SIDE, SIDE)).astype(np.uint8)
        labels = np.where(image[0] > 128, 4, 1).astype(np.uint8)
        labels[0] = 9
        place = from_origin(-63.0 + 4 * number, -5.0, 1e-4, 1e-4)
        write_raster(part / "images" / f"chip_{number}.tif", image, crs, place)
        (part / "masks").mkdir(exist_ok=True)
        if mask == "png":
            Image.fromarray(labels).save(part / "masks" / f"chip_{number}.png")
        elif mask == "npy":
            np.save(part / "masks" / f"chip_{number}.npy", labels)
        else:
            write_raster(part / "masks" / f"chip_{number}.tif", labels[None], crs, place)
    return root


def layout(**changes):
    return ChipLayout(**{**RGB, "ignore": [9], **changes})


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "data")


@pytest.mark.parametrize(("mask", "ending"), [("png", "png"), ("npy", "npy"), ("tif", "tif")])
def test_masks_of_any_format_are_the_same_labels(tmp_path, mask, ending):
    ds = ChipFolder(write_folder(tmp_path, mask=mask), layout(masks=f"**/masks/*.{ending}"))
    sample = ds.chip("chip_0")
    with rasterio.open(tmp_path / "training/images/chip_0.tif") as src:
        red = src.read(1)
    assert np.array_equal(sample["image"][0].numpy(), red)
    assert np.array_equal(sample["mask"][1:].numpy(), (red[1:] > 128).astype(int))
    assert (sample["mask"][0] == -1).all()


def test_units_know_place_part_and_labels(folder):
    units = ChipFolder(folder, layout(groups={"band": {"place": "longitude", "width": 5}})).units().set_index("unit_id")
    assert units["band"].tolist() == ["65W-60W", "60W-55W", "55W-50W", "55W-50W", "50W-45W", "45W-40W"]
    assert units["official"].tolist() == ["train"] * 4 + ["val"] * 2
    assert units["year"].isna().all()
    assert units["labelled_fraction"].tolist() == pytest.approx([31 / 32] * 6)


@pytest.mark.parametrize(("degrees", "name"), [(-0.1, "5W-0E"), (0.0, "0E-5E"), (179.9, "175E-180E"), (-180.0, "180W-175W")])
def test_bands_of_longitude_start_at_multiples_of_their_width(degrees, name):
    assert PlaceBands(place="longitude", width=5).of(degrees) == name


def test_groups_come_from_a_table_whose_codes_keep_their_zeros(folder):
    rows = "".join(f"chip_{number},0{number % 2}\n" for number in range(6))
    (folder / "groups.csv").write_text("id,region\n" + rows)
    source = {"region": {"file": "groups.csv", "id": "id", "column": "region"}}
    assert ChipFolder(folder, layout(groups=source)).units()["region"].tolist() == ["00", "01"] * 3
    (folder / "groups.csv").write_text("id,region\nchip_0,00\n")
    with pytest.raises(DataError, match=r"groups.csv: names no region for 5 of 6 chips, e\.g\. 'chip_1'"):
        ChipFolder(folder, layout(groups=source)).units()


def test_names_that_occur_in_two_folders_take_the_folders_name(tmp_path):
    write_folder(tmp_path)
    for kind, ending in (("images", "tif"), ("masks", "png")):
        shutil.copy(tmp_path / "training" / kind / f"chip_0.{ending}", tmp_path / "validation" / kind / f"chip_0.{ending}")
    ds = ChipFolder(tmp_path, layout())
    assert {"training-chip_0", "validation-chip_0"} <= set(ds.unit_ids)


def test_dates_come_from_names_or_the_card(tmp_path):
    write_raster(tmp_path / "x_20230615_img.tif", np.full((1, 8, 8), 0.2, np.float32), "EPSG:32620", from_origin(5e5, 5e6, 10, 10))
    write_raster(tmp_path / "x_20230615_mask.tif", np.ones((1, 8, 8), np.uint8), "EPSG:32620", from_origin(5e5, 5e6, 10, 10))
    said = {"images": "*.tif", "masks": "*.tif", "image_suffix": "_img", "mask_suffix": "_mask", "bands": ["VV"], "scale": None}
    ds = ChipFolder(tmp_path, layout(**said, date=r"(?P<date>\d{8})"))
    assert ds.units()["year"].tolist() == [2023]
    assert ds.image("x_20230615").dates[0].day_of_year == 166
    assert ds.native_resolution == pytest.approx(10, rel=1e-3)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda root: (root / "training/masks/chip_1.png").unlink(), r"1 of 6 images have no mask, e\.g\. chip_1\.tif"),
        (lambda root: (root / "training/images/chip_1.tif").unlink(), r"1 of 6 masks have no image, e\.g\. chip_1\.png"),
        (
            lambda root: Image.fromarray(np.ones((32, 35), np.uint8)).save(root / "training/masks/chip_2.png"),
            r"chip_2\.tif: its mask chip_2\.png has 32 x 35 pixels, the image 32 x 32",
        ),
        (
            lambda root: Image.fromarray(np.ones((32, 32, 3), np.uint8)).save(root / "training/masks/chip_2.png"),
            r"chip_2\.png: has 3 bands; a mask has one",
        ),
    ],
)
def test_files_that_do_not_pair_are_one_error_that_names_them(folder, change, says):
    change(folder)
    with pytest.raises(DataError, match=says) as caught:
        ChipFolder(folder, layout())
    if "bands" not in says:
        assert "leave_out" in str(caught.value)


def test_a_chip_that_is_left_out_stops_nothing(folder):
    Image.fromarray(np.ones((32, 35), np.uint8)).save(folder / "training/masks/chip_2.png")
    assert "chip_2" not in ChipFolder(folder, layout(leave_out=["chip_2"])).unit_ids


@pytest.mark.parametrize("scale", [1, 10_000])
def test_8_bit_values_are_no_reflectance(folder, scale):
    with pytest.raises(DataError, match=r"8-bit values \(0 to 255\)"):
        ChipFolder(folder, layout(scale=scale))


def test_values_the_card_does_not_name_are_refused(folder):
    with pytest.raises(DataError, match=r"holds the values 9, which preprocessing\.chips does not name"):
        ChipFolder(folder, layout(ignore=[])).chip("chip_0")
    with pytest.raises(DataError, match=r"has 3 bands; preprocessing\.chips says RED, NIR_BROAD \(2\)"):
        ChipFolder(folder, layout(bands=["RED", "NIR_BROAD"]))


def test_plot_shows_dates_mask_and_prediction(folder):
    ds = ChipFolder(folder, layout())
    sample = ds.chip("chip_0")
    assert len(ds.plot(sample | {"prediction": sample["mask"]}).axes) == 3


# --- the card ---------------------------------------------------------------------------------------------------------------------------


def command(*words):
    app = typer.Typer()
    card_family.register(app)
    app.callback()(lambda: None)
    result = CliRunner().invoke(app, ["card", *map(str, words)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def init(folder, card, *options):
    return command("init", folder, "--out", card, "--yes", *options)


def test_card_init_looks_asks_and_leaves_out_what_does_not_fit(folder, tmp_path):
    Image.fromarray(np.ones((32, 35), np.uint8)).save(folder / "training/masks/chip_2.png")
    (folder / "training/masks/chip_3.png").unlink()
    done = init(folder, tmp_path / "c.yaml", "--classes", "1=grass,4=tree", "--name", "mine")
    assert done.exit_code == 0, done.output
    assert "32 x 35" in done.output
    assert "1 images have no mask" in done.output
    said = yaml.safe_load((tmp_path / "c.yaml").read_text())["preprocessing"]["chips"]
    assert said["scale"] == 255
    assert said["labels"] == {"1": "grass", "4": "tree"}
    assert said["ignore"] == [9]
    assert said["leave_out"] == ["chip_2", "chip_3"]
    source = open_chips(TaskCard.load(tmp_path / "c.yaml"), folder)
    assert len(source.units().frame) == 4


def test_card_init_takes_bands_scale_and_groups_from_the_files(tmp_path):
    """UTM, two pairs of bands with descriptions, reflectance times 20,000 as the files declare, districts in a table beside them."""
    root = tmp_path / "plots"
    names, districts = [f"plot_{number}" for number in range(6)], ["north", "north", "south", "south", "west", "west"]
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        place = from_origin(300_000 + 9_000 * number, 5_300_000, 10, 10)
        write_raster(root / "img" / f"{name}.tif", rng.integers(1, 9_000, (4, SIDE, SIDE)).astype(np.uint16), "EPSG:32633", place)
        with rasterio.open(root / "img" / f"{name}.tif", "r+") as image:
            image.descriptions, image.scales = ("B05", "thermal 1", "B05", "thermal 1"), (1 / 20_000,) * 4
        (root / "lab").mkdir(exist_ok=True)
        Image.fromarray(rng.choice([10, 20, 200], (SIDE, SIDE)).astype(np.uint8)).save(root / "lab" / f"{name}.png")
    pd.DataFrame({"plot": names, "note": names, "district": districts}).to_csv(root / "where.csv", index=False)
    done = init(root, tmp_path / "c.yaml")
    said = yaml.safe_load((tmp_path / "c.yaml").read_text())
    chips = said["preprocessing"]["chips"]
    assert (chips["bands"], chips["dates"], chips["scale"]) == (["B05", "thermal_1"], 2, 20_000), done.output
    assert chips["labels"] == {"10": "10", "20": "20", "200": "200"}
    assert said["splits"][0] == "leave-district-out"
    units = open_chips(TaskCard.load(tmp_path / "c.yaml"), root).units().frame
    assert dict(zip(units["unit_id"], units["district"], strict=True)) == dict(zip(names, districts, strict=True))


def test_bands_in_another_order_in_one_file_are_refused(folder, tmp_path):
    for number, path in enumerate(sorted(folder.rglob("images/*.tif"))):
        with rasterio.open(path, "r+") as image:
            image.descriptions = ("red", "green", "blue") if number else ("blue", "green", "red")
    with pytest.raises(DataError, match=r"chip_1\.tif: describes its bands as red, green, blue, and chip_0\.tif has them as blue"):
        ChipFolder(folder, layout())
    with pytest.raises(DataError, match="describes its bands as blue, green, red, and the card has them as red, green, blue"):
        ChipFolder(folder, layout(bands=["red", "green", "blue"]))
    with pytest.raises(DataError, match="describes its bands"):
        init(folder, tmp_path / "c.yaml")


def test_card_init_warns_of_8_bit_values_and_refuses_to_call_them_reflectance_times_one(folder, tmp_path):
    assert "8-bit values are colours of a picture" in init(folder, tmp_path / "c.yaml").output
    with pytest.raises(DataError, match=r"8-bit values .0 to 255., and the card's scale says that 1 is a reflectance of 1"):
        init(folder, tmp_path / "d.yaml", "--scale", "1")
    assert not (tmp_path / "d.yaml").exists()


def test_places_close_together_get_narrower_bands(tmp_path):
    for number in range(4):
        place = from_origin(-63.0 + 0.3 * number, -5.0, 1e-4, 1e-4)
        write_raster(tmp_path / "images" / f"{number}.tif", np.full((3, 8, 8), 9, np.uint8), "EPSG:4326", place)
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / "masks" / f"{number}.png")
    asked = {field: suggestion for field, _, suggestion in questions_of_chips(look_at_chips(tmp_path), {})}
    # Half degrees would still be two groups: -63.0 and -62.7, -62.4 and -62.1.
    assert asked["groups"] == "longitude:0.2"


def test_a_card_of_init_is_right_and_a_model_runs_on_it(folder, tmp_path):
    import rs05bench as rb

    done = init(folder, tmp_path / "c.yaml", "--classes", "1=grass,4=tree")
    checked = command("check", tmp_path / "c.yaml", "--data", folder)
    assert "official" in checked.output, done.output
    card = TaskCard.load(tmp_path / "c.yaml")
    training = card.training.model_copy(update={"steps": 2, "val_every": 1, "learning_rates": [1e-3]})
    source = open_chips(card.model_copy(update={"training": training}), folder)
    dm = ChipDataModule(source, "official")
    result = rb.run(dm, "raw/unet", accelerator="cpu")
    assert 0 <= result.scores["test_id"]["miou"] <= 1


def test_the_same_chips_through_two_readers_are_the_same_to_the_bit(chip_folder):
    """Burn scars by their own reader, and by a card over the same files."""
    root = chip_folder / "hls_burn_scars"
    own = HLSBurnScars(root)
    said = {
        "images": "**/*_merged.tif",
        "masks": "**/*.mask.tif",
        "image_suffix": "_merged",
        "mask_suffix": ".mask",
        "id": r"T\w{5}\.\d{7}",
        "bands": list(own.bands),
        "scale": 1,
        "labels": dict(enumerate(own.classes)),
        "ignore": [-1],
        "nodata": [-9999, 9999, float(np.float32(-0.9999))],
        "date": r"(?P<date>\d{7})\.v",
    }
    other = ChipFolder(root, ChipLayout(**said))
    assert other.unit_ids == own.unit_ids
    for unit in own.unit_ids:
        for key in ("mask", "valid"):
            assert torch.equal(own.chip(unit)[key], other.chip(unit)[key])
        assert torch.equal(own.chip(unit)["image"], other.chip(unit)["image"])
    import rs05bench as rb

    card = chip_card("burn-scars", root)
    training = card.training.model_copy(update={"steps": 2, "val_every": 1, "learning_rates": [1e-3]})
    card = card.model_copy(
        update={"groups": [], "budgets": ["full"], "splits": ["random"], "training": training, "split_options": type(card.split_options)()}
    )
    mine = card.with_preprocessing(chips=said).model_copy(update={"reader": "chips"})
    modules = [ChipDataModule(ChipSource(root, one), "random") for one in (card, mine)]
    for module in modules:
        module.setup()
    # From the inside out, so that a difference is reported where it arises: roles, labels, batches, the fit, the scores.
    assert modules[0].manifest.table.equals(modules[1].manifest.table)
    assert modules[0].budget.digest == modules[1].budget.digest
    for one, two in zip(*(module.view.train_dataloader() for module in modules), strict=True):
        assert one["unit_id"] == two["unit_id"]
        assert all(torch.equal(one[key].nan_to_num(), two[key].nan_to_num()) for key in ("image", "mask", "time", "location"))
    threads, results = [], []
    for module in modules:
        threads.append(torch.get_num_threads())  # another number adds in another order
        results.append(rb.run(module, "raw/unet", accelerator="cpu"))
    assert threads[0] == threads[1]
    # As text: a score that is not a number (a class that neither predicts) is no difference between the two.
    assert str(results[0].training.curves) == str(results[1].training.curves)
    assert str(results[0].scores) == str(results[1].scores)


@pytest.mark.real
def test_the_amazon_chips_are_a_task_by_one_command(real, tmp_path):
    root = real("amazon_forest")
    done = init(root, tmp_path / "c.yaml", "--classes", "1=forest,2=not forest")
    assert "Amazon_181.tiff_34: the mask has 512 x 515 pixels" in done.output
    source = open_chips(TaskCard.load(tmp_path / "c.yaml"), root)
    units = source.frame
    assert len(units) == 44
    assert units["official"].value_counts().to_dict() == {"train": 29, "val": 15}
    assert units["labelled_fraction"].min() == 1.0


def test_a_table_of_groups_beside_chips_does_not_make_the_folder_one_of_tables(folder):
    (folder / "groups.csv").write_text("id,farm\na,1\n")
    assert holds_chips(folder)


def write_dates(root, name, *, dates=("2022-05-01", "2022-07-01"), plots=4):
    """Plots in UTM, an image per date and one mask of 0 and 255 for all dates; returns the pixels of each plot, dates one after another."""
    found = {}
    for plot in range(plots):
        rng, place = np.random.default_rng(plot), from_origin(5e5 + 9e4 * plot, 5e6, 10, 10)
        found[f"p{plot}"] = rng.integers(1, 9_000, (2 * len(dates), 8, 8)).astype(np.int16)
        for at, date in enumerate(dates):
            path = root / "images" / name.format(plot=f"p{plot}", date=date)
            write_raster(path, found[f"p{plot}"][2 * at : 2 * at + 2], "EPSG:32633", place, nodata=-9999)
        (root / "masks").mkdir(exist_ok=True)
        Image.fromarray((found[f"p{plot}"][0] > 4_000).astype(np.uint8) * 255).save(root / "masks" / f"p{plot}.png")
    return found


@pytest.mark.parametrize("name", ["{plot}_{date}.tif", "S2-{date}_{plot}.tif", "{date}/{plot}.tif"])
def test_a_file_per_date_is_one_chip_of_several_dates(tmp_path, name):
    if name.startswith("S2"):
        said = {"id": r"p\d+"}
        pixels = write_dates(tmp_path, name)
    else:
        pixels, said = write_dates(tmp_path, name), {}
        assert init(tmp_path, tmp_path / "c.yaml", "--bands", "RED,NIR").exit_code == 0
        chips = yaml.safe_load((tmp_path / "c.yaml").read_text())["preprocessing"]["chips"]
        assert (chips["dates"], chips["file_per_date"], chips["labels"]) == (2, True, {"0": "0", "255": "255"})
    dates = {"dates": 2, "file_per_date": True, "date": r"(?P<date>\d{4}-\d{2}-\d{2})"}
    ds = ChipFolder(tmp_path, layout(images="**/*.tif", bands=["RED", "NIR"], scale=10_000, labels={0: "a", 255: "b"}, **dates, **said))
    assert ds.unit_ids == sorted(pixels)
    for unit, values in pixels.items():
        assert np.array_equal(ds.read(unit).image.reshape(4, 8, 8), values)
    assert [str(date.date()) for date in ds.image("p0").dates] == ["2022-05-01", "2022-07-01"]
    assert len(ds.files) == 8


def test_a_map_reads_a_file_per_date_as_the_training_did(tmp_path):
    write_dates(tmp_path, "{plot}_{date}.tif", plots=20)
    assert init(tmp_path, tmp_path / "c.yaml", "--bands", "RED,NIR").exit_code == 0
    dm = ChipDataModule(open_chips(TaskCard.load(tmp_path / "c.yaml"), tmp_path), "random")
    dm.setup()
    images = [tmp_path / "images" / f"{name}.tif" for name in ("p1_2022-07-01", "p0_2022-07-01", "p0_2022-05-01", "p1_2022-05-01")]
    scenes = image_scenes(images, ImageRequest(NetworkReads("raw/unet", image=True, embedding=False), dm.view))
    assert [scene.name for scene in scenes] == ["p1", "p0"]
    for scene in scenes:
        assert np.array_equal(scene.batch(Window(0, 0, 8, 8))["image"], dm.source.dataset.read(scene.name).image)
        assert np.array_equal(scene.dates, dm.source.pixels.time(scene.name))
        scene.close()


def test_dates_that_are_missing_or_of_another_kind_are_named(tmp_path):
    write_dates(tmp_path, "{plot}_{date}.tif")
    (tmp_path / "images/p1_2022-07-01.tif").unlink()
    done = init(tmp_path, tmp_path / "c.yaml", "--bands", "RED,NIR")
    assert "p1: 1 dates, and most chips have 2; left out" in done.output
    dates = {"dates": 2, "file_per_date": True, "date": r"(?P<date>\d{4}-\d{2}-\d{2})"}
    said = {"bands": ["RED", "NIR"], "scale": 10_000, "labels": {0: "a", 255: "b"}, **dates}
    with pytest.raises(DataError, match=r"chip 'p1' has 1 images of 1 dates \(p1_2022-05-01.tif\)"):
        ChipFolder(tmp_path, layout(**said))
    write_raster(tmp_path / "images/p1_2022-07-01.tif", np.ones((2, 8, 8), np.float32), "EPSG:32633", from_origin(5.9e5, 5e6, 10, 10))
    with pytest.raises(
        DataError, match=r"p1_2022-07-01.tif: differs from p1_2022-05-01.tif .* float32, EPSG:32633 against 2 bands of int16"
    ):
        ChipFolder(tmp_path, layout(**said))
    with pytest.raises(ValueError, match="file_per_date needs `date`"):
        layout(**said | {"date": ""})


def test_two_dates_of_one_place_are_never_parted(tmp_path):
    """A mask of each date: each date is a unit; in no split, not even the random one, one trains where the other is judged."""
    for number in range(40):
        stem, place = f"p{number // 2}_2022-0{5 + number % 2}-01", from_origin(5e5 + 9e3 * (number // 2), 5e6 + 20 * (number % 2), 10, 10)
        write_raster(tmp_path / "images" / f"{stem}.tif", np.full((3, 8, 8), number + 1, np.uint8), "EPSG:32633", place)
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(np.eye(8, dtype=np.uint8) * 3 + 1).save(tmp_path / "masks" / f"{stem}.png")
    assert init(tmp_path, tmp_path / "c.yaml", "--groups", "longitude:1").exit_code == 0
    source = open_chips(TaskCard.load(tmp_path / "c.yaml"), tmp_path)
    assert source.units().frame["place"].nunique() == 20
    for split in ("random", "leave-longitude-band-out"):
        manifest = build_manifest(source.card, source.units(), split)
        for fold in manifest.folds:
            role = manifest.fold(fold).set_index("unit_id")["role"].astype(str)
            dates = [role[[unit.endswith(f"0{month}-01") for unit in role.index]].tolist() for month in (5, 6)]
            assert dates[0] == dates[1]
            assert {"train", "val"} <= set(dates[0])


@pytest.mark.parametrize("names", [("image_{}", "mask_{}"), ("{}", "gt_{}"), ("S2.{}", "{}"), ("a_{}_merged", "a_{}.mask")])
def test_names_that_differ_at_one_end_are_paired(tmp_path, names):
    (tmp_path / "masks").mkdir()
    for number in ("001", "x-2", "7"):
        place = from_origin(5e5 + 9e4 * len(number), 5e6, 10, 10)
        write_raster(tmp_path / "images" / f"{names[0].format(number)}.tif", np.ones((3, 4, 4), np.uint8), "EPSG:32633", place)
        Image.fromarray(np.eye(4, dtype=np.uint8)).save(tmp_path / "masks" / f"{names[1].format(number)}.png")
    assert init(tmp_path, tmp_path / "c.yaml").exit_code == 0
    ids = open_chips(TaskCard.load(tmp_path / "c.yaml"), tmp_path).dataset.unit_ids
    assert [unit.removeprefix("a_") for unit in ids] == ["001", "7", "x-2"]


@pytest.mark.parametrize("kind", ["npy", "png"])
def test_pictures_that_hold_no_place_are_refused_with_what_to_do(tmp_path, kind):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        values = np.zeros((4, 4), np.uint8)
        np.save(tmp_path / folder / "a.npy", values) if kind == "npy" else Image.fromarray(values).save(tmp_path / folder / "a.png")
    assert holds_chips(tmp_path)
    with pytest.raises(DataError, match=rf"1 images are \.{kind} files .e\.g\. images/a\.{kind}., which hold no place[\s\S]*GeoTIFF"):
        look_at_chips(tmp_path)


def test_masks_of_one_value_are_no_task(tmp_path):
    write_raster(tmp_path / "images/a.tif", np.ones((3, 4, 4), np.uint8), "EPSG:32633", from_origin(5e5, 5e6, 10, 10))
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "masks/a.png")
    with pytest.raises(DataError, match=r"all masks hold one value alone \(0\)"):
        look_at_chips(tmp_path)
