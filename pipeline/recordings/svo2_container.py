"""The MCAP container of an SVO2 file, walked record by record so that a damaged one still gives what it holds.

The `mcap` readers stop at the first broken record and believe the CRCs, which a ZED camera writes wrongly; a file cut
in the middle of a chunk would lose all of that chunk. This walker ignores CRCs, decompresses as much of a chunk as
there is, and skips to the next chunk the summary names where one is corrupt. Format: https://mcap.dev/spec (all
integers little-endian).
"""

import io
import struct
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final, NamedTuple, Self

from pipeline.errors import RecordingError, UnsupportedRecordingError

MAGIC: Final = b"\x89MCAP0\r\n"
CHANNEL: Final = 0x04
MESSAGE: Final = 0x05
CHUNK: Final = 0x06
CHUNK_INDEX: Final = 0x08
DATA_END: Final = 0x0F
LAST_KNOWN: Final = 0x0F
FIRST_PRIVATE: Final = 0x80

FOOTER_BYTES: Final = 9 + 20 + len(MAGIC)
LARGEST_CHUNK: Final = 1 << 29  # bytes; a ZED writes chunks of 768 KiB
DECOMPRESSION_STEP: Final = 1 << 16
NO_CHUNK: Final = -1
SVO1_START: Final = b"\xf5\xff\xff\xff"  # i32 -11, then width, height and serial
SMALLEST_ENCRYPTED: Final = 4096

_RECORD: Final = struct.Struct("<BQ")
_MESSAGE: Final = struct.Struct("<HIQQ")
_CHUNK: Final = struct.Struct("<QQQII")


class Channel(NamedTuple):
    id: int
    topic: str
    message_encoding: str


class Message(NamedTuple):
    """One message and where it lies: `chunk` is the file offset of its chunk, or NO_CHUNK, `offset` is inside of it.

    `after_gap` says that something before it could not be read.
    """

    channel: Channel
    log_time: int
    chunk: int
    offset: int
    data: memoryview
    after_gap: bool


class Container:
    """An open MCAP file. `walk` reads it from the front; `read` fetches one message's bytes again.

    Raises RecordingError if the file is empty or no MCAP file. Holds two decompressed chunks at most.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.truncated = False
        self.damaged_chunks = 0
        self._chunks: OrderedDict[int, bytes] = OrderedDict()
        try:
            self._file: IO[bytes] = path.open("rb")
        except OSError as error:
            raise RecordingError(f"{path.name} cannot be opened: {error.strerror}.") from error
        self.size = self._file.seek(0, io.SEEK_END)
        self._file.seek(0)
        magic = self._file.read(len(MAGIC))
        if magic != MAGIC:
            self._file.close()
            raise _not_mcap(path.name, magic, self.size)

    def walk(self) -> Iterator[Message]:
        """Yield every readable message in file order, then know `truncated` and `damaged_chunks`."""
        self.truncated, self.damaged_chunks = False, 0
        channels: dict[int, Channel] = {}
        position, gap, ended = len(MAGIC), False, False
        while position + _RECORD.size <= self.size:
            self._file.seek(position)
            opcode, length = _RECORD.unpack(self._file.read(_RECORD.size))
            body, end = position + _RECORD.size, position + _RECORD.size + length
            if opcode == DATA_END:
                ended = True
                break
            known = 0 < opcode <= LAST_KNOWN or opcode >= FIRST_PRIVATE
            if not known or (end > self.size and opcode != CHUNK):
                following = self._next_indexed_chunk(position)
                if following is None:
                    break
                self.damaged_chunks += 1
                position, gap = following, True
                continue
            if opcode == CHUNK:
                content, complete = self._decompress(position, min(end, self.size) - body)
                for message in _messages(memoryview(content), position, 0, channels, gap):
                    yield message
                    gap = False
                if not complete:
                    gap = True
                    if end <= self.size:
                        self.damaged_chunks += 1
            elif opcode in (CHANNEL, MESSAGE):
                self._file.seek(position)
                record = memoryview(self._file.read(end - position))
                for message in _messages(record, NO_CHUNK, position, channels, gap):
                    yield message
                    gap = False
            position = end
        self.truncated = not ended

    def read(self, chunk: int, offset: int, length: int) -> bytes:
        """The bytes of one message found by `walk`, from its decompressed chunk."""
        if chunk == NO_CHUNK:
            self._file.seek(offset)
            return self._file.read(length)
        if chunk not in self._chunks:
            self._file.seek(chunk)
            _, size = _RECORD.unpack(self._file.read(_RECORD.size))
            self._chunks[chunk] = self._decompress(chunk, min(size, self.size - chunk - _RECORD.size))[0]
            while len(self._chunks) > 2:
                self._chunks.popitem(last=False)
        return self._chunks[chunk][offset : offset + length]

    def _decompress(self, position: int, length: int) -> tuple[bytes, bool]:
        """The records of the chunk at `position`, as many as can be had, and whether they are all."""
        self._file.seek(position + _RECORD.size)
        head = self._file.read(min(length, _CHUNK.size))
        if len(head) < _CHUNK.size:
            return b"", False
        *_, size, _crc, name_length = _CHUNK.unpack(head)
        if name_length > 64 or size > LARGEST_CHUNK or length > 2 * LARGEST_CHUNK:
            return b"", False
        name = self._file.read(name_length)
        stored = self._file.read(8)
        if len(stored) < 8:
            return b"", False
        available = length - _CHUNK.size - name_length - 8
        data = self._file.read(min(struct.unpack("<Q", stored)[0], max(available, 0)))
        content = _decompress(data, name, size, self.path.name)
        return content, len(content) == size

    def _next_indexed_chunk(self, position: int) -> int | None:
        """File offset of the first chunk after `position` according to the summary, or None without a summary."""
        if self.size < FOOTER_BYTES + len(MAGIC):
            return None
        self._file.seek(self.size - FOOTER_BYTES)
        tail = self._file.read(FOOTER_BYTES)
        summary = struct.unpack_from("<Q", tail, _RECORD.size)[0]
        if not tail.endswith(MAGIC) or not 0 < summary < self.size:
            return None
        self._file.seek(summary)
        records = self._file.read(min(self.size - summary, LARGEST_CHUNK))
        found, at = [], 0
        while at + _RECORD.size <= len(records):
            opcode, length = _RECORD.unpack_from(records, at)
            if opcode == CHUNK_INDEX and at + _RECORD.size + 24 <= len(records):
                found.append(struct.unpack_from("<Q", records, at + _RECORD.size + 16)[0])
            at += _RECORD.size + length
        return min((offset for offset in found if position < offset < summary), default=None)

    def close(self) -> None:
        self._chunks.clear()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _messages(records: memoryview, chunk: int, base: int, channels: dict[int, Channel], gap: bool) -> Iterator[Message]:
    """The whole messages among `records`; channels are noted in `channels` on the way."""
    at = 0
    while at + _RECORD.size <= len(records):
        opcode, length = _RECORD.unpack_from(records, at)
        start, end = at + _RECORD.size, at + _RECORD.size + length
        if end > len(records):
            return
        if opcode == MESSAGE and length >= _MESSAGE.size:
            channel_id, _sequence, log_time, _publish_time = _MESSAGE.unpack_from(records, start)
            if channel := channels.get(channel_id):
                first = start + _MESSAGE.size
                yield Message(channel, log_time, chunk, base + first, records[first:end], gap)
                gap = False
        elif opcode == CHANNEL and (channel := _channel(bytes(records[start:end]))):
            channels[channel.id] = channel
        at = end


def _channel(record: bytes) -> Channel | None:
    try:
        channel_id, _schema, length = struct.unpack_from("<HHI", record)
        topic = record[8 : 8 + length].decode()
        (encoding_length,) = struct.unpack_from("<I", record, 8 + length)
        return Channel(channel_id, topic, record[12 + length : 12 + length + encoding_length].decode())
    except (struct.error, UnicodeDecodeError):
        return None


def _decompress(data: bytes, name: bytes, size: int, file_name: str) -> bytes:
    """At most `size` bytes of `data` decompressed; fewer where the data is cut or corrupt."""
    if name == b"":
        return data[:size]
    content = bytearray()
    if name == b"lz4":
        import lz4.frame

        decompressor = lz4.frame.LZ4FrameDecompressor()
        try:
            for start in range(0, len(data), DECOMPRESSION_STEP):
                if decompressor.eof or len(content) >= size:
                    break
                content += decompressor.decompress(data[start : start + DECOMPRESSION_STEP])
        except (RuntimeError, EOFError):  # what lz4 raises on a corrupt block
            pass
    elif name == b"zstd":
        import zstandard

        reader = zstandard.ZstdDecompressor().stream_reader(data)
        try:
            while len(content) < size and (piece := reader.read(min(DECOMPRESSION_STEP, size - len(content)))):
                content += piece
        except zstandard.ZstdError:
            pass
    else:
        raise UnsupportedRecordingError(
            f"{file_name} has chunks compressed with {name.decode(errors='replace')!r}, which cannot be read here."
        )
    return bytes(content[:size])


def _not_mcap(name: str, magic: bytes, size: int) -> RecordingError:
    if size == 0:
        return RecordingError(f"{name} is empty (0 bytes).")
    if magic.startswith(SVO1_START) or name.lower().endswith(".svo"):
        return UnsupportedRecordingError(
            f"{name} is an SVO file of version 1, which only the ZED SDK can read; ZED_SVO_Editor converts it to SVO2."
        )
    if name.lower().endswith(".svo2") and size >= SMALLEST_ENCRYPTED:
        return UnsupportedRecordingError(
            f"{name} does not start like an SVO2 file: it is damaged, or encrypted and readable by the ZED SDK only."
        )
    return RecordingError(f"{name} is not an SVO2 file: it does not start like an MCAP container.")
