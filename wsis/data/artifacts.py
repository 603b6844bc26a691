"""The one writer and what it keeps: files that appear whole or not at all, run folders, journals.

Everything that is kept goes to disk through here.
"""

from wsis.data.atomic import (
    atomic_file,
    check_file_name,
    check_relative,
    encode_png,
    file_sha256,
    fingerprint,
    make_folder,
    remove_stale,
    safe_join,
    write_bytes,
    write_json,
    write_png,
    write_with,
)
from wsis.data.run_folder import Journal, RunFolder

__all__ = [
    "Journal",
    "RunFolder",
    "atomic_file",
    "check_file_name",
    "check_relative",
    "encode_png",
    "file_sha256",
    "fingerprint",
    "make_folder",
    "remove_stale",
    "safe_join",
    "write_bytes",
    "write_json",
    "write_png",
    "write_with",
]
