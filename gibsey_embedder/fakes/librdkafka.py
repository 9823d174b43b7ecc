"""librdkafka's functions for its mock cluster, which confluent-kafka does not expose."""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
from pathlib import Path

import confluent_kafka

PRODUCER_TYPE = 0


@functools.cache
def library() -> ctypes.CDLL:
    """Return the librdkafka of confluent-kafka's wheel, or else the system's."""
    package = Path(confluent_kafka.__file__).parent
    directories = [package.parent / "confluent_kafka.libs", package / ".dylibs"]
    paths = [str(path) for folder in directories for path in sorted(folder.glob("librdkafka*"))]
    name = paths[0] if paths else ctypes.util.find_library("rdkafka")
    if name is None:
        raise RuntimeError("neither confluent-kafka's wheel nor the system has librdkafka")
    kafka = ctypes.CDLL(name)
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    signatures: dict[str, tuple[object, list[object]]] = {
        "conf_new": (pointer, []),
        "conf_set": (number, [pointer, text, text, text, ctypes.c_size_t]),
        "new": (pointer, [number, pointer, text, ctypes.c_size_t]),
        "destroy": (None, [pointer]),
        "mock_cluster_new": (pointer, [pointer, number]),
        "mock_cluster_destroy": (None, [pointer]),
        "mock_cluster_bootstraps": (text, [pointer]),
        "mock_topic_create": (number, [pointer, text, number, number]),
        "mock_broker_set_down": (number, [pointer, ctypes.c_int32]),
        "mock_broker_set_up": (number, [pointer, ctypes.c_int32]),
        "mock_broker_set_rtt": (number, [pointer, ctypes.c_int32, number]),
        "mock_topic_set_error": (None, [pointer, text, number]),
        "mock_push_request_errors_array": (
            None,
            [pointer, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(number)],
        ),
        "mock_partition_delete_records": (
            number,
            [pointer, text, ctypes.c_int32, ctypes.c_int64],
        ),
    }
    for suffix, (result, arguments) in signatures.items():
        function = getattr(kafka, f"rd_kafka_{suffix}")
        function.restype, function.argtypes = result, arguments
    return kafka


def new_handle(kafka: ctypes.CDLL) -> int:
    """Create an idle client, which owns the mock cluster."""
    error = ctypes.create_string_buffer(512)
    conf = kafka.rd_kafka_conf_new()
    kafka.rd_kafka_conf_set(conf, b"log_level", b"0", error, 512)
    handle = kafka.rd_kafka_new(PRODUCER_TYPE, conf, error, 512)
    if not handle:
        raise RuntimeError(f"librdkafka: {error.value.decode()}")
    return int(handle)
