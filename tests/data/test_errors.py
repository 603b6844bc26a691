"""The three kinds of faults and how they are told apart."""

import errno
import pickle
from pathlib import Path

import pytest

from wsis.errors import (
    MAX_PROBLEMS,
    Code,
    ConfigError,
    DataFault,
    Problem,
    Problems,
    SystemFault,
    did_you_mean,
    is_system_error,
    system_fault,
)


def test_every_code_has_a_meaning_and_is_its_own_name():
    for code in Code:
        assert code.meaning
        assert code.value == code.name == str(code)


def test_every_code_is_produced_by_a_test_and_described_on_the_page():
    root = Path(__file__).resolve().parents[2]
    texts = [path.read_text() for path in (root / "tests").rglob("test_*.py") if path.name != Path(__file__).name]
    page = (root / "docs" / "faults.md").read_text()
    for code in Code:
        assert any(code.value in text for text in texts), code
        assert f"| `{code}` | {code.meaning} |" in page


def test_faults_survive_pickling():
    fault = pickle.loads(pickle.dumps(DataFault(Code.E_MODE, "a/b", "read", "is odd")))
    assert (fault.code, fault.subject, fault.stage, fault.text) == (Code.E_MODE, "a/b", "read", "is odd")
    assert fault.to_row() == {"id": "a/b", "stage": "read", "code": "E_MODE", "text": "is odd"}
    error = pickle.loads(pickle.dumps(ConfigError([Problem("f:3", "got 1, expected 2", "write 2"), "plain"])))
    assert [p.where for p in error.problems] == ["f:3", ""]
    assert "f:3: got 1, expected 2 (write 2)" in str(error)


def test_config_error_lists_at_most_fifty_and_counts_the_rest():
    error = ConfigError([f"p{n}" for n in range(MAX_PROBLEMS + 7)])
    assert len(error.problems) == MAX_PROBLEMS + 7
    assert str(error).count("\n") == MAX_PROBLEMS
    assert str(error).endswith("... and 7 more")
    with pytest.raises(ValueError, match="must not be empty"):
        ConfigError([])


def test_problems_collects_and_raises_once():
    problems = Problems()
    problems.raise_if_any()
    with problems.collecting():
        raise ConfigError(["one", "two"])
    with problems.collecting():
        pass
    problems.add("x.txt:4", "three")
    with pytest.raises(ConfigError) as caught:
        problems.raise_if_any()
    assert [p.text for p in caught.value.problems] == ["one", "two", "three"]


def test_did_you_mean():
    assert did_you_mean("personn", ["dog", "person"]) == "did you mean 'person'?"
    assert did_you_mean("DOG", ["dog", "person"]) == "did you mean 'dog'?"
    assert did_you_mean("zzz", ["dog", "person"]) == "known: dog, person"


@pytest.mark.parametrize("name", ["EIO", "ENOSPC", "EDQUOT", "EMFILE", "ESTALE", "ENOMEM", "EROFS"])
def test_system_errors_are_told_apart(name):
    assert is_system_error(OSError(getattr(errno, name), name))
    assert not is_system_error(FileNotFoundError(errno.ENOENT, "x"))
    assert not is_system_error(ValueError("x"))
    assert is_system_error(MemoryError())


def test_full_disk_names_needed_and_free_bytes(tmp_path):
    fault = system_fault(OSError(errno.ENOSPC, "full"), "writing", tmp_path / "sub" / "x", needed=12345)
    assert isinstance(fault, SystemFault)
    assert "12,345 bytes needed" in str(fault)
    assert " bytes free" in str(fault)
