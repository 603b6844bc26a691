"""Configuration from words and YAML: every mistake named, at its place, before anything runs."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from wsis.errors import ConfigError
from wsis.options import build, option_types, parse


@dataclass(frozen=True)
class Inner:
    """Where the images are.

    Attributes:
        root: folder of the images.
        num: how many.
    """

    root: str = ""
    num: int = 3

    def __post_init__(self) -> None:
        if self.num < 0:
            raise ConfigError([f"data.num: got {self.num}, expected at least 0"])


@dataclass(frozen=True)
class Outer:
    """A step.

    Attributes:
        data: the data set.
        scales: sizes of the image pyramid.
        flag: switch something on.
        rate: learning rate.
        words: what to look for.
        limit: how many faults.
        files: inputs.
    """

    data: Inner = field(default_factory=Inner)
    scales: tuple[float, ...] = (1.0, 0.5)
    flag: bool = False
    rate: float = 0.1
    words: tuple[str, ...] = ()
    limit: int | None = None
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise ConfigError([f"rate: got {self.rate}, expected more than 0"])


def read(*words, positional=None):
    return parse(Outer, words, "wsis step", positional=positional)


def problems(*words, positional=None):
    with pytest.raises(ConfigError) as caught:
        read(*words, positional=positional)
    return [str(problem) for problem in caught.value.problems]


def test_defaults_and_dotted_names():
    assert read() == Outer()
    got = read("--data.root=a b", "--data.num", "7", "--scales=1,2.5", "--words=dog,person", "--limit=4")
    assert got == Outer(Inner("a b", 7), (1.0, 2.5), words=("dog", "person"), limit=4)
    assert read("--scales", "[1.0]").scales == (1.0,)
    assert read("--limit", "null").limit is None
    assert option_types(Outer)["data.num"] is int


def test_texts_stay_texts():
    got = read("--data.root=5", "--words=1e3, null")
    assert got.data.root == "5"
    assert got.words == ("1e3", "null")
    assert read("--words=").words == ()


def test_home_folder_stands_for_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert read("--data.root=~/photos").data.root == "/home/me/photos"
    assert read("--files=~/a,b, ~/c").files == ("/home/me/a", "b", "/home/me/c")
    assert read("--data.root=a~/b").data.root == "a~/b"
    assert read("--files=x~/a").files == ("x~/a",)
    file = tmp_path / "run.yaml"
    file.write_text("data:\n  root: ~/photos\nfiles: [~/a, '~/b', c~/d]\n")
    got = read(f"--config={file}")
    assert (got.data.root, got.files) == ("/home/me/photos", ("/home/me/a", "/home/me/b", "c~/d"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read("--config=~/run.yaml").data.root == f"{tmp_path}/photos"


@pytest.mark.parametrize("name", ["--cam-scales", "--data.rot", "--rates", "--fl"])
def test_unknown_option_is_answered_with_the_nearest(name):
    want = {"--cam-scales": "scales", "--data.rot": "data.root", "--rates": "rate", "--fl": "flag"}[name]
    (text,) = problems(f"{name}=1")
    assert text.startswith(name)
    assert text.endswith(f"did you mean {want}?")


def test_wrong_types_are_named_with_what_was_expected():
    found = problems("--data.num=abc", "--scales=1.0,x", "--rate=fast")
    assert found == [
        "--data.num: got 'abc', expected a whole number",
        "--scales: got '1.0,x', expected a list of a number",
        "--rate: got 'fast', expected a number",
    ]


@pytest.mark.parametrize(
    ("words", "value"), [(["--flag=true"], True), (["--flag", "False"], False), (["--flag"], True)]
)
def test_switches(words, value):
    assert read(*words).flag is value


@pytest.mark.parametrize("text", ["yes", "1", "on", ""])
def test_switches_refuse_other_words(text):
    assert problems(f"--flag={text}") == [f"--flag: got {text!r}, expected true or false"]


def test_out_of_range_is_found_in_every_part():
    assert problems("--data.num=-1", "--rate=1") == ["data.num: got -1, expected at least 0"]
    assert problems("--rate=0") == ["rate: got 0.0, expected more than 0"]


def test_yaml_names_file_and_line(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("data:\n  root: photos\n  nmu: 4\nrate: x\nscales: [1, y]\nlimit: null\n")
    found = problems(f"--config={file}")
    assert found[0].startswith(f"{file}:3: data.nmu: unknown option; did you mean data.num?")
    assert found[1].startswith(f"{file}:4: rate: got 'x'")
    assert found[2].startswith(f"{file}:5: scales")
    file.write_text("data: {root: photos}\nrate: 0.5\nscales:\n- 2\n- 3\nflag: true\nwords: [a, 'b c']\n")
    got = read("--config", str(file), "--rate=0.25")
    assert got == Outer(Inner("photos"), (2.0, 3.0), True, 0.25, ("a", "b c"))


def test_yaml_that_is_none(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("a: [1\n")
    assert f"{file}:" in problems(f"--config={file}")[0]
    file.write_text("- 1\n")
    assert "expected a mapping" in problems(f"--config={file}")[0]
    file.write_text("")
    assert read(f"--config={file}") == Outer()
    assert "working directory" in problems(f"--config={tmp_path / 'absent.yaml'}")[0]
    assert "expected the name" in problems("--config")[0]


def test_yaml_cannot_make_objects(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("rate: !!python/object/apply:os.system ['touch pwned']\n")
    assert problems(f"--config={file}")
    assert not (tmp_path / "pwned").exists()


def test_stray_word_and_missing_value():
    assert "unexpected word 'x'" in problems("x")[0]
    assert "got no value" in problems("--rate")[0]


def test_positional_words():
    assert read("a.jpg", "b c.jpg", "--flag", positional="files").files == ("a.jpg", "b c.jpg")
    assert read("--flag", "a.jpg", positional="files") == Outer(flag=True, files=("a.jpg",))


def test_at_most_fifty_problems_are_shown():
    with pytest.raises(ConfigError) as caught:
        read(*[f"--x{i}=1" for i in range(80)])
    assert len(caught.value.problems) == 80
    assert str(caught.value).endswith("... and 30 more")


def test_help_shows_every_default(capsys):
    with pytest.raises(SystemExit) as caught:
        read("--help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for word in ("--data.num", "default: 3", "learning rate", "default: 0.1", "how many faults", "--scales"):
        assert word in text


def test_build_collects_from_nested():
    with pytest.raises(ConfigError) as caught:
        build(Outer, {"data": {"num": -2}, "rate": 1.0})
    assert len(caught.value.problems) == 1


def test_defaults_from_an_instance():
    base = Outer(Inner("here", 9), rate=3.0)
    assert parse(Outer, ["--rate=4"], "wsis step", defaults=base) == Outer(Inner("here", 9), rate=4.0)
