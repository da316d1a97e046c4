"""Files, names and requests made to harm: each through the command line, with its exit code and its one line."""

from __future__ import annotations

import multiprocessing
import os
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.attack.running import UNIFORM, Outcome, Report, Tell, run, run_inside, scratch, wrong
from tests.video import mp4_boxes
from tests.video.encoding import Recipe, encode

Argument = str | bytes | Path


@dataclass(frozen=True, kw_only=True)
class Bomb:
    """A command line in a folder of bombs, and how it must end.

    Attributes:
        name: of the bomb.
        arguments: of tsq.
        code: exit code.
        says: part of what stderr must say.
        lines: on stderr; None where it does not matter.
    """

    name: str
    arguments: tuple[Argument, ...]
    code: int = 1
    says: str = ""
    lines: int | None = 1


def _select(*paths: Argument) -> tuple[Argument, ...]:
    return ("select", *UNIFORM, *paths)


# Files that name other files


def _texts() -> dict[str, str]:
    """What names other files, by the name of its kind; clip.mp4 lies beside it and would be readable."""
    return {
        "m3u8-itself": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nNAME\n",
        "m3u8-live": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nclip.mp4\n",
        "m3u8-remote": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
        "ffconcat": "ffconcat version 1.0\n" + "file clip.mp4\n" * 3000,
        "ffconcat-itself": "ffconcat version 1.0\nfile NAME\nfile NAME\n",
        "mpd": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet '
        'mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>clip.mp4</BaseURL></Representation>'
        "</AdaptationSet></Period></MPD>\n",
        "sdp": "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 5004 RTP/AVP 96\r\n"
        "a=rtpmap:96 H264/90000\r\n",
        "smil": '<smil><body><video src="clip.mp4"/></body></smil>\n',
        "pls": "[playlist]\nFile1=clip.mp4\nNumberOfEntries=1\n",
        "asx": '<asx version="3.0"><entry><ref href="clip.mp4"/></entry></asx>\n',
        "text": "This is a shopping list, not a film.\n" * 50,
    }


_ENDINGS = (".m3u8", ".mp4", ".mkv", ".ts", ".txt", ".mpd", ".sdp", ".ffconcat")


def playlists(folder: Path) -> Iterator[Bomb]:
    """Every kind under every ending."""
    encode(folder / "clip.mp4", Recipe(num_frames=5))
    for kind, text in _texts().items():
        for ending in _ENDINGS:
            path = folder / f"{kind}{ending}"
            path.write_text(text.replace("NAME", path.name))
    # All of a kind's endings in one run: one line for each, and the count.
    for kind in _texts():
        paths = [folder / f"{kind}{ending}" for ending in _ENDINGS]
        says = "text" if kind == "text" else "which names other files"
        yield Bomb(
            name=f"{kind} under {len(paths)} endings", arguments=_select(*paths), says=says, lines=len(paths) + 1
        )
    for level in range(10):
        text = f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nnest{level + 1}.m3u8\n" * 50
        (folder / f"nest{level}.m3u8").write_text(text)
    (folder / "nest10.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nclip.mp4\n#EXT-X-ENDLIST\n")
    yield Bomb(name="ten levels of playlists, 50 each", arguments=_select(folder / "nest0.m3u8"), says="playlist")
    (folder / "image%03d.png").write_bytes(b"")
    encode(folder / "image001.png", Recipe(codec="png", pix_fmt="rgb24", num_frames=1, time_base=Fraction(1, 25)),
           format_name="image2", options={"update": "1"})  # fmt: skip
    yield Bomb(name="a pattern of numbered pictures", arguments=_select(folder / "image%03d.png"), says="is empty")
    yield Bomb(name="a film in another file", arguments=_select(_external(folder)), says="; wanted ")
    for protocol in ("concat:clip.mp4|clip.mp4", "subfile,,start,0,end,0,,:clip.mp4", "data:text/plain,x", "pipe:0"):
        yield Bomb(name=f"protocol {protocol[:8]}", arguments=_select(protocol), code=2, says="does not exist")
    for url in ("http://127.0.0.1:9/a.mp4", "rtsp://127.0.0.1:9/a", "tcp://127.0.0.1:9"):
        yield Bomb(name=f"address {url[:6]}", arguments=_select(url), code=2, says="; wanted ")


def _external(folder: Path) -> Path:
    """A mov whose track lies in clip.mp4, by an absolute and a relative name."""
    path = folder / "external.mov"
    encode(path, Recipe(num_frames=5, b_frames=0))
    data = path.read_bytes()
    boxes = mp4_boxes.find(data, "moov/trak/mdia/minf/dinf/dref")
    target = str(folder / "clip.mp4").encode()
    names = b"".join(
        struct.pack(">HH", kind, len(value)) + value + bytes(len(value) % 2)
        for kind, value in ((18, target), (2, target.replace(b"/", b":")))
    )
    record = (
        struct.pack(">HH", 0, 2) + bytes(4) + b"\x06Volume" + bytes(134 - 15) + names + struct.pack(">HH", 0xFFFF, 0)
    )
    alias = mp4_boxes.box(b"alis", bytes(4) + struct.pack(">4sH", bytes(4), len(record)) + record)
    dref = mp4_boxes.box(b"dref", struct.pack(">II", 0, 1) + alias)
    path.write_bytes(mp4_boxes.replace(data, boxes[:-1], boxes[-1].start, boxes[-1].end, dref))
    return path


# Sizes, times and counts


def sizes(folder: Path) -> Iterator[Bomb]:
    """Nothing, hardly anything, and far too much."""
    for name, content in (("zero.mp4", b""), ("one.mp4", b"\0"), ("one.mkv", b"\x1a")):
        (folder / name).write_bytes(content)
        yield Bomb(name=f"a file of {len(content)} bytes ({name})", arguments=_select(folder / name), says="; wanted ")
    with (folder / "huge.mp4").open("wb") as stream:
        stream.write(struct.pack(">I4s", 24, b"ftyp") + b"isom\0\0\0\0isommp42")
        stream.write(struct.pack(">I4sQ", 1, b"mdat", 2**62))
        stream.truncate(200 * 2**30)  # sparse: takes no space
    yield Bomb(name="a part of 2^62 bytes in 200 GB", arguments=_select(folder / "huge.mp4"), says="; wanted ")
    whole = folder / "claims.mp4"
    encode(whole, Recipe(num_frames=12, b_frames=0))
    _claim_size(whole, 65535)
    yield Bomb(name="a claim of 65535 x 65535", arguments=_select(whole), code=0, lines=None)
    for name, count in (("samples.mp4", 100_000_000), ("samples2.mp4", 0xFFFFFFFF)):
        path = folder / name
        encode(path, Recipe(num_frames=12, b_frames=0))
        _claim_samples(path, count)
        yield Bomb(name=f"a table of {count} frames", arguments=_select(path), says="; wanted ")
    far = folder / "far.mkv"
    encode(far, Recipe(num_frames=3, b_frames=0, pts=[Fraction(0), Fraction(10**12), Fraction(10**12 + 1)],
                       time_base=Fraction(1, 1000)))  # fmt: skip
    yield Bomb(name="time stamps of 10^12 s", arguments=(*_select(far), "--json"), code=0, lines=None)
    yield Bomb(name="-n 2000000000", arguments=("select", "--selector", "uniform", "-n", "2000000000",
               folder / "claims.mp4"), code=2, says="; wanted ")  # fmt: skip


def _claim_size(path: Path, side: int) -> None:
    """Have the sample description and the track header state another size; the stream itself keeps its own."""
    data = bytearray(path.read_bytes())
    header = mp4_boxes.find(bytes(data), "moov/trak/tkhd")[-1]
    data[header.end - 8 : header.end] = struct.pack(">II", side << 16, side << 16)
    at = data.find(b"avc1", data.find(b"stsd")) + 4 + 24
    data[at : at + 4] = struct.pack(">HH", side, side)
    path.write_bytes(bytes(data))


def _claim_samples(path: Path, count: int) -> None:
    """Tables of a few bytes that stand for any number of frames of one byte each."""
    data = path.read_bytes()
    for name, payload in (
        (b"stsz", struct.pack(">3I", 0, 1, count)),
        (b"stts", struct.pack(">4I", 0, 1, count, 512)),
        (b"stsc", struct.pack(">5I", 0, 1, 1, count, 1)),
    ):
        boxes = mp4_boxes.find(data, f"moov/trak/mdia/minf/stbl/{name.decode()}")
        data = mp4_boxes.replace(data, boxes[:-1], boxes[-1].start, boxes[-1].end, mp4_boxes.box(name, payload))
    path.write_bytes(data)


def heavy(folder: Path) -> Iterator[Bomb]:
    """Pictures and films that are what they claim to be: large, and long."""
    large = _made_apart(folder / "large.mkv", "libx264", 16_000, 2)
    yield Bomb(name="16,000 x 16,000", arguments=(*_select(large), "-o", folder / "frames"), code=0, lines=None)
    yield Bomb(name="16,000 x 16,000 over --max-pixels", arguments=(*_select(large), "--max-pixels", "1000000"),
               says="; wanted ")  # fmt: skip
    long = _made_apart(folder / "long.mkv", "mpeg4", 320, 3 * 3600 * 10)
    yield Bomb(name="3 h at 10 fps", arguments=_select(long), code=0, lines=0)
    yield Bomb(name="3 h at 10 fps, -n 100000", arguments=("select", "--selector", "uniform", "-n", "100000", long),
               says="; wanted ")  # fmt: skip


def _made_apart(path: Path, codec: str, side: int, frames: int) -> Path:
    """A film made in a process of its own: the memory it takes would count as that of every program started later."""
    maker = multiprocessing.get_context("spawn").Process(target=_encode_black, args=(path, codec, side, frames))
    maker.start()
    maker.join()
    return path


def _encode_black(path: Path, codec: str, side: int, frames: int) -> None:
    """A black film at 10 frames per second."""
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast"} if codec == "libx264" else {}
        stream = container.add_stream(codec, rate=10, options=options)
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = 600
        frame = av.VideoFrame.from_ndarray(np.zeros((side, side, 3), np.uint8), "rgb24").reformat(format="yuv420p")
        for number in range(frames):
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


# Inputs that are no files, and names that are no names


def names(folder: Path) -> Iterator[Bomb]:
    """FIFOs, sockets, devices; names that are too long, no text, or commands to a terminal."""
    os.mkfifo(folder / "pipe.mp4")
    yield Bomb(name="a FIFO", arguments=_select(folder / "pipe.mp4"), says="; wanted ")
    with socket.socket(socket.AF_UNIX) as made:
        old = Path.cwd()
        os.chdir(folder)  # a socket's path is short
        try:
            made.bind("socket.mp4")
        finally:
            os.chdir(old)
    yield Bomb(name="a socket", arguments=_select(folder / "socket.mp4"), says="; wanted ")
    for device in ("/dev/zero", "/dev/null"):
        yield Bomb(name=device, arguments=_select(device), says="; wanted ")
    (folder / "folder.mp4").mkdir()
    yield Bomb(name="an empty folder named .mp4", arguments=_select(folder / "folder.mp4"), code=2, says="; wanted ")
    (folder / "loop.mp4").symlink_to("loop.mp4")
    yield Bomb(name="a link to itself", arguments=_select(folder / "loop.mp4"), code=2, says="; wanted ")
    yield Bomb(name="a name of 300 bytes", arguments=_select("n" * 300 + ".mp4"), code=2, says="; wanted ")
    yield Bomb(name="an empty name", arguments=_select(""), code=2, lines=None)
    (folder / "nul.txt").write_bytes(b"a\0b.mp4\n")
    yield Bomb(
        name="a NUL in a list", arguments=("select", *UNIFORM, "--files-from", folder / "nul.txt"), code=2, says="-0"
    )
    clip = encode_once(folder)
    named = [
        folder / os.fsdecode(name)
        for name in (
            b"new\nline.mp4", b"\x1b]0;owned\x07\x1b[31m\x1b[2J.mp4", b"bad\xff\xfe.mp4", b"n" * 246 + b".mp4",
            b"=cmd|calc.mp4",
        )
    ]  # fmt: skip
    for path in named:
        path.write_bytes(clip)
    outputs = ("-o", folder / "named", "--sheet", folder / "{stem}.png", "--csv", folder / "named.csv")
    outputs = (*outputs, "--html", folder / "named.html", "--jsonl", folder / "named.jsonl")
    yield Bomb(name="a newline, escape sequences, bytes that are no text, 250 bytes, a formula, as names",
               arguments=(*_select(*named), *outputs), code=0, says="5 selected, 0 done before, 0 failed",
               lines=None)  # fmt: skip
    yield Bomb(name="a folder with all of these", arguments=_select(folder), lines=None)


def encode_once(folder: Path) -> bytes:
    """A sound clip's content."""
    path = folder / "sound.mp4"
    encode(path, Recipe(num_frames=12, b_frames=0))
    return path.read_bytes()


def packs(folder: Path) -> Iterator[Bomb]:
    """Packs that would end a JSON parser, or whose files are none."""
    documents = {
        "nested": "[" * 20_000 + "]" * 20_000,
        "nested-objects": '{"a":' * 20_000 + "1" + "}" * 20_000,
        "long-number": "9" * 10_000,
        "not-text": "\udcff",
    }
    for name, document in documents.items():
        (folder / name).mkdir()
        (folder / name / "pack.json").write_bytes(document.encode("utf-8", "surrogateescape"))
    for name in ("zero", "fifo"):
        (folder / name).mkdir()
    (folder / "zero" / "pack.json").symlink_to("/dev/zero")
    os.mkfifo(folder / "fifo" / "pack.json")
    clip = folder / "packs.mp4"
    clip.write_bytes(encode_once(folder))
    for name in (*documents, "zero", "fifo"):
        arguments = ("select", clip, "--pack", folder / name)
        yield Bomb(name=f"pack.json: {name}", arguments=arguments, code=3, says="; wanted ")
    yield Bomb(name="a pack's name of 5000 characters", arguments=("select", clip, "--pack", "p" * 5000), code=2)


Group = Callable[[Path], Iterator[Bomb]]
GROUPS: tuple[Group, ...] = (playlists, sizes, names, packs, heavy)


@contextmanager
def growing(path: Path, content: bytes) -> Iterator[None]:
    """A file to which noise is added as long as the block runs."""
    stop = threading.Event()
    chance = random.Random(0)

    def add() -> None:
        with path.open("ab", buffering=0) as stream:
            while not stop.wait(0.001) and stream.tell() < 500_000_000:
                stream.write(chance.randbytes(100_000))

    path.write_bytes(content)
    thread = threading.Thread(target=add)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def attack(*, tell: Tell = print, groups: Sequence[Group] = GROUPS, timeout: float = 120.0) -> Report:
    """Throw all bombs of these groups, each in a process of its own with a limit of memory; and the growing file."""
    wrongs: list[str] = []
    slowest, peak, count = (0.0, ""), (0.0, ""), 0
    with scratch() as folder:
        for bomb in _laid(folder, groups):
            outcome = run(*bomb.arguments, cwd=folder, timeout=timeout, memory_bytes=6 * 2**30)
            wrongs += _wrong(bomb, outcome)
            count += 1
            slowest = max(slowest, (outcome.seconds, bomb.name))
            peak = max(peak, (outcome.peak_mb, bomb.name))
            tell(f"bombs: {bomb.name}: exit {outcome.code}, {outcome.seconds:.1f} s, {outcome.peak_mb:.0f} MB")
        with growing(folder / "growing.ts", encode_once(folder)):
            outcome = run(*_select("growing.ts"), "--timeout", "20", cwd=folder, timeout=timeout)
        count += 1
        tell(f"bombs: a file that grows while it is read: exit {outcome.code}, {outcome.seconds:.1f} s")
        if outcome.code not in (0, 1) or "Traceback" in outcome.err:
            wrongs.append(f"a file that grows: {outcome}")
    return {
        "bombs": count,
        "slowest_seconds": round(slowest[0], 1),
        "slowest": slowest[1],
        "peak_memory_mb": round(peak[0]),
        "largest": peak[1],
        "wrong": wrongs,
    }


def attack_together(*, groups: Sequence[Group], timeout: float = 60.0) -> Report:
    """The same bombs in fewer processes: all videos that must fail in one run, usage errors in this process."""
    wrongs: list[str] = []
    count = 0
    with scratch() as folder:
        paths: list[Argument] = []
        for bomb in _laid(folder, groups):
            count += 1
            if bomb.code == 1 and bomb.lines is not None and bomb.arguments[: len(_select())] == _select():
                paths += bomb.arguments[len(_select()) :]
            elif bomb.code == 2:
                wrongs += _wrong(bomb, run_inside([os.fsdecode(argument) for argument in bomb.arguments]))
            else:
                wrongs += _wrong(bomb, run(*bomb.arguments, cwd=folder, timeout=timeout))
        if paths:
            together = Bomb(name="together", arguments=_select(*paths), says="; wanted ", lines=len(paths) + 1)
            wrongs += _wrong(together, run(*together.arguments, cwd=folder, timeout=timeout))
    return {"bombs": count, "wrong": wrongs}


def _wrong(bomb: Bomb, outcome: Outcome) -> list[str]:
    found = wrong(outcome, bomb.code, bomb.says, lines=bomb.lines)
    if any(character < " " and character != "\n" for character in outcome.out + outcome.err):
        found.append("control characters on the terminal")
    return [f"{bomb.name}: {what}" for what in found]


def _laid(folder: Path, groups: Sequence[Group]) -> Iterator[Bomb]:
    for group in groups:
        place = folder / group.__name__
        place.mkdir()
        yield from group(place)
