from __future__ import annotations

import os
from pathlib import Path

import pytest

from d3.evaluation.dataset import Dataset, DatasetInvalid


def plant(root: Path, *names: str) -> Path:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    return root


def found(*sources: Path) -> set[tuple[str, str, str]]:
    return {
        (Path(one.path).name, "fake" if one.fake else "real", one.generator)
        for one in Dataset(sources).items()
    }


def test_real_and_fake_by_generator(tmp_path: Path) -> None:
    plant(tmp_path, "real/a.jpg", "fake/sd/b.jpg", "fake/gan/deep/c.jpg")
    assert found(tmp_path) == {
        ("a.jpg", "real", ""),
        ("b.jpg", "fake", "sd"),
        ("c.jpg", "fake", "gan"),
    }


def test_a_folder_for_each_generator_with_categories(tmp_path: Path) -> None:
    plant(
        tmp_path,
        *("progan/cat/0_real/a.png", "progan/cat/1_fake/b.png", "progan/dog/1_fake/c.png"),
        *("Midjourney/imagenet_mj/val/ai/d.png", "Midjourney/imagenet_mj/val/nature/e.png"),
        *("test/biggan/1_fake/f.png", "test/biggan/0_real/g.png"),
    )
    assert found(tmp_path) == {
        ("a.png", "real", "progan"),
        ("b.png", "fake", "progan"),
        ("c.png", "fake", "progan"),
        ("d.png", "fake", "Midjourney"),
        ("e.png", "real", "Midjourney"),
        ("f.png", "fake", "biggan"),
        ("g.png", "real", "biggan"),
    }


def test_flat_folders_are_named_by_the_data_set(tmp_path: Path) -> None:
    plant(tmp_path, "stylegan/0_real/a", "stylegan/1_fake/b", "sdxl/REAL/c", "sdxl/Fake/d")
    assert found(tmp_path / "stylegan", tmp_path / "sdxl") == {
        ("a", "real", "stylegan"),
        ("b", "fake", "stylegan"),
        ("c", "real", "sdxl"),
        ("d", "fake", "sdxl"),
    }


def test_the_kinds_may_be_given_apart(tmp_path: Path) -> None:
    plant(tmp_path, "x/real/a.jpg", "x/fake/b.jpg")
    assert found(tmp_path / "x/real", tmp_path / "x/fake") == {
        ("a.jpg", "real", ""),
        ("b.jpg", "fake", "x"),
    }


def test_names_without_a_dot_or_with_several_are_taken_as_they_are(tmp_path: Path) -> None:
    plant(tmp_path, "real/a", "real/b.tar.gz.png", "fake/.hidden", "fake/ü \n,x.jpg")
    items = {Path(one.path).name: one.named for one in Dataset([tmp_path]).items()}
    assert items == {"a": False, "b.tar.gz.png": True, ".hidden": False, "ü \n,x.jpg": True}


def test_links_are_followed_but_never_in_a_circle(tmp_path: Path) -> None:
    plant(tmp_path, "store/1.jpg", "store/2.jpg", "set/fake/3.jpg")
    (tmp_path / "set/real").symlink_to(tmp_path / "store")
    (tmp_path / "set/fake/4.jpg").symlink_to(tmp_path / "store/1.jpg")
    (tmp_path / "set/fake/again").symlink_to(tmp_path / "set")
    (tmp_path / "set/fake/nowhere.jpg").symlink_to(tmp_path / "gone")
    (tmp_path / "set/fake/itself.jpg").symlink_to("itself.jpg")
    (tmp_path / "set/fake/no image").symlink_to("no image")
    dataset = Dataset([tmp_path / "set"])
    counts = dataset.count()
    assert (counts.real.total(), counts.fake.total()) == (2, 4)
    names = [Path(one.path).name for one in dataset.items() if one.fake]
    assert names == ["3.jpg", "4.jpg", "itself.jpg", "nowhere.jpg"]


def test_the_order_is_always_the_same(tmp_path: Path) -> None:
    plant(tmp_path, *(f"fake/g{n}/{m}.jpg" for n in range(5) for m in range(5)), "real/r.jpg")
    dataset = Dataset([tmp_path])
    paths = [one.path for one in dataset.items()]
    assert paths == [one.path for one in dataset.items()] == sorted(paths)


def test_what_lies_elsewhere_is_counted(tmp_path: Path) -> None:
    plant(tmp_path, "real/a.jpg", "README.md", "other/b.jpg")
    assert Dataset([tmp_path]).count().outside == 2


@pytest.mark.parametrize("subject", ["nature", "Nature", "ai", "real", "1_fake"])
@pytest.mark.parametrize("kind", ["real", "fake"])
def test_a_path_that_says_both_kinds_is_refused(subject: str, kind: str, tmp_path: Path) -> None:
    plant(tmp_path, f"{subject}/{kind}/a.jpg", f"{subject}/{kind}/x/b.jpg")
    same = (subject.lower() in {"nature", "real"}) == (kind == "real")
    if same:
        assert {one.fake for one in Dataset([tmp_path]).items()} == {kind == "fake"}
        return
    with pytest.raises(DatasetInvalid, match=f"'{subject}/{kind}/a.jpg' is ambiguous"):
        Dataset([tmp_path]).count()
    # The folder below the subject is a data set of its own.
    assert {one.fake for one in Dataset([tmp_path / subject]).items()} == {kind == "fake"}


def test_a_folder_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    here = os.open(plant(tmp_path, "real/a.jpg"), os.O_RDONLY)
    for name in ["fake", *["d" * 200] * 30]:  # in the end too long a path for the system
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    with pytest.raises(DatasetInvalid, match="cannot be read"):
        Dataset([tmp_path]).count()


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "images.csv"
    file.write_text(text, encoding="utf-8-sig")
    return file


def test_a_csv_names_images_from_its_own_folder_on(tmp_path: Path) -> None:
    file = write(tmp_path, 'label,path,generator\nreal,a.jpg,\n1,"b,c.jpg",sd\nFake,/d.jpg,gan\n')
    assert [(one.path, one.fake, one.generator) for one in Dataset([file]).items()] == [
        (str(tmp_path / "a.jpg"), False, ""),
        (str(tmp_path / "b,c.jpg"), True, "sd"),
        ("/d.jpg", True, "gan"),
    ]


@pytest.mark.parametrize("divider", [";", "\t"])
def test_a_csv_may_be_divided_by_semicolons_or_tabs(tmp_path: Path, divider: str) -> None:
    text = "path,label,generator\na.jpg,real,\nb.jpg,fake,sd\n".replace(",", divider)
    found = [(Path(one.path).name, one.fake) for one in Dataset([write(tmp_path, text)]).items()]
    assert found == [("a.jpg", False), ("b.jpg", True)]


def test_a_csv_without_generators_names_one_after_itself(tmp_path: Path) -> None:
    file = write(tmp_path, "path,label\na.jpg,real\nb.jpg,fake\n")
    assert {one.generator for one in Dataset([file]).items()} == {"images"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("path,label,source\na,real,x\n", "does not know the column 'source'"),
        ("file,label\na,real\n", "needs a column 'path'"),
        ("", "needs a column 'path'"),
        ("path,label\na,real\nb,maybe\n", "Line 3 of .* has the label 'maybe'"),
        ("path,label\n,real\n", "Line 2 of .* has no path"),
        ("path,label\na,b,real\n", "label 'b'"),
        ("path,label\na,real,x\n", "too many values"),
        ('path,label\n"a,real\n', "is not valid CSV"),
        ("path,label\n", "No real or generated images"),
    ],
)
def test_a_csv_that_makes_no_sense_is_refused_and_says_where(
    tmp_path: Path, text: str, says: str
) -> None:
    with pytest.raises(DatasetInvalid, match=says):
        Dataset([write(tmp_path, text)]).count()


def test_a_folder_that_says_nothing_of_kinds_is_refused_with_the_layouts(tmp_path: Path) -> None:
    plant(tmp_path, "cats/a.jpg")
    with pytest.raises(DatasetInvalid, match=r"1 files are outside these folders.*real/ and fake/"):
        Dataset([tmp_path]).count()


def test_a_data_set_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid, match="There is no data set"):
        Dataset([tmp_path / "gone"])
