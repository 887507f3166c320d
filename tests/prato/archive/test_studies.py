"""Studies and boxes are read from folders and lists, and refused in a sentence."""

import json

import pytest

from prato.archive.studies import ArchiveError, Job, read_jobs


@pytest.fixture
def folder(tmp_path):
    for name in ("b.nii.gz", "a.nii", "labels.json"):
        (tmp_path / name).touch()
    (tmp_path / "labels").mkdir()
    return tmp_path


def written(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_folder_s_images_by_id(folder):
    assert read_jobs(folder, None) == [Job("a", str(folder / "a.nii")), Job("b", str(folder / "b.nii.gz"))]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.txt", "sub/b.nii.gz\n\n{folder}/a.nii\n"),
        ("list.csv", "image\nsub/b.nii.gz\n{folder}/a.nii\n"),
        ("list.csv", "\ufeffid, image\nb, sub/b.nii.gz\na, {folder}/a.nii\n"),
    ],
)
def test_a_list_s_paths_are_its_neighbours(folder, name, content):
    jobs = read_jobs(written(folder / name, content.format(folder=folder)), None)
    assert jobs == [Job("a", str(folder / "a.nii")), Job("b", str(folder / "sub" / "b.nii.gz"))]


def test_ids_tell_files_of_one_name_apart(folder):
    jobs = read_jobs(written(folder / "list.csv", "id,image\ns1,1/x.nii.gz\ns2,2/x.nii.gz\n"), None)
    assert [job.study for job in jobs] == ["s1", "s2"]


def test_boxes_go_to_their_studies(folder):
    jobs = read_jobs(folder, written(folder / "boxes.json", {"b": [1, 2, 3, 4, 5, 6]}))
    assert [job.roi for job in jobs] == [None, [1, 2, 3, 4, 5, 6]]
    jobs = read_jobs(folder, written(folder / "boxes.json", {"b": {"0": [1, 2, 3, 4, 5, 6]}}))
    assert [job.roi for job in jobs] == [None, {"0": [1, 2, 3, 4, 5, 6]}]
    jobs = read_jobs(folder, written(folder / "boxes.csv", "id,i0,i1,j0,j1,k0,k1\nb,1,2,3,4,5,6\nb,2,3,4,5,6,7\n"))
    assert [job.roi for job in jobs] == [None, [[1, 2, 3, 4, 5, 6], [2, 3, 4, 5, 6, 7]]]


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("list.txt", "1/x.nii.gz\n2/x.nii.gz\n", "Two images are called x"),
        ("list.csv", "image,id\n1/x.nii.gz,a\n2/y.nii.gz,a\n", "give each an id of its own"),
        ("list.txt", "\n", "holds no studies"),
        ("list.csv", "path\na.nii\n", "no column image"),
        ("list.csv", "image,id\n,a\n", "line 2"),
        ("list.csv", "id,image\n../a,a.nii\n", "cannot be a study's id"),
        ("nowhere.txt", None, "cannot be read"),
        ("letter.txt", "Dear all,\nplease label these.\n", "is no list of studies, as Dear all, is no image: name a .nii.gz or .nii file"),
        ("ids.txt", "a.nii\npatient001\n", "as patient001 is no image"),
        ("boxes.json", {"b": [1, 2, 3, 4, 5, 6]}, "is no list of studies"),
        ("zeros.txt", "\0" * 348, "is no list of studies"),
        ("list.csv", "image\npatient001\n", "as patient001 is no image"),
    ],
)
def test_unfit_lists_are_refused(folder, name, content, word):
    if content is not None:
        written(folder / name, content)
    with pytest.raises(ArchiveError, match=word):
        read_jobs(folder / name, None)


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("boxes.json", "{", "JSON object"),
        ("boxes.json", {"a": 3}, "JSON object"),
        ("boxes.json", {"a": [1, 2, 3, 4, 5, 6], "b": 3}, "JSON object"),
        ("boxes.json", {"c": [1, 2, 3, 4, 5, 6]}, "c, which is no study here"),
        ("boxes.csv", "id,i0,i1\na,1,2\n", "no column j0"),
        ("boxes.csv", "id,i0,i1,j0,j1,k0,k1\na,1,2,3,4,5,six\n", "non-numeric bound"),
    ],
)
def test_unfit_boxes_are_refused(folder, name, content, word):
    with pytest.raises(ArchiveError, match=word):
        read_jobs(folder, written(folder / name, content))
