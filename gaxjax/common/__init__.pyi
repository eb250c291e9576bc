from .clash import refuse_foreign_converters
from .devices import (
    compiler_options,
    free_bytes,
    half_as_many,
    hardware,
    is_out_of_memory,
    local_devices,
    matmul_precision,
    num_cores,
    pad_rows,
    processor,
    same_bits_at_any_count,
)
from .errors import UserError, described, nearest
from .files import (
    cache_folder,
    cannot_write,
    checked_output,
    file_sha256,
    lock,
    replacing,
    replacing_folder,
    write_text,
)
from .header import FolderHeader, damaged, read_values, refuse_strangers
from .interruption import interruptions
from .programs import compiled_once, forget_programs, lowered_digest
from .progress import RunProgress, StepProgress, Timed
from .table import Column, Strong, Table, columns_of, to_csv
from .text import counted, in_bytes, one_line
from .types import HostImages, Image, Images, Labels, Logits, Scalar, at_least_float32

__all__ = [
    "Column",
    "FolderHeader",
    "HostImages",
    "Image",
    "Images",
    "Labels",
    "Logits",
    "RunProgress",
    "Scalar",
    "StepProgress",
    "Strong",
    "Table",
    "Timed",
    "UserError",
    "at_least_float32",
    "cache_folder",
    "cannot_write",
    "checked_output",
    "columns_of",
    "compiled_once",
    "compiler_options",
    "counted",
    "damaged",
    "described",
    "file_sha256",
    "forget_programs",
    "free_bytes",
    "half_as_many",
    "hardware",
    "in_bytes",
    "interruptions",
    "is_out_of_memory",
    "local_devices",
    "lock",
    "lowered_digest",
    "matmul_precision",
    "nearest",
    "num_cores",
    "one_line",
    "pad_rows",
    "processor",
    "read_values",
    "refuse_foreign_converters",
    "refuse_strangers",
    "replacing",
    "replacing_folder",
    "same_bits_at_any_count",
    "to_csv",
    "write_text",
]
